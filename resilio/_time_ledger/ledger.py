"""
Text forms of the time ledger: one line for people, one header for browsers, one note on exceptions.

The numbers are native (`Segments`, made by the core). This code runs only if a reader asks for the text, or if an
exception leaves a call that spent time on more than one attempt.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from resilio._failures.notes import add_note
from resilio._native.core import SEGMENTS, Segments

if TYPE_CHECKING:
    from resilio._failures.retry_trail import RetryTrail
    from resilio._native.core import Gate

__all__ = ["note_segments", "pass_on", "segments_header", "segments_line", "segments_of", "segments_text"]

_PHASES = ("attempt", "connect", "first_byte", "body")


def segments_line(segments: Segments) -> str:
    """Return the segments of the time, in order: "2.41s = queue 0.9 + attempt1 0.31 + retry_sleep 0.8 + ..."."""
    parts = _parts(segments)
    wasted = f" (wasted {_short(segments.wasted)})" if segments.wasted else ""
    cost = "".join(f", {amount:.4g} {currency}" for currency, amount in segments.cost.items())
    return f"{_short(segments.total)}s" + (f" = {parts}" if parts else "") + wasted + cost


def segments_of(error: BaseException) -> Segments | None:
    """
    Return where the time of the call went that raised this exception; None if no policy guarded it.

    The same as `error.resilio_segments`, with its type. Of an exception that a client's SDK raises in its place, ask
    :func:`resilio.integrations.llm.segments_of`.

    Args:
        error: The exception that a guarded call raised.
    """
    found = getattr(error, "resilio_segments", None)
    return found if isinstance(found, Segments) else None


def _parts(segments: Segments, failures: tuple[str | None, ...] = ()) -> str:
    """Return the segments in order; *failures*: that of each attempt, in a word, None for an attempt without one."""
    trail = segments.trail or tuple((name, 1, value) for name in SEGMENTS if (value := getattr(segments, name)))
    several = any(attempt > 1 for _, attempt, _ in trail)
    parts, before = [], 0
    for at, (name, attempt, seconds) in enumerate(trail):
        inside = name in _PHASES
        label = _label(name, attempt) if several and inside and attempt != before else name
        before = attempt if inside else before
        how = failures[attempt - 1] if inside and attempt <= len(failures) and _is_last(trail, at) else None
        parts.append(f"{label} {_short(seconds)}" + (f" ({how})" if how else ""))
    return " + ".join(parts)


def _label(name: str, attempt: int) -> str:
    return f"attempt{attempt}" if name == "attempt" else f"attempt{attempt} {name}"


def _is_last(trail: tuple[tuple[str, int, float], ...], at: int) -> bool:
    """Return True if no other phase of the same attempt follows."""
    return not any(attempt == trail[at][1] and name in _PHASES for name, attempt, _ in trail[at + 1 :])


def _short(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.2g}" if seconds >= 1e-6 else "0"


def segments_text(segments: Segments) -> str:
    """Return the expression that makes equal segments."""
    given = {**segments.asdict(), "cost": segments.cost}
    return f"Segments({', '.join(f'{name}={value!r}' for name, value in given.items() if value)})"


def segments_header(segments: Segments) -> str:
    """Return the value of a Server-Timing header: the segments in milliseconds, the total last."""
    spent = {**{name: value for name, value in segments.asdict().items() if value}, "total": segments.total}
    return ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in spent.items() if segments.total)


def note_segments(error: BaseException, segments: Segments, gate: Gate | None = None) -> None:
    """
    Add the ledger of a call as a note to the exception that leaves it; a retry's note becomes part of it.

    Args:
        error: The exception; it may forbid notes.
        segments: The segments of the call, of more than one attempt.
        gate: The gate of the call's outermost policy.
    """
    if not isinstance(error, Exception) and type(error).__name__ not in ("CancelledError", "Cancelled"):
        return
    trail: RetryTrail | None = getattr(error, "resilio", None)
    with suppress(Exception):
        notes = getattr(error, "__notes__", None) or []
        of_retry = [at for at, note in enumerate(notes) if trail is not None and note.endswith(f": {trail}")]
        if trail is not None and of_retry:
            notes[of_retry[-1]] = f"{notes[of_retry[-1]]}; {_trail_parts(segments, trail)}"
        else:
            add_note(error, segments_line(segments), gate)


def pass_on(cancellation: BaseException, error: Exception) -> Exception:
    """
    Return the exception that replaces a cancellation by which the library ended a call, with what that has of the call.

    These are the ledger, the trail of a retry, and their notes, which name the policy.

    Args:
        cancellation: The cancellation that has left the call.
        error: The exception to raise instead.
    """
    for name in ("resilio", "resilio_segments"):
        if (found := getattr(cancellation, name, None)) is not None:
            setattr(error, name, found)
    for note in getattr(cancellation, "__notes__", ()):
        if note.startswith("resilio: "):
            error.add_note(note)
    return error


def _trail_parts(segments: Segments, trail: RetryTrail) -> str:
    failures = tuple(None if one.error is None else one.error.partition("(")[0] for one in trail.attempts)
    return _parts(segments, failures)
