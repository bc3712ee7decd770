"""What goes wrong in an exporter is counted, and logged once a kind: no call sees it, and no log is filled by it."""

from __future__ import annotations

from contextlib import suppress

from resilio import _log

__all__ = ["errors", "happened", "over"]

_errors = 0
_blamed: set[str] = set()


def errors() -> int:
    """Return how often an exporter has failed, in this process."""
    return _errors


def happened(what: str, error: BaseException) -> None:
    """Count a failure, and log the first of its kind until it is over; a broken log handler changes nothing."""
    global _errors
    _errors += 1
    if what not in _blamed:
        _blamed.add(what)
        with suppress(Exception):
            _log.logger().warning("%s: %s: %s (counted, and not logged again)", what, type(error).__name__, error)


def over(what: str) -> None:
    """Say that it went well, so that its next failure is logged again."""
    _blamed.discard(what)
