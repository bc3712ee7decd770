"""
The race between a call and its copies: who runs, has failed or has won, and what follows. The same on every event loop.

A race reads no clock and waits for nothing. `race_asyncio` and `race_trio` tell it what happens, start and cancel what
it names, and have it asked again at `due_ns`.

The first answer that is no failure wins. A copy starts when its time has come, or at once when the primary has failed
and no copy runs; never before a Retry-After of an attempt that has failed. A refusal is no answer: it starts nothing,
and beats no attempt that still runs. Once nothing runs, the call ends as its primary did.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from resilio._events import log
from resilio._failures.outcome import Outcome, is_refusal
from resilio._failures.retry_after import retry_after_of, should_retry_of
from resilio._native import clock
from resilio._strategies.copies import copy_of, may_copy

if TYPE_CHECKING:
    from resilio._native.core import Rest
    from resilio._native.strategies import HedgeGate

__all__ = ["NEVER", "End", "Race"]

NEVER = (1 << 63) - 1
_LONGEST = 1e9


class End(NamedTuple):
    """How an attempt has ended."""

    value: Any
    error: BaseException | None
    outcome: int

    @classmethod
    def of(cls, gate: HedgeGate, rest: Rest, value: Any, error: Exception | None) -> End:
        """
        Return how an attempt has ended, judged by the hedge's own rules.

        Args:
            gate: The hedge stage.
            rest: What is inside of it.
            value: What it returned, if there is no *error*.
            error: What it raised.
        """
        return cls(value, error, gate.outcome_of(rest, value, error))

    @property
    def is_failure(self) -> bool:
        """Whether a copy may still give a better answer."""
        return self.outcome == Outcome.FAILURE

    @property
    def is_refusal(self) -> bool:
        """Whether nothing was answered, because nothing was asked."""
        return self.outcome == Outcome.IGNORED and self.error is not None and is_refusal(self.error)

    def give(self) -> Any:
        """Return the result, or raise the exception."""
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            del self  # the exception knows this frame


class _Winner(NamedTuple):
    number: int
    copy: Rest
    end: End
    losers: int  # copies that ran beside it


class Race:
    """The race of one call. Subclasses say how a copy is started, and how what runs is stopped."""

    def __init__(self, gate: HedgeGate, rest: Rest, budget: Any, context: Context, until_ns: int) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage, which learns how it went.
            rest: What is inside of it.
            budget: What copies are paid from beside the gate's own share: that of a retry outside, or None.
            context: A copy of the caller's context as it was when the call began.
            until_ns: When the answer is of no use any more.
        """
        self.gate = gate
        self.context = context
        self.due_ns = NEVER  # when the next copy may start
        self.running = 0  # copies
        self.over = False
        self._rest = rest
        self._budget = budget
        self._until_ns = until_ns
        self._started = 0
        self._pushback_ns = 0  # nothing starts before this
        self._answer: End | None = None  # the primary's
        self._winner: _Winner | None = None

    # ---- what an event loop does

    def start(self, number: int, copy: Rest) -> None:
        """Start a copy in `context`, and call `copy_ended` when it has ended."""
        raise NotImplementedError

    def stop_primary(self) -> None:
        """Cancel the primary: a copy has won."""
        raise NotImplementedError

    def stop_copies(self) -> None:
        """Cancel the copies that run."""
        raise NotImplementedError

    def discard(self, value: Any) -> None:
        """Hand a result that is not the call's to the user's function."""
        raise NotImplementedError

    # ---- what happens

    @property
    def won(self) -> bool:
        """Whether a copy has won."""
        return self._winner is not None

    def due(self, now_ns: int) -> int:
        """
        Start a copy, whose time has come, if everything is for it.

        Returns:
            When the next one is due; NEVER if none is.
        """
        self.due_ns = NEVER
        if self.over or self.won or self._started >= self.gate.max_hedges:
            return NEVER
        if now_ns < self._pushback_ns:
            self.due_ns = self._pushback_ns
        elif self.gate.may_start(self._until_ns) and self._start_next() and self._started < self.gate.max_hedges:
            self.due_ns = self.gate.due_after(self._started, now_ns)
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
            self.context.run(self.gate.tell_started, number)
        return started

    def _give_back(self, paid: bool = True) -> None:
        self.gate.give_back()
        if paid and self._budget is not None:
            self._budget.refund()

    def copy_ended(self, number: int, copy: Rest, end: End | None) -> None:
        """
        Take note of a copy's end.

        Args:
            number: Which one it is.
            copy: What ran.
            end: How; None: it was cancelled, which says nothing.
        """
        self.running -= 1
        if end is None:
            pass
        elif self.over or self.won:
            self._too_late(end)
        elif end.is_refusal:
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
        Take note of the primary's end.

        Args:
            end: How; None: it was cancelled because a copy has won.

        Returns:
            Whether that ends the race. If not, the copies decide it: see `decided`.
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
        elif not end.is_refusal:
            self._lose(self.running)
            self.over = True
            self.stop_copies()
        return self.decided

    @property
    def decided(self) -> bool:
        """Whether there is nothing to wait for any more, once the primary has ended."""
        return self.over or self.won or not self.running

    def result(self) -> End:
        """Return what the call ends with. Nothing refers to it from here any more: an exception knows what knows it."""
        winner, answer = self._winner, self._answer
        self.over, self._winner, self._answer, self.due_ns = True, None, None, NEVER
        if winner is None:
            return cast("End", answer)
        if answer is not None:
            self._too_late(answer)
        self._rest.adopt(winner.copy)
        self.gate.verdict(True)
        self._lose(winner.losers)
        self.context.run(self.gate.tell_won, winner.number)
        return winner.end

    def broken_off(self) -> None:
        """The caller is cancelled: so are the copies, and no result is taken."""
        winner, answer = self._winner, self._answer
        self.over, self._winner, self._answer, self.due_ns = True, None, None, NEVER
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
            self._pushback_ns = NEVER
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
    Hand a result that is not the call's to what takes it, and log what that raises.

    Args:
        rule: The user's function, or an integration's.
        value: The result.

    Returns:
        What is to be awaited, if the function is asynchronous.
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
