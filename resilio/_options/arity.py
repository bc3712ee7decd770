"""Check the parameters of functions that are options, where the user sets them and not in a call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from resilio._support.show import show, with_article

__all__ = ["check_arity", "check_for_calls", "takes_named"]

_VARARGS, _VARKEYWORDS = 0x04, 0x08
_OF_CALLS = ("key", "cost", "weight", "tenant", "task", "idempotent", "total", "after")


def check_arity(name: str, value: Callable[..., Any], parameters: tuple[str, ...]) -> None:
    """
    Raise a TypeError if a function cannot take these arguments; one without signature passes.

    Args:
        name: The parameter, for the message.

        value: The function.

        parameters: The names of the arguments that it is called with; one that is passed by name ends with "=".

    Raises:
        TypeError: It takes fewer, or needs more.
    """
    by_name = {one[:-1]: one for one in parameters if one.endswith("=")}
    if not by_name and _is_plain(value, len(parameters)):
        return
    signature = _signature(value)
    if signature is None:
        return
    try:
        signature.bind(*(one for one in parameters if one[:-1] not in by_name), **by_name)
    except TypeError:
        expected = f"{name}({', '.join(parameters)})"
        raise TypeError(f"{name} is called as {expected}: {show(value)} takes {signature}") from None


def takes_named(value: Callable[..., Any], name: str) -> bool:
    """Return True if a function has a parameter of this name, with a default or without; False if that is unknown."""
    if type(value) is FunctionType:
        code = value.__code__
        return name in code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    signature = _signature(value)
    found = None if signature is None else signature.parameters.get(name)
    return found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)


def check_for_calls(policy: Any, fn: Any) -> None:
    """
    Raise a TypeError if an option that is called with the call's arguments cannot take any call of `fn`.

    Such options are a `key`, a cost, a weight, a tenant. Only Python functions are checked, and only for the case that
    every call would fail.

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
                f"{name} of {with_article(kind)} is called with the arguments of {fn.__qualname__}{_signature(fn)}, "
                f"and takes {_signature(function)}"
            )


def _functions_of_calls(policy: Any) -> Iterator[tuple[str, str, FunctionType]]:
    for part in getattr(policy, "policies", (policy,)):
        options = [(name, getattr(part.config, name, None)) for name in _OF_CALLS]
        costs = [("cost", getattr(rate, "cost", None)) for rate in getattr(part.config, "rates", ())]
        for name, value in (*options, *costs):
            if type(value) is FunctionType:
                yield part.kind, name, value


def _counts(function: FunctionType) -> tuple[int, int]:
    """Return the least number of positional arguments of a call, and the largest number of arguments."""
    code = function.__code__
    many = code.co_flags & (_VARARGS | _VARKEYWORDS)
    most = sys.maxsize if many else code.co_argcount + code.co_kwonlyargcount
    return code.co_argcount - len(function.__defaults__ or ()), most


def _is_plain(value: Any, count: int) -> bool:
    """Return True if it surely takes them. Quick for Python functions, as keyed policies are made during calls."""
    if type(value) is not FunctionType:
        return False
    code, defaults = value.__code__, value.__defaults__ or ()
    most = sys.maxsize if code.co_flags & _VARARGS else code.co_argcount
    return code.co_argcount - len(defaults) <= count <= most and not code.co_kwonlyargcount


def _signature(value: Any) -> Any:
    """Return the signature of the function itself, not of one that it wraps; None if it is unknown."""
    import inspect

    options: dict[str, Any] = {"follow_wrapped": False}
    if sys.version_info >= (3, 14):
        import annotationlib

        options["annotation_format"] = annotationlib.Format.STRING  # annotations may use names that do not exist
    try:
        return inspect.signature(value, **options)
    except Exception:  # noqa: BLE001 - a builtin has none, and a foreign object may raise anything
        return None
