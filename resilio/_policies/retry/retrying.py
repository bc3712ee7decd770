"""
Blocks that are run again: retries where the code is in no function of its own.

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
"""The retries without a name, by the code that has made them and where in it."""


def _of_this_place(made: Retry, frame: FrameType) -> Retry:
    """Return the retry that this place has made before, or else a new one that draws on the same budget."""
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
    """A function of a retry, or of the options of one."""

    @overload
    def __call__(self, policy: Retry, /) -> Retrying: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Retrying: ...


def _with_options_of(_: Callable[P, Any]) -> Callable[[Callable[..., Retrying]], OrOptions[P]]:
    return lambda function: cast("OrOptions[P]", function)


@_with_options_of(retry)
def retrying(policy: Any = None, /, **options: Any) -> Retrying:
    """
    Return what runs a block as often as it takes.

    Write `for attempt in retrying(...): with attempt: ...`, or `async for`. The block is retried as a function is by
    :func:`retry`: within the same budget, deadline and Retry-After, with the trail on what it raises in the end, and
    with retries inside that stand aside. `attempt.number` counts from 1; `attempt.result(value)` has `failed_if` judge
    a result.

    Loops in one place of the code share a budget, and the policy if the options are equal; it is called after the
    function around.

    Args:
        policy: A retry; None: one made of the options.
        options: Those of :func:`retry`.

    Raises:
        TypeError: Neither a retry nor options, or both; or an option of a wrong type.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    if policy is None:
        return Retrying(_of_this_place(retry(**options), sys._getframe(1)))
    if not isinstance(policy, Retry) or options:
        raise TypeError(f"retrying takes a retry, or the options of one, not {policy!r} and {sorted(options)}")
    return Retrying(policy)
