"""The block that says what is ambient inside of it, as `with`, as `async with` and as a decorator."""

from __future__ import annotations

import functools
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resilio._config import refuse

if TYPE_CHECKING:
    from types import CoroutineType, FrameType, TracebackType
    from typing import Self

__all__ = ["AmbientBlock"]

F = TypeVar("F", bound=Callable[..., Any])


class AmbientBlock(ABC):
    """A block, or a decorator each of whose calls is one. It never waits, and each block is entered once at a time."""

    __slots__ = ()

    @abstractmethod
    def _again(self) -> Self:
        """Return another that says the same."""

    @abstractmethod
    def _enter(self, frame: FrameType) -> None:
        """Say it to all that `frame` calls from here on."""

    @abstractmethod
    def _exit(self) -> None:
        """Put back what there was before."""

    def __call__(self, fn: F) -> F:
        """
        Return `fn`, each of whose calls is such a block.

        Raises:
            TypeError: Not a function, or a generator, whose items its consumer takes one by one.
        """
        checked: object = fn
        if not callable(checked) or isinstance(checked, type):
            refuse("fn", fn, "a function", TypeError)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            refuse("fn", fn, "no generator: write a `with` block around what it does, or its consumer", TypeError)
        return cast("F", (_async_function if inspect.iscoroutinefunction(fn) else _function)(self, fn))

    def __enter__(self) -> None:
        """Begin it."""
        self._enter(sys._getframe(1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put back what there was before."""
        self._exit()

    def __aenter__(self) -> CoroutineType[Any, Any, None]:
        """Begin it; never waits."""
        self._enter(sys._getframe(1))
        return cast("CoroutineType[Any, Any, None]", _nothing())

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> CoroutineType[Any, Any, None]:
        """Put back what there was before; never waits."""
        self._exit()
        return cast("CoroutineType[Any, Any, None]", _nothing())


async def _nothing() -> None:
    """What `async with` awaits: nothing, without a checkpoint."""


def _function(block: AmbientBlock, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        with block._again():
            return fn(*args, **kwargs)

    return run


def _async_function(block: AmbientBlock, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with block._again():
            return await fn(*args, **kwargs)

    return run
