"""
Upkeep of a pool in a thread of its own: rounds that look up names, or probe endpoints.

A thread, and no task: a pool outlives any event loop, and `getaddrinfo` blocks. It holds its owner weakly, and starts
anew in a forked child. While time is virtual it does nothing: a test runs a round by `Pool.refresh()`.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from resilio._events import log
from resilio._native import clock
from resilio._support.after_fork import in_child

__all__ = ["Rounds", "jittered"]

PAUSE = 0.5
"""Seconds between two looks at the clock while time is virtual."""

_running: weakref.WeakSet[Rounds] = weakref.WeakSet()


def jittered(seconds: float) -> float:
    """Return a time within a tenth of `seconds`, so that processes that started together do not stay together."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret


class Rounds:
    """A daemon thread that runs rounds until its owner is gone, or `stop()`."""

    def __init__(self, one: Callable[[], float], what: str) -> None:
        """
        Keep what a round does; the thread starts with `start()`.

        Args:
            one: A method, whose object is held weakly: it runs a round and returns the seconds until the next one.

            what: The name of the thread.
        """
        self._one: weakref.WeakMethod[Any] = weakref.WeakMethod(one)
        self.what = what
        self._stopped = threading.Event()
        self._first = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self in _running:
            return
        self._stopped = threading.Event()
        _running.add(self)
        arguments = (self._one, self._stopped, self._first, self.what)
        thread = threading.Thread(target=_run, args=arguments, name=self.what, daemon=True)
        with suppress(RuntimeError):  # no thread can start, or the interpreter is ending
            thread.start()

    def stop(self) -> None:
        """End the thread after the round in progress."""
        _running.discard(self)
        self._stopped.set()

    def wait_first(self, seconds: float) -> bool:
        """Block until the first round has ended, at most some seconds; return True if it has."""
        return self._first.wait(seconds)

    def forked(self) -> None:
        """Start anew in a forked child, which has no such thread."""
        self._first = threading.Event()
        _running.discard(self)
        self.start()


def _run(one: weakref.WeakMethod[Any], stopped: threading.Event, first: threading.Event, what: str) -> None:
    wait = 0.0
    while not stopped.wait(wait):
        wait = PAUSE
        if clock.source() != "virtual":
            round_ = one()
            if round_ is None:
                return
            wait = _guarded(round_, what)
            del round_
            first.set()


def _guarded(round_: Callable[[], float], what: str) -> float:
    try:
        return round_()
    except Exception:  # noqa: BLE001 - upkeep goes on, whatever a function of the user raises
        log.strategy_failed(f"a round of {what} raised")
        return PAUSE


def _forked() -> None:
    for rounds in list(_running):
        rounds.forked()


in_child("threads", _forked)
