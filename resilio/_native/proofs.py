"""
Proofs of private behaviour of the interpreter, which the core runs at import before it relies on that behaviour.

`docs/reference/private-names.md` lists it, and `RESILIO_PUBLIC_ONLY=1` leaves all to the public ways. This module
imports nothing of the package, because the core imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import ref

__all__ = ["plain", "with_order"]


def plain() -> None:
    """Do nothing: a sample of a function in Python, whose layout the core checks."""


class _Exit:
    """The end of a block, whose life is watched."""

    def __call__(self, *_: object) -> None:
        """End a block."""


class _AsyncExit:
    """The end of an async block, whose life is watched."""

    async def __call__(self, *_: object) -> None:
        """End a block, without waiting."""


class _Fetched:
    """A context manager that records which of its methods are fetched, in order, and whether the exit lives."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.exit: Callable[[], object] = _none

    @property
    def __enter__(self) -> Any:
        self.names.append("entry")
        return plain

    @property
    def __exit__(self) -> Any:  # noqa: PLE0302, PYI036 - a property
        return self._ends(_Exit())

    @property
    def __aenter__(self) -> Any:
        self.names.append("entry")
        return _at_once

    @property
    def __aexit__(self) -> Any:  # noqa: PLE0302 - a property
        return self._ends(_AsyncExit())

    def _ends(self, end: Any) -> Any:
        self.names.append("exit")
        self.exit = ref(end)
        return end

    def note_body(self) -> None:
        """Record whether the exit lives while the body runs: the frame must own it."""
        self.names.append("owned" if self.exit() is not None else "lost")

    def note_end(self) -> None:
        """Record whether the exit has died with its frame."""
        self.names.append("kept" if self.exit() is not None else "gone")


def _none() -> None:
    """Return nothing, as a dead reference does."""


async def _at_once(*_: object) -> None:
    """Return without waiting."""


def _block(block: _Fetched) -> None:
    with block:
        block.note_body()
        raise KeyboardInterrupt


async def _async_block(block: _Fetched) -> None:
    async with block:
        block.note_body()
        raise KeyboardInterrupt


def with_order() -> tuple[str, ...] | None:
    """
    Return the methods that `with` and `async with` fetch, in order: "entry", "exit".

    None if the two differ, or if the frame of a block does not own its exit for exactly as long as the block lasts.
    """
    block, later = _Fetched(), _Fetched()
    with suppress(KeyboardInterrupt):
        _block(block)
    with suppress(KeyboardInterrupt):
        _async_block(later).send(None)
    for one in (block, later):
        one.note_end()
    *fetched, body, end = block.names
    return tuple(fetched) if block.names == later.names and (body, end) == ("owned", "gone") else None
