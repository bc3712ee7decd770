"""Policies as blocks: `with policy:`, `async with policy.permit(...)`."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from resilio._context.blocks import OpenBlocks, Opened, PermitBlock, finish
from resilio._native import core

if TYPE_CHECKING:
    from types import CoroutineType, FrameType, TracebackType

    from resilio._native.core import Permit

__all__ = ["UsedAsBlock"]


class UsedAsBlock(core.Pipeline):
    """A native pipeline whose permits blocks hold."""

    _blocks: OpenBlocks

    def permit(self, /, *args: Any, **kwargs: Any) -> PermitBlock:
        """
        Return a block that holds a permit: `with p.permit() as permit:`, or `async with`.

        The block's end settles the permit, unless it was settled by hand: the policy's rules judge an exception, a
        normal end is a success, a cancellation is ignored.

        Args:
            args: Positional arguments for weight and cost functions.

            kwargs: Keyword arguments for them.
        """
        return PermitBlock(self, args, kwargs)

    @core.block_method
    def __enter__(self) -> Permit:
        """Enter a block without arguments: sugar for `with p.permit() as permit`."""
        frame, permit = sys._getframe(1), self.acquire()
        return self._enter_by_hand(frame, permit)

    @core.block_method
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle the block's permit, unless it was settled by hand."""
        self._blocks.leave(self, sys._getframe(1), error)

    @core.block_method
    def __aenter__(self) -> CoroutineType[Any, Any, Permit]:
        """Enter a block without arguments: sugar for `async with p.permit() as permit`."""
        return cast("CoroutineType[Any, Any, Permit]", self._enter_later(sys._getframe(1)))

    async def _enter_later(self, frame: FrameType) -> Permit:
        return self._enter_by_hand(frame, await self.aacquire())

    def _enter_by_hand(self, frame: FrameType, permit: Permit) -> Permit:
        opened = Opened(self, frame, partial(finish, permit))
        try:
            self._blocks.enter(opened)
        except BaseException:  # a Ctrl-C: the block will never be left
            self._blocks.forget(opened)
            raise
        return permit

    @core.block_method
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> CoroutineType[Any, Any, None]:
        """Settle the block's permit at once, unless it was settled by hand; never waits."""
        self._blocks.leave(self, sys._getframe(1), error)
        return cast("CoroutineType[Any, Any, None]", _nothing())


async def _nothing() -> None:
    """Awaited by `async with` at a block's end; does nothing and has no checkpoint."""
