"""A KeyboardInterrupt at a random moment of a call, and whether it came out of it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from resilio import RejectedError
from resilio._context import variables
from storm.world import CalleeError

__all__ = ["Interrupts", "checked_hit", "end_of", "hit", "left_behind"]


class Interrupts:
    """
    Sends the main thread a KeyboardInterrupt now and then, only while armed, and counts.

    Attributes:
        due: Interrupts that have to come out of a call: those sent, without those that CPython dropped. It raises
            nowhere what hits a finaliser, such as the weakref callbacks of its own `WeakSet`.

        where: The stack that the last one interrupted.

        unraisable: The hook for all else that was dropped.
    """

    def __init__(self) -> None:
        self.armed = False
        self.due = 0
        self.where = traceback.StackSummary()
        self.unraisable = sys.unraisablehook

    def handle(self, *_: object) -> None:
        """Interrupt once."""
        if self.armed:
            self.armed = False
            self.due += 1
            self.where = traceback.extract_stack(limit=10)
            raise KeyboardInterrupt

    def resend(self, *_: object) -> None:
        """Raise again what the core could not raise where it came."""
        raise KeyboardInterrupt

    def note(self, dropped: Any) -> None:
        """Excuse an interrupt that was dropped in CPython's own code, and nothing else: `sys.unraisablehook`."""
        if issubclass(dropped.exc_type, KeyboardInterrupt) and _is_in_cpython(dropped.exc_traceback):
            self.due -= 1
        else:
            self.unraisable(dropped)


def _is_in_cpython(where: Any) -> bool:
    """Return True if each frame between the finaliser and the interrupt is one of the standard library."""
    sending = {__name__, "storm.interrupting"}
    names = {str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(where)} - sending
    return bool(names) and {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def hit(interrupts: Interrupts, call: Callable[[], object], after: float) -> str:
    """Make a call that is interrupted `after` seconds, if it still runs then; return how it ended."""
    try:
        interrupts.armed = True
        signal.setitimer(signal.ITIMER_REAL, after)
        how = end_of(call)
        interrupts.armed = False
        for _ in range(20):  # one that the core has put off arrives here
            pass
    except KeyboardInterrupt:
        interrupts.armed = False
        return "interrupted"
    return how


def checked_hit(interrupts: Interrupts, call: Callable[[], object], after: float) -> str:
    """Make such a call: an interrupt came out of it exactly if one is due."""
    before = interrupts.due
    how = hit(interrupts, call, after)
    due = interrupts.due - before
    assert due == (how == "interrupted"), f"{how}, but {due} were sent\n{''.join(interrupts.where.format())}"
    return how


def end_of(call: Callable[[], object]) -> str:
    """Make a call and return how it ended."""
    try:
        call()
    except RejectedError:
        return "rejected"
    except CalleeError:
        return "error"
    return "returned"


def left_behind() -> list[str]:
    """Return the names of what is ambient here, where nothing is under way."""
    return [variable.name for variable in variables.AMBIENT if variable.get() is not None]
