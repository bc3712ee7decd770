"""
A race on asyncio: the primary runs in the caller's task, and a task is made for each copy only when it starts.

When a copy wins, the caller's task is cancelled as `asyncio.timeout` would do it, and the hedge stage takes that back
when the primary has cleaned up. Copies that lose are cancelled, and only a caller that is cancelled waits for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from anyio import CancelScope, current_effective_deadline

from resilio._failures.outcome import Outcome
from resilio._native.core import Timer
from resilio._strategies.copies import discard_of
from resilio._strategies.race import End, Race, discarded

if TYPE_CHECKING:
    from resilio._native.core import Call, Rest
    from resilio._native.strategies import HedgeGate

__all__ = ["AsyncioRace"]

_SUPERSEDED = 3  # rs_interrupt
_AGAIN = 0.001


class AsyncioRace(Race):
    """The copies of one call; nothing in here keeps the call alive, so that one which is dropped ends."""

    def __init__(self, gate: HedgeGate, call: Call[Any], stage: int, budget: Any, until_ns: int) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage.
            call: The call, of which the stage is part.
            stage: Which one it is.
            budget: What copies are paid from beside the gate's own share, or None.
            until_ns: When the answer is of no use any more.
        """
        context = call._context()
        super().__init__(gate, call._rest(stage), budget, copy_context() if context is None else context, until_ns)
        self._call = ref(call)
        self._stage = stage
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[Any], tuple[int, Rest]] = {}
        self._waits = False  # the primary has ended, and the copies decide
        self._waiting: asyncio.Future[None] | None = None

    # ---- what the race wants

    def start(self, number: int, copy: Rest) -> None:
        """Start a copy in a task of its own."""
        attempt = _attempt(copy)
        try:
            task = self.context.run(self._loop.create_task, attempt)
        except BaseException:
            attempt.close()
            raise
        self._tasks[task] = number, copy
        task.add_done_callback(self._task_ended, context=self.context)

    def stop_primary(self) -> None:
        """Have the caller's task cancelled, in a callback of the loop, unless the primary has ended meanwhile."""
        call = self._call()
        if call is None or self.over:
            return
        if call._interrupt(self._stage, _SUPERSEDED) < 0:  # the task is cancelled already, for something further in
            self._loop.call_later(_AGAIN, self.stop_primary)

    def stop_copies(self) -> None:
        """Cancel the copies that run, once each; the loop keeps them until they have ended."""
        for task in self._tasks:
            _keep(task)
            _stop(task)

    def discard(self, value: Any) -> None:
        """Hand a result that is not the call's to the user's function, which may be asynchronous."""
        _discard(self.gate, self._loop, value)

    # ---- what the hedge stage asks

    def ended(
        self, value: Any, error: BaseException | None, outcome: int, fired: bool, cancelled: bool
    ) -> tuple[Awaitable[Any] | None, End | None]:
        """
        Say what follows from the primary's end, or from the end of what was awaited for it.

        Args:
            value: What it returned, if *error* is None.
            error: What it raised.
            outcome: What the hedge's rules call that.
            fired: It was cancelled because a copy has won, and for no other reason.
            cancelled: The task was cancelled for another reason too.

        Returns:
            What to await, whose end is then asked about in its turn, or None; and what the call ends with instead, if
            that is something else.
        """
        if self.over:
            return None, None
        stopped = error is not None and not isinstance(error, Exception)
        ours = fired and isinstance(error, asyncio.CancelledError)
        if self._waits or cancelled or (stopped and not ours):
            return self._broken_off(error, stopped or self._waits)
        if self.primary_ended(None if ours else End(value, error, outcome)):
            return None, self.result()
        self._waits = True
        return self._decision(), None

    def _broken_off(self, error: BaseException | None, as_it_is: bool) -> tuple[Awaitable[Any] | None, End | None]:
        """The caller is cancelled: it ends after its copies. A Ctrl-C does not wait."""
        end = None if as_it_is else End(None, asyncio.CancelledError(), Outcome.IGNORED)
        thrown = error if end is None else end.error
        waits = bool(self._tasks) and isinstance(thrown, asyncio.CancelledError)
        self.broken_off()
        return (self._copies_end(thrown), None) if waits else (None, end)

    async def _decision(self) -> Any:
        """Wait until a copy has won or none runs any more; return, or raise, what the call ends with."""
        while not self.decided:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self.result().give()

    async def _copies_end(self, error: BaseException | None) -> Any:
        """Wait until all copies have ended, however often the caller is cancelled; then go on with that."""
        while self._tasks:
            with _shield(), suppress(asyncio.CancelledError):
                await asyncio.wait(list(self._tasks))
        try:
            return End(None, error, Outcome.IGNORED).give()
        finally:
            del error  # which knows this frame

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """In a callback of the loop, in the caller's context: a copy has ended."""
        number, copy = self._tasks.pop(task)
        self.copy_ended(number, copy, self._end_of(task))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _end_of(self, task: asyncio.Task[Any]) -> End | None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or (error is not None and not isinstance(error, Exception)):
            return None
        return End.of(self.gate, self._rest, None if error is not None else task.result(), error)

    # ---- a call that is dropped

    def dropped(self) -> None:
        """The call is gone; in a finaliser maybe, and in any thread. Copies that run are cancelled."""
        if getattr(self, "over", True):  # the collector may have emptied this before: then nothing runs any more
            return
        self.over = True
        won = None if self._winner is None else self._winner.end
        with suppress(RuntimeError, AttributeError):  # the loop is closed, or collected as well: they are gone with it
            self._loop.call_soon_threadsafe(_forgotten, self.gate, self._loop, list(self._tasks), won)

    def __del__(self) -> None:
        """Before the collector empties anything of a cycle, in whichever order it does so."""
        self.dropped()


def _shield() -> AbstractContextManager[Any]:
    """
    Return a shield where anyio has cancelled the task, which it would do once more in each turn of the loop.

    Not elsewhere: anyio keeps a task that is in a scope for ever, also when its loop is closed, and so its permits.
    """
    return CancelScope(shield=True) if current_effective_deadline() == -math.inf else nullcontext()


def _forgotten(
    gate: HedgeGate, loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]], won: End | None
) -> None:
    """In a callback of the loop, without the race: the collector empties one that is garbage, whatever refers to it."""
    if won is not None and won.error is None:
        _discard(gate, loop, won.value)
    for task in tasks:
        _keep(task)
        _stop(task)


def _keep(task: asyncio.Task[Any]) -> None:
    """Have the loop keep a task that nothing waits for until it ends; its exception is logged by nothing."""
    timer = Timer(_nothing)
    timer.keep(task.get_loop(), task)
    task.add_done_callback(partial(_gone, timer))


def _nothing() -> None:
    """What a timer would do that is never armed."""


def _gone(timer: Timer, task: asyncio.Task[Any]) -> None:
    timer.disarm()
    if not task.cancelled():
        task.exception()


def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a copy, unless a timeout inside of it has done so: its cleanup is waited for then."""
    if task.done():
        return
    if task.cancelling():
        task.get_loop().call_later(_AGAIN, _stop, task, context=Context())
        return
    task.cancel()


def _discard(gate: HedgeGate, loop: asyncio.AbstractEventLoop, value: Any) -> None:
    rule = discard_of(gate, value)
    if rule is None:
        return
    pending = discarded(rule, value)
    if pending is not None:
        _keep(loop.create_task(pending))


async def _attempt(copy: Rest) -> Any:
    return await copy()
