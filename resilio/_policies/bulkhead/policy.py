"""
A bulkhead limits the number of concurrent calls, so that one dependency that hangs does not block the whole process.

Why: a slow dependency holds the tasks, threads, memory and connections of all its callers, and soon of the whole
process. When not: if the right number is unknown or changes, an adaptive limit finds it; if requests per second are
limited, not concurrent requests, use a rate limit. It is not a timeout (a call that hangs keeps its permit until it is
ended by other means), nor a connection pool.

The limit holds for the process, for all threads and event loops together; with `scope="host"` for all processes of a
group on the host, and with `scope=fleet(...)` for those of several hosts. Each waiter is woken in its own loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Literal, TypeVar, get_args

from resilio import _backends
from resilio._native import clock
from resilio._native.core import Waiter
from resilio._native.gates import BulkheadGate
from resilio._options.fields import SharedGateOptions, check_wait, option, record
from resilio._options.fleets import OnStoreDown, on_store_down
from resilio._options.scope import PROCESS, Scope, scope_in_code
from resilio._options.validators import choice, positive_int, reject, seconds, weight
from resilio._policies.bulkhead.map import BulkheadMap
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.types import Order, SecondsOrNone, Time

__all__ = ["Bulkhead", "BulkheadConfig", "bulkhead"]

T = TypeVar("T")
R = TypeVar("R")

_TAKES = {
    "leased": "calls take slots that the store has leased to this host, and wait for one trip where it has more",
    "asked": "a slot is asked for when a call waits, and given back when it ends",
}
_WITHOUT_STORE = {
    "local": "this host has its share of the permits",
    "open": "this host may use all permits",
    "closed": "calls are rejected",
}


@record
class BulkheadConfig(SharedGateOptions):
    """The options of a bulkhead, checked; :func:`bulkhead` documents each."""

    max_concurrent: int = option(positive_int, kw_only=False)
    max_queued: int = option(positive_int, default=0, zero_ok=True)
    max_wait: SecondsOrNone = option(seconds, default=None, zero_ok=True, none_ok=True)
    order: Order = option(choice, default="fifo", options=get_args(Order))
    weight: int | Callable[..., int] = option(weight, default=1)
    on_store_down: OnStoreDown | None = option(on_store_down, default=None, none_ok=True)
    scope: Literal["process", "host"] | Scope | None = option(scope_in_code, default=PROCESS, none_ok=True)

    def __attrs_post_init__(self) -> None:
        check_wait(self)
        if isinstance(self.weight, int) and self.weight > self.max_concurrent:
            reject("weight", self.weight, f"at most max_concurrent={self.max_concurrent}: it would never be admitted")


class Bulkhead(Policy[BulkheadConfig]):
    """A fixed number of permits for all guarded calls; see :func:`bulkhead`, which makes one."""

    kind = "bulkhead"
    Config = BulkheadConfig
    REJECTING = frozenset({"closed_down"})
    _gate: BulkheadGate

    def __init__(self, config: BulkheadConfig, name: str | None = None) -> None:
        """Make an empty bulkhead."""
        super().__init__(BulkheadGate(config), config, name)

    def _state(self) -> str:
        return "closed_down" if self._gate.closed else "admitting"

    def _about(self) -> tuple[str, ...]:
        return ("closed down",) if self._gate.closed else ()

    def _explained(self) -> str | None:
        fleet = getattr(self._link, "fleet", None)
        if fleet is None and self._config.on_store_down is not None:
            return "on_store_down has no effect without scope=fleet(...)"
        if fleet is None or fleet.is_alone:
            return None
        down = self._config.on_store_down or fleet.on_store_down
        takes = _TAKES[self._link.sharing().regime or "leased"]
        return f"{takes} (fleet {fleet.name}); while the store is away {_WITHOUT_STORE[down]}"

    def _limit(self) -> float:
        return self._gate.capacity

    def _numbers_of_all(self) -> dict[str, int]:
        return {"used": self._gate.used_by_host}

    @property
    def used(self) -> int:
        """Permits held now: the sum of the weights of admitted calls."""
        return self._gate.used

    @property
    def available(self) -> int:
        """
        Permits free now; below zero after a resize to fewer than are held.

        Of a host's bulkhead those of the host, of a fleet's those that the store has leased to this host.
        """
        return self._gate.available

    @property
    def weight_errors(self) -> int:
        """The number of calls whose weight function raised or returned no int >= 1; such a call weighed 1."""
        return self._gate.weight_errors

    @property
    def closed(self) -> bool:
        """True if it rejects all new calls."""
        return self._gate.closed

    def resize(self, max_concurrent: int) -> None:
        """
        Change the number of permits: additional ones are granted at once, in order; calls that hold one keep it.

        Args:
            max_concurrent: As for :func:`bulkhead`.
        """
        self.reconfigure(max_concurrent=max_concurrent)

    def close(self) -> None:
        """Reject all new and waiting calls (reason "closed") until `resume`; calls in flight go on."""
        self._gate.close()

    def resume(self) -> None:
        """Admit calls again after `close`."""
        self._gate.open()

    def reset(self) -> None:
        """Admit calls again; the only other state is the calls in flight, which keep their permits."""
        self._gate.open()

    async def wait_closed(self, timeout: Time | None = None) -> bool:  # noqa: ASYNC109 - the answer is no error
        """
        Wait after `close` until no permit is held and no call waits for one; return False if the time is up first.

        Args:
            timeout: Seconds; None waits without limit.
        """
        deadline = _Deadline(timeout)
        while True:
            waiter = Waiter()
            try:
                if not self._gate.watch(waiter):
                    return True
                if deadline.left() == 0.0:
                    return False
                await _backends.park(waiter, deadline.left())
            finally:
                self._gate.unwatch(waiter)

    async def adrain(self, timeout: Time | None = None) -> bool:  # noqa: ASYNC109 - the answer is no error
        """Close, and wait in this task until the calls in flight have ended; return False if the time is up first."""
        self.close()
        return await self.wait_closed(timeout)

    async def aclose(self) -> None:
        """Close, and wait until the calls in flight have ended."""
        await self.adrain()

    def drain(self, timeout: Time | None = None) -> bool:
        """
        Close, and block this thread until the calls in flight have ended; return False if the time is up first.

        Args:
            timeout: Seconds; None waits without limit.

        Raises:
            RuntimeError: This thread runs an event loop, which blocking would stop: use `adrain`.
        """
        deadline = _Deadline(timeout)
        if _backends.runs_loop():
            raise RuntimeError("drain() would block the event loop that has to end the calls: use `await adrain()`")
        self.close()
        while True:
            waiter = Waiter()
            try:
                if not self._gate.watch(waiter):
                    return True
                if deadline.left() == 0.0:
                    return False
                _backends.park_sync(waiter, deadline.left())
            finally:
                self._gate.unwatch(waiter)

    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = True,
        buffer: int | None = None,
    ) -> BulkheadMap[R]:
        """
        Call `fn` with every item; each has a permit of its own before its task is made.

        `await limit.map(fn, items)` returns a list; `async with limit.map(fn, items) as results` an async iterator,
        whose tasks end with the block. It waits for permits without limit, in the queue and in its order. `max_queued`
        and `max_wait` do not apply: they are for callers that cannot wait.

        Args:
            fn: An async function of one item, not guarded by this bulkhead itself.

            items: An iterable or async iterable, read only as fast as permits are granted.

            ordered: True: results come in the order of the items; False: as calls end.

            buffer: Most calls begun whose results are not consumed yet; twice `max_concurrent` if None.

        Raises:
            BulkheadFullError: The bulkhead was closed, or an item is too heavy; raised by the iteration.
        """
        most = positive_int("buffer", buffer, none_ok=True) or 2 * self._gate.capacity
        return BulkheadMap(self, fn, items, ordered=ordered, buffer=most)


class _Deadline:
    def __init__(self, timeout: Time | None) -> None:
        limit = seconds("timeout", timeout, zero_ok=True, none_ok=True)
        self._until_ns = None if limit is None else clock.now_ns() + round(limit * 1e9)

    def left(self) -> float | None:
        """Return the seconds left, 0.0 if the time is up, None without a limit."""
        return None if self._until_ns is None else max(0, self._until_ns - clock.now_ns()) / 1e9


@makes(BulkheadConfig, "@bulkhead(10)")
def bulkhead(config: BulkheadConfig, name: str | None) -> Bulkhead:
    """
    Return a bulkhead that admits `max_concurrent` calls at a time and queues or rejects the rest.

    Args:
        max_concurrent: Permits, >= 1, in all threads and event loops together.
        max_queued: Calls that may wait for a permit; 0: a call that finds none is rejected at once.
        max_wait: Seconds that a call waits at most, >= 0; needed where calls may wait.
        order: The next call to admit: "fifo", the oldest; "lifo", the newest; or "adaptive": fifo until the oldest has
            waited for half of max_wait or the queue is half full, and then lifo, because under overload the newest can
            still be in time.
        weight: Permits a call takes: an int >= 1, or a function of the call's arguments that returns one. A call whose
            turn has come is not overtaken by lighter ones. If the function raises or returns anything else: 1.
        on_store_down: In a fleet, the permits of this host while its store is away: "local": its share, at least 1;
            "open": all of them; "closed": none. None: as the fleet was made.
        name: What it is called; the same name and options give the same bulkhead.
        scope: "host": one state for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns. None: "process". Many mirror a pool
            of the process, so the variable `RESILIO_SCOPE` changes none.
        enforce: False: reject nothing and count what would have been rejected; 0 to 1: enforce for this share.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(Bulkhead, name, config)
