"""In which order a server takes up what waits: its own queues, and the protocol for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from resilio.simulation._work import Job

__all__ = ["QUEUES", "Queue"]


@runtime_checkable
class Queue(Protocol):
    """
    What waits for a worker; write one with these three methods for a discipline that is not here.

    It may end a job itself by `job.refuse(reason)`: one that it was given and does not give back.
    """

    def push(self, job: Job, now_ns: int) -> None:
        """
        Take a job in.

        Args:
            job: What has arrived and found no free worker.

            now_ns: The time, in nanoseconds of the policies' clock.
        """

    def pop(self, now_ns: int) -> Job | None:
        """
        Return the job that is served next, or None if none is left.

        Args:
            now_ns: The time, in nanoseconds of the policies' clock.
        """

    def __len__(self) -> int:
        """Return how many wait."""
        ...


class _Fifo:
    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def push(self, job: Job, now_ns: int) -> None:  # noqa: ARG002
        self._jobs.append(job)

    def pop(self, now_ns: int) -> Job | None:  # noqa: ARG002
        return self._jobs.popleft() if self._jobs else None

    def __len__(self) -> int:
        return len(self._jobs)


class _Lifo(_Fifo):
    def pop(self, now_ns: int) -> Job | None:  # noqa: ARG002
        return self._jobs.pop() if self._jobs else None


QUEUES: dict[str, Callable[[], Queue]] = {"fifo": _Fifo, "lifo": _Lifo}
