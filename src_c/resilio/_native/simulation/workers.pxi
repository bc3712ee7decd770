"""
The path of a simulated call: requests, the workers of a replica and their queue, and the counters.

It is native because in Python these few lines for each call took half of a simulation's time. Rare events (outages,
policies, rejections, faults) are Python, in resilio/simulation.
"""

from libc.stdint cimport int64_t

from asyncio import Future, Task

from resilio._native.primitives import LatencyHistogram

cdef enum Where:
    NEW, WAITING, RUNNING, OVER


include "workers_counts.pxi"


cdef class Request:
    """
    One call of a task, as the guarded function receives it.

    Attributes:
        load: The name of the load that the task belongs to.

        task: The number of the task, from 0, in the order of arrival.

        call: The number of the call within its task, from 0.

        key: The number of the task's user; the task's own number where a load has no users.

        deadline_ns: The latest time for an answer, in nanoseconds of the policies' clock.

        shard: The replica that has the key's data: `key` modulo the number of replicas.

        tenant: The name of the tenant, or None.

        priority: The priority of the load, or None.
    """

    cdef readonly str load
    cdef readonly int64_t task
    cdef readonly int64_t call
    cdef readonly int64_t key
    cdef readonly int64_t deadline_ns
    cdef readonly int64_t shard
    cdef readonly object tenant
    cdef readonly object priority
    cdef public object size
    """Seconds that the work takes, where copies of the request take the same time; None until it is known."""
    cdef public tuple asked
    """The replicas that have been asked."""

    def __init__(
        self, str load, int64_t task, int64_t call, int64_t key, int64_t deadline_ns, int64_t shard=0, tenant=None,
        priority=None,
    ):
        self.load = load
        self.task = task
        self.call = call
        self.key = key
        self.deadline_ns = deadline_ns
        self.shard = shard
        self.tenant = tenant
        self.priority = priority
        self.asked = ()

    def __repr__(self):
        return f"<Request {self.load} task {self.task} call {self.call}>"


cdef class Job(Due):
    """
    One attempt at a request, as a server and its policies see it; it has the attributes of its request as well.

    Attributes:
        request: The request.

        arrived_ns: When it reached the server, in nanoseconds of the policies' clock.

        deadline_ns: The latest time for an answer.

        gone: True if its caller has gone away.
    """

    cdef readonly Request request
    cdef readonly object answer
    """The future that its caller waits for."""
    cdef readonly int64_t arrived_ns
    cdef public bint gone
    cdef public object guard
    """The task in which the server's policies decide, or None."""
    cdef public object work
    """The future that the server's policies wait for, or None."""
    cdef Workers _workers
    cdef Timer _timer
    cdef Where _where

    @property
    def workers(self):
        """The replica that has it."""
        return self._workers

    @property
    def deadline_ns(self):
        return self.request.deadline_ns

    @property
    def load(self):
        """The name of the load that the task belongs to."""
        return self.request.load

    @property
    def task(self):
        """The number of the task."""
        return self.request.task

    @property
    def call(self):
        """The number of the call within its task."""
        return self.request.call

    @property
    def key(self):
        """The number of the task's user."""
        return self.request.key

    @property
    def shard(self):
        """The replica that has the key's data."""
        return self.request.shard

    @property
    def tenant(self):
        """The name of the tenant, or None."""
        return self.request.tenant

    @property
    def priority(self):
        """The priority of the load, or None."""
        return self.request.priority

    def __repr__(self):
        return f"<Job of {self.request!r}>"

    cdef int fire(self) except -1:
        """Finish the work."""
        return self._workers._finish(self)

    def reject(self, str reason):
        """
        Reject the job for lack of room. For custom queues: the job was pushed there and not popped since.

        Args:
            reason: In few words: "expired", "shed".
        """
        if self._where == WAITING:
            self._workers._waiting -= 1
            self._workers._reject(self, reason)


cdef class Workers:
    """
    The workers of one replica, and the queue before them.

    A subclass with `is_plain` false decides about each request in `submit`, instead of putting it in the queue.

    Args:
        loop: The loop of the simulation.

        tally: The counters of the run.

        draw: Draws the seconds that a request takes.

        uniform: Draws a number from 0 to 1.

        queue: The queue of waiting jobs.

        capacity: Requests in work at the same time.

        max_queued: The most jobs that may wait; -1: no limit.

        least_left: Seconds that must be left to the deadline when a request's turn comes; NaN: no minimum.

        same_size: The chance that a copy of a request takes as long as the first.

        stops_cancelled: Whether work stops when its caller has gone away.

        wire: Carries requests and answers by `send`; None: they arrive at once.

        busy: Makes the error of a rejected request, from the reason.

        failure: Makes the error of a failed request, from a text.
    """

    cdef readonly EventLoop loop
    cdef readonly Tally tally
    cdef public int64_t present
    """Requests in work or waiting here: the load that a balancer compares."""
    cdef public int64_t capacity
    cdef public double failing
    """The share of requests that get an error."""
    cdef public object factor
    """A function of the elapsed seconds that returns a factor for the duration of work; None: 1."""
    cdef public bint is_plain
    cdef object _draw, _uniform, _queue, _wire, _busy_error, _failure
    cdef int64_t _waiting, _working, _max_queued
    cdef double _least_left, _same_size
    cdef bint _stops_cancelled

    def __init__(
        self, EventLoop loop, Tally tally, *, draw, uniform, queue, int64_t capacity, int64_t max_queued,
        double least_left, double same_size, bint stops_cancelled, wire, busy, failure,
    ):
        self.loop = loop
        self.tally = tally
        self.capacity = capacity
        self.is_plain = True
        self._draw = draw
        self._uniform = uniform
        self._queue = queue
        self._wire = wire
        self._busy_error = busy
        self._failure = failure
        self._max_queued = max_queued
        self._least_left = least_left
        self._same_size = same_size
        self._stops_cancelled = stops_cancelled

    def attempt(self, Request request):
        """Send a request here, and return its job."""
        cdef Job job = Job.__new__(Job)
        job.request = request
        job._workers = self
        job.answer = Future(loop=self.loop)
        self.tally._attempted(self.loop.now)
        if self._wire is None:
            self._arrive(job)
        else:
            self._wire.send(self._arrive, job)
        return job

    cpdef _arrive(self, Job job):
        if job.gone and self._stops_cancelled:
            return
        job.arrived_ns = self.loop.now
        if self.is_plain:
            self.take_in(job)
            self.enqueue(job)
        else:
            self.submit(job)

    cpdef take_in(self, Job job):
        """Count a request that has arrived."""
        self.tally.arrived(self.loop.now)
        self.present += 1

    def submit(self, Job job):
        """Decide about a request that has arrived."""
        raise NotImplementedError

    cpdef enqueue(self, Job job):
        """Work on a job as soon as a worker is free and it is its turn."""
        if self._working < self.capacity and not self._waiting:
            self._start(job)
        elif self._max_queued >= 0 and self._waiting >= self._max_queued:
            self._reject(job, "queue full")
        else:
            job._where = WAITING
            self._waiting += 1
            self._queue.push(job, self.loop.now)

    cdef int _start(self, Job job) except -1:
        cdef double seconds = self._draw() if self._same_size == 0 else self._service(job.request)
        if self.factor is not None:
            seconds *= self.factor(self.loop.elapsed)
        job._where = RUNNING
        self._working += 1
        job._timer = self.loop.push(self.loop.now + <int64_t>(seconds * 1e9), job, None, None)
        return 0

    cdef double _service(self, Request request) except? -1:
        if self._uniform() >= self._same_size:
            return self._draw()
        if request.size is None:
            request.size = self._draw()
        return request.size

    cdef int _finish(self, Job job) except -1:
        cdef bint given_up = job.gone or (job.work is not None and job.work.done())
        self._working -= 1
        self.present -= 1
        job._where = OVER
        self.tally.done += 1
        self.tally.wasted += given_up or self.loop.now > job.request.deadline_ns
        self._end(job, self._failure("error") if self.failing > 0 and self._uniform() < self.failing else None)
        if self._waiting:
            self.take_up()
        return 0

    cpdef take_up(self):
        """Start waiting jobs on idle workers."""
        cdef Job job
        while self._waiting and self._working < self.capacity:
            job = self._queue.pop(self.loop.now)
            if job is None:
                return
            if job._where != WAITING:                                       # it was stopped meanwhile
                continue
            self._waiting -= 1
            if job.request.deadline_ns - self.loop.now <= self._least_left * 1e9:     # never, with NaN
                self._reject(job, "expired")
            else:
                self._start(job)

    cpdef stop(self, Job job):
        """Stop the work on a job whose caller has gone away."""
        where, job._where = job._where, OVER
        if where == WAITING:
            self._waiting -= 1
            self.present -= 1
        elif where == RUNNING:
            job._timer.cancel()
            self._working -= 1
            self.present -= 1
            self.take_up()

    def leave(self, Job job):
        """Count a job as gone that never reached the workers."""
        if job._where == NEW:
            job._where = OVER
            self.present -= 1

    cdef int _reject(self, Job job, str reason) except -1:
        job._where = OVER
        self.present -= 1
        self.tally.rejected("server", reason)
        self._end(job, self._busy_error(reason))
        return 0

    cdef int _end(self, Job job, error) except -1:
        """End the work on a job; the replica's own policies learn the outcome first, if there are any."""
        if job.work is None:
            self.reply(job, error)
        else:
            _settle(job.work, error)
        return 0

    cpdef reply(self, Job job, error):
        """Answer the caller, unless it has gone away."""
        if job.gone:
            return
        if self._wire is None:
            _settle(job.answer, error)
        else:
            self._wire.send(_settle, job.answer, error)


cpdef _settle(future, error):
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


include "workers_source.pxi"
