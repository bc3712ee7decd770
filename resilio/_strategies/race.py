"""
State machine of the race between a call and its copies, the same on every event loop.

A race sets no timer and never waits. `race_asyncio` and `race_trio` report events to it, start and cancel the attempts
that it names, and call `due` again at `due_ns`.

The first answer that is neither a failure nor a refusal wins. A copy starts when it is due, or at once if the primary
fails or is refused while no copy runs; never before a Retry-After of such an attempt, or of one that a retry inside
repeats. A rejection is not an answer: it starts no copy, and beats no attempt that still runs. Once no attempt runs,
the call ends as its primary did.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from resilio._events import log
from resilio._failures.outcome import Outcome, is_rejection
from resilio._failures.retry_after import retry_after_of, should_retry_of
from resilio._native import clock
from resilio._strategies.copies import copy_of, may_copy

if TYPE_CHECKING:
    from resilio._native.core import InnerCall
    from resilio._native.strategies import HedgeGate

__all__ = ["End", "Race"]

_LONGEST = 1e9


class End(NamedTuple):
    """End of an attempt."""

    value: Any
    error: BaseException | None
    outcome: int

    @classmethod
    def of(cls, gate: HedgeGate, rest: InnerCall, value: Any, error: Exception | None) -> End:
        """
        Return the end of an attempt, with its outcome by the hedge's own rules.

        Args:
            gate: The hedge stage.
            rest: The stages inside it.
            value: The attempt's result, if there is no *error*.
            error: The attempt's exception, or None.
        """
        return cls(value, error, gate.outcome_of(rest, value, error))

    @property
    def is_failure(self) -> bool:
        """Whether a copy may still give a better answer."""
        return self.outcome in (Outcome.FAILURE, Outcome.REFUSED)

    @property
    def is_rejection(self) -> bool:
        """Whether a policy rejected the attempt, so that the callee was not called."""
        return self.outcome == Outcome.IGNORED and self.error is not None and is_rejection(self.error)

    def give(self) -> Any:
        """Return the result, or raise the exception."""
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            del self  # the exception's traceback refers to this frame


class _Winner(NamedTuple):
    number: int
    copy: InnerCall
    end: End
    losers: int  # copies that ran beside it


class Race:
    """The race of one call. Subclasses start copies and stop attempts on their event loop."""

    def __init__(
        self, gate: HedgeGate, rest: InnerCall, budget: Any, context: Context, until_ns: int, wait_ns: int
    ) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage, which learns from the race.
            rest: The stages inside it.
            budget: Budget that copies are paid from beside the gate's own: that of a retry outside, or None.
            context: A copy of the caller's context at the start of the call.
            until_ns: Deadline of the call on the native clock, in nanoseconds.
            wait_ns: Wait before the first copy, in nanoseconds; clock.NEVER_NS if none is due.
        """
        self.gate = gate
        self.context = context
        self.due_ns = clock.NEVER_NS  # when the next copy may start
        self.running = 0  # copies
        self.over = False
        self._rest = rest
        self._budget = budget
        self._until_ns = until_ns
        self._wait_ns = wait_ns
        self._started = 0
        self._pushback_ns = 0  # no copy starts before this: a Retry-After
        self._answer: End | None = None  # the primary's
        self._winner: _Winner | None = None

    # ---- operations of the event loop

    def start(self, number: int, copy: InnerCall) -> None:
        """Start a copy in `context`; call `copy_ended` at its end."""
        raise NotImplementedError

    def stop_primary(self) -> None:
        """Cancel the primary: a copy has won."""
        raise NotImplementedError

    def stop_copies(self) -> None:
        """Cancel all running copies."""
        raise NotImplementedError

    def discard(self, value: Any) -> None:
        """Pass an unused result to the user's function."""
        raise NotImplementedError

    # ---- events

    @property
    def called(self) -> bool:
        """Whether a copy may have called the function: one that was not rejected, and did not leave a queue."""
        return self._rest.called

    @property
    def won(self) -> bool:
        """Whether a copy has won."""
        return self._winner is not None

    def due(self, now_ns: int) -> int:
        """
        Start a copy that is due, if the gate, the budget and the deadline allow it.

        Returns:
            The time at which the next copy is due, in nanoseconds; clock.NEVER_NS if none is.
        """
        self.due_ns = clock.NEVER_NS
        if self.over or self.won or self._wait_ns == clock.NEVER_NS or self._started >= self.gate.max_hedges:
            return clock.NEVER_NS
        told_ns = self._rest.told_ns
        if now_ns < self._pushback_ns:
            self.due_ns = self._pushback_ns
        elif now_ns < told_ns:  # an attempt waits until then: it is copied if it then takes long
            self.due_ns = self.gate.due_after(self._started, told_ns, self._wait_ns)
        elif self.gate.may_start(self._until_ns) and self._start_next() and self._started < self.gate.max_hedges:
            self.due_ns = self.gate.due_after(self._started, now_ns, self._wait_ns)
        return self.due_ns

    def _start_next(self) -> bool:
        paid = started = False
        number = self._started + 1
        try:
            paid = may_copy(self.gate, self._rest) and (self._budget is None or bool(self._budget.withdraw()))
            if paid:
                self.start(number, copy_of(self.gate, self._rest, number))
                started = True
        except Exception:  # noqa: BLE001 - foreign code
            log.strategy_failed("a hedge could not be started")
        finally:
            if not started:
                self._give_back(paid)
        if started:
            self._started, self.running = number, self.running + 1
            self.context.run(self.gate.notify_started, number)
        return started

    def _give_back(self, paid: bool = True) -> None:
        self.gate.give_back()
        if paid and self._budget is not None:
            self._budget.refund()

    def copy_ended(self, number: int, copy: InnerCall, end: End | None) -> None:
        """
        Note the end of a copy.

        Args:
            number: Number of the copy, from 1.
            copy: The copy.
            end: Its end; None if it was cancelled, which does not count.
        """
        self.running -= 1
        if end is None:
            pass
        elif self.over or self.won:
            self._too_late(end)
        elif end.is_rejection:
            self._give_back()
        elif end.is_failure:
            self.gate.verdict(False)
            self._push_back(end)
            self._too_late(end)
        else:
            self._winner = _Winner(number, copy, end, self.running)
            self.stop_copies()
            if self._answer is None:
                self.stop_primary()

    def primary_ended(self, end: End | None) -> bool:
        """
        Note the end of the primary.

        Args:
            end: Its end; None if it was cancelled because a copy won.

        Returns:
            True if the race is over. If False, the copies decide it: see `decided`.
        """
        if self.won or end is None:
            if end is not None:
                self._late_primary(end)
            return True
        self._answer = end
        if end.is_failure:
            self._push_back(end)
            if not self.running:
                self.due(clock.now_ns())
        elif not end.is_rejection:
            self._lose(self.running)
            self.over = True
            self.stop_copies()
        return self.decided

    @property
    def decided(self) -> bool:
        """Whether the race needs no further event, once the primary has ended."""
        return self.over or self.won or not self.running

    def result(self) -> End:
        """Return the end of the call, and drop all references to it: its exception's traceback leads back here."""
        winner, answer = self._winner, self._answer
        self.over, self._winner, self._answer, self.due_ns = True, None, None, clock.NEVER_NS
        if winner is None:
            return cast("End", answer)
        if answer is not None:
            self._too_late(answer)
        self._rest.adopt(winner.copy)
        self.gate.verdict(True)
        self._lose(winner.losers)
        self.context.run(self.gate.notify_won, winner.number)
        return winner.end

    def broken_off(self) -> None:
        """Note that the caller is cancelled: cancel the copies and discard all results."""
        winner, answer = self._winner, self._answer
        self.over, self._winner, self._answer, self.due_ns = True, None, None, clock.NEVER_NS
        for end in (winner and winner.end, answer):
            if end is not None:
                self._too_late(end)
        self.stop_copies()

    def _lose(self, copies: int) -> None:
        for _ in range(copies):
            self.gate.verdict(False)

    def _push_back(self, end: End) -> None:
        subject = end.value if end.error is None else end.error
        seconds = retry_after_of(subject)
        if should_retry_of(subject) is False:
            self._pushback_ns = clock.NEVER_NS
        elif seconds is not None:
            self._pushback_ns = max(self._pushback_ns, clock.now_ns() + round(min(seconds, _LONGEST) * 1e9))

    def _too_late(self, end: End) -> None:
        if end.error is None:
            self.discard(end.value)

    def _late_primary(self, end: End) -> None:
        self._too_late(end)
        if end.error is not None:
            log.say(log.WARNING, "a superseded call failed while it cleaned up", error=end.error)


def discarded(rule: Callable[[Any], Any], value: Any) -> Coroutine[Any, Any, None] | None:
    """
    Pass an unused result to a discard function, and log the exception that it raises.

    Args:
        rule: The user's function, or an integration's.
        value: The unused result.

    Returns:
        A coroutine to await if the function is asynchronous, else None.
    """
    try:
        pending = rule(value)
        return _awaited(pending, type(value).__name__) if inspect.isawaitable(pending) else None
    except Exception as error:  # noqa: BLE001 - foreign code
        log.say(log.WARNING, "discard raised for a %s", type(value).__name__, error=error)
    return None


async def _awaited(pending: Awaitable[Any], kind: str) -> None:
    try:
        await pending
    except Exception as error:  # noqa: BLE001 - foreign code
        log.say(log.WARNING, "discard raised for a %s", kind, error=error)
