"""Errors of exporters: counted, and logged once a kind, so that they neither reach calls nor flood the log."""

from __future__ import annotations

from resilio._events import log

__all__ = ["count", "errors", "happened", "over"]

_errors = 0
_blamed: set[str] = set()


def errors() -> int:
    """Return the number of failures of exporters in this process, log handlers included."""
    return _errors + log.errors()


def count() -> None:
    """Count a failure without logging it, since the log itself failed."""
    global _errors
    _errors += 1


def happened(what: str, error: BaseException) -> None:
    """Count a failure, and log the first of its kind until it is over."""
    count()
    if what not in _blamed:
        _blamed.add(what)
        text = "%s: %s: %s (counted, and not logged again)"
        log.say(log.WARNING, text, what, type(error).__name__, error)


def over(what: str) -> None:
    """Note a success, so that the next failure of this kind is logged again."""
    _blamed.discard(what)
