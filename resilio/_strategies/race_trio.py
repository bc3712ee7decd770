"""
A race between a call and its copies, on trio: in a nursery, all of them tasks of it.

Trio lets nobody outlive the one who started him, so here the winner's result waits for the losers' cleanup; and a call
that may be hedged pays for a nursery and a task, some tens of microseconds, hedged or not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import trio

from resilio import _log
from resilio._native import clock
from resilio.errors import RejectedError

__all__ = ["run"]


class _Race:
    def __init__(self, gate: Any, rest: Any, scope: trio.CancelScope) -> None:
        self.gate = gate
        self.rest = rest
        self.scope = scope
        retry = rest.outside("retry")
        self.budget = None if retry is None else retry.budget
        self.changed = trio.Event()
        self.running = 0
        self.winner: int | None = None
        self.value: Any = None
        self.error: Exception | None = None
        self.failed = False
        self.late: list[Any] = []
        self.began_ns = clock.now_ns()

    async def attempt(self, rest: Callable[[], Any], number: int) -> None:
        """Run the primary, 0, or a copy."""
        self.running += 1
        ended = False
        try:
            value = await rest()
            ended = True
        except Exception as error:  # noqa: BLE001 - it is the caller's, if nobody succeeds
            self._failed(number, error)
        else:
            self._succeeded(number, value)
        finally:
            self.running -= 1
            if not ended and number == 0 and self.winner is not None:
                self._learn(stopped=True)
            self.changed.set()

    def _succeeded(self, number: int, value: Any) -> None:
        if self.winner is not None:
            self.late.append(value)
            return
        self.winner, self.value = number, value
        if number == 0:
            self._learn()
        else:
            self.gate.verdict(True)
        self.scope.cancel()

    def _failed(self, number: int, error: Exception) -> None:
        if self.winner is not None:
            return
        if number == 0:
            self.error, self.failed = error, True
            self._learn(failed=True)
        elif isinstance(error, RejectedError):
            self.gate.give_back()
            if self.budget is not None:
                self.budget.refund()
        else:
            self.gate.verdict(False)

    def _learn(self, *, stopped: bool = False, failed: bool = False) -> None:
        self.gate.learn((clock.now_ns() - self.began_ns) / 1e9, stopped=stopped, failed=failed)

    def _pay(self) -> bool:
        if not self.gate.may_start():
            return False
        if self.budget is None or self.budget.withdraw():
            return True
        self.gate.give_back()
        return False

    def copy(self, number: int) -> Callable[[], Any] | None:
        """Return copy *number* of the call, paid for; None: there is to be none."""
        rest, gate = self.rest, self.gate
        rule = gate.replay_safe
        if not rest.replayable or not (rule is True or rule(*rest.args, **rest.kwargs)) or not self._pay():
            return None
        targets = gate.targets
        copy: Any = rest.around(targets[min(number, len(targets)) - 1] if targets else rest.func)
        copy.hedge = number
        return copy  # type: ignore[no-any-return]


async def run(gate: Any, rest: Any) -> Any:
    """
    Run the rest of a call and, when their time comes, its copies; the first success is the result.

    Args:
        gate: The hedge stage.

        rest: What is inside of it.

    Raises:
        Exception: What the primary raised, if none succeeded.
    """
    try:
        async with trio.open_nursery() as nursery:
            race = _Race(gate, rest, nursery.cancel_scope)
            nursery.start_soon(race.attempt, rest, 0)
            await _start_copies(gate, race, nursery)
    except BaseExceptionGroup as group:  # a Ctrl-C, or a cancellation from outside
        raise _only(group) from None
    for value in race.late:
        await _discard(gate.discard, value)
    if race.winner is not None:
        return race.value
    assert race.error is not None
    try:
        raise race.error
    finally:
        race.error = None  # no cycle through this frame


async def _start_copies(gate: Any, race: _Race, nursery: trio.Nursery) -> None:
    for number, delay in enumerate(gate.delays_after, 1):
        with trio.move_on_after(delay):
            while not race.failed and race.winner is None:
                await race.changed.wait()
                race.changed = trio.Event()
        if race.winner is not None:
            return
        copy = race.copy(number)
        if copy is None:
            return
        nursery.start_soon(race.attempt, copy, number)


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _discard(rule: Callable[[Any], Any] | None, result: Any) -> None:
    if rule is None:
        return
    try:
        pending = rule(result)
        if inspect.isawaitable(pending):
            await pending
    except Exception:  # noqa: BLE001 - foreign code
        _log.logger().warning("discard raised for a %s", type(result).__name__, exc_info=True)
