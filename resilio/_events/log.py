"""
Log lines: one a state change, one a minute and policy about retries, one for a listener that raises.

Logging is imported with the first line.

Lines go to the logger "resilio" of the standard library, or to structlog if the application has configured it and the
logger has no handler of its own. Either way policy, states and reasons are fields; arguments, results and keys are not.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from resilio._native import clock

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
    "log_retries",
    "logger",
    "rejected",
    "retried",
    "retries_every_ns",
    "say",
    "state_changed",
    "strategy_failed",
    "use",
    "wants_rejections",
]

ALARMING = frozenset({"open", "forced_open", "closed_down", "draining", "overloaded", "ejected", "low", "spent"})
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40  # as in logging, which is not imported for four numbers
Target = Literal["auto", "stdlib", "structlog"]

_logger: logging.Logger | None = None
_target: Target = "auto"
_hand_over: Callable[[Callable[[], object]], object] | None = None
_errors = 0
_NEVER_NS = 2**62
_retries_every_ns = 60 * 10**9
_keyed_lines: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""The time of the latest line about retries of each keyed policy."""
_MOST_FAULTS = 256
_reported: set[tuple[str, type[BaseException | None], tuple[str, int]]] = set()
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
        **({"endpoint": event.key} if event.kind == "pool" else {}),
        "old_state": event.old,
        "new_state": event.new,
        "reason": event.reason,
    }
    level = WARNING if event.new in ALARMING else INFO
    if event.kind == "pool":  # a name from the code, which other keys are not
        where = f"{where}, endpoint {event.key!r}"
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
        if fault not in _reported and len(_reported) < _MOST_FAULTS:
            _reported.add(fault)
            say(ERROR, "%s; not logged again", what, error=error)


def _origin(error: BaseException | None) -> tuple[str, int]:
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def retries_every_ns() -> int:
    """Return the shortest time between two lines about the retries of one policy, in nanoseconds."""
    return _retries_every_ns


def log_retries(every: float | None) -> None:
    """Set the shortest time between two lines about the retries of one policy, in seconds; None: log none."""
    global _retries_every_ns
    _retries_every_ns = _NEVER_NS if every is None else round(every * 1e9)


def retried(gate: Any, attempt: int, error: BaseException | None, delay: float, since: int) -> None:
    """
    Log a retry at INFO; a retry calls this once a minute.

    Args:
        gate: The retry.

        attempt: The number of the failed attempt.

        error: Its exception, whose text is not logged; None: it returned a failed result.

        delay: Seconds until the next attempt.

        since: The number of retries since the line before, this one included.
    """
    if _retries_every_ns == _NEVER_NS or "logging" not in sys.modules:  # then there is no handler either
        return
    with suppress(Exception):
        owner = _owner(gate)
        if owner is None:
            return
        kind, name = gate.kind, getattr(owner, "name", None)
        what = "a failed result" if error is None else type(error).__name__
        fields = {"policy": kind, "policy_name": name, "attempt": attempt, "delay": delay, "retries": since}
        text = "%s: attempt %d failed (%s), the next one follows in %.3g s%s"
        more = "" if since == 1 else f"; {since:,} retries since the last such line"
        say(INFO, text, describe(kind, name), attempt, what, delay, more, fields={**fields, "reason": what})


def _owner(gate: Any) -> Any:
    """Return the policy that a line about a gate names, for a key its keyed policy; None: that had its line lately."""
    entry = gate.entry
    if entry is None:
        return gate.policy
    stage = entry.table.stages[entry.gates.index(gate)]
    now = clock.now_ns()
    before = _keyed_lines.get(stage)
    if before is not None and 0 <= now - before < _retries_every_ns:
        return None
    _keyed_lines[stage] = now
    return stage


def rejected(event: Rejected) -> None:
    """Log a rejection at DEBUG."""
    fields = {"policy": event.kind, "policy_name": event.name, "reason": event.reason}
    say(DEBUG, "%s rejected a call: %s", describe(event.kind, event.name), event.reason, fields=fields)


def wants_rejections() -> bool:
    """Return True if the logger is enabled for DEBUG; False while logging is not imported."""
    return "logging" in sys.modules and logger().isEnabledFor(DEBUG)
