"""
Retries of streams: generators that are restarted until an attempt yields a first item.

After the first item nothing is retried: the consumer has seen it, and would see it twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from resilio import _backends
from resilio._context import variables
from resilio._native.core import Pipeline
from resilio._native.strategies import RetryGate, Tries
from resilio._policy.streams import Custody, Inside, drive, drive_async

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["AsyncChosen", "Chosen", "Held", "aretried", "retried"]


def retried(gate: RetryGate, make: Inside) -> Generator[Any, Any, Any]:
    """
    Return a stream whose first item is retried.

    Args:
        gate: The retry.

        make: Makes the stream inside.
    """
    return drive(_Retried(gate, make), Held((gate,)), make.maker)


def aretried(gate: RetryGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """Return an async stream whose first item is retried; see :func:`retried`."""
    return drive_async(_AsyncRetried(gate, make), Held((gate,)), make.maker)


class Held(Pipeline):
    """A strategy alone, which neither waits nor rejects."""

    def acquire(self, /, *args: Any, **kwargs: Any) -> Permit:  # noqa: ARG002
        """Return a permit; never waits."""
        return self._hold()

    async def aacquire(self, /, *args: Any, **kwargs: Any) -> Permit:  # type: ignore[override]  # noqa: ARG002
        """Return a permit; never waits."""
        return self._hold()

    def _acquire_within(self, around: Permit, /, *args: Any, **kwargs: Any) -> Permit:  # noqa: ARG002
        return self._hold(around)

    async def _aacquire_within(self, around: Permit, /, *args: Any, **kwargs: Any) -> Permit:  # type: ignore[override]  # noqa: ARG002
        return self._hold(around)


class Chosen(Generator[Any, Any, Any]):
    """A stream that is chosen by its first item; after that it is the stream inside."""

    __slots__ = ()
    _inner: Any

    def send(self, value: Any) -> Any:
        return self._begin() if self._inner is None else self._inner.send(value)

    def _begin(self) -> Any:
        """Return the first item, and keep the stream that yielded it."""
        raise NotImplementedError

    def throw(self, *error: Any) -> Any:
        return self._inner.throw(*error)

    def close(self) -> None:
        self._inner.close()


class AsyncChosen(AsyncGenerator[Any, Any]):
    """As `Chosen`, for an async stream; a subclass returns the first item by `begin`."""

    __slots__ = ()
    _inner: Any

    def asend(self, value: Any) -> Any:
        return self._inner.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._inner.athrow(*error)

    def aclose(self) -> Any:
        return self._inner.aclose()


class _Decision:
    """Common part of both kinds: the decision after a failed attempt."""

    __slots__ = ("_gate", "_inner", "_make", "_tries")

    def __init__(self, gate: RetryGate, make: Inside) -> None:
        self._gate = gate
        self._make = make
        self._tries = Tries(gate)
        self._inner: Any = None

    def _wait_after(self, error: Exception, threaded: bool) -> float:
        """Return the seconds until the next attempt, or raise the stream's error."""
        once = self._make.one_shot(self._gate, self._gate.replayable)
        wait = self._tries.raised(error, threaded, once, self._make.maker.has_untried())
        if wait is not None:
            self._make.maker.at("retry_sleep", self._tries.number - 1)
            return 0.0 if variables.no_wait.get() else wait
        shown = self._tries.shown or error
        self._tries.shown = None
        raise shown

    def _go_on(self) -> None:
        """Note the start of the next attempt."""
        self._make.maker.at("attempt", self._tries.number)


class _Retried(_Decision, Chosen):
    """The stream inside, restarted for each attempt."""

    __slots__ = ()

    def _begin(self) -> Any:
        while True:
            inner = self._make()
            try:
                item = self._first(inner)
            except StopIteration:
                raise
            except Exception as error:  # noqa: BLE001 - the retry decides
                self._pause(self._wait_after(error, True))
                self._go_on()
            else:
                self._tries.succeeded()
                self._inner = inner
                return item

    def _first(self, inner: Any) -> Any:
        try:
            self._tries.enter()
            return next(inner)
        finally:
            self._tries.leave()

    def _pause(self, wait: float) -> None:
        try:
            if wait:
                _backends.sleep(wait)
        except BaseException:  # a Ctrl-C
            self._tries.refund()
            raise


class _AsyncRetried(_Decision, AsyncChosen):
    """The async stream inside, restarted for each attempt."""

    __slots__ = ()

    async def begin(self, custody: Custody) -> Any:
        """Return the first item; `custody` ensures that the right owner closes the stream."""
        while True:
            inner = self._make()
            try:
                item = await self._first(inner, custody)
            except StopAsyncIteration:
                raise
            except Exception as error:  # noqa: BLE001 - the retry decides
                await self._pause(self._wait_after(error, False))
                self._go_on()
            else:
                self._tries.succeeded()
                self._inner = inner
                return item

    async def _first(self, inner: Any, custody: Custody) -> Any:
        try:
            self._tries.enter()
            return await custody.first(inner)
        finally:
            self._tries.leave()

    async def _pause(self, wait: float) -> None:
        try:
            if wait:
                await _backends.asleep(wait)
        except BaseException:  # cancelled
            self._tries.refund()
            raise
