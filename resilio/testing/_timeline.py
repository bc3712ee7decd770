"""
One virtual time line for the whole process: nanoseconds that only a driver moves, and the threads that wait.

Every move sets the native clock. At most one event loop drives; without one, the thread that has waited longest does.
Only the driver looks at the other threads, so that a look costs the same however many wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from resilio._backends import threads
from resilio._context.time_of_day import begin_virtual
from resilio._native import clock
from resilio._support.after_fork import free_lock
from resilio.testing._threads import Watch, idle_workers

__all__ = ["Driver", "Timeline"]

_GRID_NS = 3600 * 10**9
_last_ns = 0


class Driver(Protocol):
    """An event loop that moves the time line."""

    def moved(self) -> None:
        """Follow the time line, which another thread has moved."""


class Timeline:
    """
    Nanoseconds since virtual time began, and the deadlines of waiting threads.

    Args:
        patience: Real seconds to wait for other threads and real I/O before a deadlock is declared.
    """

    def __init__(self, patience: float) -> None:
        self.owner = threading.get_ident()
        self.known = frozenset(thread.ident or 0 for thread in threading.enumerate()) - {self.owner} - idle_workers()
        self.patience = patience
        self.elapsed_ns = 0
        self.moves = 0
        self.open = True
        self.driver: Driver | None = None
        self.driver_thread = 0
        self._base_ns = _next_base_ns()
        self._parked: dict[threading.Lock, int] = {}
        self._lock = threading.RLock()
        free_lock(self, "_lock")
        clock.set_virtual(self._base_ns)
        begin_virtual(self._base_ns)

    @property
    def now(self) -> float:
        """Seconds since virtual time began."""
        return self.elapsed_ns / 1e9

    def watch(self) -> Watch:
        """Return a new watch over the threads that could act."""
        return Watch(self.known, self.patience, self._parked)

    def move_to(self, elapsed_ns: int) -> None:
        """Move forward to `elapsed_ns` (never back), and wake the threads that are due."""
        global _last_ns
        with self._lock:
            self.elapsed_ns = max(elapsed_ns, self.elapsed_ns)
            self.moves += 1
            _last_ns = self._base_ns + self.elapsed_ns
            clock.set_virtual(_last_ns)
            threads.wake_due(_last_ns)
        if self.driver is not None and self.driver_thread == threading.get_ident():
            self.driver.moved()

    def move_to_next(self, seen: int) -> bool:
        """Move to a parked thread's next deadline, if `moves` is still `seen`; return False if there is no deadline."""
        with self._lock:
            deadline = self.next_parked()
            if deadline is not None and self.moves == seen:
                self.move_to(deadline)
            return deadline is not None

    def next_parked(self) -> int | None:
        """Return the earliest deadline of a parked thread; None if there is none."""
        due = threads.next_due()
        return None if due is None else due - self._base_ns

    def waking(self) -> bool:
        """Return True if a parked thread was woken but has not left its wait yet."""
        return not all(lock.locked() for lock in self._parked.copy())

    def leads(self) -> bool:
        """Return True if it is for the calling thread to move the time line: the driver, or the longest parked."""
        leader = self.driver_thread
        if not leader:
            with suppress(RuntimeError):  # another thread begins or ends its wait; the next look sees it
                leader = next(iter(self._parked.values()), 0)
        return leader == threading.get_ident()

    def due(self, timer_ns: int | None) -> int | None:
        """Return the nanoseconds until a loop's timer or a parked thread's deadline, whichever comes first."""
        parked = self.next_parked()
        if parked is None:
            return timer_ns
        until = max(0, parked - self.elapsed_ns)
        return until if timer_ns is None else min(until, timer_ns)

    @contextmanager
    def parked(self, lock: threading.Lock) -> Iterator[None]:
        """Count the calling thread as blocked until `lock` is released."""
        try:
            self._parked[lock] = threading.get_ident()
            self.changed()
            yield
        finally:
            self._parked.pop(lock, None)
            self.changed()

    def changed(self) -> None:
        """Keep a parked thread that has just looked at the others from moving: what it saw is out of date."""
        with self._lock:
            self.moves += 1

    def after_fork(self) -> None:
        """Forget the threads that the child process does not have."""
        me = threading.get_ident()
        for lock, ident in self._parked.copy().items():
            if ident != me:
                del self._parked[lock]
        threads.keep_due(self._parked)
        if self.driver_thread != me:
            self.detach()

    def attach(self, driver: Driver) -> None:
        """
        Let an event loop drive.

        Raises:
            RuntimeError: Virtual time is over, or another loop drives already.
        """
        with self._lock:
            if not self.open:
                raise RuntimeError("this event loop belongs to a virtual_time() that is over")
            if self.driver is not None:
                raise RuntimeError("virtual time is driven by one event loop at a time, and another one is running")
            self.driver, self.driver_thread = driver, threading.get_ident()
            self.moves += 1

    def detach(self) -> None:
        """Undo `attach`."""
        self.driver, self.driver_thread = None, 0

    def close(self) -> None:
        """Return the process to real time; threads that still wait continue in real time."""
        with self._lock:
            self.open = False
            clock.clear_virtual()
        threads.wake_due(clock.NEVER_NS)


def _next_base_ns() -> int:
    # The next full hour after any time that a policy has seen: time does not step back for a policy that outlives one
    # virtual time, and windows and buckets have the same phase each time.
    return (max(clock.now_ns(), _last_ns) // _GRID_NS + 1) * _GRID_NS
