"""Propagation of a request's priority and deadline to a server, where they are ambient."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import resilio
from resilio.simulation._work import Job, ServerBusy

if TYPE_CHECKING:
    from resilio._context.priority import PriorityClass

__all__ = ["enter"]


def enter(stack: ExitStack, job: Job, now_ns: int, *, deadlines: bool) -> None:
    """
    Make the priority and, if `deadlines`, the deadline of a request ambient until `stack` is closed.

    Raises:
        ServerBusy: The deadline has passed.
    """
    if job.request.priority is not None:
        stack.enter_context(resilio.priority(cast("PriorityClass", job.request.priority)))
    if deadlines:
        left = job.deadline_ns - now_ns
        if left <= 0:
            raise ServerBusy("expired")
        stack.enter_context(resilio.deadline(left * 1e-9))
