"""
Blocks that hold a permit: `with p.permit():`, and what stands in for `with p:` where no `with` statement enters it.

One policy object is entered by many tasks, threads and generators at once. A `with` statement is served by the core
(block.c): its exit knows its permit. Who calls `__enter__` and `__exit__` by hand, or through an ExitStack, gives the
exit nothing but the policy. Then an open block is found again by the frame, where it is the same at both ends; failing
that by the context, that is the task or thread.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from resilio._native.core import Permit, Pipeline

__all__ = ["OpenBlocks", "PermitBlock", "finish"]


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


class _Open:
    __slots__ = ("blocks", "key", "permit")

    def __init__(self, blocks: OpenBlocks, key: tuple[int, CodeType], permit: Permit) -> None:
        self.blocks = blocks
        self.key = key
        self.permit: Permit | None = permit


_here: ContextVar[tuple[_Open, ...]] = ContextVar("resilio_open_blocks", default=())


# Reentrant: the collector may close a generator, and so leave its block, while this thread is in here.
_lock = threading.RLock()


class OpenBlocks:
    """The blocks `with p:` of one policy that are open."""

    __slots__ = ("_by_frame",)

    def __init__(self) -> None:
        """Begin without any."""
        self._by_frame: dict[tuple[int, CodeType], list[_Open]] | None = None  # most policies are never entered

    def enter(self, frame: FrameType, permit: Permit) -> Permit:
        """Remember `permit` as that of a block which `frame` has entered."""
        block = _Open(self, _key(frame), permit)
        with _lock:
            if self._by_frame is None:
                self._by_frame = {}
            self._by_frame.setdefault(block.key, []).append(block)
        _here.set((*_still_open(), block))
        return permit

    def leave(self, frame: FrameType, error: BaseException | None) -> None:
        """Settle the permit of the block which `frame` leaves."""
        block = self._take(_key(frame))
        permit, block.permit = block.permit, None
        _here.set(_still_open())
        if permit is not None:
            finish(permit, error)

    def forget(self, permit: Permit) -> None:
        """Give back the permit of a block that was interrupted while it was entered."""
        with _lock:
            by_frame = self._by_frame or {}
            for key, blocks in list(by_frame.items()):
                blocks[:] = [block for block in blocks if block.permit is not permit]
                if not blocks:
                    del by_frame[key]
        _here.set(tuple(block for block in _here.get() if block.permit is not permit))

    def _take(self, key: tuple[int, CodeType]) -> _Open:
        with _lock:
            by_frame = self._by_frame or {}
            blocks = by_frame.get(key)
            block = blocks[-1] if blocks else self._from_context(by_frame)
            by_frame[block.key].remove(block)
            if not by_frame[block.key]:
                del by_frame[block.key]
        return block

    def _from_context(self, by_frame: dict[tuple[int, CodeType], list[_Open]]) -> _Open:
        """The latest block of this context; if it has none (entered in one task, left in another), of any other."""
        for block in reversed(_here.get()):
            if block.blocks is self and block.permit is not None:
                return block
        for blocks in reversed(list(by_frame.values())):
            return blocks[-1]
        raise RuntimeError("the block is left, but was never entered")


def _key(frame: FrameType) -> tuple[int, CodeType]:
    return id(frame), frame.f_code


def _still_open() -> tuple[_Open, ...]:
    return tuple(block for block in _here.get() if block.permit is not None)


def _after_fork() -> None:
    """A child has no other threads: a lock that one of them held is free."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
