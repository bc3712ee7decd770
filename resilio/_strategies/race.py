"""
A race between a call and its copies, on asyncio: the first success wins, and nobody waits for the losers.

The primary is no task of its own: it runs in the caller's, and a task is made for each copy only when it starts. When
a copy wins, the caller's task is cancelled as `asyncio.timeout` would do it, and the hedge stage takes that back. What
still cleans up then is seen out: for a moment where it is, since cleanup may know its task (cancel scopes, task
groups), and after that in a task of its own.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from functools import partial
from types import coroutine
from typing import Any

from resilio import _log
from resilio.errors import RejectedError

__all__ = ["GRACE", "Race", "see_out"]

GRACE = 0.001
"""Seconds that a loser may take to clean up in the caller's task before the winner's result is handed out."""

_SUPERSEDED = 3  # rs_interrupt
_AGAIN = 0.001

_seeing_out: set[asyncio.Task[Any]] = set()


class Race:
    """The copies of one call; `winner` is the task of the one that has won."""

    __slots__ = (
        "_call",
        "_context",
        "_failed",
        "_gate",
        "_loop",
        "_rest",
        "_settled",
        "_stage",
        "_tasks",
        "_waiting",
        "winner",
    )

    def __init__(self, gate: Any, call: Any, stage: int, context: Context | None) -> None:
        """
        Begin with the primary alone.

        Args:
            gate: The hedge stage, which is told how it went.

            call: The call, of which the stage is part.

            stage: Which one it is.

            context: Where copies run; None: in that of the caller's task.
        """
        self._gate = gate
        self._call = call
        self._stage = stage
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._rest = call._rest(stage)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._failed = self._settled = False
        self.winner: asyncio.Task[Any] | None = None

    def start(self, number: int) -> bool:
        """Start copy *number*, from 1; False: this call cannot be copied."""
        rest = self._rest
        if self._settled or not self._may_copy(rest):
            return False
        targets = self._gate.targets
        if targets:
            rest = rest.around(targets[min(number, len(targets)) - 1])
        rest.hedge = min(number, 255)
        task = self._loop.create_task(_attempt(rest), context=self._copied_context())
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return True

    def _copied_context(self) -> Context | None:
        task = self._call._task()
        if self._context is None and hasattr(task, "get_context"):
            self._context = task.get_context()
        return None if self._context is None else self._context.copy()

    def _may_copy(self, rest: Any) -> bool:
        rule = self._gate.replay_safe
        return rest.replayable and (rule is True or bool(rule(*rest.args, **rest.kwargs)))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """In a callback of the loop: a copy has ended."""
        self._tasks.pop(task, None)
        if task.cancelled():
            self._wake()
            return
        error = task.exception()
        if self._settled or self.winner is not None:
            if error is None:
                self._discard(task.result())
            return
        if error is None:
            self._gate.verdict(True)
            self.winner = task
            self._stop()
            self._supersede()
        elif isinstance(error, RejectedError):
            self._gate.pay_back(self._call, self._stage)
        else:
            self._gate.verdict(False)
        self._wake()

    def _supersede(self) -> None:
        """Have the primary cancelled, unless it has ended: then somebody waits here."""
        if self._failed or self._settled:
            return
        if self._call._interrupt(self._stage, _SUPERSEDED) < 0:  # another call's interruption of this task is under way
            self._loop.call_later(_AGAIN, self._supersede)

    def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def ended(self, value: Any, error: BaseException | None, cancelled: bool) -> tuple[Awaitable[Any] | None, Any, Any]:
        """
        Say what follows from the primary's end, or from the end of what was awaited for it.

        Args:
            value: What it returned, if *error* is None.

            error: What it raised.

            cancelled: Somebody else has had the task cancelled while we did.

        Returns:
            What to await first, or None; then the call's value and error.
        """
        if self._settled:
            return None, value, error
        if self.winner is not None:
            return self._won(value, error, cancelled)
        if error is None:
            self._settle()
            return None, value, None
        if not isinstance(error, Exception):
            self._settled = True
            return (self._abandon(error), None, error) if self._tasks else (None, None, error)
        if self._tasks:
            self._failed = True
            return self._await_copies(error), None, error
        self._settled = True
        return None, None, error

    def _won(self, value: Any, error: BaseException | None, cancelled: bool) -> tuple[None, Any, Any]:
        winner, self._settled = self.winner, True
        assert winner is not None
        result = winner.result()
        if cancelled or (error is not None and not isinstance(error, (Exception, asyncio.CancelledError))):
            self._discard(result)
            return None, None, error if error is not None else asyncio.CancelledError()
        if error is None and value is not result:
            self._discard(value)
        return None, result, None

    def _settle(self) -> None:
        """The primary has won: copies that run have lost."""
        self._settled = True
        for _ in self._tasks:
            self._gate.verdict(False)
        for task in self._tasks:
            _keep(task)
        self._stop()

    async def _await_copies(self, error: Exception) -> Any:
        """The primary has failed: its copies may still succeed."""
        try:
            while self._tasks and self.winner is None:
                self._waiting = self._loop.create_future()
                await self._waiting
        except asyncio.CancelledError as cancelled:
            self._settled = True
            await self._abandon(cancelled)
        if self.winner is None:
            raise error
        self._settled = True
        return self.winner.result()

    async def _abandon(self, error: BaseException) -> None:
        """The caller is cancelled, and its copies are with it: it ends after them."""
        tasks = list(self._tasks)
        self._stop()
        for task in tasks:
            _keep(task)
        await asyncio.wait(tasks)
        raise error

    def dropped(self) -> None:
        """The call is gone; in a finaliser maybe, and in any thread. Copies that run are cancelled."""
        if self._settled:
            return
        self._settled = True
        for task in list(self._tasks):
            _keep(task)
        if self._tasks:
            with suppress(RuntimeError):  # the loop is closed: they are gone with it
                self._loop.call_soon_threadsafe(self._stop)

    def _discard(self, result: Any) -> None:
        discard(self._gate.discard, result, self._loop)


def discard(rule: Callable[[Any], Any] | None, result: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Hand a result that came too late to the user's function, which may be asynchronous; errors are logged."""
    if rule is None:
        return
    try:
        pending = rule(result)
        if inspect.isawaitable(pending):
            _keep(loop.create_task(_await(pending)))
    except Exception:  # noqa: BLE001 - foreign code
        _log.logger().warning("discard raised for a %s", type(result).__name__, exc_info=True)


async def _await(pending: Awaitable[Any]) -> None:
    try:
        await pending
    except Exception:  # noqa: BLE001 - foreign code
        _log.logger().warning("discard raised", exc_info=True)


async def _attempt(rest: Callable[[], Awaitable[Any]]) -> Any:
    return await rest()


def _keep(task: asyncio.Task[Any]) -> None:
    """Hold a task that nobody waits for until it ends."""
    _seeing_out.add(task)
    task.add_done_callback(_gone)


def _gone(task: asyncio.Task[Any]) -> None:
    _seeing_out.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: the loser's failure is nobody's


@coroutine
def see_out(race: Race, loser: Coroutine[Any, Any, Any], yielded: Any) -> Generator[Any, Any, Any]:
    """
    Await what a superseded primary still does, for a moment; then leave it to a task of its own.

    Args:
        race: Whose winner it was superseded by.

        loser: What is left of the primary, a call with its permits.

        yielded: What it waits for, a future or None.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + GRACE
    while True:
        if getattr(yielded, "_asyncio_future_blocking", None) is None:
            yield yielded  # a bare turn of the loop
        else:
            yield from _either(yielded, until, loop).__await__()
            if not yielded.done():
                break
        try:
            yielded = loser.send(None)
        except StopIteration as stop:
            race._discard(stop.value)
            return None
        except BaseException:  # noqa: BLE001 - it was cancelled, and whatever it raises is nobody's
            return None
    _keep(loop.create_task(_rest_of(race, loser, yielded)))
    return None


async def _either(pending: asyncio.Future[Any], until: float, loop: asyncio.AbstractEventLoop) -> None:
    """Wait for a future of somebody else, without cancelling it; at most until then."""
    ours = loop.create_future()

    def wake(_: Any = None) -> None:
        if not ours.done():
            ours.set_result(None)

    timer = loop.call_at(until, wake)
    pending.add_done_callback(wake)
    try:
        await ours
    finally:
        timer.cancel()
        pending.remove_done_callback(wake)


async def _rest_of(race: Race, loser: Coroutine[Any, Any, Any], yielded: Any) -> None:
    try:
        value = await _going_on(loser, yielded)
    except Exception:  # noqa: BLE001 - a loser's failure is nobody's
        _log.logger().debug("a superseded call failed while it cleaned up", exc_info=True)
    else:
        race._discard(value)


@coroutine
def _going_on(loser: Coroutine[Any, Any, Any], yielded: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was begun in another task, and waits for *yielded*."""
    if getattr(yielded, "_asyncio_future_blocking", None) is not None:
        yielded._asyncio_future_blocking = True  # the task must find it as it was yielded
    while True:
        try:
            sent = yield yielded
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine
            step = partial(loser.throw, error)
        else:
            step = partial(loser.send, sent)
        try:
            yielded = step()
        except StopIteration as stop:
            return stop.value
