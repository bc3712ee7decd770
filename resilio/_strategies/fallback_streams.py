"""
Fallbacks of streams: generators whose first item may come from a fallback.

After the first item there is no fallback, because the consumer has seen it. The result of a target or a handler, or the
default, is iterated over instead.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from resilio._failures.outcome import Outcome
from resilio._native import clock, core
from resilio._policy.streams import Custody, Inside, drive, drive_async
from resilio._strategies.fallback import UNSERVED, FallbackGate, Step, Trial
from resilio._strategies.streams import AsyncChosen, Chosen, Held

__all__ = ["aredirected", "redirected"]


def redirected(gate: FallbackGate, make: Inside) -> Generator[Any, Any, Any]:
    """
    Return a stream that is replaced by a fallback if it fails before its first item.

    Args:
        gate: The fallback.

        make: Makes the stream inside.
    """
    return drive(_Redirected(gate, make), Held((gate,)), make.maker)


def aredirected(gate: FallbackGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """Return an async stream with a fallback; see :func:`redirected`."""
    return drive_async(_AsyncRedirected(gate, make), Held((gate,)), make.maker)


class _Choice:
    """
    Common part of both kinds: the replacement of a failed stream.

    The core sees no call of it, so the place where it begins is chosen here, by the gate's own rules.
    """

    __slots__ = ("_gate", "_inner", "_is_async", "_make", "_one_shot", "_trial")

    def __init__(self, gate: FallbackGate, make: Inside, *, is_async: bool) -> None:
        self._gate = gate
        self._make = make
        self._is_async = is_async
        self._one_shot = make.one_shot(gate, gate.options.config.replayable)  # now: the stream inside may use it up
        self._trial: Trial | None = None
        self._inner: Any = None

    def _next(self, error: Exception) -> Any:
        """Return the replacement, an iterable or an awaitable of one; raise the stream's error if there is none."""
        while True:
            step = self._step(error)
            if step is None:
                raise error
            self._make.maker.at("fallback")
            if step.function is None:
                if step.error is not None:
                    raise step.error
                return step.value
            try:
                if step.argument is not None:
                    return step.function(*step.argument)
                self._make.maker.calls += 1
                return step.function(*self._make.args, **self._make.kwargs)
            except Exception as failure:  # noqa: BLE001 - the fallback decides
                error = failure

    def _step(self, error: Exception) -> Step | None:
        judge: Any = self._gate.judge_error
        outcome, now_ns = judge(error), clock.now_ns()
        deadline = core.ambient_deadline()
        until_ns = clock.NEVER_NS if deadline is None else deadline.until_ns
        if self._trial is not None:
            return self._trial.ended(error, outcome, now_ns, until_ns, self._is_async)
        if outcome not in UNSERVED:
            return None
        self._trial = Trial(self._gate, error, None, now_ns, True, lambda: self._one_shot)
        return self._trial.go_on(now_ns, until_ns, self._is_async)

    def _succeeded(self) -> None:
        """Note that the stream has begun, or has ended without items."""
        if self._trial is not None:
            self._trial.ended(None, Outcome.SUCCESS, 0, clock.NEVER_NS, self._is_async)


class _Redirected(_Choice, Chosen):
    """The stream inside, or its replacement."""

    __slots__ = ()

    def __init__(self, gate: FallbackGate, make: Inside) -> None:
        super().__init__(gate, make, is_async=False)

    def _begin(self) -> Any:
        inner = self._make()
        while True:
            try:
                item = next(inner)
            except StopIteration:
                self._succeeded()
                raise
            except Exception as error:  # noqa: BLE001 - the fallback decides
                inner = _items(self._next(error))
            else:
                self._succeeded()
                self._inner = inner
                return item


class _AsyncRedirected(_Choice, AsyncChosen):
    """The async stream inside, or its replacement."""

    __slots__ = ()

    def __init__(self, gate: FallbackGate, make: Inside) -> None:
        super().__init__(gate, make, is_async=True)

    async def begin(self, custody: Custody) -> Any:
        """Return the first item; `custody` ensures that the right owner closes the stream."""
        inner = self._make()
        while True:
            try:
                item = await custody.first(inner)
            except StopAsyncIteration:
                self._succeeded()
                raise
            except Exception as error:  # noqa: BLE001 - the fallback decides
                inner = _async_items(self._next(error))
            else:
                self._succeeded()
                self._inner = inner
                return item


def _items(source: Iterable[Any]) -> Any:
    return source if isinstance(source, Generator) else _plain(source)


def _plain(source: Iterable[Any]) -> Generator[Any, Any, Any]:
    yield from source


def _async_items(source: Any) -> Any:
    return source if isinstance(source, AsyncGenerator) else _later(source)


async def _later(source: Any) -> AsyncGenerator[Any, Any]:
    found = await source if inspect.isawaitable(source) else source
    if isinstance(found, AsyncIterable):
        async for item in found:
            yield item
    else:
        for item in found:
            yield item
