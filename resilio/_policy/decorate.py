"""
Shapes of callables and how each is guarded: every shape honestly, or a TypeError at its decoration.

    function, lambda, builtin, callable object       sync: settled at the return, or at the end of an awaitable returned
    async function, async __call__, their partials   coroutine
    generator, async generator                       a stream: the permit lasts to its end
    staticmethod, classmethod                        unwrapped, guarded, wrapped again
    a function that is guarded already               fused: one run of gates around the innermost function
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from resilio._native import core
from resilio._policy import streams

if TYPE_CHECKING:
    Guarded = core.Guard[..., Any]
    Kind = Literal["sync", "coroutine", "generator", "async_generator"]

__all__ = ["find_guard", "innermost", "is_coroutine_function", "kind_of", "reject_unguardable", "wrap"]


FUNCTION = (
    "__annotations__",
    "__code__",
    "__defaults__",
    "__doc__",
    "__globals__",
    "__kwdefaults__",
    "__module__",
    "__name__",
    "__qualname__",
)


def wrap(pipeline: core.Pipeline, fn: Callable[..., Any], kind: Kind) -> Guarded:
    """
    Return `fn` guarded: it looks and is called like the function.

    Args:
        pipeline: The policies that guard it.

        fn: Any callable of the shapes above.

        kind: The result of `kind_of(fn)`.
    """
    if kind == "generator":
        guarded = core.Guard(pipeline, fn, kind, streams.stream(pipeline, fn))
    elif kind == "async_generator":
        guarded = core.Guard(pipeline, fn, kind, streams.async_stream(pipeline, fn))
    else:
        guarded = core.Guard(pipeline, fn, kind)
    if inspect.isfunction(fn):
        guarded.__dict__.update(fn.__dict__)  # as functools.wraps does: marks of other decorators survive
    else:
        _look_like_a_function(guarded, fn)
    return guarded


def _look_like_a_function(guarded: Guarded, fn: Callable[..., Any]) -> None:
    """Give the guard of a partial or an object a function's attributes, taken from the innermost callable."""
    runs = innermost(fn)
    face = runs if inspect.isroutine(runs) else inspect.unwrap(type(runs).__call__)
    for attribute in FUNCTION:
        value = getattr(runs, attribute, getattr(face, attribute, getattr(_plain, attribute)))
        guarded.__dict__[attribute] = value


def _plain(*args: Any, **kwargs: Any) -> Any:
    """Provide a code object that is not asynchronous, for builtins, which have none."""


def innermost(fn: Any) -> Any:
    """Return the function under partials and bound methods."""
    while isinstance(fn, (functools.partial, MethodType)):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__func__
    return fn


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Return True if calling `fn` returns a coroutine not yet run; called by the core for other than functions."""
    return kind_of(fn) == "coroutine"


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Return the kind of a call of `fn`: "sync", "coroutine", "generator" or "async_generator"."""
    for candidate in _faces(fn):
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
        if inspect.isasyncgenfunction(candidate):
            return "async_generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
    return "sync"


def _faces(fn: Any) -> tuple[Any, ...]:
    """Return the functions to inspect: `fn` without its partials, and its class's __call__ if it is an object."""
    fn = innermost(fn)
    return (fn,) if inspect.isroutine(fn) else (fn, type(fn).__call__)


def reject_unguardable(fn: Any) -> None:
    """Raise a TypeError, with the remedy, for an object that cannot be guarded honestly."""
    if isinstance(fn, type) and issubclass(fn, BaseException):
        _reject(fn, "is an exception", f"guard a function, and name exceptions in options, like on={fn.__name__}")
    if isinstance(fn, type):
        _reject(fn, "is a class", "guard its methods, or a function that makes instances")
    if isinstance(fn, (property, functools.cached_property)):
        _reject(fn, "is a property", "guard the function below it: put the policy under @property")
    if isinstance(fn, (functools.partialmethod, functools.singledispatchmethod)):
        _reject(fn, f"is a {type(fn).__name__}", "guard the function that it is made of")
    if isinstance(fn, core.Pipeline):
        _reject(fn, "is a policy", "stack decorators on a function, or use pipeline(outer, inner)")
    if inspect.isawaitable(fn):
        _reject(fn, "is the awaitable of one call, no function,", "guard the function, or use `await policy.acall(fn)`")
    if not callable(fn):
        _reject(fn, "cannot be called", "guard a function")
    if _is_context_manager(fn):
        _reject(fn, "makes a context manager, whose block it does not see", "put the policy below that decorator")


def _reject(fn: Any, what: str, instead: str) -> NoReturn:
    raise TypeError(f"{fn!r} {what} and cannot be guarded: {instead}")


def _is_context_manager(fn: Any) -> bool:
    """Return True for the result of contextlib.contextmanager or asynccontextmanager, which is their inner helper."""
    function = innermost(fn)
    if not inspect.isfunction(function) or function.__globals__.get("__name__") != "contextlib":
        return False
    return function.__code__.co_qualname.endswith("contextmanager.<locals>.helper")


def find_guard(fn: Any) -> Guarded | None:
    """Return the guard under methods, static and class methods, partials and `__wrapped__`; None if there is none."""
    seen: set[int] = set()
    while fn is not None and id(fn) not in seen:
        if type(fn) is core.Guard:
            return fn
        seen.add(id(fn))
        fn = _inside(fn)
    return None


def _inside(fn: Any) -> Any:
    for attribute in ("__func__", "func", "__wrapped__"):
        inner = inspect.getattr_static(fn, attribute, None)
        if inner is not None:
            return getattr(fn, attribute)
    return None
