"""
Check if a call's arguments may be passed a second time: an iterator that is used up cannot, a client object can.

The core checks each argument's type, and calls this module for objects that are their own iterators. Most of these are
used up by iteration: iterators, generators, streams, files that were read. Exceptions are a database cursor, which
executes its next statement, a consumer of messages, which polls for more, and a mock. `replayable=` overrides all this.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._native import core
from resilio._options.validators import function, show

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["HINT", "Replayable", "is_lasting", "is_self", "name_one_shot", "replayable_option", "used_up"]

Replayable = bool | Callable[..., object] | None

HINT = "if it can be passed again: replayable=True"
"""The advice in notes, after the argument's name."""

_TALKED_TO = (("execute", "fetchone"), ("subscribe", "poll"), ("subscribe", "getone"))
"""Methods of a cursor by DB-API 2.0 (PEP 249), and of a consumer of Kafka: iteration does not use these up."""


def replayable_option(name: str, value: object) -> Any:
    """Return `value`, which must be True, False, None, or a function of the call's arguments."""
    return value if isinstance(value, bool) else function(name, value)


def is_lasting(value: Any, at_once: bool) -> bool:
    """
    Return True if a value that is its own iterator can be used again after its use; never raises.

    Args:
        value: The value.

        at_once: True if two attempts are to use it concurrently, like the copies of a hedge.
    """
    kind = type(value)
    if any(base.__module__ == "unittest.mock" and base.__name__ == "NonCallableMock" for base in kind.__mro__):
        return True
    if at_once:
        return False
    return any(all(hasattr(kind, name) for name in names) for names in _TALKED_TO) or _is_rewound(value)


def _is_rewound(value: Any) -> bool:
    """Return True for a file at its beginning: not read yet, or rewound by the function."""
    try:
        return isinstance(value, io.IOBase) and value.seekable() and value.tell() == 0
    except Exception:  # noqa: BLE001 - it is closed, or in the middle of a line
        return False


def is_self(fn: Any, value: Any) -> bool:
    """
    Return True if a first argument is the method's own object, and not data that it consumes.

    Args:
        fn: The function.

        value: Its first positional argument.
    """
    if inspect.ismethod(fn):  # its object is not among the arguments
        return False
    runs = inspect.unwrap(fn) if hasattr(fn, "__wrapped__") else fn
    code = getattr(runs, "__code__", None)
    names = getattr(code, "co_varnames", None) or tuple(_parameters(runs, 1))
    own = getattr(type(value), getattr(runs, "__name__", ""), None)
    return names[:1] == ("self",) or (own is not None and inspect.unwrap(own) is runs)


def name_one_shot(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """
    Return the name of the first argument that one attempt uses up, None if all can be used again.

    A method's `self` does not count.

    Args:
        fn: The function, for the names of its parameters.

        args: The positional arguments.

        kwargs: The keyword arguments.
    """
    for at, value in enumerate((*args, *kwargs.values())):
        if core.is_one_shot(value) and not (at == 0 and args and is_self(fn, value)):
            return (*_parameters(fn, len(args)), *kwargs)[at]
    return None


def used_up(gate: Gate, rule: Replayable, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """
    Return why the arguments of a call must not be passed again: the name of one, or "" if the rule forbids it.

    None: they may be passed. A rule that raises forbids it; the error is logged.

    Args:
        gate: The gate that has the rule.

        rule: The option `replayable`.

        fn: The function.

        args: The positional arguments.

        kwargs: The keyword arguments.
    """
    if rule is None:
        return name_one_shot(fn, args, kwargs)
    try:
        allowed = rule if isinstance(rule, bool) else bool(rule(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        where = log.describe(gate.kind, gate.name)
        log.say(log.WARNING, "%s: replayable=%s raised: not tried again", where, show(rule), error=error)
        allowed = False
    return None if allowed else ""


def _parameters(fn: Any, count: int) -> list[str]:
    try:
        parameters = tuple(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a builtin may have none
        parameters = ()
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][:count]
    return names + [f"argument {number}" for number in range(len(names) + 1, count + 1)]
