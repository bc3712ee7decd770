"""What goes to a server: a request of a task, and one attempt at it."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilio._native.simulation import Timer
    from resilio.simulation._replica import Replica

__all__ = ["Job", "Request", "ServerBusy", "ServerDown", "ServerError", "SimulatedError", "State"]


class SimulatedError(Exception):
    """What a simulated call raises; the base of the others."""


class ServerError(SimulatedError):
    """The server took the request and failed."""


class ServerDown(SimulatedError, ConnectionError):  # noqa: N818 - a state of the server, as callers see it
    """There is no connection to the server."""


class ServerBusy(SimulatedError):  # noqa: N818 - an answer of the server
    """
    The server had no room for the request.

    Attributes:
        retry_after: Seconds after which it says there may be, or None.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class State(enum.Enum):
    """Where a job is in a replica."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class Request:
    """
    One call of a task, as the guarded function gets it.

    Attributes:
        task: The number of the task, from 0, in the order of arrival.

        call: The number of the call within its task, from 0.

        load: The name of the load that the task belongs to.

        key: Whose task it is: a user's number; the task's own number where a load has no users.

        tenant: The name of the tenant, or None.

        priority: The priority of the load, or None.

        shard: Which replica has the key's data: `key` modulo the number of replicas.

        deadline_ns: Until when an answer is good, in nanoseconds of the policies' clock.
    """

    __slots__ = ("asked", "call", "deadline_ns", "key", "load", "priority", "shard", "size", "task", "tenant")

    def __init__(
        self,
        load: str,
        task: int,
        call: int,
        key: int,
        deadline_ns: int,
        *,
        shard: int = 0,
        tenant: str | None = None,
        priority: str | None = None,
    ) -> None:
        self.load = load
        self.task = task
        self.call = call
        self.key = key
        self.deadline_ns = deadline_ns
        self.shard = shard
        self.tenant = tenant
        self.priority = priority
        self.size: float | None = None
        self.asked: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<Request {self.load} task {self.task} call {self.call}>"


class Job:
    """
    One attempt at a request, as a server and its policies have it; it has all that its request has as well.

    Attributes:
        request: What is asked for.

        arrived_ns: When it reached the server, in nanoseconds of the policies' clock.

        deadline_ns: Until when an answer is good.

        gone: Whether its caller has gone away.
    """

    __slots__ = ("answer", "arrived_ns", "deadline_ns", "gone", "guard", "replica", "request", "state", "timer", "work")

    timer: Timer

    def __init__(self, request: Request, replica: Replica, answer: asyncio.Future[None]) -> None:
        self.request = request
        self.replica = replica
        self.answer = answer
        self.deadline_ns = request.deadline_ns
        self.arrived_ns = 0
        self.gone = False
        self.state = State.NEW
        self.work: asyncio.Future[None] | None = None
        self.guard: asyncio.Task[None] | None = None

    @property
    def load(self) -> str:
        """The name of the load that the task belongs to."""
        return self.request.load

    @property
    def task(self) -> int:
        """The number of the task."""
        return self.request.task

    @property
    def call(self) -> int:
        """The number of the call within its task."""
        return self.request.call

    @property
    def key(self) -> int:
        """Whose task it is."""
        return self.request.key

    @property
    def tenant(self) -> str | None:
        """The name of the tenant, or None."""
        return self.request.tenant

    @property
    def priority(self) -> str | None:
        """The priority of the load, or None."""
        return self.request.priority

    @property
    def shard(self) -> int:
        """Which replica has the key's data."""
        return self.request.shard

    def refuse(self, reason: str) -> None:
        """
        Answer that there is no room; for a queue of one's own, with a job that it was given and has not given back.

        Args:
            reason: In few words: "expired", "shed".
        """
        self.replica.drop(self, reason)
