"""
A race between a call and its copies, on trio: the call in the caller's task, its copies in a nursery around it.

Trio lets nobody outlive the one who started him, so here the winner's result waits for the losers' cleanup; and a call
that may be hedged pays for a nursery and a task, some tens of microseconds, hedged or not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from resilio import _log
from resilio._native import clock
from resilio._native.core import ambient_deadline
from resilio._strategies.copies import copy_of, discard_of, may_copy
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio._native.core import Rest
    from resilio._native.hedge import HedgeGate

__all__ = ["run"]


async def run(gate: HedgeGate, rest: Rest) -> Any:
    """
    Run the rest of a call and, when their time comes, its copies; the first success is the result.

    Args:
        gate: The hedge stage.

        rest: What is inside of it.

    Raises:
        Exception: What the primary raised, if none succeeded.
    """
    race = _Race(gate, rest)
    try:
        async with trio.open_nursery() as nursery:
            race.scope = nursery.cancel_scope
            nursery.start_soon(race.copies, nursery)
            await race.primary()
    except BaseExceptionGroup as group:  # a Ctrl-C, or a cancellation from outside
        raise _only(group) from None
    finally:
        for value in race.late:
            await _discard(discard_of(gate, value), value)
    return race.result()


class _Race:
    def __init__(self, gate: HedgeGate, rest: Rest) -> None:
        self.gate = gate
        self.rest = rest
        self.scope: trio.CancelScope
        retry: Any = rest.outside("retry")
        self.budget = None if retry is None else retry.budget
        self.failed = trio.Event()
        self.won = False
        self.running = 0
        self.value: Any = None
        self.winner: Rest | None = None  # the copy that has won
        self.error: Exception | None = None
        self.late: list[Any] = []
        self.began_ns = clock.now_ns()
        self.deadline = ambient_deadline()  # in the caller's task, which knows those of its calls

    def result(self) -> Any:
        """Return the winner's result, or raise the primary's exception."""
        if self.won:
            if self.winner is not None:
                self.rest.adopt(self.winner)
            return self.value
        error: Any = self.error
        try:
            raise error
        finally:
            self.error = error = None  # no cycle through this frame

    # ---- the primary

    async def primary(self) -> None:
        """Run the call itself; a copy that wins has it cancelled."""
        try:
            value = await self.rest()
        except Exception as error:  # noqa: BLE001 - it is the caller's, if no copy succeeds
            self._learn(stopped=self.won or isinstance(error, TimeoutError), failed=not self.won)
            self.error = error
            self.failed.set()
        except trio.Cancelled:
            if self.won:
                self._learn(stopped=True)
            raise
        else:
            self._learn(stopped=self.won)
            if self._succeeded(value):
                self._lose(self.running)

    def _learn(self, *, stopped: bool = False, failed: bool = False) -> None:
        self.gate.learn((clock.now_ns() - self.began_ns) / 1e9, stopped=stopped, failed=failed)

    def _succeeded(self, value: Any) -> bool:
        if self.won:
            self.late.append(value)
            return False
        self.won, self.value = True, value
        self.scope.cancel()
        return True

    def _lose(self, copies: int) -> None:
        for _ in range(copies):
            self.gate.verdict(False)

    # ---- copies

    async def copies(self, nursery: trio.Nursery) -> None:
        """Start copies when they are due; the first at once if the primary fails."""
        for number, delay in enumerate(self.gate.delays_after, 1):
            with trio.move_on_after(delay):
                if number == 1:
                    await self.failed.wait()
                else:
                    await trio.sleep_forever()
            if (number > 1 and self.error and not self.running) or not self._pay():
                return
            self.running += 1
            nursery.start_soon(self.copy, number)
            self.gate.tell_started(number)

    def _pay(self) -> bool:
        gate = self.gate
        if self.won or not gate.may_finish(self.deadline) or not gate.may_start():
            return False
        try:
            if may_copy(gate, self.rest) and (self.budget is None or self.budget.withdraw()):
                return True
        except Exception:  # noqa: BLE001 - foreign code
            _log.strategy_failed("a hedge could not be started")
        gate.give_back()
        return False

    async def copy(self, number: int) -> None:
        """Run a copy."""
        copy = copy_of(self.gate, self.rest, number)
        try:
            value = await copy()
        except RejectedError:
            self.gate.give_back()
            if self.budget is not None:
                self.budget.refund()
        except Exception:  # noqa: BLE001 - a copy's failure is nobody's
            if not self.won:
                self.gate.verdict(False)
        else:
            if self._succeeded(value):
                self.winner = copy
                self.gate.verdict(True)
                self._lose(self.running - 1)
                self.gate.tell_won(number)
        finally:
            self.running -= 1
            del copy  # it counts its time when it is gone: a cancellation's traceback would keep it


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the exception that counts: a Ctrl-C rather than the cancellations that follow from it."""
    _, rest = group.split(trio.Cancelled)
    error: BaseException = rest if rest is not None else group
    while isinstance(error, BaseExceptionGroup) and (len(error.exceptions) == 1 or rest is None):
        error = error.exceptions[0]
    return error


async def _discard(rule: Callable[[Any], Any] | None, result: Any) -> None:
    if rule is None:
        return
    try:
        pending = rule(result)
        if inspect.isawaitable(pending):
            await pending
    except Exception as error:  # noqa: BLE001 - foreign code
        _log.say(_log.WARNING, "discard raised for a %s", type(result).__name__, error=error)
