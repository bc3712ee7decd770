"""
The warning about permits that guard nothing: `if policy.try_acquire():` drops the permit before the next line.

The core calls this when a permit that was acquired by hand is deallocated before it was settled.
"""

from __future__ import annotations

import sys
import warnings
from types import CodeType, FrameType
from typing import Any

from resilio._support.call_site import outside

__all__ = ["PermitWarning", "warn_if_at_once"]


class PermitWarning(RuntimeWarning):
    """Warning about a permit that was dropped by the statement or condition that took it, so that it guards nothing."""


_SINKS = ("POP_TOP", "POP_JUMP", "JUMP_IF", "TO_BOOL", "UNARY_NOT")
"""Prefixes of instructions that discard an unused value, or test it as a condition. If a newer Python has other names,
none is found, and there is no warning."""
_SOURCES = ("CALL", "PRECALL", "END_SEND", "JUMP_BACKWARD_NO_INTERRUPT", "TO_BOOL")
"""Instructions before these, which end a call or an await. The release of an exception, with frames that held a permit,
has others before it."""
_FROM_ELSEWHERE = ("pop", "popleft", "popitem", "get", "get_nowait")
"""Methods that return a kept object: a permit from them was acquired before."""
SPENT = "rate_limit"
"""The kind of gate whose tokens are spent when they are taken, so that its permit need not be held."""
MOST_KNOWN = 256
_known: dict[tuple[CodeType, int], bool] = {}


def warn_if_at_once(policy: Any) -> None:
    """
    Warn if a permit is dropped by the statement or condition that took it; permits from variables are left alone.

    Args:
        policy: The policy that granted it.
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
    """Return True if the current instruction discards a value; cached, as disassembly is slow."""
    code, at = frame.f_code, frame.f_lasti
    place = (code, at)  # the code object: inputs at a prompt share file and line
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
