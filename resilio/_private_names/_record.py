"""What is said of each name, layout or behaviour that its owner does not promise."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Literal

import attrs

from resilio._native import core

__all__ = ["Private", "State", "attribute", "in_core", "of_module"]

State = Literal["in use", "unused", "refused", "not applicable"]


@attrs.frozen
class Private:
    """
    One thing that is relied on and not promised, with the proof that it holds and the way beside it.

    Args:
        name: What it is, with where it is found.

        of: Whose: an import name, or "CPython".

        words: The private identifiers that stand for it in the sources.

        where: The files that use it.

        versions: Where it is known to hold.

        check: What is looked at before it is relied on.

        otherwise: What is done where the check fails.

        state: Look at this process: in use, unused so far, refused, or not applicable.
    """

    name: str
    of: str
    words: tuple[str, ...]
    where: tuple[str, ...]
    versions: str
    check: str
    otherwise: str
    state: Callable[[], State]


def in_core(name: str) -> Callable[[], State]:
    """Ask the core what it has proved."""
    return lambda: core._private_state()[name]


def of_module(module: str, holds: Callable[[Any], bool]) -> Callable[[], State]:
    """Look at a module, imported where it is installed; what raises does not hold."""

    def state() -> State:
        if module not in sys.modules and importlib.util.find_spec(module.partition(".")[0]) is None:
            return "not applicable"
        try:
            return "in use" if holds(importlib.import_module(module)) else "refused"
        except Exception:  # noqa: BLE001 - another version of it: then it is as good as not there
            return "refused"

    return state


def attribute(module: str, *names: str) -> Callable[[], State]:
    """Look for attributes, dotted, below a module."""

    def holds(found: Any) -> bool:
        for name in names:
            value = found
            for part in name.split("."):
                value = getattr(value, part)
        return True

    return of_module(module, holds)
