"""
Which other threads could still act, so that virtual time stands still while real work is under way.

A thread is *busy* while it runs code, *waiting* while it is blocked in the standard library (a lock, a queue, a
socket), and left out while it is an idle worker of a pool. What it is doing is read off its innermost frame; on Linux
the system says as well whether it was woken and has only not been given a processor yet.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

__all__ = ["CALM", "STARTING", "TICK", "DeadlockError", "Others", "Watch", "idle_workers", "others"]

TICK = 0.001
"""Real seconds between two looks at the other threads."""

CALM = 5
"""Looks in a row that must find all others blocked: a thread that was just woken still looks blocked."""

STARTING = 100
"""Looks in a row that must find nobody at a job that was handed to a worker, which looks idle until it begins."""

_WAITING = {
    "concurrent.futures._base": {"result", "exception", "wait"},
    "multiprocessing.connection": {"_recv", "wait"},
    "queue": {"get", "join", "put"},
    "resilio._backends.threads": {"_block"},
    "resilio.testing._parking": {"park", "_turn"},
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


class DeadlockError(RuntimeError):
    """Under virtual time nothing is ready, no timer is set, and nobody is left who could change that."""


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


def others(ignore: frozenset[int] = frozenset()) -> Others:
    """Return what the other threads are doing, but for those whose identifiers are in `ignore`."""
    if threading.active_count() == 1:
        return Others((), ())
    found: dict[str, list[threading.Thread]] = {"busy": [], "waiting": [], "idle": []}
    for thread, kind in _classified(ignore):
        found[kind].append(thread)
    return Others(tuple(found["busy"]), tuple(found["waiting"]))


def idle_workers() -> frozenset[int]:
    """Return the identifiers of the workers of pools that have nothing to do."""
    return frozenset(thread.ident or 0 for thread, kind in _classified(frozenset()) if kind == "idle")


def _classified(ignore: frozenset[int]) -> Iterator[tuple[threading.Thread, str]]:
    frames = _frames()
    me = threading.get_ident()
    for thread in threading.enumerate():
        ident = thread.ident
        if ident == me or ident in ignore:
            continue
        # Without an identifier it is just being started, by somebody who looks blocked until its first step.
        yield thread, "busy" if ident is None else _kind(thread, frames.get(ident))


def _frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread."""
    if sys.version_info >= (3, 12) or not gc.isenabled():
        return sys._current_frames()
    gc.disable()  # a collection in the midst of it would wait for ever for a lock that it holds: python/cpython#106883
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
    # who waits for virtual time looks at the others now and then, and is ready each time
    return "waiting" if module == "resilio.testing._parking" or not _is_ready(thread) else "busy"


def _is_ready(thread: threading.Thread) -> bool:
    """Return whether the thread would run if a processor were free; False where the system does not say."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:  # noqa: PTH123 - many times a second
            return file.read().rpartition(b") ")[2].startswith(b"R")
    except OSError:
        return False


def _idle_in_anyio(thread: threading.Thread) -> bool:
    # anyio keeps its idle asyncio workers in a deque that each worker refers to; it has no public list of them.
    return thread in getattr(thread, "idle_workers", ())


class Watch:
    """
    Says whether the rest of the process stands still, and gives up after `patience` real seconds.

    Args:
        known: Identifiers of threads that were there before, idle workers left out: they do not keep the clock from
            moving, until they are seen as idle workers, which may get a job now.

        patience: Real seconds to wait for others before :class:`DeadlockError`.
    """

    def __init__(self, known: frozenset[int], patience: float) -> None:
        self.known = known
        self.patience = patience
        self._calm = 0
        self._alone = False
        self._since: float | None = None

    def moved(self) -> None:
        """Note that something happened: all that was seen so far is void."""
        self._calm = 0
        self._since = None

    def still(self, jobs: int = 0) -> bool:
        """
        Return whether nobody else is at work, so that the clock may jump.

        Args:
            jobs: Jobs known to have been handed to other threads, >= 0; a thread that got one may not run yet.

        Raises:
            DeadlockError: Another thread has kept the clock from moving for `patience` real seconds.
        """
        if not jobs and threading.active_count() == 1:
            return True
        if self.known:
            self.known -= idle_workers()
        found = others(self.known)
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
        Note that nothing is ready and no timer is set; others may still act.

        Args:
            io: Whether real I/O is pending.

            where: Who is starving, for the message.

        Raises:
            DeadlockError: Nobody is left who could act, or nobody did so for `patience` real seconds.
        """
        found = others()
        alone = not (io or found)
        if alone and not self._alone:  # whoever has just gone may have left something to do
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
