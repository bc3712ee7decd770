"""Record of one private name, layout or behaviour, and the functions that check it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Literal

import attrs

from resilio._native import core

__all__ = ["Private", "State", "attribute", "in_core", "of_module"]

State = Literal["in use", "unused", "failed", "not applicable"]


@attrs.frozen
class Private:
    """
    One private name, layout or behaviour in use, with the check that proves it and the public alternative.

    Args:
        name: Description, with its place.

        of: Owner: an import name, or "CPython".

        words: The private identifiers that stand for it in the sources.

        where: The files that use it.

        versions: Versions for which it is known to hold.

        check: Time and content of the check that proves it.

        otherwise: Behaviour if the check fails.

        state: Returns the state in this process: in use, unused so far, failed, or not applicable.
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
    """Return a function that reads the state of a name from the core."""
    return lambda: core._private_state()[name]


def of_module(module: str, holds: Callable[[Any], bool]) -> Callable[[], State]:
    """Return a function that imports a module, if installed, and checks it; an exception counts as failed."""

    def state() -> State:
        if module not in sys.modules and importlib.util.find_spec(module.partition(".")[0]) is None:
            return "not applicable"
        try:
            return "in use" if holds(importlib.import_module(module)) else "failed"
        except Exception:  # noqa: BLE001 - such as an unknown version
            return "failed"

    return state


def attribute(module: str, *names: str) -> Callable[[], State]:
    """Return a function that checks that a module has attributes, given as dotted names."""

    def holds(found: Any) -> bool:
        for name in names:
            value = found
            for part in name.split("."):
                value = getattr(value, part)
        return True

    return of_module(module, holds)
