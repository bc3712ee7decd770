"""
The state that a rule changes: rows of numbers by their fields, as a hash of Valkey has them.

The row of the field "" is the policy's, with the store's clock at its end; that of an asker has its id as the field.
As text, a row is its numbers with 17 digits, which is enough for each double to be read back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["HEAD", "Row", "State", "from_text", "text_of"]

Row = tuple[float, ...]
State = dict[str, Row]

HEAD = ""
"""The field of the policy's own row."""


def text_of(row: Iterable[float]) -> str:
    """Return a row as text."""
    return " ".join([f"{number:.17g}" for number in row])


def from_text(rows: Mapping[str, str]) -> State:
    """Return rows from their texts."""
    return {field: tuple(map(float, text.split())) for field, text in rows.items()}
