"""
Timeouts and deadlines of streams: each step has a limit, and no timer runs while the consumer has the item.

A step is the producer's work from one item to the next. Between two steps no timer is set, no scope is open, and the
deadline is not ambient. The consumer's own time does not count, except towards a deadline, which is a point in time.
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
    """Awaits the steps of a stream, each within its own limit, by one cutoff that is restarted for each."""

    __slots__ = ("_cutoff", "_cuts", "_setting")

    def __init__(self, cuts: list[Cutoff]) -> None:
        self._cuts = cuts  # gates inside learn the cause of a cancellation from these
        self._cutoff: Cutoff | None = None
        self._setting = AmbientSetting()  # the ambient deadline during a step

    async def step(self, awaitable: Awaitable[Any]) -> Any:
        """Await the next item; raise the error of `late` if the step exceeds its limit."""
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
        """Begin a step and return its limit in seconds; None: no limit."""
        raise NotImplementedError

    def end(self) -> None:
        """Note the end of a step; harmless if it did not begin or has ended already."""

    def late(self) -> Exception:
        """Return the error of a step that exceeded its limit."""
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
            except BaseException as error:  # noqa: BLE001 - thrown by the consumer into the user's generator
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
    """Clocks of one stream: the producer's time, without that of the consumer."""

    __slots__ = ("_any", "_at_ns", "_begun_ns", "_gate", "_late", "_limit", "_seconds", "_spent_ns", "_total", "_which")

    def __init__(self, gate: TimeoutGate, make: Inside) -> None:
        super().__init__(make.cuts)
        self._gate = gate
        self._total = gate.total_for(make.args, make.kwargs)
        self._begun_ns = -1  # start of the current step, -1 between steps
        self._at_ns = self._spent_ns = 0
        self._any = False
        self._late = False
        self._which, self._limit, self._seconds = "total", self._total, self._total

    def begin(self) -> float | None:
        """Begin a step; its limit is that of the nearest clock."""
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
        """Stop the clock of the total time until the next step."""
        begun_ns, self._begun_ns = self._begun_ns, -1
        if begun_ns >= 0:
            self._spent_ns += clock.now_ns() - begun_ns
            self._any = True

    def late(self) -> Exception:
        """Return the timeout error, with the clock that ran out."""
        self._late = True
        seconds = self._seconds or 0.0
        return self._gate.timed_out(self._at_ns + round(seconds * 1e9), self._limit or 0.0, self._which)

    def over(self, outcome: Outcome) -> None:
        """Let the gate learn from the stream."""
        self._gate.note(outcome, self._spent_ns, self._late)


def timed_items(gate: TimeoutGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """
    Return the items of a stream, each within the timeout.

    Args:
        gate: The timeout stage.

        make: Makes the stream inside.

    Raises:
        CallTimeoutError: An item came too late; `clock` names the limit. Raised by the iteration.
    """
    clocks = _Clocks(gate, make)
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
        """Return the error of a passed deadline."""
        return self._gate.passed()

    def now(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run a step of a sync generator, which is not interrupted."""
        try:
            self.begin()
            return step(*args)
        finally:
            self._setting.leave(None)


def items_until_deadline(gate: DeadlineGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """
    Return the items of a stream whose producer has a deadline.

    Args:
        gate: The deadline stage.

        make: Makes the stream inside.

    Raises:
        DeadlineExceededError: The deadline passed. Raised by the iteration.
    """
    return _items(gate, make, _Until(gate, make.cuts).step, lambda _: None)


def deadline_items(gate: DeadlineGate, make: Inside) -> Generator[Any, Any, Any]:
    """
    Yield the items of a sync generator, with its deadline ambient while it runs.

    Args:
        gate: The deadline stage.

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
            except BaseException as error:  # noqa: BLE001 - thrown by the consumer into the user's generator
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
