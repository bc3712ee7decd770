"""
Timeouts and deadlines of streams: each step has a limit, and nothing runs while the consumer has the item.

A step is what the producer does from one item to the next. Between two steps no timer is set, no scope is open, and the
deadline is not ambient: the consumer's time is its own, though it may use up a deadline, which is a point in time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from resilio import _backends
from resilio._context import variables
from resilio._failures.outcome import Outcome
from resilio._native import clock
from resilio._native.core import AmbientDeadline, AmbientSetting, ambient_deadline
from resilio._native.strategies import stream_began, stream_ended
from resilio._policy.streams import Custody, Inside
from resilio._time_ledger import ledger
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio._backends.protocols import Cutoff
    from resilio._native.strategies import DeadlineGate, TimeoutGate

__all__ = ["deadline_items", "items_until_deadline", "timed_items"]

Step = Callable[[Awaitable[Any]], Awaitable[Any]]


class _Steps:
    """Awaits one step of a stream after the other, each in its time: by one cutoff, begun again for each."""

    __slots__ = ("_cutoff", "_cuts", "_setting")

    def __init__(self, cuts: list[Cutoff]) -> None:
        self._cuts = cuts  # what gates inside are told by
        self._cutoff: Cutoff | None = None
        self._setting = AmbientSetting()  # what is ambient in a step

    async def step(self, awaitable: Awaitable[Any]) -> Any:
        """Await the next item for as long as it may take; raise what `late` gives if that was not enough."""
        cutoff = self._cutoff
        if cutoff is None:
            cutoff = self._cutoff = _backends.cutoff(None)
        try:
            self._cuts.append(cutoff)
            seconds = self.begin()
            if seconds is not None:
                cutoff.start(seconds)
            item = await awaitable
            cutoff.close(None)
            self._setting.leave(None)
            self._cuts.remove(cutoff)
            self.end()
        except BaseException as error:  # a Ctrl-C may have come anywhere
            try:
                late = self.late() if cutoff.close(error) else None
            finally:
                self._setting.leave(None)
                if cutoff in self._cuts:
                    self._cuts.remove(cutoff)
            self.end()
            if late is not None:
                raise ledger.pass_on(error, late) from error
            raise
        return item

    def begin(self) -> float | None:
        """Begin a step, and return the seconds that it has; None: as long as it takes."""
        raise NotImplementedError

    def end(self) -> None:
        """Note that a step is over, also one that did not begin or has ended."""

    def late(self) -> Exception:
        """Return what says that the time was up, in the step."""
        raise NotImplementedError


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


class _Clocks(_Steps):
    """The times of one stream: what its producer takes, its consumer's apart."""

    __slots__ = ("_any", "_at_ns", "_begun_ns", "_gate", "_late", "_limit", "_seconds", "_spent_ns", "_total", "_which")

    def __init__(self, gate: TimeoutGate, cuts: list[Cutoff]) -> None:
        super().__init__(cuts)
        self._gate = gate
        self._total = gate.total
        self._begun_ns = -1  # of the step under way
        self._at_ns = self._spent_ns = 0
        self._any = False
        self._late = False
        self._which, self._limit, self._seconds = "total", self._total, self._total

    def begin(self) -> float | None:
        """The nearest of the clocks counts."""
        which, limit = ("idle", self._gate.idle) if self._any else ("first", self._gate.first)
        seconds = limit
        if self._total is not None:
            left = max(self._total - self._spent_ns / 1e9, 0.0)
            if seconds is None or left <= seconds:
                which, limit, seconds = "total", self._total, left
        self._which, self._limit, self._seconds = which, limit, seconds
        self._begun_ns = self._at_ns = clock.now_ns()
        return seconds

    def end(self) -> None:
        """The clock of all items stands still until the next step."""
        begun_ns, self._begun_ns = self._begun_ns, -1
        if begun_ns >= 0:
            self._spent_ns += clock.now_ns() - begun_ns
            self._any = True

    def late(self) -> Exception:
        """Return what says which clock it was."""
        self._late = True
        seconds = self._seconds or 0.0
        return self._gate.timed_out(self._at_ns + round(seconds * 1e9), self._limit or 0.0, self._which)

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


class _Until(_Steps):
    """The deadline of one stream, from its first step: ambient while its producer works."""

    __slots__ = ("_allowed_ns", "_deadline", "_gate", "_until_ns")

    def __init__(self, gate: DeadlineGate, cuts: list[Cutoff]) -> None:
        super().__init__(cuts)
        self._gate = gate
        self._allowed_ns = round(gate.allowed * 1e9)
        self._until_ns = 0
        self._deadline: AmbientDeadline | None = None

    def begin(self) -> float:
        """Set the deadline, unless one outside is nearer."""
        now_ns = clock.now_ns()
        until_ns = self._until_ns = self._until_ns or now_ns + self._allowed_ns
        outer = ambient_deadline()
        if outer is not None and outer.until_ns <= until_ns:
            until_ns = outer.until_ns
        else:
            before, deadline = variables.deadline.get(), self._deadline
            if deadline is None or deadline.outer is not before:
                deadline = self._deadline = AmbientDeadline(until_ns, self._allowed_ns, before)
            self._setting.set(variables.deadline, deadline)
        return max(0, until_ns - now_ns) / 1e9

    def late(self) -> Exception:
        """Return what says that the deadline has passed."""
        return self._gate.passed()

    def now(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do a step of a generator that is not async: it is not interrupted."""
        try:
            self.begin()
            return step(*args)
        finally:
            self._setting.leave(None)


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
