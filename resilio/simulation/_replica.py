"""One replica of the server: its faults and its own policies, which requests pass before its workers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, cast

from resilio._native.simulation import EventLoop, Job, Workers
from resilio.errors import RejectedError
from resilio.simulation import _ambient
from resilio.simulation._condition import Condition
from resilio.simulation._faults import Fault, Outage
from resilio.simulation._work import ServerBusy, ServerDown, ServerError

if TYPE_CHECKING:
    from resilio.simulation._book import Book
    from resilio.simulation._server import Server
    from resilio.simulation._wire import Wire

__all__ = ["Guard", "Replica"]

Handler = Callable[[Job], Coroutine[Any, Any, None]]
Guard = Callable[[Handler], Handler]


class Replica(Workers):
    """
    One replica.

    Args:
        number: Index of the replica, from 0.

        server: Options of all replicas.

        loop: The loop that the simulation runs in.

        wire: The network, for requests and answers; None: they take no time.

        book: The counts of the run.

        random: Source of random numbers.

        guard: Puts the server's policies around a function; None: there are none.
    """

    def __init__(
        self,
        number: int,
        server: Server,
        loop: EventLoop,
        wire: Wire | None,
        book: Book,
        random: Random,
        guard: Guard | None,
    ) -> None:
        super().__init__(
            loop,
            book,
            draw=server.service.sampler(random),
            uniform=random.random,
            queue=server.new_queue(),
            capacity=server.workers,
            max_queued=-1 if server.max_queued is None else server.max_queued,
            least_left=math.nan if server.drop_expired is None else server.drop_expired,
            same_size=server.same_size,
            stops_cancelled=server.stops_cancelled,
            wire=wire,
            busy=ServerBusy,
            failure=ServerError,
        )
        self.number = number
        self.zone = server.zone_of(number)
        self._server = server
        self._book = book
        self._condition = Condition(server.workers)
        self._held: dict[Job, None] = {}
        self._hung: dict[Job, None] = {}
        self._handle = None if guard is None else guard(self._work_on)
        self.is_plain = guard is None

    def submit(self, job: Job) -> None:
        """Accept a request during an outage, or behind the replica's own policies."""
        outage = self._condition.outage
        if outage is not None:
            self._be_out(job, outage)
            return
        self.take_in(job)
        if self._handle is None:  # held up until the outage ended
            self.enqueue(job)
        else:
            job.guard = self.loop.create_task(self._serve(job), context=Context())

    def _be_out(self, job: Job, outage: Outage) -> None:
        self._book.in_outage += 1
        if outage.mode == "buffer":
            self._held[job] = None
            return
        self._book.arrived(self.loop.now)
        if outage.mode == "hang":
            self._hung[job] = None
        else:
            error = ServerDown("no connection") if outage.mode == "refuse" else ServerError("outage")
            self.loop.at(self.loop.now + round(outage.latency * 1e9), self.reply, job, error)

    def give_up(self, job: Job) -> None:
        """Note that the caller of a request has given up."""
        self._hung.pop(job, None)
        if self._server.stops_cancelled:
            self._held.pop(job, None)
            if job.guard is not None:
                job.guard.cancel()
            else:
                self.stop(job)

    # ---- the replica's own policies ----------------------------------------------------------------------------------

    async def _serve(self, job: Job) -> None:
        """Serve one request behind the replica's own policies; the caller gets an answer in any case."""
        handle, error = cast("Handler", self._handle), cast("Exception | None", None)
        try:
            with ExitStack() as stack:
                _ambient.enter(stack, job, self.loop.now, deadlines=self._server.deadlines)
                await handle(job)
        except asyncio.CancelledError:
            return
        except RejectedError as rejection:
            self._book.rejected(f"server's {rejection.policy}", rejection.reason)
            error = ServerBusy(f"{rejection.policy}: {rejection.reason}", rejection.retry_after)
        except ServerBusy as busy:
            error = busy
        except Exception as failure:  # noqa: BLE001 - a policy's own, like DeadlineExceededError
            error = ServerError(str(failure))
        finally:
            self.leave(job)
        self.reply(job, error)

    async def _work_on(self, job: Job) -> None:
        """Wait for a worker and for the work to end; this is the function that the policies guard."""
        job.work = self.loop.create_future()
        self.enqueue(job)
        try:
            await job.work
        except asyncio.CancelledError:
            if self._server.stops_cancelled:
                self.stop(job)
            raise

    # ---- faults ------------------------------------------------------------------------------------------------------

    def begin(self, fault: Fault) -> None:
        """Begin a fault."""
        self._condition.begin(fault)
        self._suffer()

    def end(self, fault: Fault) -> None:
        """End a fault; at the end of an outage, requests that it held up arrive."""
        self._condition.end(fault)
        self._suffer()
        if self._condition.outage is None:
            held, self._held = self._held, {}
            for job in held:
                self.submit(job)
        self.take_up()

    def _suffer(self) -> None:
        condition = self._condition
        self.capacity, self.failing = condition.workers, condition.failing
        self.factor = None if condition.usual else condition.factor
        self.is_plain = self._handle is None and condition.outage is None
