"""
Whether a call's arguments may be passed once more: what is gone once used cannot be, what is only talked to can.

The core looks at each argument's type, and asks here about those that can be iterated over themselves. Most of these
are used up by that: iterators, generators, streams, files that were read. Not so a database cursor, which is given its
next statement, a consumer of messages, which is asked for more, or a mock. The user may know better: `replayable=`.
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
"""What the notes say of it, after the argument's name."""

_TALKED_TO = (("execute", "fetchone"), ("subscribe", "poll"), ("subscribe", "getone"))
"""Methods that a cursor has by DB-API 2.0 (PEP 249), and a consumer of Kafka: iterating is one way of asking them."""


def replayable_option(name: str, value: object) -> Any:
    """Return `value`, which must be True, False, None, or a function of the call's arguments."""
    return value if isinstance(value, bool) else function(name, value)


def is_lasting(value: Any, at_once: bool) -> bool:
    """
    Tell whether a value that can be iterated over itself is still what it was after it was used; never raises.

    Args:
        value: The value.

        at_once: Whether it is to be used by two at a time, as by the copies of a hedge.
    """
    kind = type(value)
    if any(base.__module__ == "unittest.mock" and base.__name__ == "NonCallableMock" for base in kind.__mro__):
        return True
    if at_once:
        return False
    return any(all(hasattr(kind, name) for name in names) for names in _TALKED_TO) or _is_rewound(value)


def _is_rewound(value: Any) -> bool:
    """Tell whether it is a file that stands at its beginning: not read yet, or rewound by the function."""
    try:
        return isinstance(value, io.IOBase) and value.seekable() and value.tell() == 0
    except Exception:  # noqa: BLE001 - it is closed, or in the middle of a line
        return False


def is_self(fn: Any, value: Any) -> bool:
    """
    Tell whether a first argument is what the method belongs to, and not what it consumes.

    Args:
        fn: The function.

        value: Its first positional argument.
    """
    if inspect.ismethod(fn):  # its own is not among the arguments
        return False
    runs = inspect.unwrap(fn) if hasattr(fn, "__wrapped__") else fn
    code = getattr(runs, "__code__", None)
    names = getattr(code, "co_varnames", None) or tuple(_parameters(runs, 1))
    own = getattr(type(value), getattr(runs, "__name__", ""), None)
    return names[:1] == ("self",) or (own is not None and inspect.unwrap(own) is runs)


def name_one_shot(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """
    Return the name of the first argument that the first attempt has used up, None if all can be used again.

    A method's `self` does not count.

    Args:
        fn: The function, for the names of its parameters.

        args: The positional arguments.

        kwargs: The others.
    """
    names = _parameters(fn, len(args))
    for at, (name, value) in enumerate((*zip(names, args, strict=True), *kwargs.items())):
        if core.is_one_shot(value) and not (at == 0 and args and is_self(fn, value)):
            return name
    return None


def used_up(gate: Gate, rule: Replayable, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """
    Return why the arguments of a call must not be passed once more: the name of one, "" if the rule says so.

    None: they may be passed. A rule that raises says no; that is logged.

    Args:
        gate: Whose rule it is.

        rule: The option `replayable`.

        fn: The function.

        args: The positional arguments.

        kwargs: The others.
    """
    if rule is None:
        return name_one_shot(fn, args, kwargs)
    try:
        allowed = rule if isinstance(rule, bool) else bool(rule(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises
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
