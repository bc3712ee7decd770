"""What goes wrong in an exporter is counted, and logged once a kind: no call sees it, and no log is filled by it."""

from __future__ import annotations

from resilio._events import log

__all__ = ["count", "errors", "happened", "over"]

_errors = 0
_blamed: set[str] = set()


def errors() -> int:
    """Return how often an exporter has failed, in this process; a log handler is one."""
    return _errors + log.errors()


def count() -> None:
    """Count a failure that nothing can be said about: it was the log itself that failed."""
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
    """Say that it went well, so that its next failure is logged again."""
    _blamed.discard(what)
