"""The endpoint of the call under way: for functions, blocks and clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, cast

from resilio._context.blocks import PermitBlock
from resilio._native import core
from resilio._options.arity import takes_named
from resilio._policy.decorate import kind_of

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["Pick", "endpoint_of", "given_first", "given_to", "pool_of", "with_endpoint"]

PARAMETER = "endpoint"
"""The parameter by which a guarded function is given its endpoint."""


def endpoint_of(pipe: core.Pipeline | None = None) -> Endpoint | None:
    """
    Return the endpoint that the innermost call in flight goes to; None without a pool.

    Args:
        pipe: Only a call of this policy; None: of any.
    """
    return cast("Endpoint | None", core.endpoint(pipe))


def pool_of(policy: Any) -> Any:
    """Return the pool that this policy is, or that is in this pipeline; None without one."""
    parts = getattr(policy, "policies", (policy,))
    return next((part for part in parts if getattr(part, "kind", None) == "pool"), None)


def given_first(pool: Any, fn: Any) -> Any:
    """Return a function that calls `fn(endpoint, ...)`, of the same kind; any other value is returned unchanged."""
    if not callable(fn):
        return fn  # the core raises
    run: Any = fn

    async def later(*args: Any, **kwargs: Any) -> Any:
        return await run(_endpoint(pool), *args, **kwargs)

    def now(*args: Any, **kwargs: Any) -> Any:
        return run(_endpoint(pool), *args, **kwargs)

    given: Any = later if kind_of(fn) == "coroutine" else now
    given.given_to = fn
    given.__qualname__ = getattr(fn, "__qualname__", type(fn).__qualname__)
    return given


def given_to(given: Any) -> Any:
    """Return the function that one of `given_first` calls; None for any other function."""
    return getattr(given, "given_to", None)


def with_endpoint(policy: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn`, or, if it has a parameter named "endpoint", a function that gives it unless the caller does."""
    pool = pool_of(policy)
    if pool is None or not takes_named(fn, PARAMETER):
        return fn

    if kind_of(fn) in ("generator", "async_generator"):
        return fn  # a stream is made once its endpoint is chosen

    def given(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault(PARAMETER, _endpoint(pool))
        return fn(*args, **kwargs)

    async def given_async(*args: Any, **kwargs: Any) -> Any:
        return await given(*args, **kwargs)

    return update_wrapper(given_async if kind_of(fn) == "coroutine" else given, fn)


class Pick(PermitBlock):
    """A block with a permit for an endpoint of a pool; not reentrant."""

    __slots__ = ()

    def __enter__(self) -> Endpoint:  # type: ignore[override]
        """Acquire, waiting in this thread if the endpoint's policy queues; raises the rejection."""
        return cast("Endpoint", super().__enter__().endpoint)

    async def __aenter__(self) -> Endpoint:  # type: ignore[override]
        """Acquire, waiting in this task if the endpoint's policy queues; raises the rejection."""
        return cast("Endpoint", (await super().__aenter__()).endpoint)


def _endpoint(pool: Any) -> Endpoint:
    chosen: Endpoint = endpoint_of() or pool._any()
    return chosen
