"""
Settings and retries for redis-py and valkey-py that keep an outage of the server from spreading to its callers.

Why: by default the clients wait and retry for seconds, regardless of the caller's deadline. When not: for blocking
commands (BLPOP, XREAD with BLOCK, pub/sub), which need a client of their own with longer timeouts. What it is not: a
policy. Guard the calls with `standard(..., on="redis")`; :data:`resilio.presets.redis` defines the failures.

It imports no client but receives its module: `redis`, `redis.asyncio`, `valkey` or `valkey.asyncio`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from resilio._context.deadline import remaining
from resilio._options.validators import positive_int, reject, seconds
from resilio._policies.retry.backoff import BackoffLike, backoff_option, delay_of, full_jitter
from resilio._policies.retry.budget import RetryBudget
from resilio._policy.types import Time

__all__ = ["bounded", "budget_retry"]

_CLIENTS = ("redis", "redis.asyncio", "valkey", "valkey.asyncio")


def bounded(client: ModuleType, *, connect: Time = 0.1, command: Time = 0.25, retry: Any = None) -> dict[str, Any]:
    """
    Return settings that bound a client's waits: `redis.Redis(**bounded(redis))`, or `from_url(url, **...)`.

    Args:
        client: The client's module: `redis`, `redis.asyncio`, `valkey` or `valkey.asyncio`.
        connect: Seconds for the connection, > 0; the handshake after it has `command` for each of its answers.
        command: Seconds until each answer, > 0; a server that drips one byte at a time has it for each.
        retry: The client's own retry, as returned by :func:`budget_retry`; None: no retries.

    Raises:
        TypeError: `client` is none of these modules, or a time is not a number.
        ValueError: A time out of range.
    """
    _check_client(client)
    settings = {"socket_connect_timeout": seconds("connect", connect), "socket_timeout": seconds("command", command)}
    if retry is None:
        return {**settings, "retry": _retry_class(client)(_no_backoff(client), 0)}
    # Some versions retry only the errors listed here; OSError is raised by connecting inside them.
    return {**settings, "retry": retry, "retry_on_error": [client.ConnectionError, client.TimeoutError, OSError]}


def budget_retry(
    client: ModuleType,
    budget: RetryBudget,
    *,
    attempts: int = 3,
    backoff: BackoffLike = full_jitter(0.01, 0.5),  # noqa: B008 - frozen
) -> Any:
    """
    Return a `Retry` of the client that spends a retry budget, and that does not sleep past the ambient deadline.

    It is for operations that only the client can repeat (locks, pub/sub, clusters). It repeats every command, even INCR
    after a lost answer. If that matters, use `standard(..., on="redis")` and leave the client without retries.

    Args:
        client: The client's module, as for :func:`bounded`.
        budget: Earns its share of each successful attempt, and pays for each retry.
        attempts: Most attempts in all, >= 1.
        backoff: The wait between attempts, as for :func:`resilio.retry`.

    Raises:
        TypeError: `client` is none of these modules, or `budget` is not a RetryBudget.
        ValueError: An option out of range.
    """
    _check_client(client)
    if not isinstance(budget, RetryBudget):
        reject("budget", budget, "a RetryBudget", TypeError)
    retries = positive_int("attempts", attempts) - 1
    made = _budgeted(client)(_no_backoff(client), retries)
    made._purse = _Purse(budget, backoff_option("backoff", backoff))
    return made


class _Purse:
    """A budget and its backoff, shared by the copies of a `Retry` that clients make for each connection."""

    def __init__(self, budget: RetryBudget, backoff: Any) -> None:
        self.budget = budget
        self.backoff = backoff

    def __deepcopy__(self, memo: object) -> _Purse:
        return self


class _Tries:
    """The attempts of one operation."""

    def __init__(self, purse: _Purse, retries: int) -> None:
        self._purse = purse
        self._left = retries
        self._failures = 0
        self._delay = 0.0

    def wait_after(self, error: Exception) -> float:
        """Return the seconds until the retry, 0 if the client makes none; raise the error if no retry is allowed."""
        self._failures += 1
        if self._failures > self._left:
            return 0.0
        self._delay, left = delay_of(self._purse.backoff, self._failures, self._delay), remaining()
        if (left is not None and left <= self._delay) or not self._purse.budget.withdraw():
            raise error
        return self._delay


def _budgeted(client: ModuleType) -> type[Any]:
    mixin = _Async if client.__name__.endswith(".asyncio") else _Sync
    return type("BudgetRetry", (mixin, _retry_class(client)), {"__doc__": "A Retry that a budget pays for."})


# Both leave the loop and the choice of errors to the client's `call_with_retry`, whose arguments differ by version.


class _Sync:
    _purse: _Purse
    _retries: int

    def call_with_retry(self, do: Callable[[], Any], fail: Callable[..., Any], *rest: Any, **options: Any) -> Any:
        """Call until an attempt succeeds, or the budget or the deadline allows no other."""
        tries = _Tries(self._purse, self._retries)

        def paying() -> Any:
            result = do()
            self._purse.budget.deposit()
            return result

        def failed(error: Exception, *count: Any) -> None:
            fail(error, *count)
            time.sleep(tries.wait_after(error))

        return super().call_with_retry(paying, failed, *rest, **options)  # type: ignore[misc]


class _Async:
    _purse: _Purse
    _retries: int

    async def call_with_retry(self, do: Callable[[], Any], fail: Callable[..., Any], *rest: Any, **options: Any) -> Any:
        """Await until an attempt succeeds, or the budget or the deadline allows no other."""
        tries = _Tries(self._purse, self._retries)

        async def paying() -> Any:
            result = await do()
            self._purse.budget.deposit()
            return result

        async def failed(error: Exception, *count: Any) -> None:
            await fail(error, *count)
            await asyncio.sleep(tries.wait_after(error))

        return await super().call_with_retry(paying, failed, *rest, **options)  # type: ignore[misc]


def _check_client(client: Any) -> None:
    if not isinstance(client, ModuleType) or client.__name__ not in _CLIENTS:
        reject("client", client, f"one of the modules {', '.join(_CLIENTS)}", TypeError)


def _retry_class(client: ModuleType) -> type[Any]:
    return import_module(f"{client.__name__}.retry").Retry  # type: ignore[no-any-return]


def _no_backoff(client: ModuleType) -> Any:
    return import_module(f"{client.__name__.partition('.')[0]}.backoff").NoBackoff()
