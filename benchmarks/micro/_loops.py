"""
Timed loops: each runs one operation n times and says how many nanoseconds that took.

Every loop that `make` functions here return is a function of its own with a code object of its own. The interpreter
specialises a call site for what it saw there last; a loop shared by all subjects would make every subject pay for
the others, which no call site in a real program does.

Time is the thread's processor time: what the scheduler gives to other processes in the meantime is nobody's cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, islice, repeat
from time import perf_counter_ns, thread_time_ns
from types import FunctionType
from typing import Any, TypeAlias, TypeVar, cast

__all__ = [
    "Loop",
    "awaits",
    "awaits_arguments",
    "awaits_rejected",
    "calls",
    "calls_on_the_wall",
    "calls_rejected",
    "feeds",
    "idles",
    "idles_feeding",
    "own_code",
]

Loop: TypeAlias = Callable[[int], Awaitable[int]]
Function = TypeVar("Function", bound=Callable[..., Any])


def own_code(function: Function) -> Function:
    """Return a copy of *function* whose bytecode is specialised apart from the original's."""
    made = cast("FunctionType", function)
    copy = FunctionType(made.__code__.replace(), made.__globals__, made.__name__, made.__defaults__, made.__closure__)
    return cast("Function", copy)


def idles() -> Loop:
    """The empty loop: what `calls` costs without the call."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            pass
        return thread_time_ns() - start

    return own_code(loop)


def calls(function: Callable[[], Any]) -> Loop:
    """Call *function* with no arguments."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            function()
        return thread_time_ns() - start

    return own_code(loop)


def awaits(function: Callable[[], Awaitable[Any]]) -> Loop:
    """Await a call of *function* with no arguments."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            await function()
        return thread_time_ns() - start

    return own_code(loop)


def awaits_arguments(function: Callable[..., Awaitable[Any]]) -> Loop:
    """Await a call of *function* with two positional arguments and one by name."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            await function(1, "two", three=3)
        return thread_time_ns() - start

    return own_code(loop)


def calls_on_the_wall(function: Callable[[], Any]) -> Loop:
    """Call *function* with no arguments, and count what it waits too."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = perf_counter_ns()
        for _ in steps:
            function()
        return perf_counter_ns() - start

    return own_code(loop)


def calls_rejected(function: Callable[[], Any], error: type[BaseException]) -> Loop:
    """Call *function*, which raises *error*, and catch it."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            try:  # noqa: SIM105  (suppress() would be measured as well)
                function()
            except error:
                pass
        return thread_time_ns() - start

    return own_code(loop)


def awaits_rejected(function: Callable[[], Awaitable[Any]], error: type[BaseException]) -> Loop:
    """Await a call of *function*, which raises *error*, and catch it."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            try:  # noqa: SIM105  (suppress() would be measured as well)
                await function()
            except error:
                pass
        return thread_time_ns() - start

    return own_code(loop)


def feeds(function: Callable[[Any], Any], values: Sequence[Any]) -> Loop:
    """Call *function* with one value after the other, round and round."""

    async def loop(n: int) -> int:
        steps = islice(cycle(values), n)
        start = thread_time_ns()
        for value in steps:
            function(value)
        return thread_time_ns() - start

    return own_code(loop)


def idles_feeding(values: Sequence[Any]) -> Loop:
    """The loop of `feeds` without the call."""

    async def loop(n: int) -> int:
        steps = islice(cycle(values), n)
        start = thread_time_ns()
        for _value in steps:
            pass
        return thread_time_ns() - start

    return own_code(loop)
