"""Draining of a pipeline: its door is shut, and the last call that leaves wakes the waiter. Nothing is polled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resilio import _backends, events
from resilio._events import taps
from resilio._native import clock

if TYPE_CHECKING:
    from resilio._native.custom import DoorGate

__all__ = ["adrain", "drain"]


class _Watch:
    """Waiter for the next change of a door's state, in one task or thread; an argument of `_backends.park`."""

    def __init__(self, door: DoorGate) -> None:
        """Begin to watch."""
        self._lock = threading.RLock()  # reentrant: a finaliser may end a call meanwhile
        self._waker: _backends.Waker | None = None
        self._changed = False
        self.end = taps.watch((door,), self._on_change)

    def bind(self, waker: _backends.Waker, /) -> bool:
        """Register `waker` for the next change; return True if there was one since the last time: do not wait."""
        with self._lock:
            changed, self._changed = self._changed, False
            self._waker = None if changed else waker
            return changed

    def unbind(self) -> None:
        """Forget the waker."""
        with self._lock:
            self._waker = None

    def lost(self) -> None:
        """Forget the waker, whose event loop is closed."""
        self.unbind()

    def _on_change(self, _: events.StateChanged) -> None:
        with self._lock:
            waker, self._waker = self._waker, None
            self._changed = waker is None
        if waker is not None:
            waker()


class _Deadline:
    def __init__(self, timeout: float | None) -> None:
        self._until_ns = None if timeout is None else clock.now_ns() + round(timeout * 1e9)

    def left(self) -> float | None:
        """Return the seconds left, 0 if the time is up, None without a limit."""
        return None if self._until_ns is None else max(0, self._until_ns - clock.now_ns()) / 1e9


def drain(door: DoorGate, timeout: float | None) -> bool:
    """
    Shut the door and block this thread until no call is inside; False if the time is up first, or it is opened again.

    Args:
        door: The pipeline's door.

        timeout: Seconds; None waits without limit.

    Raises:
        RuntimeError: This thread runs an event loop, which blocking would stop.
    """
    if _backends.runs_loop():
        raise RuntimeError("drain() would block the event loop that has to end the calls: use `await adrain()`")
    watch, deadline = _shut(door), _Deadline(timeout)
    try:
        while door.state == "draining" and (left := deadline.left()) != 0:
            _backends.park_sync(watch, left)
        return door.state == "drained"
    finally:
        watch.end()


async def adrain(door: DoorGate, timeout: float | None) -> bool:  # noqa: ASYNC109 - a drain stays shut
    """Shut the door and wait in this task until no call is inside; otherwise like :func:`drain`."""
    watch, deadline = _shut(door), _Deadline(timeout)
    try:
        while door.state == "draining" and (left := deadline.left()) != 0:
            await _backends.park(watch, left)
        return door.state == "drained"
    finally:
        watch.end()


def _shut(door: DoorGate) -> _Watch:
    watch = _Watch(door)  # before the door is shut, so that no change is missed
    door.shut(clock.now_ns())
    events.deliver(door)
    return watch
