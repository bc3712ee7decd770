"""
The ambient deadline as blocks set it, and as anybody reads it: what is under `resilio.deadline`.

It is a context variable, which hands it to tasks and worker threads. Deadlines nest, and only shorten.
"""

from __future__ import annotations

import weakref
from contextvars import Token
from datetime import timedelta
from typing import TYPE_CHECKING, overload

from resilio import _backends, _context
from resilio._config import seconds as checked_seconds
from resilio._frames import entered_in, generator_behind
from resilio._ledger import pass_on
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline
from resilio.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from resilio._backends import Cutoff

__all__ = ["enter_block", "leave_block", "put_back", "remaining"]

Time = float | timedelta


# One object is entered by many tasks at once, and gives its exit nothing but itself: an open block is found again by
# the frame that it is in. Plain operations of dict and list are atomic, and a frame runs in one thread at a time.
_Key = tuple[int, "CodeType", int]
_open: dict[_Key, list[_Block]] = {}


class _Block:
    """One block from its beginning to its end."""

    __slots__ = ("_cutoff", "_deadline", "_generator", "_key", "_owner", "_token")

    def __init__(self, owner: object, frame: FrameType) -> None:
        self._owner = owner
        self._key: _Key = (id(frame), frame.f_code, id(owner))
        self._generator = generator_behind(frame)
        self._deadline: AmbientDeadline | None = None
        self._cutoff: Cutoff | None = None
        self._token: Token[AmbientDeadline | None] | None = None

    def enter(self, allowed_ns: int, *, enforced: bool = False) -> None:
        """Set the deadline, unless the one outside is nearer, and begin to enforce it, unless somebody does so here."""
        now_ns = clock.now_ns()
        outer, until_ns = ambient_deadline(), now_ns + allowed_ns
        cutoff: Cutoff | None = None
        if outer is not None and outer.until_ns <= until_ns:
            until_ns, allowed_ns, cutoff = outer.until_ns, outer.allowed_ns, outer.cutoff
        _open.setdefault(self._key, []).append(self)
        try:
            # Of two that pass at the same time it is the outer that interrupts.
            if enforced and (cutoff is None or not cutoff.here()):
                cutoff = self._cutoff = _backends.cutoff(self._suspended())
            self._set(until_ns, allowed_ns, cutoff)
            if self._cutoff is not None:
                self._cutoff.start((until_ns - now_ns) / 1e9)
        except BaseException:  # no event loop, or a Ctrl-C
            _forget(self)
            self._end(None)
            raise

    def _set(self, until_ns: int, allowed_ns: int, cutoff: Cutoff | None) -> None:
        before, generator = _context.deadline.get(), self._generator
        self._generator = None  # the block is held by a global table, and must not keep alive what keeps it open
        self._deadline = AmbientDeadline(until_ns, allowed_ns, before, generator, cutoff)
        self._token = _context.deadline.set(self._deadline)

    def exit(self, error: BaseException | None) -> Exception | None:
        """Put back what was, and return what to raise if the deadline has ended the block."""
        deadline = self._deadline
        if self._end(error) and deadline is not None:
            left = max(0, deadline.until_ns - clock.now_ns()) / 1e9
            passed = DeadlineExceededError(deadline.allowed_ns / 1e9, left)
            return passed if error is None else pass_on(error, passed)
        return None

    def _end(self, error: BaseException | None) -> bool:
        if self._deadline is not None:
            put_back(self._deadline, self._token)
        return self._cutoff is not None and self._cutoff.close(error)

    def _suspended(self) -> Callable[[], bool] | None:
        if self._generator is None:
            return None
        generator = weakref.ref(self._generator)

        def suspended() -> bool:
            here = generator()
            return here is None or not here.ag_running

        return suspended


def put_back(deadline: AmbientDeadline, token: Token[AmbientDeadline | None] | None) -> None:
    """
    Undo `_context.deadline.set(deadline)`, of which `token` is the result.

    A generator may end its block while its consumer is in one of its own, which stays: what the generator has set is
    marked, passed over wherever it is found, and removed here when it comes to light.
    """
    variable = _context.deadline
    if token is None or (deadline.close() and variable.get() is not deadline):
        return
    try:  # noqa: SIM105 - `suppress` costs a tenth of the whole block
        variable.reset(token)
    except ValueError:  # a copy of the context that it was set in, which the caller sees no more
        pass
    while (left := variable.get()) is not None and left.closed:
        variable.set(left.outer)


def enter_block(owner: object, frame: FrameType, allowed_ns: int, *, enforced: bool = False) -> None:
    """
    Begin a block of `owner`.

    Args:
        owner: What the block is entered and left by.

        frame: What called its `__enter__`.

        allowed_ns: The time that the block has, >= 0.

        enforced: Whether the block is interrupted when that has passed.
    """
    _Block(owner, entered_in(frame)).enter(allowed_ns, enforced=enforced)


def leave_block(owner: object, frame: FrameType, error: BaseException | None) -> Exception | None:
    """
    End the block of `owner` that is open in `frame`.

    Returns:
        DeadlineExceededError: The deadline has ended it. Returned, so that the traceback has one frame of ours.
    """
    return _leave(owner, frame).exit(error)


def _leave(owner: object, frame: FrameType) -> _Block:
    here = entered_in(frame)
    key = (id(here), here.f_code, id(owner))
    blocks = _open.get(key)
    if blocks is None:
        block = _elsewhere(owner)
        _forget(block)
        return block
    block = blocks.pop()
    if not blocks:
        del _open[key]
    return block


def _elsewhere(owner: object) -> _Block:
    """Return the block that is left in another frame than it was entered in: this context's, or else the latest."""
    found = [block for blocks in list(_open.values()) for block in list(blocks) if block._owner is owner]
    here = _context.deadline.get()
    for block in reversed(found):
        if block._deadline is here:
            return block
    if not found:
        raise RuntimeError("the block is left, but was never entered")
    return found[-1]


def _forget(block: _Block) -> None:
    blocks = _open.get(block._key, [])
    if block in blocks:
        blocks.remove(block)
    if not blocks:
        _open.pop(block._key, None)


@overload
def remaining(cap: None = None) -> float | None: ...
@overload
def remaining(cap: Time) -> float: ...
def remaining(cap: Time | None = None) -> float | None:
    """
    Return the seconds that are left of the ambient deadline: `client.get(url, timeout=remaining(cap=5.0))`.

    Args:
        cap: The most to return, in seconds >= 0; it is also what is returned where there is no deadline.

    Returns:
        Seconds >= 0; 0.0 once the deadline has passed; `cap`, or None, if there is no deadline.
    """
    most: float | None = checked_seconds("cap", cap, zero_ok=True, none_ok=True)
    ambient = ambient_deadline()
    if ambient is None:
        return most
    left = max(0, ambient.until_ns - clock.now_ns()) / 1e9
    return left if most is None else min(left, most)
