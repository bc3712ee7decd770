"""
A race on asyncio: the primary runs in the caller's task, and each copy in a task that is created when it starts.

When a copy wins, the caller's task is cancelled as by `asyncio.timeout`, and the hedge stage revokes the cancellation
after the primary's cleanup. Losing copies are cancelled; only a cancelled caller waits for their end.
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
from resilio._native.strategies import SUPERSEDED
from resilio._strategies.copies import discard_of
from resilio._strategies.race import End, Race, discarded

if TYPE_CHECKING:
    from resilio._native.core import Call, InnerCall
    from resilio._native.strategies import HedgeGate

__all__ = ["AsyncioRace"]

_AGAIN = 0.001


class AsyncioRace(Race):
    """The race of one call, without a strong reference to the call, so that a dropped call ends."""

    def __init__(self, gate: HedgeGate, call: Call[Any], stage: int, budget: Any, until_ns: int, wait_ns: int) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage.
            call: The call that contains the stage.
            stage: Index of the stage in the call.
            budget: Budget that copies are paid from beside the gate's own, or None.
            until_ns: Deadline of the call on the native clock, in nanoseconds.
            wait_ns: Wait before the first copy, in nanoseconds; NEVER if none is due.
        """
        context = call._context()
        context = copy_context() if context is None else context
        super().__init__(gate, call._inner(stage), budget, context, until_ns, wait_ns)
        self._call = ref(call)
        self._stage = stage
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[Any], tuple[int, InnerCall]] = {}
        self._waits = False  # the primary has ended, and the copies decide
        self._waiting: asyncio.Future[None] | None = None

    # ---- called by the race

    def start(self, number: int, copy: InnerCall) -> None:
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
        """Cancel the caller's task, in a callback of the loop, unless the primary has ended meanwhile."""
        call = self._call()
        if call is None or self.over:
            return
        if call._interrupt(self._stage, SUPERSEDED) < 0:  # a timeout further inside has cancelled the task already
            self._loop.call_later(_AGAIN, self.stop_primary)

    def stop_copies(self) -> None:
        """Cancel each running copy once; the loop keeps them alive until they end."""
        for task in self._tasks:
            _keep(task)
            _stop(task)

    def discard(self, value: Any) -> None:
        """Pass an unused result to the user's function, which may be asynchronous."""
        _discard(self.gate, self._loop, value)

    # ---- called by the hedge stage

    def ended(
        self, value: Any, error: BaseException | None, outcome: int, fired: bool, cancelled: bool
    ) -> tuple[Awaitable[Any] | None, End | None]:
        """
        Handle the end of the primary, or of the awaitable that the previous call of this method returned.

        Args:
            value: Its result, if *error* is None.
            error: Its exception, or None.
            outcome: Its outcome by the hedge's rules.
            fired: It was cancelled because a copy won, and for no other reason.
            cancelled: The task was cancelled for another reason too.

        Returns:
            An awaitable to await next, after which this method is called again, or None; and the end of the call, if it
            differs from the end passed in.
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
        """Handle a cancelled caller: it ends after its copies, except for a Ctrl-C, which does not wait."""
        end = None if as_it_is else End(None, asyncio.CancelledError(), Outcome.IGNORED)
        thrown = error if end is None else end.error
        waits = bool(self._tasks) and isinstance(thrown, asyncio.CancelledError)
        self.broken_off()
        return (self._copies_end(thrown), None) if waits else (None, end)

    async def _decision(self) -> Any:
        """Wait until a copy wins or all have ended; return the call's result or raise its exception."""
        while not self.decided:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self.result().give()

    async def _copies_end(self, error: BaseException | None) -> Any:
        """Wait for the end of all copies, even if the caller is cancelled again; then raise *error*."""
        while self._tasks:
            with _shield(), suppress(asyncio.CancelledError):
                await asyncio.wait(list(self._tasks))
        try:
            return End(None, error, Outcome.IGNORED).give()
        finally:
            del error  # its traceback refers to this frame

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """Handle the end of a copy, in a callback of the loop, in the caller's context."""
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
        """Cancel the copies of a call that was dropped; called in any thread, possibly by a finaliser."""
        if getattr(self, "over", True):  # True also if the collector has cleared the attribute: then no copy runs
            return
        self.over = True
        won = None if self._winner is None else self._winner.end
        with suppress(RuntimeError, AttributeError):  # the loop is closed or collected, and its tasks with it
            self._loop.call_soon_threadsafe(_forgotten, self.gate, self._loop, list(self._tasks), won)

    def __del__(self) -> None:
        """Cancel the copies before the collector clears the objects of a cycle, in any order."""
        self.dropped()


def _shield() -> AbstractContextManager[Any]:
    """
    Return a shield if anyio has cancelled the task, because anyio repeats the cancellation in each turn of the loop.

    Otherwise no scope: anyio keeps a task inside a scope, and its permits, for ever, even if the loop is closed.
    """
    return CancelScope(shield=True) if current_effective_deadline() == -math.inf else nullcontext()


def _forgotten(
    gate: HedgeGate, loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]], won: End | None
) -> None:
    """Cancel copies in a callback of the loop, without the race, which the collector may have cleared."""
    if won is not None and won.error is None:
        _discard(gate, loop, won.value)
    for task in tasks:
        _keep(task)
        _stop(task)


def _keep(task: asyncio.Task[Any]) -> None:
    """Keep a task alive until it ends, through its loop, and never log its exception."""
    timer = Timer(_nothing)
    timer.keep(task.get_loop(), task)
    task.add_done_callback(partial(_gone, timer))


def _nothing() -> None:
    """Do nothing: the callback of a timer that is never armed."""


def _gone(timer: Timer, task: asyncio.Task[Any]) -> None:
    timer.disarm()
    if not task.cancelled():
        task.exception()


def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a copy; if a timeout inside has cancelled it, wait for its cleanup first."""
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


async def _attempt(copy: InnerCall) -> Any:
    return await copy()
