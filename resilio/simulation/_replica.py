"""One replica of the server at work: its workers, its queue, its policies, and what the faults do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, cast

from resilio.errors import RejectedError
from resilio.simulation import _ambient
from resilio.simulation._condition import Condition
from resilio.simulation._faults import Fault, Outage
from resilio.simulation._work import Job, ServerBusy, ServerDown, ServerError, State

if TYPE_CHECKING:
    from resilio._native.simulation import EventLoop
    from resilio.simulation._book import Book
    from resilio.simulation._scenario import Server
    from resilio.simulation._wire import Wire

__all__ = ["Guard", "Replica"]

Handler = Callable[[Job], Coroutine[Any, Any, None]]
Guard = Callable[[Handler], Handler]


class Replica:
    """
    One replica.

    Args:
        number: Which one, from 0.

        server: What all replicas are like.

        loop: The loop that the simulation runs in.

        wire: The network, for answers.

        book: Where it counts what it does.

        random: What to draw from.

        guard: Puts the server's policies around a function; None: there are none.

    Attributes:
        present: Requests that are here: what a balancer goes by.
    """

    def __init__(
        self, number: int, server: Server, loop: EventLoop, wire: Wire, book: Book, random: Random, guard: Guard | None
    ) -> None:
        self.number = number
        self.present = 0
        self._server = server
        self._loop = loop
        self._wire = wire
        self._book = book
        self._uniform = random.random
        self._draw = server.service.sampler(random)
        self._queue = server.queue()
        self._waiting = 0
        self._busy = 0
        self._condition = Condition(server.workers)
        self._held: dict[Job, None] = {}
        self._hung: dict[Job, None] = {}
        self._handle = None if guard is None else guard(self._work_on)

    # ---- what comes over the network, and goes back ------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Take a request that has come over the network."""
        if job.gone and self._server.stops_cancelled:
            return
        job.arrived_ns = self._loop.now
        outage = self._condition.outage
        if outage is not None:
            self._be_out(job, outage)
            return
        self._book.arrived(self._loop.now)
        self.present += 1
        if self._handle is None:
            self._enqueue(job)
        else:
            job.guard = self._loop.create_task(self._serve(job), context=Context())

    def _be_out(self, job: Job, outage: Outage) -> None:
        self._book.in_outage += 1
        if outage.mode == "buffer":
            self._held[job] = None
            return
        self._book.arrived(self._loop.now)
        if outage.mode == "hang":
            self._hung[job] = None
        else:
            error = ServerDown("no connection") if outage.mode == "refuse" else ServerError("outage")
            self._loop.at(self._loop.now + round(outage.latency * 1e9), self._answer, job, error)

    def give_up(self, job: Job) -> None:
        """Learn that the caller of a request has gone away."""
        job.gone = True
        self._hung.pop(job, None)
        if self._server.stops_cancelled:
            self._held.pop(job, None)
            if job.guard is not None:
                job.guard.cancel()
            else:
                self._stop(job)

    def _answer(self, job: Job, error: Exception | None) -> None:
        if not job.gone:
            self._wire.send(_arrive, job.answer, error)

    # ---- its own policies --------------------------------------------------------------------------------------------

    async def _serve(self, job: Job) -> None:
        """Serve one request behind the replica's own policies; whatever they make of it, the caller gets an answer."""
        handle, error = cast("Handler", self._handle), cast("Exception | None", None)
        try:
            with ExitStack() as stack:
                _ambient.enter(stack, job, self._loop.now, deadlines=self._server.deadlines)
                await handle(job)
        except asyncio.CancelledError:
            return
        except RejectedError as refusal:
            self._book.refused(f"server's {refusal.policy}", refusal.reason)
            error = ServerBusy(f"{refusal.policy}: {refusal.reason}", refusal.retry_after)
        except ServerBusy as busy:
            error = busy
        except Exception as failure:  # noqa: BLE001 - a policy's own, like DeadlineExceededError
            error = ServerError(str(failure))
        finally:
            if job.state is State.NEW:  # it never came to the workers
                job.state = State.OVER
                self.present -= 1
        self._answer(job, error)

    async def _work_on(self, job: Job) -> None:
        """Be what the policies guard: wait for a worker, and for the work to be done."""
        job.work = self._loop.create_future()
        self._enqueue(job)
        try:
            await job.work
        except asyncio.CancelledError:
            if self._server.stops_cancelled:
                self._stop(job)
            raise

    # ---- workers and queue -------------------------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        if self._busy < self._condition.workers and not self._waiting:
            self._start(job)
        elif self._server.max_queued is not None and self._waiting >= self._server.max_queued:
            self._reject(job, "queue full")
        else:
            job.state = State.WAITING
            self._waiting += 1
            self._queue.push(job, self._loop.now)

    def _start(self, job: Job) -> None:
        job.state = State.RUNNING
        self._busy += 1
        seconds = self._service(job) * self._condition.factor(self._loop.elapsed)
        job.timer = self._loop.at(self._loop.now + int(seconds * 1e9), self._finish, job)

    def _service(self, job: Job) -> float:
        share, request = self._server.same_size, job.request
        if not share or self._uniform() >= share:
            return self._draw()
        if request.size is None:
            request.size = self._draw()
        return request.size

    def _finish(self, job: Job) -> None:
        self._busy -= 1
        self.present -= 1
        job.state = State.OVER
        failing = self._condition.failing
        failed = failing > 0 and self._uniform() < failing
        given_up = job.gone or (job.work is not None and job.work.done())
        self._book.served(wasted=given_up or self._loop.now > job.deadline_ns)
        self._end(job, ServerError("error") if failed else None)
        self._take_up()

    def _take_up(self) -> None:
        least = self._server.drop_expired
        while self._waiting and self._busy < self._condition.workers:
            job = self._queue.pop(self._loop.now)
            if job is None:
                return
            if job.state is not State.WAITING:  # it was stopped meanwhile
                continue
            self._waiting -= 1
            if least is not None and job.deadline_ns - self._loop.now <= least * 1e9:
                self._reject(job, "expired")
            else:
                self._start(job)

    def _stop(self, job: Job) -> None:
        """Work no more on what nobody waits for."""
        state, job.state = job.state, State.OVER
        if state is State.WAITING:
            self._waiting -= 1
            self.present -= 1
        elif state is State.RUNNING:
            job.timer.cancel()
            self._busy -= 1
            self.present -= 1
            self._take_up()

    def drop(self, job: Job, reason: str) -> None:
        """End a job that the queue was given and does not give back."""
        if job.state is State.WAITING:
            self._waiting -= 1
            self._reject(job, reason)

    def _reject(self, job: Job, reason: str) -> None:
        job.state = State.OVER
        self.present -= 1
        self._book.refused("server", reason)
        self._end(job, ServerBusy(reason))

    def _end(self, job: Job, error: Exception | None) -> None:
        """End the work on a job: the replica's own policies learn it first, if there are any."""
        if job.work is None:
            self._answer(job, error)
        else:
            _arrive(job.work, error)

    # ---- faults ------------------------------------------------------------------------------------------------------

    def begin(self, fault: Fault) -> None:
        """Suffer a fault from now on."""
        self._condition.begin(fault)

    def end(self, fault: Fault) -> None:
        """Suffer it no more; what was held up on the way arrives."""
        self._condition.end(fault)
        if self._condition.outage is None:
            held, self._held = self._held, {}
            for job in held:
                self.submit(job)
        self._take_up()


def _arrive(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
