"""
Which callable is guarded how: every shape honestly, or a TypeError where it is decorated.

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

from resilio import _streams
from resilio._arity import check_for_calls
from resilio._native import core

if TYPE_CHECKING:
    from resilio._policy import Policy

    Guarded = core.Guard[..., Any]
    Kind = Literal["sync", "coroutine", "generator", "async_generator"]

__all__ = ["find_guard", "guard", "innermost", "is_coroutine_function", "kind_of"]


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


def guard(policy: Policy[Any], fn: Any) -> Any:
    """
    Return `fn` guarded by `policy`.

    Args:
        policy: The policy, outside of those that guard `fn` already.

        fn: Any callable of the shapes above.

    Raises:
        TypeError: What cannot be guarded honestly, with what to do instead.
    """
    if isinstance(fn, (staticmethod, classmethod)):
        return type(fn)(guard(policy, fn.__func__))
    if type(fn) is core.Guard:
        return _fuse(policy, fn)
    _refuse_unguardable(fn)
    policy._call_after(fn)
    return _wrap(policy, fn)


def _wrap(policy: Policy[Any], fn: Callable[..., Any]) -> Guarded:
    kind = kind_of(fn)
    check_for_calls(policy, fn)
    policy = policy._fit(kind, fn)
    if kind == "generator":
        guarded = core.Guard(policy, fn, kind, _streams.stream(policy, fn))
    elif kind == "async_generator":
        guarded = core.Guard(policy, fn, kind, _streams.async_stream(policy, fn))
    else:
        guarded = core.Guard(policy, fn, kind)
    if inspect.isfunction(fn):
        guarded.__dict__.update(fn.__dict__)  # as functools.wraps does: marks of other decorators survive
    else:
        _look_like_a_function(guarded, fn)
    return guarded


def _look_like_a_function(guarded: Guarded, fn: Callable[..., Any]) -> None:
    """A guard says that it is a function: around a partial or an object it has what a function has, from what runs."""
    runs = innermost(fn)
    face = runs if inspect.isroutine(runs) else inspect.unwrap(type(runs).__call__)
    for attribute in FUNCTION:
        value = getattr(runs, attribute, getattr(face, attribute, getattr(_plain, attribute)))
        guarded.__dict__[attribute] = value


def _plain(*args: Any, **kwargs: Any) -> Any:
    """Lend a builtin, which has no code object, one that is not asynchronous."""


def innermost(fn: Any) -> Any:
    """Return what runs under partials and bound methods."""
    while isinstance(fn, (functools.partial, MethodType)):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__func__
    return fn


def _fuse(policy: Policy[Any], inner: Guarded) -> Guarded:
    from resilio._pipeline import stacked

    policy._call_after(inner.__wrapped__)
    guarded = _wrap(stacked(policy, inner.pipeline), inner.__wrapped__)
    guarded.__dict__.update(inner.__dict__)
    return guarded


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Tell whether calling `fn` gives a coroutine that has not run; the core asks for what is no plain function."""
    return kind_of(fn) == "coroutine"


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Return what a call of `fn` is: "sync", "coroutine", "generator" or "async_generator"."""
    for candidate in _faces(fn):
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
        if inspect.isasyncgenfunction(candidate):
            return "async_generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
    return "sync"


def _faces(fn: Any) -> tuple[Any, ...]:
    """What the call runs: `fn` itself without its partials, and its class's __call__ if it is an object."""
    fn = innermost(fn)
    return (fn,) if inspect.isroutine(fn) else (fn, type(fn).__call__)


def _refuse_unguardable(fn: Any) -> None:
    if isinstance(fn, type):
        _refuse(fn, "is a class", "guard its methods, or a function that makes instances")
    if isinstance(fn, (property, functools.cached_property)):
        _refuse(fn, "is a property", "guard the function below it: put the policy under @property")
    if isinstance(fn, (functools.partialmethod, functools.singledispatchmethod)):
        _refuse(fn, f"is a {type(fn).__name__}", "guard the function that it is made of")
    if isinstance(fn, core.Pipeline):
        _refuse(fn, "is a policy", "stack decorators on a function, or use pipeline(outer, inner)")
    if inspect.isawaitable(fn):
        _refuse(fn, "is one call's awaitable, not a function", "guard the function, or use `await policy.acall(fn)`")
    if not callable(fn):
        _refuse(fn, "cannot be called", "guard a function")
    if _is_context_manager(fn):
        _refuse(fn, "makes a context manager, whose block it does not see", "put the policy below that decorator")


def _refuse(fn: Any, what: str, instead: str) -> NoReturn:
    raise TypeError(f"{fn!r} {what} and cannot be guarded: {instead}")


def _is_context_manager(fn: Any) -> bool:
    """Was it made by contextlib.contextmanager or asynccontextmanager? Then it is the helper inside of them."""
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
