"""Additions to exceptions for their readers: notes, and the exception that came before."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["add_note", "as_text", "note_failure", "put_after"]

_LONGEST = 200
_MOST_NOTES = 8
"""The most notes of ours on one exception, so that one that is raised again and again does not grow."""


def add_note(error: BaseException, text: str, gate: Gate | None = None) -> None:
    """
    Add a note to an exception, once, unless it has the most notes already; no-op if it forbids notes.

    Args:
        error: The exception.

        text: What the note says.

        gate: The gate of the policy that it is about, whose kind and name begin the note.
    """
    about = "" if gate is None else f"{gate.kind} {gate.name!r}: " if gate.name else f"{gate.kind}: "
    note = f"resilio: {about}{text}"
    with suppress(Exception):
        ours = [one for one in getattr(error, "__notes__", ()) if one.startswith("resilio: ")]
        if note not in ours and len(ours) < _MOST_NOTES:
            error.add_note(note)


def as_text(error: object) -> str:
    """Return a short repr of an exception, even if its own repr raises."""
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - foreign code
        text = f"{type(error).__name__}(...)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def note_failure(shown: BaseException | None, name: str, failure: BaseException | str | None) -> None:
    """
    Add a note about the end of a fallback's target to `shown`.

    Args:
        shown: The exception that propagates; None: a value is returned, so that there is no note.

        name: The target's name.

        failure: The target's exception, or the reason why it was not called; None: its result was judged a failure.
    """
    text = failure if isinstance(failure, str) else "returned a failure" if failure is None else as_text(failure)
    if shown is not None:
        add_note(shown, f"fallback {name}: {text}")


def put_after(error: BaseException, before: BaseException | None) -> None:
    """Set `before` as the context of `error`, unless `error` has a cause or a context already."""
    if before is not None and error is not before and error.__context__ is None and error.__cause__ is None:
        error.__context__ = before
