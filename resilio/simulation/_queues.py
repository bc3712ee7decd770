"""Queueing disciplines of a server: first in first out, last in first out, and the protocol for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from resilio.simulation._work import Job

__all__ = ["QUEUES", "Queue"]


@runtime_checkable
class Queue(Protocol):
    """
    Queue of jobs that wait for a worker; implement these three methods for another discipline.

    It may reject a job with `job.reject(reason)`, and must not return that job afterwards.
    """

    def push(self, job: Job, now_ns: int) -> None:
        """
        Add a job.

        Args:
            job: A job that arrived while no worker was free.

            now_ns: The time, in nanoseconds of the policies' clock.
        """

    def pop(self, now_ns: int) -> Job | None:
        """
        Remove and return the job to serve next, or None if none is left.

        Args:
            now_ns: The time, in nanoseconds of the policies' clock.
        """

    def __len__(self) -> int:
        """Return the number of waiting jobs."""
        ...


class _Fifo:
    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def push(self, job: Job, now_ns: int) -> None:  # noqa: ARG002
        """Add a job as the last."""
        self._jobs.append(job)

    def pop(self, now_ns: int) -> Job | None:  # noqa: ARG002
        """Remove and return the first job, None if none is left."""
        return self._jobs.popleft() if self._jobs else None

    def __len__(self) -> int:
        return len(self._jobs)


class _Lifo(_Fifo):
    def pop(self, now_ns: int) -> Job | None:  # noqa: ARG002
        return self._jobs.pop() if self._jobs else None


QUEUES: dict[str, Callable[[], Queue]] = {"fifo": _Fifo, "lifo": _Lifo}
