"""
Timeouts and deadlines of streams: each step has a limit, and nothing runs while the consumer has the item.

A step is what the producer does from one item to the next. Between two steps no timer is set, no scope is open, and the
deadline is not ambient: the consumer's time is its own, though it may use up a deadline, which is a point in time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Token
from typing import TYPE_CHECKING, Any

from resilio import _backends, _context, _ledger
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline
from resilio._native.timing import stream_began, stream_ended
from resilio._outcome import Outcome
from resilio._streams import Custody, Inside
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio._backends import Cutoff
    from resilio._native.timing import DeadlineGate, TimeoutGate

__all__ = ["deadline_items", "items_until_deadline", "timed_items"]

Step = Callable[[Awaitable[Any]], Awaitable[Any]]


async def _within(awaitable: Awaitable[Any], seconds: float, cuts: list[Cutoff], late: Callable[[], Exception]) -> Any:
    """Await one step for so many seconds, and raise `late()` if that was not enough."""
    cutoff = _backends.cutoff(None)
    cutoff.start(seconds)
    cuts.append(cutoff)  # what gates inside are told by
    try:
        item = await awaitable
    except BaseException as error:
        cuts.remove(cutoff)
        if cutoff.close(error):
            raise _ledger.pass_on(error, late()) from error
        raise
    cuts.remove(cutoff)
    cutoff.close(None)
    return item


async def _items(
    gate: TimeoutGate | DeadlineGate, make: Inside, step: Step, over: Callable[[Outcome], None]
) -> AsyncGenerator[Any, Any]:
    inner, custody, outcome = make(), Custody(), Outcome.IGNORED
    stream_began(gate)
    try:
        item = await step(custody.first(inner))
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = await step(inner.athrow(error))
            else:
                item = await step(inner.asend(sent))
    except StopAsyncIteration:
        outcome = Outcome.SUCCESS
    except Exception as error:
        outcome = Outcome.IGNORED if isinstance(error, RejectedError) else Outcome.FAILURE
        raise
    finally:
        custody.driven = False
        stream_ended(gate, outcome)
        over(outcome)


class _Clocks:
    """The times of one stream: what its producer takes, its consumer's apart."""

    __slots__ = ("_any", "_cuts", "_gate", "_late", "_spent_ns", "_total")

    def __init__(self, gate: TimeoutGate, cuts: list[Cutoff]) -> None:
        self._gate = gate
        self._cuts = cuts
        self._total = gate.total
        self._spent_ns = 0
        self._any = False
        self._late = False

    async def step(self, awaitable: Awaitable[Any]) -> Any:
        """Await the next item for as long as the nearest of the clocks allows."""
        which, limit, seconds = self._nearest()
        begun_ns = clock.now_ns()

        def late() -> Exception:
            self._late = True
            return self._gate.timed_out(begun_ns + round(seconds * 1e9), limit or 0.0, which)

        try:
            return await (awaitable if limit is None else _within(awaitable, seconds, self._cuts, late))
        finally:
            self._spent_ns += clock.now_ns() - begun_ns
            self._any = True

    def _nearest(self) -> tuple[str, float | None, float]:
        which, limit = ("idle", self._gate.idle) if self._any else ("first", self._gate.first)
        left = None if self._total is None else max(self._total - self._spent_ns / 1e9, 0.0)
        if left is not None and (limit is None or left <= limit):
            return "total", self._total, left
        return which, limit, limit or 0.0

    def over(self, outcome: Outcome) -> None:
        """Let the gate learn from the stream."""
        self._gate.note(outcome, self._spent_ns, self._late)


def timed_items(gate: TimeoutGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """
    Return the items of a stream, each in time.

    Args:
        gate: Whose timeout it is.

        make: Makes the stream inside.

    Raises:
        CallTimeoutError: An item came too late; `clock` says by which limit. Raised by the iteration.
    """
    clocks = _Clocks(gate, make.cuts)
    return _items(gate, make, clocks.step, clocks.over)


class _Until:
    """The deadline of one stream, from its first step: ambient while its producer works."""

    __slots__ = ("_allowed_ns", "_cuts", "_gate", "_until_ns")

    def __init__(self, gate: DeadlineGate, cuts: list[Cutoff]) -> None:
        self._gate = gate
        self._cuts = cuts
        self._allowed_ns = round(gate.allowed * 1e9)
        self._until_ns = 0

    def enter(self) -> Token[AmbientDeadline | None] | None:
        """Set it, unless one outside is nearer."""
        self._until_ns = self._until_ns or clock.now_ns() + self._allowed_ns
        outer = ambient_deadline()
        if outer is not None and outer.until_ns <= self._until_ns:
            return None
        deadline = AmbientDeadline(self._until_ns, self._allowed_ns, _context.deadline.get())
        return _context.deadline.set(deadline)

    def leave(self, token: Token[AmbientDeadline | None] | None) -> None:
        """Put back what was."""
        if token is not None:
            with suppress(ValueError):  # closed in another context, which the step's was a copy of
                _context.deadline.reset(token)

    async def step(self, awaitable: Awaitable[Any]) -> Any:
        """Await the next item until the deadline."""
        token = self.enter()
        try:
            ambient = ambient_deadline()
            until_ns = self._until_ns if ambient is None else ambient.until_ns
            left = max(0, until_ns - clock.now_ns()) / 1e9
            return await _within(awaitable, left, self._cuts, self._gate.passed)
        finally:
            self.leave(token)

    def now(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do a step of a generator that is not async: it is not interrupted."""
        token = self.enter()
        try:
            return step(*args)
        finally:
            self.leave(token)


def items_until_deadline(gate: DeadlineGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """
    Return the items of a stream whose producer has a deadline.

    Args:
        gate: Whose deadline it is.

        make: Makes the stream inside.

    Raises:
        DeadlineExceededError: It has passed. Raised by the iteration.
    """
    return _items(gate, make, _Until(gate, make.cuts).step, lambda _: None)


def deadline_items(gate: DeadlineGate, make: Inside) -> Generator[Any, Any, Any]:
    """
    Give the items of a generator that is not async, whose deadline is known to what it calls.

    Args:
        gate: Whose deadline it is.

        make: Makes the stream inside.
    """
    inner, until, outcome = make(), _Until(gate, make.cuts), Outcome.IGNORED
    stream_began(gate)
    try:
        item = until.now(next, inner)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = until.now(inner.throw, error)
            else:
                item = until.now(inner.send, sent)
    except StopIteration as stop:
        outcome = Outcome.SUCCESS
        return stop.value
    except Exception as error:
        outcome = Outcome.IGNORED if isinstance(error, RejectedError) else Outcome.FAILURE
        raise
    finally:
        stream_ended(gate, outcome)
