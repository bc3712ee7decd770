"""What is added to exceptions that people will read: notes, and which one came before."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["add_note", "as_text", "note_failure", "put_after"]

_LONGEST = 200
_MOST_NOTES = 8
"""Of ours on one exception: one that is raised again and again, by calls around or for ever, does not grow."""


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, once, unless it has enough of them; it may forbid notes."""
    note = f"resilio: {text}"
    with suppress(Exception):
        ours = [one for one in getattr(error, "__notes__", ()) if one.startswith("resilio: ")]
        if note not in ours and len(ours) < _MOST_NOTES:
            error.add_note(note)


def as_text(error: object) -> str:
    """Return a short repr of what an exception is, whatever its own repr does."""
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - foreign code
        text = f"{type(error).__name__}(...)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def note_failure(shown: BaseException | None, name: str, failure: BaseException | str | None) -> None:
    """
    Note on `shown` what has become of a fallback's target.

    Args:
        shown: The exception that goes on; None: a value does, and there is nothing to note on.

        name: The target's name.

        failure: What it raised, or why it was not called; None: it returned what was judged a failure.
    """
    said = failure if isinstance(failure, str) else "returned a failure" if failure is None else as_text(failure)
    if shown is not None:
        add_note(shown, f"fallback {name}: {said}")


def put_after(error: BaseException, before: BaseException | None) -> None:
    """Have `error` shown as raised while `before` was handled, unless it says itself what it comes from."""
    if before is not None and error is not before and error.__context__ is None and error.__cause__ is None:
        error.__context__ = before
