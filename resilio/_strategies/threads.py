"""
Threads of a timeout, for functions that cannot be interrupted.

Every call has a thread at once; there is no queue that would use up its time. An idle thread is kept for later calls,
for a while. When a call's time is up, its thread is *abandoned*: it runs until the function returns, and the result is
dropped. At `MOST_ABANDONED` such threads, further calls are rejected. All are daemon threads, which do not keep the
interpreter from exiting, and no exception is ever raised into them.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from resilio._backends import threads
from resilio._context import variables
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline, current
from resilio._native.strategies import locked
from resilio.errors import DeadlineExceededError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilio._native.core import InnerCall
    from resilio._native.strategies import TimeoutGate

__all__ = ["IDLE_SECONDS", "MOST_ABANDONED", "Job", "Threads"]

MOST_ABANDONED = 32
"""Most abandoned threads of one timeout at a time."""

IDLE_SECONDS = 10.0
"""Real seconds after which a thread without a call ends."""


class Job:
    """One call in a thread, which ends as `done` or as `abandoned`, whichever is first."""

    __slots__ = ("_error", "_run", "_value", "abandoned", "begun", "called", "done", "ended", "late")

    def __init__(self, run: Callable[[], Any]) -> None:
        """
        Prepare a call.

        Args:
            run: The function that the thread calls.
        """
        self._run: Callable[[], Any] | None = run
        self._value: Any = None
        self._error: BaseException | None = None
        self.begun = self.called = self.done = self.abandoned = self.late = False
        self.ended = threading.Lock()
        self.ended.acquire()

    @property
    def cancel_called(self) -> bool:
        """Whether its time was up; read for the label of a stage."""
        return self.abandoned

    @property
    def cancelled_caught(self) -> bool:
        """Whether the timeout ended the call."""
        return self.abandoned or self.late

    def work(self) -> None:
        """Call the function, in this thread."""
        self.begun = True
        run, self._run = self._run, None
        try:
            self._value = run() if run is not None else None
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._error = error

    def result(self) -> Any:
        """Return the function's result, or raise its exception."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame


class _Worker:
    """One thread, with a lock that is released when it receives a job."""

    __slots__ = ("job", "wake")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class Threads:
    """The threads of one timeout; thread-safe."""

    def __init__(self) -> None:
        """Begin without threads."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._free: list[_Worker] = []
        self._abandoned = 0

    @property
    def abandoned(self) -> int:
        """Number of threads whose calls have timed out and still run."""
        return self._abandoned

    @property
    def idle(self) -> int:
        """Number of threads that wait for a call."""
        return len(self._free)

    def timed(self, gate: TimeoutGate, rest: InnerCall, seconds: float | None) -> Any:
        """
        Run `rest` in a thread and wait for it until the timeout or the ambient deadline.

        It runs in a copy of the caller's context, with the time left as its ambient deadline.

        Args:
            gate: The timeout stage.

            rest: The stages inside it.

            seconds: The timeout; None: no limit.

        Raises:
            CallTimeoutError: The time was up.

            DeadlineExceededError: The ambient deadline passed, before the timeout or with it.

            OverloadedError: Too many threads are abandoned.
        """
        own_ns = clock.NEVER_NS if seconds is None else clock.now_ns() + round(seconds * 1e9)
        outer = ambient_deadline()
        due_ns = own_ns if outer is None else min(own_ns, outer.until_ns)
        job = self._job(rest, due_ns, seconds if due_ns == own_ns else None)
        self._start(gate, job)
        try:
            _wait(job, due_ns)
        finally:
            in_time = locked(self._lock, self._claim, job)
        if not in_time:
            if not job.called:  # it waits in a queue inside, and will not leave it for the function
                rest.give_up()
            raise gate.timed_out(due_ns, seconds or 0.0)
        try:
            return job.result()
        except DeadlineExceededError as error:
            if due_ns == own_ns and error.deadline == seconds and (error.policy or clock.now_ns() >= due_ns):
                # A gate or a threaded timeout inside noticed the end of this timeout first.
                job.late = True
                raise gate.timed_out(due_ns, seconds or 0.0) from error
            raise

    def _start(self, gate: TimeoutGate, job: Job) -> None:
        if self._pid != os.getpid():  # a fork copies no other threads
            self._begin()
        if locked(self._lock, self._hand_over, gate, job):
            return
        worker = _Worker()
        worker.job = job
        thread = threading.Thread(target=self._work, args=(worker,), name=f"resilio timeout {gate.name}", daemon=True)
        thread.start()

    def _hand_over(self, gate: TimeoutGate, job: Job) -> bool:
        """Give the job to an idle thread; return False if there is none. Runs under the lock, see `_next_job`."""
        if self._abandoned >= MOST_ABANDONED:
            raise OverloadedError("timeout", gate.name, "abandoned_threads", self._abandoned, MOST_ABANDONED)
        if not self._free:
            return False
        worker = self._free.pop()
        worker.job = job
        worker.wake.release()
        return True

    def _claim(self, job: Job) -> bool:
        """Return True if the job is done; otherwise mark it as abandoned. Runs under the lock."""
        if not job.done:
            job.abandoned = True
            self._abandoned += 1
        return job.done

    def _calls(self, job: Job) -> bool:
        """Return True if the function is called: not once the caller has left. Runs under the lock."""
        job.called = not job.abandoned
        return job.called

    def _work(self, worker: _Worker) -> None:
        pid = os.getpid()
        while (job := worker.job) is not None:
            worker.job = None
            job.work()
            if os.getpid() != pid:  # the function forked and returned in the child, where no caller waits
                return
            self._end(worker, job)
            del job
            self._next_job(worker)

    def _end(self, worker: _Worker, job: Job) -> None:
        with self._lock:
            if job.abandoned:
                self._abandoned -= 1
            job.done = True
            self._free.append(worker)
        with suppress(RuntimeError):  # already released by virtual time
            job.ended.release()

    def _next_job(self, worker: _Worker) -> None:
        """Wait until the worker receives a job, or retire it after `IDLE_SECONDS`."""
        if worker.wake.acquire(timeout=IDLE_SECONDS):
            return
        with self._lock:
            if worker.wake.acquire(blocking=False):  # it received one just now
                return
            worker.job = None
            with suppress(ValueError):  # a Ctrl-C interrupted `_hand_over` between its removal and its wake-up
                self._free.remove(worker)

    def _job(self, rest: InnerCall, due_ns: int, seconds: float | None) -> Job:
        context = copy_context()
        if seconds is not None:  # stages inside must not wait or begin after the caller has left
            deadline = AmbientDeadline(due_ns, round(seconds * 1e9), context.get(variables.deadline))
            context.run(variables.deadline.set, deadline)
        fn = rest.func

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                called = self._calls(job)
            if not called:  # for gates inside a rejection, as if it had come from a queue
                raise DeadlineExceededError(policy="timeout")
            value = fn(*args, **kwargs)
            here = current()
            if job.abandoned and here is not None:  # for gates inside, it has failed, whatever it returns
                here.fail()
            return value

        inside = rest.around(call)
        job = Job(lambda: context.run(inside))
        rest.cut = job
        return job


def _wait(job: Job, due_ns: int) -> None:
    while clock.source() == "virtual" and not job.begun:  # a thread not begun looks idle: virtual time would pass
        time.sleep(0)
    while not job.done:
        left = None if due_ns == clock.NEVER_NS else (due_ns - clock.now_ns()) / 1e9
        if left is not None and left <= 0:
            return
        threads.wait(job.ended, left)
