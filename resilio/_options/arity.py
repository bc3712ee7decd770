"""Whether a function that is an option takes what it will be called with: refused where it is given, not in a call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from resilio._support.show import show

__all__ = ["check_arity", "check_for_calls"]

_VARARGS, _VARKEYWORDS = 0x04, 0x08
_OF_CALLS = ("key", "cost", "weight", "tenant", "task", "replay_safe")


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
    signature = _signature(value)
    if signature is None:
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        expected = f"{name}({', '.join(parameters)})"
        raise TypeError(f"{name} is called as {expected}: {show(value)} takes {signature}") from None


def check_for_calls(policy: Any, fn: Any) -> None:
    """
    Refuse a function of the call's arguments that can take no call of `fn`: a `key`, a cost, a weight, a tenant.

    Only of Python functions, and only where no call can go well: what is called otherwise is the caller's affair.

    Args:
        policy: The policy, or a pipeline of several.

        fn: The function that is guarded.

    Raises:
        TypeError: It needs more arguments than `fn` has, or has fewer than `fn` needs.
    """
    if type(fn) is not FunctionType:
        return
    least, most = _counts(fn)
    for kind, name, function in _functions_of_calls(policy):
        needed, room = _counts(function)
        if needed > most or least > room:
            raise TypeError(
                f"{name} of a {kind} is called with the arguments of {fn.__qualname__}{_signature(fn)}, and takes "
                f"{_signature(function)}"
            )


def _functions_of_calls(policy: Any) -> Iterator[tuple[str, str, FunctionType]]:
    for part in getattr(policy, "policies", (policy,)):
        options = [(name, getattr(part.config, name, None)) for name in _OF_CALLS]
        costs = [("cost", getattr(rate, "cost", None)) for rate in getattr(part.config, "rates", ())]
        for name, value in (*options, *costs):
            if type(value) is FunctionType:
                yield part.kind, name, value


def _counts(function: FunctionType) -> tuple[int, int]:
    """Return how many arguments each call gives at least by position, and how many one can give at most."""
    code = function.__code__
    many = code.co_flags & (_VARARGS | _VARKEYWORDS)
    most = sys.maxsize if many else code.co_argcount + code.co_kwonlyargcount
    return code.co_argcount - len(function.__defaults__ or ()), most


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
