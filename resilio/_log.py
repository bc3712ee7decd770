"""One log line a state change, one for a listener that raises. Logging is imported when there is something to say."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from resilio.events import Rejected, StateChanged

__all__ = [
    "describe",
    "gate_failed",
    "listener_failed",
    "logger",
    "rejected",
    "state_changed",
    "strategy_failed",
    "wants_refusals",
]

ALARMING = frozenset({"open", "forced_open", "closed_down", "draining"})

_logger: logging.Logger | None = None


def logger() -> logging.Logger:
    """Return the logger "resilio", silent by default as a library's must be."""
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("resilio")
        _logger.addHandler(logging.NullHandler())
    return _logger


def describe(kind: str, name: str | None) -> str:
    """Return a policy in words: its kind, and its name if it has one."""
    return kind if name is None else f"{kind} {name!r}"


def state_changed(event: StateChanged) -> None:
    """Log a state change: WARNING when calls begin to be refused, INFO otherwise."""
    log = logger()
    level = 30 if event.new in ALARMING else 20  # logging.WARNING, logging.INFO
    if log.isEnabledFor(level):
        fields = {"policy": event.kind, "policy_name": event.name, "old_state": event.old, "new_state": event.new}
        where = describe(event.kind, event.name)
        log.log(level, "%s: %s -> %s (%s)", where, event.old, event.new, event.reason, extra=fields)


def listener_failed(listener: Any, error: Exception) -> None:
    """Log a listener's exception."""
    logger().error("a listener of events raised and was skipped: %r", listener, exc_info=error)


def gate_failed(kind: str, name: str | None, method: str, error: BaseException) -> None:
    """Log what a method of a gate written in Python raised."""
    logger().error("%s: %s() raised; calls are admitted without it", describe(kind, name), method, exc_info=error)


def strategy_failed(what: str) -> None:
    """Log the exception at hand, which a strategy has raised instead of an answer, where nothing can be raised."""
    with suppress(RecursionError):  # too deep to say that it was too deep
        logger().exception(what)


def rejected(event: Rejected) -> None:
    """Log a refusal at DEBUG."""
    log = logger()
    if log.isEnabledFor(10):  # logging.DEBUG
        fields = {"policy": event.kind, "policy_name": event.name, "reason": event.reason}
        log.debug("%s refused a call: %s", describe(event.kind, event.name), event.reason, extra=fields)


def wants_refusals() -> bool:
    """Tell whether the logger is enabled for DEBUG; False while nobody has imported logging."""
    logging = sys.modules.get("logging")
    return logging is not None and bool(logging.getLogger("resilio").isEnabledFor(10))  # logging.DEBUG
