"""
Classification of other threads, so that virtual time stands still while real work is in progress.

A thread is *busy* while it runs code, and *waiting* while it is blocked: for virtual time, or in the standard library
(a lock, a queue, a socket). Idle workers of pools are left out, and the native thread that looks after shared memory:
no caller waits for it. A thread waits for virtual time as long as the lock
that wakes it is held, whatever it runs meanwhile. Of each other thread the innermost frame decides; on Linux also the
kernel's state, which shows a thread that was woken but has no processor yet.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType, MappingProxyType
from typing import NamedTuple

__all__ = ["CALM", "STARTING", "TICK", "DeadlockError", "Others", "Watch", "idle_workers", "others"]

TICK = 0.001
"""Real seconds between two checks of the other threads."""

CALM = 5
"""Consecutive checks that must find all others blocked: a thread that was just woken still looks blocked."""

STARTING = 100
"""Consecutive checks that must find no thread busy with a submitted job: its worker looks idle until it begins."""

_WAITING = {
    "concurrent.futures._base": {"result", "exception", "wait"},
    "multiprocessing.connection": {"_recv", "wait"},
    "queue": {"get", "join", "put"},
    "resilio._backends.threads": {"_block"},
    "selectors": {"select"},
    "socket": {"accept", "connect", "readinto"},
    "ssl": {"read"},
    "subprocess": {"_communicate", "_try_wait", "_wait"},
    "threading": {"_wait_for_tstate_lock", "acquire", "join", "wait", "wait_for"},
    "trio._core._io_epoll": {"get_events"},
    "trio._core._io_kqueue": {"get_events"},
}
_IDLE = {
    ("concurrent.futures.thread", "_worker"),
    ("resilio._strategies.threads", "_next_job"),
    ("trio._core._thread_cache", "_work"),
}

Parked = Mapping[threading.Lock, int]
"""Locks that wake the threads that wait for virtual time, with the identifiers of these threads."""

_NO_PARKED: Parked = MappingProxyType({})


class DeadlockError(RuntimeError):
    """Under virtual time nothing is ready, no timer is set, and no thread could change that."""


class Others(NamedTuple):
    """The other threads of the process, idle workers left out."""

    busy: tuple[threading.Thread, ...]
    waiting: tuple[threading.Thread, ...]

    def __bool__(self) -> bool:
        return bool(self.busy or self.waiting)

    def __str__(self) -> str:
        names = [f"{thread.name} (running)" for thread in self.busy]
        names += [f"{thread.name} (blocked)" for thread in self.waiting]
        return ", ".join(names) or "none"


def others(ignore: frozenset[int] = frozenset(), parked: Parked = _NO_PARKED) -> Others:
    """
    Return the other threads by activity.

    Args:
        ignore: Identifiers of threads to leave out.

        parked: The threads that wait for virtual time.
    """
    if threading.active_count() == 1:
        return Others((), ())
    found: dict[str, list[threading.Thread]] = {"busy": [], "waiting": [], "idle": []}
    for thread, kind in _classified(ignore, parked):
        found[kind].append(thread)
    return Others(tuple(found["busy"]), tuple(found["waiting"]))


def idle_workers() -> frozenset[int]:
    """Return the identifiers of idle workers of pools."""
    return frozenset(thread.ident or 0 for thread, kind in _classified() if kind == "idle")


def _classified(
    ignore: frozenset[int] = frozenset(), parked: Parked = _NO_PARKED
) -> Iterator[tuple[threading.Thread, str]]:
    threads = threading.enumerate()
    frames = _frames()
    waits = _waits(parked)  # after the threads: what has woken one of them in between is among them
    left_out = {threading.get_ident(), _housekeeper(), *ignore}
    for thread in threads:
        ident = thread.ident
        if ident in left_out:
            continue
        # Without an identifier it is being started, by a thread that looks blocked until the first step of this one.
        yield thread, "busy" if ident is None else waits.get(ident) or _kind(thread, frames.get(ident))


def _housekeeper() -> int:
    """Return the identifier of the native thread that looks after shared memory; 0: nothing is shared."""
    shared = sys.modules.get("resilio._native.shared")
    return 0 if shared is None else int(shared.housekeeper())


def _waits(parked: Parked) -> dict[int, str]:
    """Return the kind of each parked thread by its identifier: of one that has parked twice, the inner lock decides."""
    # A copy of a dict is made at once, also while other threads change it.
    return {ident: "waiting" if lock.locked() else "busy" for lock, ident in dict(parked).items()}


def _frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread."""
    if sys.version_info >= (3, 12) or not gc.isenabled():
        return sys._current_frames()
    gc.disable()  # a collection inside the call would wait for ever for a lock that it holds: python/cpython#106883
    try:
        return sys._current_frames()
    finally:
        gc.enable()


def _kind(thread: threading.Thread, frame: FrameType | None) -> str:
    if frame is None:
        return "busy"  # just started
    module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
    if (module, function) in _IDLE or _idle_in_anyio(thread):
        return "idle"
    if function not in _WAITING.get(module, ()):
        return "busy"
    return "busy" if _is_ready(thread) else "waiting"


def _is_ready(thread: threading.Thread) -> bool:
    """Return True if the thread is runnable; False also if the system has no such information."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:  # noqa: PTH123 - many times a second
            return file.read().rpartition(b") ")[2].startswith(b"R")
    except OSError:
        return False


def _idle_in_anyio(thread: threading.Thread) -> bool:
    # anyio keeps its idle asyncio workers in a deque that each worker references; it has no public list of them.
    return thread in getattr(thread, "idle_workers", ())


class Watch:
    """
    Watch over the other threads, which gives up after `patience` real seconds.

    Args:
        known: Identifiers of threads from before virtual time, without idle workers. They do not keep the clock from
            moving until they become idle workers, which may get a job.

        patience: Real seconds to wait for others before :class:`DeadlockError`.

        parked: The threads that wait for virtual time; the mapping may change.
    """

    def __init__(self, known: frozenset[int], patience: float, parked: Parked = _NO_PARKED) -> None:
        self.known = known
        self.patience = patience
        self._parked = parked
        self._calm = 0
        self._alone = False
        self._since: float | None = None

    def moved(self) -> None:
        """Discard all checks so far, since something happened."""
        self._calm = 0
        self._since = None

    def still(self, jobs: int = 0) -> bool:
        """
        Return True if no other thread is at work, so that the clock may jump.

        Args:
            jobs: Number of jobs submitted to other threads, >= 0; a thread that got one may not run yet.

        Raises:
            DeadlockError: Another thread has kept the clock from moving for `patience` real seconds.
        """
        if not jobs and threading.active_count() == 1:
            return True
        if self.known:
            self.known -= idle_workers()
        found = others(self.known, self._parked)
        if found.busy:
            self._calm = 0
            self._wait(f"virtual time stood still: still running: {found}", self.patience)
            return False
        self._calm += 1
        if jobs and not found:
            return self._calm >= STARTING
        return self._calm >= CALM or not (jobs or found)

    def starve(self, io: bool, where: str) -> None:
        """
        Note that nothing is ready and no timer is set; other threads may still act.

        Args:
            io: Whether real I/O is pending.

            where: Name of the thread or loop that starves, for the message.

        Raises:
            DeadlockError: No other thread could act, or none did for `patience` real seconds.
        """
        found = others(parked=self._parked)
        alone = not (io or found)
        if alone and not self._alone:  # a thread that has just ended may have left work
            self._since = None
        self._alone = alone
        grace = CALM * 10 * TICK if alone else self.patience
        pending = "real I/O is pending" if io else "no I/O is pending"
        self._wait(f"deadlock in {where}: nothing is ready, no timer is set, {pending}; other threads: {found}", grace)

    def _wait(self, message: str, grace: float) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._since > grace:
            raise DeadlockError(message)
