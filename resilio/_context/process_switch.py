"""
The switch for a whole process: with `RESILIO_DISABLED=1` in the environment, guarded calls run without their policies.

For tests and emergencies: an operator sets it, restarts, and has the service as it would be without the library. It is
`resilio.testing.disabled` for every context; the core reads the same context variable, and only if the switch is set.
"""

from __future__ import annotations

import os

__all__ = ["AT_START", "SWITCH", "note", "say_once", "switched_off"]

SWITCH = "RESILIO_DISABLED"
_OFF = frozenset({"", "0", "false", "no", "off"})
_said: list[bool] = []


def _is_set() -> bool:
    return os.environ.get(SWITCH, "").strip().lower() not in _OFF


AT_START = _is_set()
"""True if the switch was set when the process began."""


def switched_off() -> bool:
    """Return True if guarded calls of this process run without their policies, by the environment at its start."""
    return AT_START


def note() -> str | None:
    """Return a sentence about the switch, for reports; None if it is not set."""
    if not AT_START:
        return None
    return f"{SWITCH} is set: guarded calls of this process run without their policies"


def say_once() -> None:
    """Log, at the first call that runs without its policies, that the switch is set."""
    text = note()
    if text is None or _said:
        return
    _said.append(True)
    from resilio._events.log import WARNING, say

    say(WARNING, "%s", text, fields={"switch": SWITCH})
