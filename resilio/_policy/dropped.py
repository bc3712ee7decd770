"""
The warning about permits that guard nothing: `if policy.try_acquire():` drops the permit before the next line.

The core calls this when a permit that was taken by hand is deallocated without having been ended.
"""

from __future__ import annotations

import sys
import warnings
from types import CodeType, FrameType
from typing import Any

from resilio._support.call_site import outside

__all__ = ["PermitWarning", "warn_if_at_once"]


class PermitWarning(RuntimeWarning):
    """A permit was dropped by the statement or condition that took it, so it guards nothing."""


_SINKS = ("POP_TOP", "POP_JUMP", "JUMP_IF", "TO_BOOL", "UNARY_NOT")
"""Instructions, by the beginnings of their names, that use up what a statement does not keep, and conditions. Where a
newer Python has other names, nothing is found: then there is no warning."""
_SOURCES = ("CALL", "PRECALL", "END_SEND", "JUMP_BACKWARD_NO_INTERRUPT", "TO_BOOL")
"""Instructions that end a call or an await: what comes before. An exception that goes, with frames that held a permit,
has others before it."""
_FROM_ELSEWHERE = ("pop", "popleft", "popitem", "get", "get_nowait")
"""Methods that give what was kept until then: a permit that they return was taken before."""
SPENT = "rate_limit"
"""Tokens are spent when they are taken: a permit of nothing else need not be held."""
MOST_KNOWN = 256
_known: dict[tuple[CodeType, int], bool] = {}


def warn_if_at_once(policy: Any) -> None:
    """
    Warn where a permit is dropped by the statement or condition that took it; what a variable has held is left alone.

    Args:
        policy: What granted it.
    """
    if not hasattr(policy, "name"):
        return  # a bare native pipeline: a part of the library holds its permit
    frame = sys._getframe(1)
    if outside(frame)[1] is not frame or all(gate.kind == SPENT for gate in policy.gates) or not _at_once(frame):
        return
    name = "" if policy.name is None else f" {policy.name!r}"
    text = (
        f"the permit of {policy.kind}{name} was dropped where it was taken, so it guards nothing: keep it in a "
        "variable and end it by success(), failure() or ignore(), or write `with policy.permit():`"
    )
    warnings.warn(text, PermitWarning, stacklevel=2)


def _at_once(frame: FrameType) -> bool:
    """Tell whether the instruction that runs now uses up a value; remembered, for to look takes long."""
    code, at = frame.f_code, frame.f_lasti
    place = (code, at)  # the code itself: what is typed at a prompt has the file and line of what was typed before
    if place not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[place] = _uses_up(code, at)
    return _known[place]


def _uses_up(code: CodeType, at: int) -> bool:
    import dis

    before = method = ""
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if instruction.offset == at:
            return name.startswith(_SINKS) and before.startswith(_SOURCES) and method not in _FROM_ELSEWHERE
        if name in ("LOAD_ATTR", "LOAD_METHOD"):
            method = instruction.argval
        before = name
    return False
