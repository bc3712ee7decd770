"""
Block that sets ambient values (deadline, priority) for its body, as `with`, `async with` and decorator.

The core serves a `with` statement (block.c, context/setting.c): its exit restores the values, wherever a Ctrl-C
arrives. A block that is entered by hand, or through an ExitStack, is found again like those of policies (`blocks.py`).
There a Ctrl-C may arrive in between, as it may in an ExitStack itself.
"""

from __future__ import annotations

import functools
import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resilio._context.blocks import OpenBlocks, Opened
from resilio._context.frames import entered_in, generator_behind
from resilio._native import core
from resilio._options.validators import reject

if TYPE_CHECKING:
    from types import CoroutineType, FrameType, TracebackType

__all__ = ["AmbientBlock", "Block"]

F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """A block that never waits. One object may be entered any number of times, also at once."""

    __slots__ = ()

    @abstractmethod
    def _begin_block(self, setting: core.AmbientSetting, generator: Any, enforced: bool) -> None:
        """
        Begin a block. An error meanwhile, a Ctrl-C too, undoes the changes made through `setting`.

        Args:
            setting: Sets the ambient values of the body.

            generator: The generator whose consumer would see these values, or None.

            enforced: True for an async block, whose code can be interrupted.
        """

    @core.ambient_method
    def __enter__(self) -> None:
        """Begin the block."""
        _enter(self, sys._getframe(1), enforced=False)

    @core.ambient_method
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous values."""
        _open.leave(self, sys._getframe(1), error)

    @core.ambient_method
    def __aenter__(self) -> CoroutineType[Any, Any, None]:
        """Begin the block; never waits. A deadline interrupts the code inside from now on."""
        _enter(self, sys._getframe(1), enforced=True)
        return cast("CoroutineType[Any, Any, None]", _nothing())

    @core.ambient_method
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> CoroutineType[Any, Any, None]:
        """
        Restore the previous values; never waits.

        Raises:
            DeadlineExceededError: The deadline has interrupted the block.
        """
        _open.leave(self, sys._getframe(1), error)
        return cast("CoroutineType[Any, Any, None]", _nothing())


class AmbientBlock(Block):
    """A block that is also a decorator: each call of the function runs in the block."""

    __slots__ = ()

    def __call__(self, fn: F) -> F:
        """
        Return `fn` with each call in such a block.

        Raises:
            TypeError: Not a function, or a generator, whose body runs step by step as its consumer iterates.
        """
        checked: object = fn
        if not callable(checked) or isinstance(checked, type):
            reject("fn", fn, "a function", TypeError)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            reject("fn", fn, "no generator: write a `with` block around what it does, or its consumer", TypeError)
        return cast("F", (_async_function if inspect.iscoroutinefunction(fn) else _function)(self, fn))


async def _nothing() -> None:
    """Do nothing when awaited, without a checkpoint."""


def _function(block: AmbientBlock, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        with block:
            return fn(*args, **kwargs)

    return run


def _async_function(block: AmbientBlock, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with block:
            return await fn(*args, **kwargs)

    return run


# ---- entered and left by hand ---------------------------------------------------------------------------------------

_open = OpenBlocks()


def _enter(owner: Block, frame: FrameType, *, enforced: bool) -> None:
    setting = core.AmbientSetting()
    opened = Opened(owner, frame, setting.leave)
    try:
        _open.enter(opened)
        owner._begin_block(setting, generator_behind(entered_in(frame)), enforced)
    except BaseException:  # no event loop, or a Ctrl-C
        _open.forget(opened)
        setting.leave(None)
        raise
