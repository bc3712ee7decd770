"""
Questions to this interpreter that the core asks when it is imported, before it relies on what is not public.

What they are about stands in `resilio._private_names`. A leaf: the core imports it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

__all__ = ["plain", "with_order"]


def plain() -> None:
    """Be a function written in Python, for a look at its layout."""


class _Fetched:
    """A block that notes which of its methods are fetched, in turn."""

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
    """End without waiting."""


async def _enter(block: _Fetched) -> None:
    async with block:
        pass


def with_order() -> tuple[str, ...] | None:
    """Return what `with` and `async with` fetch, first and second; None if they differ, or fetch more."""
    block, later = _Fetched(), _Fetched()
    with block:
        pass
    with suppress(StopIteration):
        _enter(later).send(None)
    return tuple(block.names) if block.names == later.names else None
