"""
Retries of blocks: for code that is not in a function of its own.

Write `for attempt in retrying(...): with attempt: ...`, or `async for`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, cast, overload
from weakref import WeakKeyDictionary

from resilio._policies.retry.policy import Retry, Retrying, retry
from resilio._support.after_fork import free_lock

if TYPE_CHECKING:
    from types import CodeType, FrameType


__all__ = ["retrying"]

P = ParamSpec("P")
_lock = Lock()
free_lock(sys.modules[__name__], "_lock")
_places: WeakKeyDictionary[CodeType, dict[int, Retry]] = WeakKeyDictionary()
"""The retries without a name, by the code object and the offset that made them."""


def _of_this_place(made: Retry, frame: FrameType) -> Retry:
    """Return the retry that this place made before if it is equal, else the new one, which shares its budget."""
    if made._given is not None:
        return made
    with _lock:
        here = _places.setdefault(frame.f_code, {})
        before = here.setdefault(frame.f_lasti, made)
    if before is not made and before.config == made.config:
        return before
    made._belong_to(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}", before)
    return made


class OrOptions(Protocol[P]):
    """Type of a function of a retry, or of the options of one."""

    @overload
    def __call__(self, policy: Retry, /) -> Retrying: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Retrying: ...


def _with_options_of(_: Callable[P, Any]) -> Callable[[Callable[..., Retrying]], OrOptions[P]]:
    return lambda function: cast("OrOptions[P]", function)


@_with_options_of(retry)
def retrying(policy: Any = None, /, **options: Any) -> Retrying:
    """
    Return a loop that retries a block.

    Write `for attempt in retrying(...): with attempt: ...`, or `async for`. The block is retried like a function by
    :func:`retry`: within the same budget, deadline and Retry-After, with the trail on its last exception, while retries
    inside do not retry. `attempt.number` counts from 1; `attempt.result(value)` lets `failed_if` judge a result.

    Loops at one place in the code share a budget, and the policy if the options are equal; it is named after the
    enclosing function.

    Args:
        policy: A retry; None: one made of the options.
        options: The options of :func:`retry`.

    Raises:
        TypeError: Neither a retry nor options, or both; or an option of a wrong type.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    if policy is None:
        return Retrying(_of_this_place(retry(**options), sys._getframe(1)))
    if not isinstance(policy, Retry) or options:
        raise TypeError(f"retrying takes a retry, or the options of one, not {policy!r} and {sorted(options)}")
    return Retrying(policy)
