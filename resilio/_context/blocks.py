"""
Blocks: `with p.permit():`, and what stands in for `with p:` where no `with` statement enters it.

One object, a policy or what sets something ambient, is entered by many tasks, threads and generators at once. A `with`
statement is served by the core (block.c): its exit knows what the block holds. A caller of `__enter__` and `__exit__`
themselves, as an ExitStack is, gives the exit nothing but the object. Then an open block is found again by the frame,
where it is the same at both ends; failing that by the context, that is the task or thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from resilio._context.frames import entered_in

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from resilio._native.core import Permit, Pipeline

__all__ = ["OpenBlocks", "Opened", "PermitBlock", "finish"]

_Place = tuple[int, "CodeType"]


def finish(permit: Permit, error: BaseException | None) -> None:
    """Settle a permit that nobody has settled, by the gates' own rules for `error`; a cancellation is no outcome."""
    if permit.ended:
        return
    if error is None:
        permit.success()
    else:
        permit.raised(error)


class PermitBlock:
    """A block that holds a permit from its beginning to its end, for use once at a time."""

    __slots__ = ("_args", "_kwargs", "_permit", "_pipeline")

    def __init__(self, pipeline: Pipeline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember what to acquire; nothing is acquired yet."""
        self._pipeline = pipeline
        self._args = args
        self._kwargs = kwargs
        self._permit: Permit | None = None

    def __enter__(self) -> Permit:
        """Acquire, waiting in this thread if the policy queues; raises the refusal."""
        self._not_open()
        self._permit = permit = self._pipeline.acquire(*self._args, **self._kwargs)
        return permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle the permit, unless that was done by hand."""
        self._close(error)

    async def __aenter__(self) -> Permit:
        """Acquire, waiting in this task if the policy queues; raises the refusal."""
        self._not_open()
        self._permit = permit = await self._pipeline.aacquire(*self._args, **self._kwargs)
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Settle the permit, unless that was done by hand; never waits."""
        self._close(error)

    def _not_open(self) -> None:
        if self._permit is not None:
            raise RuntimeError("this block is open; call permit() once for each block")

    def _close(self, error: BaseException | None) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            finish(permit, error)


class Opened:
    """
    A block that was entered by hand.

    Attributes:
        owner: What was entered.

        place: Where: the same frame at both ends belongs to the same block.

        end: Ends it, given what leaves the block or None.

        is_open: Whether it has not ended.
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
    The blocks that were entered by hand and are open: of one policy, or of all that is ambient.

    No lock: each step is one operation of a dict.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        """Begin without any."""
        self._open: dict[Opened, None] | None = None  # most policies are never entered

    def __len__(self) -> int:
        return len(self._open or ())

    def enter(self, opened: Opened) -> None:
        """Remember a block, here and in its context."""
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
        """Remember a block no longer: it has ended, or was interrupted while it was entered."""
        opened.is_open = False
        if self._open is not None:
            self._open.pop(opened, None)
        _here.set(_still_open())

    def _find(self, owner: object, place: _Place) -> Opened:
        """Return the latest of this frame; else of this context; else of any: it was entered in another task."""
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
