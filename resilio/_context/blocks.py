"""
Blocks: `with p.permit():`, and `with p:` when it is entered by hand instead of by a `with` statement.

Many tasks, threads and generators enter one object, a policy or an ambient block, at once. The core serves a `with`
statement (block.c), so that its exit has the permit of its entry. A caller of `__enter__` and `__exit__` themselves,
like an ExitStack, passes nothing but the object to the exit. Then an open block is found again by its frame, if both
ends have the same one, or else by its context, that is the task or thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from resilio._context.frames import entered_in

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from resilio._native.core import Permit, Pipeline

__all__ = ["OpenBlocks", "Opened", "PermitBlock", "ReservingBlock", "finish"]

T = TypeVar("T")
_Place = tuple[int, "CodeType"]


def finish(permit: Permit, error: BaseException | None) -> None:
    """Settle a permit that is not settled yet, by the gates' own rules for `error`; a cancellation is ignored."""
    if permit.ended:
        return
    if error is None:
        permit.success()
    else:
        permit.raised(error)


class PermitBlock:
    """A block that holds a permit from its beginning to its end; not reentrant."""

    __slots__ = ("_args", "_kwargs", "_permit", "_pipeline")

    def __init__(self, pipeline: Pipeline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the block; the permit is acquired when it is entered."""
        self._pipeline = pipeline
        self._args = args
        self._kwargs = kwargs
        self._permit: Permit | None = None

    def __enter__(self) -> Permit:
        """Acquire, waiting in this thread if the policy queues; raises the rejection."""
        self._not_open()
        self._permit = permit = self._pipeline.acquire(*self._args, **self._kwargs)
        return permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle the permit, unless it was settled by hand."""
        self._close(error)

    async def __aenter__(self) -> Permit:
        """Acquire, waiting in this task if the policy queues; raises the rejection."""
        self._not_open()
        self._permit = permit = await self._pipeline.aacquire(*self._args, **self._kwargs)
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle the permit, unless it was settled by hand; never waits."""
        self._close(error)

    def _not_open(self) -> None:
        if self._permit is not None:
            raise RuntimeError("this block is open; call permit() once for each block")

    def _close(self, error: BaseException | None) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            finish(permit, error)


class ReservingBlock(Generic[T]):
    """A block that takes for a call what the call is expected to use; made by `reserve`, for one use."""

    __slots__ = ("_args", "_permit", "_pipeline")

    def __init__(self, pipeline: Pipeline, args: tuple[Any, ...]) -> None:
        """Make the block; what it reserves is taken when it is entered."""
        self._pipeline = pipeline
        self._args = args
        self._permit: Permit | None = None

    def __enter__(self) -> T:
        """Reserve, waiting in this thread if the policy queues; raises the rejection."""
        self._once()
        self._permit = permit = self._pipeline.acquire(*self._args)
        return self._begun(permit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the call; what it took stays taken."""
        finish(self._held(), error)

    async def __aenter__(self) -> T:
        """Reserve, waiting in this task if the policy queues; raises the rejection."""
        self._once()
        self._permit = permit = await self._pipeline.aacquire(*self._args)
        return self._begun(permit)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the call; what it took stays taken. Never waits."""
        finish(self._held(), error)

    def cancel(self) -> None:
        """Give all of it back and end the block's permit: the callee was not called after all."""
        self._held().cancel()

    def _begun(self, permit: Permit) -> T:
        """Return the object that the block's code gets."""
        raise NotImplementedError

    def _once(self) -> None:
        if self._permit is not None:
            raise RuntimeError("this reservation was used already; call reserve() once for each block")

    def _held(self) -> Permit:
        if self._permit is None:
            raise RuntimeError("this reservation holds nothing yet: use it within its block")
        return self._permit

    def __repr__(self) -> str:
        return f"<Reservation of {self._pipeline!r}>"


class Opened:
    """
    A block that was entered by hand.

    Attributes:
        owner: The object that was entered.

        place: The frame that entered it: the same frame at both ends belongs to the same block.

        end: Ends the block; called with the exception that leaves it, or None.

        is_open: True until it has ended.
    """

    __slots__ = ("end", "is_open", "owner", "place")

    def __init__(self, owner: object, frame: FrameType, end: Callable[[BaseException | None], object]) -> None:
        """Describe a block; `OpenBlocks.enter` opens it."""
        self.owner = owner
        self.place = _place(frame)
        self.end = end
        self.is_open = True


_here: ContextVar[tuple[Opened, ...]] = ContextVar("resilio_open_blocks", default=())


class OpenBlocks:
    """
    The open blocks that were entered by hand: of one policy, or of all ambient blocks.

    No lock: each step is one operation of a dict.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        """Make it without any blocks."""
        self._open: dict[Opened, None] | None = None  # most policies are never entered

    def __len__(self) -> int:
        return len(self._open or ())

    def enter(self, opened: Opened) -> None:
        """Add a block, here and in its context."""
        if self._open is None:
            self._open = {}
        self._open[opened] = None
        _here.set((*_still_open(), opened))

    def leave(self, owner: object, frame: FrameType, error: BaseException | None) -> None:
        """End the block of `owner` that `frame` leaves."""
        opened = self._find(owner, _place(frame))
        try:
            opened.end(error)
        finally:
            self.forget(opened)

    def forget(self, opened: Opened) -> None:
        """Remove a block that has ended, or was interrupted while it was entered."""
        opened.is_open = False
        if self._open is not None:
            self._open.pop(opened, None)
        _here.set(_still_open())

    def _find(self, owner: object, place: _Place) -> Opened:
        """Return the latest block of this frame; else of this context; else of any, as of another task."""
        here = [one for one in reversed(_here.get()) if one.owner is owner and one.is_open]
        for one in here:
            if one.place == place:
                return one
        all_open = [one for one in reversed(list(self._open or ())) if one.owner is owner]
        same_place = [one for one in all_open if one.place == place]
        for one in (*same_place, *here, *all_open):
            return one
        raise RuntimeError("the block is left, but was never entered")


def _place(frame: FrameType) -> _Place:
    here = entered_in(frame)
    return id(here), here.f_code


def _still_open() -> tuple[Opened, ...]:
    return tuple(one for one in _here.get() if one.is_open)
