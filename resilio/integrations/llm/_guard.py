"""
An SDK's client guarded by a policy: its transport, and the shared state of its calls.

The client is changed in place. Copies made by its `with_options` share its HTTP client, so they are guarded too. If the
policy has a retry, the SDK's own is turned off, because the attempts of two retries multiply.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resilio._composition.pipeline import Pipeline
from resilio._composition.standard import Standard, _fits, _Part
from resilio._options.validators import choice, flag, reject, seconds
from resilio._policies.fallback import Fallback
from resilio._policies.pool.chosen import pool_of
from resilio._policies.retry.policy import Retry
from resilio._policy.base import Policy
from resilio._policy.decorate import kind_of
from resilio._support.client_target import mark_as_heeding_time
from resilio.integrations._shared.client_parts import require_inside
from resilio.integrations._shared.connecting import time_connects
from resilio.integrations.llm import _attempts
from resilio.integrations.llm._endpoints import Providers
from resilio.integrations.llm._guard_state import GuardState, InnerRetryWarning
from resilio.integrations.llm._limits import may_limit
from resilio.integrations.llm._sync_clocks import clocks_in
from resilio.integrations.llm._transport import async_transport, sync_transport

if TYPE_CHECKING:
    from resilio.integrations.llm._dialects import Dialect

__all__ = ["InnerRetryWarning", "ModelGuard", "guard_client", "guard_of"]

C = TypeVar("C")
_INSTEAD = "a transport of resilio.integrations.httpx in its `http_client=`"


class ModelGuard(GuardState):
    """The guard of a client; :func:`guard_of` returns it."""

    def __init__(self, client: Any, policy: Policy[Any], dialect: Dialect, sdk: ModuleType, **options: Any) -> None:
        """
        Prepare the guard of a client; `install` changes its transports.

        Args:
            client: The client.

            policy: The policy.

            dialect: The provider's wire format.

            sdk: The SDK's module.

            options: The others of `GuardState`.
        """
        super().__init__(client, policy, dialect, sdk, **options)
        pool = pool_of(policy)
        self.providers: Providers | None = None if pool is None else Providers(self, pool)
        self.limits: bool = may_limit(policy)
        self.retries: bool = _has(policy, Retry)
        asked, streamed = ("answer", "events") if self.is_async else ("answer_sync", "events_sync")
        self.clocks: Any = None if self.is_async else clocks_in(_parts(policy))
        fns = [_called_after(client, getattr(_attempts, name)) for name in (asked, streamed)]
        if not self.is_async:
            fns = [mark_as_heeding_time(fn) for fn in fns]
        self.answer: Any
        self.events: Any
        self.answer, self.events = _guarded(policy, self.clocks, *fns)

    def install(self) -> None:
        """Put transports under the client's HTTP client."""
        http = self.client._client
        make = async_transport if self.is_async else sync_transport
        for transport in (http._transport, *http._mounts.values()):
            time_connects(transport)
        http._transport = make(self.http, self, http._transport)
        http._mounts = {
            pattern: None if inner is None else make(self.http, self, inner) for pattern, inner in http._mounts.items()
        }
        if self.retries:
            self.client.max_retries = 0

    def __repr__(self) -> str:
        return f"<ModelGuard of {type(self.client).__name__} by {self.policy!r}>"


def _parts(policy: Policy[Any]) -> tuple[Policy[Any], ...]:
    return policy.policies if isinstance(policy, Pipeline) else (policy,)


def _has(policy: Policy[Any], kind: type[Policy[Any]]) -> bool:
    return any(isinstance(part, kind) for part in _parts(policy))


def _called_after(client: Any, fn: Any) -> Any:
    """Return a copy of a function named after the client's class: the default name of its policy."""
    made = FunctionType(fn.__code__, fn.__globals__, argdefs=fn.__defaults__)
    made.__module__ = type(client).__module__.partition(".")[0]
    made.__name__ = made.__qualname__ = type(client).__name__
    return made


def _fitting(policy: Policy[Any], fn: Any) -> tuple[Policy[Any], ...]:
    kind = kind_of(fn)
    return tuple(part for part in _parts(policy) if _fits(part, kind, fn))


def _guarded(policy: Policy[Any], clocks: Policy[Any] | None, *fns: Any) -> list[Any]:
    """
    Return functions guarded by the applicable parts of a policy; a hedge, for example, cannot guard streams.

    Raises:
        TypeError: A part can guard none of the functions.
    """
    if isinstance(policy, Standard):  # it omits by itself the parts that cannot guard a function
        return [policy(fn) for fn in fns]
    fitting = [_fitting(policy, fn) for fn in fns]
    for part in _parts(policy):
        watched = part is clocks and part.config.total is None
        if not watched and not any(part in some for some in fitting):
            part._check_kind(kind_of(fns[0]), fns[0])
    return [fn if not some else _part(policy, some)(fn) for fn, some in zip(fns, fitting, strict=True)]


def _part(policy: Policy[Any], fitting: tuple[Policy[Any], ...]) -> Policy[Any]:
    if fitting == _parts(policy):
        return policy
    return _Part(cast("Pipeline", policy), fitting)


def guard_client(
    client: C,
    policy: Policy[Any],
    dialect: Dialect,
    sdk: ModuleType,
    *,
    whole_answers: bool,
    max_pause: Any,
    resume: str | None,
) -> C:
    """
    Guard a client in place, and return it.

    Args:
        client: A client of one of the SDKs.

        policy: The policy that guards it.

        dialect: The provider's wire format.

        sdk: The SDK's module.

        whole_answers: See `ModelGuard`.

        max_pause: See `ModelGuard`.

        resume: "restart" or None.

    Raises:
        TypeError: Not a policy, or this version of the client keeps its HTTP client elsewhere.

        ValueError: The policy has a fallback, or the client is guarded already.
    """
    if not isinstance(policy, Policy):
        reject("policy", policy, "a policy, like standard('openai', on='model')", TypeError)
    if _has(policy, Fallback):
        reject("policy", policy, "without a fallback: put that around your own function, which knows the other model")
    options = {
        "whole_answers": flag("whole_answers", whole_answers),
        "max_pause": seconds("max_pause", max_pause, zero_ok=True),
        "restarts": resume is not None and choice("resume", resume, ("restart",)) == "restart",
    }
    if guard_of(client) is not None:
        reject("client", client, "a client that is not guarded yet")
    require_inside(client, "_client", "_make_status_error_from_response", instead=_INSTEAD)
    require_inside(cast("Any", client)._client, "_transport", "_mounts", instead=_INSTEAD)
    ModelGuard(client, policy, dialect, sdk, **options).install()
    return client


def guard_of(client: Any) -> ModelGuard | None:
    """
    Return the guard of a client; None if it is not guarded.

    Args:
        client: A client of one of the SDKs, or a copy made by its `with_options`.
    """
    transport = getattr(getattr(client, "_client", None), "_transport", None)
    guard = getattr(transport, "guard", None)
    return guard if isinstance(guard, ModelGuard) else None
