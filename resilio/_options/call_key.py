"""Keys of calls, as options: a function of the call's arguments, or the name of a parameter."""

from __future__ import annotations

import inspect
from typing import Any

from resilio._options.validators import function, reject

__all__ = ["call_key", "place_of_key"]

_RIGHT = "a function of the call's arguments, or the name of a parameter"


def call_key(name: str, value: Any, *, none_ok: bool = False) -> Any:
    """Return a function or the name of a parameter, checked; None if that is allowed."""
    if value is None and none_ok:
        return None
    if isinstance(value, str):
        if not value.isidentifier():
            reject(name, value, "the name of a parameter, or a function of the call's arguments")
        return value
    if not callable(value):
        reject(name, value, f"{_RIGHT}, or None" if none_ok else _RIGHT, TypeError)
    return value if isinstance(value, type) else function(name, value, none_ok=False)


def place_of_key(fn: Any, name: str, option: str = "key") -> tuple[int, bool, Any]:
    """
    Return where the arguments of `fn` have the key: its position, True if it has a default, and that default.

    The position is -1 for a parameter that is passed by name only.

    Args:
        fn: The function that is called.

        name: The name of the parameter.

        option: The option that has named it, for errors.

    Raises:
        TypeError: `fn` has no parameter of that name, or its parameters are not known.
    """
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        text = f"{option}={name!r}: the parameters of {fn!r} are not known; give `{option}` a function"
        raise TypeError(text) from error
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    found = parameters.get(name)
    if found is None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return -1, False, None
    if found is None or found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD):
        known = ", ".join(parameters) or "none"
        raise TypeError(f"{option}={name!r}: {fn!r} has no such parameter; it has: {known}")
    position = positional.index(found) if found in positional else -1
    default = found.default
    return position, default is not found.empty, None if default is found.empty else default
