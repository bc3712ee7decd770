"""How the library's own subjects, and comparisons of guarded async functions, are written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.micro import _loops, _work
from benchmarks.micro._comparison import Comparison, Subject
from benchmarks.micro._loops import Loop
from resilio._native import clock

__all__ = ["async_comparison", "subject"]


def subject(name: str, make: Callable[[], Any], target: str | None = None, note: str = "") -> Subject:
    """Return one of the library's own subjects: it reads the library's clock."""
    return Subject(name, make, clock.source(), note, target)


def async_comparison(
    key: str,
    title: str,
    about: str,
    own: Sequence[Subject],
    drive: Callable[[Callable[[], Awaitable[Any]]], Loop] = _loops.awaits,
) -> Comparison:
    """Return the comparison, in W, of guarded async functions that do not suspend."""
    return Comparison(
        key,
        title,
        about,
        drive=drive,
        check=_work.check_async_answer,
        base=lambda: drive(_work.acallee()),
        own=own,
        wrapper=lambda: _work.async_wrapper(_work.acallee()),
    )
