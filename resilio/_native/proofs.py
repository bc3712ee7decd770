"""
Proofs of private behaviour of the interpreter, which the core runs at import before it relies on that behaviour.

`resilio._private_names` lists it. This module imports nothing of the package, because the core imports it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

__all__ = ["plain", "with_order"]


def plain() -> None:
    """Do nothing: a sample of a function in Python, whose layout the core checks."""


class _Fetched:
    """A context manager that records which of its methods are fetched, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def _note(self, name: str, answer: Any) -> Any:
        self.names.append(name)
        return answer

    @property
    def __enter__(self) -> Any:
        return self._note("entry", plain)

    @property
    def __exit__(self) -> Any:  # noqa: PLE0302, PYI036 - a property
        return self._note("exit", _leave)

    @property
    def __aenter__(self) -> Any:
        return self._note("entry", _at_once)

    @property
    def __aexit__(self) -> Any:  # noqa: PLE0302 - a property
        return self._note("exit", _at_once)


def _leave(*_: object) -> None:
    """End a block."""


async def _at_once(*_: object) -> None:
    """Return without waiting."""


async def _enter(block: _Fetched) -> None:
    async with block:
        pass


def with_order() -> tuple[str, ...] | None:
    """Return the methods that `with` and `async with` fetch, in order: "entry", "exit"; None if the two differ."""
    block, later = _Fetched(), _Fetched()
    with block:
        pass
    with suppress(StopIteration):
        _enter(later).send(None)
    return tuple(block.names) if block.names == later.names else None
