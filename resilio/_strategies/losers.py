"""
What is done with the losers of a race on asyncio: nobody waits for their cleanup, and nothing of it is lost.

A copy is a task: it is cancelled, and held until it has ended. The primary runs in the caller's task, which must go on
with the winner's result. So what it still does is seen out: for a moment where it is, and then in a task of its own. It
stays where it is for as long as it takes if it holds something that knows the caller's task, as a timeout, a task
group or a cancel scope does: those would cancel the caller later on, or fail.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, coroutine
from typing import Any

from resilio import _log
from resilio._native.core import Call, Keeper, begin_interruption, end_interruption

__all__ = ["GRACE", "keep", "see_out", "stop"]

GRACE = 0.001
"""Seconds that a loser may take to clean up in the caller's task before the winner's result is handed out."""

_AGAIN = 0.001

_ENOUGH = 5000
"""Objects looked at for one that knows the task; where there are more, one is taken to."""

_DEEP = 2
"""Attributes of what a frame holds, and theirs: as deep as a cancel scope in an exit stack."""

_SMALL = 16
_CONTAINERS = (dict, list, tuple, set, deque)
_LINKS = (MethodType, CellType, partial)
_OPAQUE = (
    type,
    ModuleType,
    FunctionType,
    Keeper,
    CodeType,
    asyncio.Future,
    asyncio.AbstractEventLoop,
    Context,
    str,
    int,
    float,
)

_kept: set[asyncio.Task[Any]] = set()


def keep(task: asyncio.Task[Any]) -> None:
    """
    Hold a task that nobody waits for until it ends.

    Args:
        task: It may fail: its exception is nobody's.
    """
    _kept.difference_update([other for other in _kept if other.get_loop().is_closed()])
    _kept.add(task)
    task.add_done_callback(_gone)


def stop(task: asyncio.Task[Any]) -> None:
    """
    Cancel a copy that is not needed any more, once, and hold it until it ends.

    Args:
        task: It may be cleaning up already, because a timeout inside of it has passed: that is waited for.
    """
    if task not in _kept:
        keep(task)
        _cancel(task)


def _cancel(task: asyncio.Task[Any]) -> None:
    if task.done():
        return
    if task.cancelling() or not begin_interruption(task):
        task.get_loop().call_later(_AGAIN, _cancel, task, context=Context())
        return
    end_interruption(task)
    task.cancel()


def _gone(task: asyncio.Task[Any]) -> None:
    _kept.discard(task)
    if not task.cancelled():
        task.exception()


@coroutine
def see_out(
    loser: Call[Any], yielded: Any, context: Context | None, discard: Callable[[Any], None]
) -> Generator[Any, Any, None]:
    """
    Await what a superseded primary still does, for a moment; then leave it to a task of its own.

    Args:
        loser: What is left of the primary, a call with its permits.

        yielded: What it waits for, a future or None.

        context: The one that the caller's task runs in.

        discard: Called with what it returns, if it does.
    """
    loop, thrown = asyncio.get_running_loop(), None
    until, over = loop.time() + GRACE, False
    while True:
        try:
            if over and _leave(loser, yielded, context, discard):
                break
            ready = yield from _turn(yielded, None if over else until, loop)
            over = over or not ready or loop.time() >= until  # a timer may be early by the clock's resolution
            if not ready:
                continue
            step = partial(loser.send, None)
        except GeneratorExit:
            loser.close()
            raise
        except BaseException as error:  # noqa: BLE001 - the caller is cancelled: it does not wait if it need not
            thrown = error
            if _leave(loser, yielded, context, discard):
                break
            step = partial(loser.throw, error)
        try:
            yielded = step()
        except StopIteration as stop:
            discard(stop.value)
            break
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - it was cancelled: what it raises is nobody's
            break
    if thrown is not None:
        raise thrown


def _turn(yielded: Any, until: float | None, loop: asyncio.AbstractEventLoop) -> Generator[Any, Any, bool]:
    """Wait for what a coroutine has yielded, without cancelling it, or until then; True: the coroutine can go on."""
    if getattr(yielded, "_asyncio_future_blocking", None) is None:
        yield yielded  # a bare turn of the loop
        return True
    yielded._asyncio_future_blocking = False
    ours = loop.create_future()
    timer = None if until is None else loop.call_at(until, _wake, ours)
    wake = partial(_wake, ours)
    yielded.add_done_callback(wake)
    try:
        yield from ours
    finally:
        yielded.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
    return bool(yielded.done())


def _wake(future: asyncio.Future[None], _: Any = None) -> None:
    if not future.done():
        future.set_result(None)


def _leave(loser: Call[Any], yielded: Any, context: Context | None, discard: Callable[[Any], None]) -> bool:
    """Have a task of its own go on with the loser; False: it must stay in this one."""
    task = asyncio.current_task()
    calls = None if task is None else _movable(loser, task)
    if calls is None:
        return False
    moved = _Moved(loser, yielded, calls)
    # No task of a task factory: an eager one would run here and now, in a context that has been entered already.
    reaper = asyncio.Task(moved, context=context)
    keep(reaper)
    reaper.add_done_callback(partial(_came_late, discard))
    return True


def _came_late(discard: Callable[[Any], None], task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        discard(task.result())
    else:
        _log.say(_log.DEBUG, "a superseded call failed while it cleaned up", error=error)


class _Moved(Coroutine[Any, Any, Any]):
    """A coroutine that was begun in another task, and waits for what it has yielded there."""

    def __init__(self, loser: Call[Any], yielded: Any, calls: list[Call[Any]]) -> None:
        self._loser = loser
        self._yielded = yielded
        self._calls = calls
        self._begun = False

    def _begin(self) -> None:
        self._begun = True
        for call in self._calls:
            call._attach()
        self._calls.clear()

    def send(self, value: Any) -> Any:
        if self._begun:
            return self._loser.send(value)
        self._begin()
        if getattr(self._yielded, "_asyncio_future_blocking", None) is not None:
            self._yielded._asyncio_future_blocking = True  # the task must find it as it was yielded
        return self._yielded

    def throw(self, *error: Any) -> Any:
        if not self._begun:
            self._begin()
        return self._loser.throw(*error)

    def close(self) -> None:
        self._loser.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a moved coroutine is run by its task")


def _movable(loser: Call[Any], task: asyncio.Task[Any]) -> list[Call[Any]] | None:
    """Return the guarded calls in there, which have forgotten the task; None: something else in there knows it."""
    calls: list[Call[Any]] = []
    seen = {id(loser)}
    todo = [(thing, _DEEP) for thing in gc.get_referents(loser)]
    while todo:
        thing, depth = todo.pop()
        if thing is task or (isinstance(thing, weakref.ref) and thing() is task) or len(seen) > _ENOUGH:
            return None
        if depth < 0 or id(thing) in seen or isinstance(thing, _OPAQUE):
            continue
        seen.add(id(thing))
        if isinstance(thing, Call):
            calls.append(thing)
        depth = _depth_in(thing, depth)
        known = task if isinstance(thing, Call) else None
        todo += ((other, depth) for other in gc.get_referents(thing) if other is not known)
    stuck = next((at for at, call in enumerate(calls) if not call._detach()), None)
    if stuck is None:
        return calls
    for call in calls[:stuck]:
        call._attach()
    return None


def _depth_in(thing: Any, depth: int) -> int:
    """How deep to look at what the thing refers to: at all of what runs, and at attributes of what that holds."""
    kind = type(thing)
    if hasattr(kind, "send") and hasattr(kind, "throw"):
        return _DEEP  # a coroutine, a generator, or a step of an asynchronous one
    return depth if (kind in _CONTAINERS and len(thing) <= _SMALL) or kind in _LINKS else depth - 1
