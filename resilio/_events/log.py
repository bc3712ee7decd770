"""
Log lines: one a state change, one for a listener that raises. Logging is imported with the first line.

Lines go to the logger "resilio" of the standard library, or to structlog if the application has configured it and the
logger has no handler of its own. Either way policy, states and reasons are fields; arguments, results and keys are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import logging

    from resilio._events.records import Rejected, StateChanged

__all__ = [
    "Target",
    "describe",
    "errors",
    "gate_failed",
    "hand_over",
    "handed_to",
    "listener_failed",
    "logger",
    "rejected",
    "say",
    "state_changed",
    "strategy_failed",
    "use",
    "wants_rejections",
]

ALARMING = frozenset({"open", "forced_open", "closed_down", "draining", "overloaded"})
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40  # as in logging, which is not imported for four numbers
Target = Literal["auto", "stdlib", "structlog"]

_logger: logging.Logger | None = None
_target: Target = "auto"
_hand_over: Callable[[Callable[[], object]], object] | None = None
_errors = 0
_MOST_FAULTS = 256
_told: set[tuple[str, type[BaseException | None], tuple[str, int]]] = set()
"""The errors of strategies that were logged, and their origins."""


def logger() -> logging.Logger:
    """Return the logger "resilio", silent by default as a library's must be."""
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("resilio")
        _logger.addHandler(logging.NullHandler())
    return _logger


def use(target: Target) -> None:
    """Set the target of lines from now on; "auto": structlog if it is configured and the logger has no handler."""
    global _target
    _target = target


def hand_over(to: Callable[[Callable[[], object]], object] | None) -> None:
    """Pass each line to `to` instead of writing it here; None: write lines here again."""
    global _hand_over
    _hand_over = to


def handed_to() -> Callable[[Callable[[], object]], object] | None:
    """Return the function that receives the lines instead, None if there is none."""
    return _hand_over


def errors() -> int:
    """Return the number of lines that could not be written, in this process."""
    return _errors


def describe(kind: str, name: str | None) -> str:
    """Return a policy in words: its kind, and its name if it has one."""
    return kind if name is None else f"{kind} {name!r}"


def say(
    level: int, text: str, *args: object, fields: Mapping[str, Any] | None = None, error: BaseException | None = None
) -> None:
    """
    Write a line, unless its level is below that of the logger. Never raises; errors of handlers are counted.

    Args:
        level: As in logging.

        text: The format, with `%s` for each of the arguments.

        args: The arguments of the format.

        fields: Fields beside the text: `extra` of logging, keywords of structlog.

        error: An exception whose traceback is logged.
    """
    global _errors
    try:
        structured = _structured()
        if structured is None and not logger().isEnabledFor(level):
            return
        line = partial(_write, structured, level, text, args, fields or {}, error)
        if _hand_over is None:
            line()
        else:
            _hand_over(line)
    except Exception:  # noqa: BLE001 - a handler that raises, or is out of disk, fails no call
        _errors += 1


def _write(
    structured: Any, level: int, text: str, args: tuple[Any, ...], fields: Mapping[str, Any], error: Any
) -> None:
    if structured is None:
        logger().log(level, text, *args, extra=fields, exc_info=error)
    else:
        trace = {} if error is None else {"exc_info": error}
        structured.log(level, text % args if args else text, **fields, **trace)


def _structured() -> Any:
    """Return structlog's logger if lines go there, else None; never imports structlog."""
    structlog = sys.modules.get("structlog")
    if structlog is None or _target == "stdlib":
        return None
    if _target == "auto" and not (structlog.is_configured() and _is_unhandled()):
        return None
    return structlog.get_logger("resilio")


def _is_unhandled() -> bool:
    import logging

    return all(isinstance(handler, logging.NullHandler) for handler in logger().handlers)


def state_changed(event: StateChanged) -> None:
    """Log a state change: WARNING when calls begin to be rejected, INFO otherwise."""
    where = describe(event.kind, event.name)
    fields = {
        "policy": event.kind,
        "policy_name": event.name,
        "old_state": event.old,
        "new_state": event.new,
        "reason": event.reason,
    }
    level = WARNING if event.new in ALARMING else INFO
    say(level, "%s: %s -> %s (%s)", where, event.old, event.new, event.reason, fields=fields)


def listener_failed(listener: Any, error: Exception) -> None:
    """Log a listener's exception."""
    say(ERROR, "a listener of events raised and was skipped: %r", listener, error=error)


def gate_failed(kind: str, name: str | None, method: str, error: BaseException) -> None:
    """Log the exception that a method of a gate written in Python raised."""
    fields = {"policy": kind, "policy_name": name}
    text = "%s: %s() raised; calls are admitted without it"
    say(ERROR, text, describe(kind, name), method, fields=fields, error=error)


def strategy_failed(what: str) -> None:
    """
    Log the current exception of a strategy, in a place where it cannot propagate.

    It is logged once for each kind of error and origin, not with a traceback for each call when many fail already.
    """
    with suppress(RecursionError):  # the stack is too deep to log just that
        error = sys.exception()
        fault = (what, type(error), _origin(error))
        if fault not in _told and len(_told) < _MOST_FAULTS:
            _told.add(fault)
            say(ERROR, "%s; not logged again", what, error=error)


def _origin(error: BaseException | None) -> tuple[str, int]:
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def rejected(event: Rejected) -> None:
    """Log a rejection at DEBUG."""
    fields = {"policy": event.kind, "policy_name": event.name, "reason": event.reason}
    say(DEBUG, "%s rejected a call: %s", describe(event.kind, event.name), event.reason, fields=fields)


def wants_rejections() -> bool:
    """Return True if the logger is enabled for DEBUG; False while logging is not imported."""
    return "logging" in sys.modules and logger().isEnabledFor(DEBUG)
