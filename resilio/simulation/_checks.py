"""Checks of the parts of a scenario that have no other home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._options.validators import positive_int, reject

__all__ = ["instance", "names", "numbers_of", "text"]


def text(name: str, value: object) -> str:
    """Check a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        reject(name, value, "a text that is not empty", TypeError)
    return value


def instance(kind: type, what: str, *, none_ok: bool = False) -> Callable[[str, Any], Any]:
    """Return a check for an object of `kind`, which the message calls `what`."""

    def check(name: str, value: Any) -> Any:
        if not (isinstance(value, kind) or (value is None and none_ok)):
            reject(name, value, what + (" or None" if none_ok else ""), TypeError)
        return value

    return check


def names(name: str, value: object) -> tuple[str, ...] | None:
    """Check a list of one or more names, or a single name; None: there are none."""
    if value is None:
        return None
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not found:
        reject(name, value, "one name or more, like ['eu-1a', 'eu-1b']", TypeError)
    return tuple(text(f"{name}[{number}]", each) for number, each in enumerate(found))


def numbers_of(what: str) -> Callable[[str, object], tuple[int, ...] | None]:
    """Return a check of the replicas or clients of a fault: None for all, an index, or several."""

    def check(name: str, value: object) -> tuple[int, ...] | None:
        if value is None:
            return None
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not values:
            reject(name, value, f"the number of a {what}, from 0, a list of such, or None for all")
        return tuple(positive_int(name, each, zero_ok=True) for each in values)

    return check
