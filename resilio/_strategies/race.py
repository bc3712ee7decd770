"""
A race between a call and its copies, on asyncio: the first success wins, and nobody waits for the losers.

The primary is no task of its own: it runs in the caller's, and a task is made for each copy only when it starts. When
a copy wins, the caller's task is cancelled as `asyncio.timeout` would do it, and the hedge stage takes that back; what
still cleans up then is seen out by `resilio._strategies.losers`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any
from weakref import ref

from anyio import CancelScope

from resilio import _log
from resilio._strategies import losers
from resilio._strategies.copies import copy_of, discard_of, may_copy
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio._native.core import Call, Rest
    from resilio._native.hedge import HedgeGate

__all__ = ["Race", "see_out"]

_SUPERSEDED = 3  # rs_interrupt
_AGAIN = 0.001


class Race:
    """The copies of one call; nothing in here keeps the call alive, so that one which is dropped ends."""

    __slots__ = (
        "_budget", "_call", "_error", "_failed", "_gate", "_loop", "_rest", "_seen_out", "_stage", "_tasks", "_waiting",
        "_winner", "settled",
    )  # fmt: skip

    def __init__(self, gate: HedgeGate, call: Call[Any], stage: int, budget: Any) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage, which is told how it went.

            call: The call, of which the stage is part.

            stage: Which one it is.

            budget: What copies are paid from beside the gate's own share: that of a retry outside, or None.
        """
        self._gate = gate
        self._call = ref(call)
        self._stage = stage
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._rest: Rest = call._rest(stage)
        self._tasks: dict[asyncio.Task[Any], tuple[int, Rest]] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._failed = self._seen_out = self.settled = False
        self._winner: tuple[Any, int, Rest] | None = None  # its result, and which it was
        self._error: BaseException | None = None

    # ---- copies -----------------------------------------------------------------------------------------------------

    def start(self, number: int, context: Context) -> bool:
        """
        Start a copy.

        Args:
            number: Which one it is, from 1.

            context: What it runs in.

        Returns:
            False: this call cannot be copied, or the budget has nothing left for it.
        """
        if self.settled or self._winner is not None or not may_copy(self._gate, self._rest):
            return False
        if self._budget is not None and not self._budget.withdraw():
            return False
        copy = copy_of(self._gate, self._rest, number)
        attempt = _attempt(copy)
        try:
            task = context.run(self._loop.create_task, attempt)
        except BaseException:
            attempt.close()
            self._refund()
            raise
        self._tasks[task] = number, copy
        task.add_done_callback(self._ended)
        context.run(self._gate.tell_started, number)  # listeners see the context of the call, not of the timer
        return True

    def _refund(self) -> None:
        if self._budget is not None:
            self._budget.refund()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """In a callback of the loop: a copy has ended."""
        number, copy = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if self.settled or self._winner is not None:
            if error is None and not task.cancelled():
                self.discard(task.result())
        elif task.cancelled():
            pass  # by itself, or by somebody who cancels whatever runs: it says nothing
        elif error is None:
            self._winner = task.result(), number, copy
            self._stop()
            self._supersede()
        elif isinstance(error, RejectedError):
            self._gate.give_back()
            self._refund()
        else:
            self._gate.verdict(False)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _supersede(self) -> None:
        """Have the primary cancelled, unless it has ended: then somebody waits here."""
        call = self._call()
        if call is None or self._failed or self.settled:
            return
        if call._interrupt(self._stage, _SUPERSEDED) < 0:  # another interruption of this task is under way
            self._loop.call_later(_AGAIN, self._supersede)

    def _stop(self) -> None:
        """Cancel the copies that run, and hold them until they have ended."""
        for task in list(self._tasks):
            losers.stop(task)

    # ---- the primary ------------------------------------------------------------------------------------------------

    def ended(
        self, value: Any, error: BaseException | None, fired: bool, cancelled: bool
    ) -> tuple[Awaitable[Any] | None, Any, BaseException | None]:
        """
        Say what follows from the primary's end, or from the end of what was awaited for it.

        Args:
            value: What it returned, if *error* is None.

            error: What it raised.

            fired: It was cancelled because a copy has won, and by nobody else.

            cancelled: Somebody else has had the task cancelled while we did.

        Returns:
            What to await before this is asked again, or None; then the call's value and error.
        """
        if self.settled:  # what was awaited has ended, or the call was split off by a race further out
            error = self._error if error is None else error
            return None, value, error
        ours = fired and isinstance(error, asyncio.CancelledError)
        thrown = self._failed or cancelled  # in while this waited for copies, or beside our cancellation
        if error is not None and not ours and (thrown or not isinstance(error, Exception)):
            return self._broken_off(error)
        if self._winner is not None:
            return self._won(*self._winner, value, error, cancelled)
        if error is None and not self._failed:
            self._lost()
            return None, value, None
        self._failed, self._error = True, error or self._error
        if self._tasks:
            return self._next_end(), None, self._error
        self.settled = True
        return None, None, self._error

    def _won(
        self, result: Any, number: int, copy: Rest, value: Any, error: BaseException | None, cancelled: bool
    ) -> tuple[None, Any, BaseException | None]:
        """A copy has won: its result is the call's, unless the caller is cancelled."""
        self.settled = True
        if error is None and not self._failed and not self._seen_out:
            self.discard(value)  # the primary took no notice of its cancellation
        if cancelled:
            self.discard(result)
            return None, None, asyncio.CancelledError()
        self._rest.adopt(copy)
        self._gate.verdict(True)
        for _ in self._tasks:
            self._gate.verdict(False)
        self._gate.tell_won(number)
        return None, result, None

    def _lost(self) -> None:
        """The primary has won: copies that run have lost."""
        self.settled = True
        for _ in self._tasks:
            self._gate.verdict(False)
        self._stop()

    def _broken_off(self, error: BaseException) -> tuple[Awaitable[Any] | None, None, BaseException]:
        """The caller is cancelled, by whomever: so are the copies, and it ends after them. A Ctrl-C does not wait."""
        self.settled = True
        self._error = error
        if self._winner is not None:
            self.discard(self._winner[0])
        self._stop()
        if self._tasks and isinstance(error, asyncio.CancelledError):
            return self._last_end(), None, error
        return None, None, error

    async def _next_end(self) -> None:
        """Wait until a copy has succeeded, or all have ended; then `ended` is asked again."""
        while self._tasks and self._winner is None:
            self._waiting = self._loop.create_future()
            await self._waiting

    async def _last_end(self) -> None:
        """Wait until all copies have ended, however often the caller is cancelled."""
        with CancelScope(shield=True):  # anyio would cancel once more in each turn of the loop
            while self._tasks:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(list(self._tasks))

    def dropped(self) -> None:
        """The call is gone; in a finaliser maybe, and in any thread. Copies that run are cancelled."""
        if getattr(self, "settled", True):  # the collector may have emptied this before: then nothing runs any more
            return
        self.settled = True
        with suppress(RuntimeError, AttributeError):  # the loop is closed, or collected as well: they are gone with it
            self._loop.call_soon_threadsafe(_forgotten, self._gate, self._loop, list(self._tasks), self._winner)

    def __del__(self) -> None:
        """Before the collector empties anything of a cycle, in whichever order it does so."""
        self.dropped()

    # ---- losers -----------------------------------------------------------------------------------------------------

    def see_out(self, loser: Call[Any], yielded: Any) -> Awaitable[None]:
        """Return what waits a moment for a superseded primary that cleans up."""
        self._seen_out = True
        call = self._call()
        return losers.see_out(loser, yielded, None if call is None else call._context(), self.discard)

    def discard(self, result: Any) -> None:
        """Hand a result that came too late to the user's function, which may be asynchronous; errors are logged."""
        _discard(self._gate, self._loop, result)


def _discard(gate: HedgeGate, loop: asyncio.AbstractEventLoop, result: Any) -> None:
    rule = discard_of(gate, result)
    if rule is None:
        return
    try:
        pending = rule(result)
        if inspect.isawaitable(pending):
            losers.keep(loop.create_task(_discarded(pending)))
    except Exception as error:  # noqa: BLE001 - foreign code
        _log.say(_log.WARNING, "discard raised for a %s", type(result).__name__, error=error)


def _forgotten(
    gate: HedgeGate,
    loop: asyncio.AbstractEventLoop,
    tasks: list[asyncio.Task[Any]],
    winner: tuple[Any, int, Rest] | None,
) -> None:
    """In a callback of the loop, without the race: the collector empties one that is garbage, whoever still has it."""
    if winner is not None:
        _discard(gate, loop, winner[0])
    for task in tasks:
        losers.stop(task)


def see_out(race: Race, loser: Call[Any], yielded: Any) -> Awaitable[None]:
    """Return what the core awaits in place of a superseded primary, which has become a call of its own."""
    return race.see_out(loser, yielded)


async def _attempt(rest: Rest) -> Any:
    return await rest()


async def _discarded(pending: Awaitable[Any]) -> None:
    try:
        await pending
    except Exception as error:  # noqa: BLE001 - foreign code
        _log.say(_log.WARNING, "discard raised", error=error)
