"""
A race on trio: the primary runs in the caller's task, and its copies in a nursery around it.

No task of trio outlives its parent, so the winner's result waits for the losers' cleanup. A call that may be hedged
pays for a nursery and a task, some tens of microseconds, even if no copy starts.
"""

from __future__ import annotations

import math
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import trio

from resilio._failures.outcome import Outcome
from resilio._native import clock
from resilio._native.core import ambient_deadline
from resilio._strategies.copies import discard_of
from resilio._strategies.race import End, Race, discarded

if TYPE_CHECKING:
    from resilio._native.core import InnerCall
    from resilio._native.strategies import HedgeGate

__all__ = ["run_trio_race"]

_GRAIN = 1e-6
"""Smallest difference, in seconds, that a float of the time since long ago still resolves."""


async def run_trio_race(gate: HedgeGate, rest: InnerCall) -> Any:
    """
    Run the rest of a call and, when their time comes, its copies.

    Args:
        gate: The hedge stage.
        rest: The stages inside it.

    Raises:
        Exception: The primary's exception, if no attempt gave a better answer.
    """
    race = _TrioRace(gate, rest)
    try:
        async with trio.open_nursery() as race.nursery:
            race.nursery.start_soon(race.timer)
            await race.primary()
        end = race.result()
    except BaseException as error:  # a Ctrl-C, or a cancellation from outside
        race.broken_off()
        if isinstance(error, BaseExceptionGroup):
            raise _only(error) from None
        raise
    finally:
        await race.discard_all()
    try:
        return end.give()
    finally:
        del end  # its exception's traceback refers to this frame


class _TrioRace(Race):
    nursery: trio.Nursery

    def __init__(self, gate: HedgeGate, rest: InnerCall) -> None:
        retry: Any = rest.outside("retry")
        deadline = ambient_deadline()  # read in the caller's task, where the deadlines of its calls are known
        until_ns = clock.NEVER_NS if deadline is None else deadline.until_ns
        super().__init__(gate, rest, None if retry is None else retry.budget, copy_context(), until_ns, rest.wait_ns)
        self._alarm = trio.CancelScope()
        self._late: list[Any] = []
        self._began_ns = clock.now_ns()
        self.due_ns = clock.NEVER_NS if rest.wait_ns == clock.NEVER_NS else self._began_ns + rest.wait_ns

    # ---- called by the race

    def start(self, number: int, copy: InnerCall) -> None:
        """Start a copy in the nursery."""
        self.context.run(self.nursery.start_soon, self._copy, number, copy)

    def stop_primary(self) -> None:
        """Cancel all attempts: on trio the primary is stopped together with the copies."""
        self.nursery.cancel_scope.cancel()

    stop_copies = stop_primary

    def discard(self, value: Any) -> None:
        """Keep an unused result until all attempts have ended."""
        self._late.append(value)

    # ---- tasks

    async def primary(self) -> None:
        """Run the call itself; it is cancelled if a copy wins."""
        try:
            value = await self._rest()
        except Exception as error:  # noqa: BLE001 - for the caller, if no copy gives a better answer
            self._ended(End.of(self.gate, self._rest, None, error))
        except BaseException as error:
            if self.won:
                self._learn(None)
                self._stopped(error)
            raise
        else:
            self._ended(End.of(self.gate, self._rest, value, None))

    def _stopped(self, error: BaseException) -> None:
        """Raise only the cancellations of a group: those were caused by the winning copy."""
        if isinstance(error, BaseExceptionGroup):
            cancelled, rest = error.split(trio.Cancelled)
            if cancelled is not None and isinstance(rest, ExceptionGroup):
                self.primary_ended(End(None, rest, Outcome.IGNORED))
                raise cancelled from None

    def _ended(self, end: End) -> None:
        self._learn(end)
        if self.primary_ended(end):
            self.stop_copies()
        else:
            self._set_alarm()

    def _learn(self, end: End | None) -> None:
        seconds = (clock.now_ns() - self._began_ns) / 1e9
        if self.won or end is None:
            self.gate.learn(seconds, stopped=True)
        else:
            self.gate.learn_end(seconds, end.error, end.outcome)

    async def _copy(self, number: int, copy: InnerCall) -> None:
        end = None
        try:
            value = await copy()
            end = End.of(self.gate, self._rest, value, None)
        except Exception as error:  # noqa: BLE001 - an answer like others
            end = End.of(self.gate, self._rest, None, error)
        finally:
            self.copy_ended(number, copy, end)
            if self._answer is not None and self.decided:
                self.stop_copies()
            del copy, end  # freed here, where its time is counted: a cancellation's traceback would keep it

    async def timer(self) -> None:
        """Start copies when they are due."""
        while True:
            with trio.CancelScope() as self._alarm:
                self._set_alarm()
                await trio.sleep_forever()
            if clock.now_ns() >= self.due_ns:
                self.due(clock.now_ns())

    def _set_alarm(self) -> None:
        left = math.inf if self.due_ns == clock.NEVER_NS else (self.due_ns - clock.now_ns()) / 1e9
        self._alarm.deadline = trio.current_time() + max(left, _GRAIN)

    async def discard_all(self) -> None:
        """Pass unused results to the user's function, even if the caller is cancelled."""
        for value in self._late:
            rule = discard_of(self.gate, value)
            pending = None if rule is None else discarded(rule, value)
            if pending is not None:
                with suppress(trio.Cancelled):  # it then closes without waiting; trio cancels again later
                    await pending
        self._late.clear()


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the decisive exception of a group: a Ctrl-C rather than the cancellations that it caused."""
    _, rest = group.split(trio.Cancelled)
    error: BaseException = rest if rest is not None else group
    while isinstance(error, BaseExceptionGroup) and (len(error.exceptions) == 1 or rest is None):
        error = error.exceptions[0]
    return error
