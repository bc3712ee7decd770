"""Keys pressed in a terminal, while a command waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select
from time import monotonic, sleep
from typing import Any

termios: Any
tty: Any
try:
    import termios
    import tty
except ImportError:  # Windows, or a small build of Python: Ctrl-C alone ends the command
    termios = tty = None

__all__ = ["quit_key"]

_QUIT = frozenset("qQ")


@contextmanager
def quit_key() -> Iterator[Callable[[float], bool]]:
    """
    Read keys as they are pressed, and put the terminal back in the end.

    Yields:
        A function that waits for some seconds, and returns True at once if q is pressed. It only waits if the input is
        no terminal, or the command runs in the background.
    """
    if termios is None or not sys.stdin.isatty() or not _in_front(keys := sys.stdin.fileno()):
        yield _sleep
        return
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield lambda seconds: _pressed(keys, seconds)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _in_front(terminal: int) -> bool:
    """Return False for a job in the background, which would be stopped if it read the terminal."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # a terminal without jobs
        return True


def _sleep(seconds: float) -> bool:
    sleep(seconds)
    return False


def _pressed(keys: int, seconds: float) -> bool:
    """Return True once q is pressed, False when the time is over or the terminal is gone."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        if not select([keys], [], [], left)[0]:
            return False
        pressed = os.read(keys, 64).decode("utf-8", "replace")
        if not pressed or _QUIT.intersection(pressed):
            return True
    return False
