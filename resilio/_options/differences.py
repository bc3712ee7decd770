"""Comparison of two sets of options for one name."""

from __future__ import annotations

from types import CodeType
from typing import Any

import attrs

from resilio._options.validators import show

__all__ = ["differences"]


def differences(old: Any, new: Any) -> str:
    """Return the options that differ, with both values; an empty string: none does."""
    pairs = [
        f"{field.name}={show(getattr(old, field.name))} against {show(getattr(new, field.name))}"
        for field in attrs.fields(type(old))
        if field.eq and not _same(getattr(old, field.name), getattr(new, field.name))
    ]
    return ", ".join(pairs)


def _same(old: Any, new: Any) -> bool:
    """Return True for equal values, and for functions of one definition run twice with equal enclosing variables."""
    if old is new or old == new:
        return True
    code = getattr(old, "__code__", None)
    if not isinstance(code, CodeType) or code != getattr(new, "__code__", None):
        return False
    return old.__defaults__ == new.__defaults__ and _around(old) == _around(new)


def _around(function: Any) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or ()]
