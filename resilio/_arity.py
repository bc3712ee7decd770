"""Whether a function that is an option takes what it will be called with: refused where it is given, not in a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

__all__ = ["check_arity"]

_VARARGS = 0x04


def check_arity(name: str, value: Callable[..., Any], parameters: tuple[str, ...]) -> None:
    """
    Refuse a function that cannot be called with so many arguments by position; what has no signature passes.

    Args:
        name: The parameter, for the message.

        value: The function.

        parameters: What it is called with, in words.

    Raises:
        TypeError: It takes fewer, or needs more.
    """
    if _is_plain(value, len(parameters)):
        return
    from resilio._config import show

    signature = _signature(value)
    if signature is None:
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        expected = f"{name}({', '.join(parameters)})"
        raise TypeError(f"{name} is called as {expected}: {show(value)} takes {signature}") from None


def _is_plain(value: Any, count: int) -> bool:
    """Whether it surely can; of a Python function that is quick to tell, and keyed policies are made in calls."""
    if type(value) is not FunctionType:
        return False
    code, defaults = value.__code__, value.__defaults__ or ()
    most = sys.maxsize if code.co_flags & _VARARGS else code.co_argcount
    return code.co_argcount - len(defaults) <= count <= most and not code.co_kwonlyargcount


def _signature(value: Any) -> Any:
    """Return the signature of the function itself, not of one that it wraps; None where it cannot be told."""
    import inspect

    options: dict[str, Any] = {"follow_wrapped": False}
    if sys.version_info >= (3, 14):
        import annotationlib

        options["annotation_format"] = annotationlib.Format.STRING  # annotations may name what is not there
    try:
        return inspect.signature(value, **options)
    except Exception:  # noqa: BLE001 - a builtin has none, and a foreign object may raise anything
        return None
