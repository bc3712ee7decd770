"""
The event loop of simulations: a ready queue and a heap of timers, on virtual time.

It has no selector, no threads and no real sleep: when nothing is ready it jumps to its next timer. Tasks and futures
are asyncio's own, so policies run in it as they do anywhere else. It is native because each simulated call takes four
or five callbacks; in Python the loop took a third of the time. The heap is a Python list, which the garbage collector
can traverse.
"""

from libc.stdint cimport int64_t

import asyncio
from asyncio import Future, Task, _set_running_loop
from collections import deque

from resilio._native.clock import set_virtual

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

BEGIN = 1 << 50     # the same time in each run: nanoseconds in a double are rounded by their size
BEGIN_NS = BEGIN


class StandstillError(Exception):
    """Time does not move on."""


cdef class Due:
    """Base of native objects that the loop takes in place of a function: it calls `fire` when they are due."""

    cdef int fire(self) except -1:
        raise NotImplementedError


cdef class Timer:
    """Handle of a scheduled callback, which can cancel it."""

    def cancel(self):
        """Drop the callback and its arguments without calling it."""
        self.call = None
        self.args = None
        self.context = None

    def cancelled(self):
        """Return True if `cancel` was called, or the callback has run."""
        return self.call is None

    cdef int fire(self) except -1:
        call, args, context = self.call, self.args, self.context
        self.call = None
        self.args = None
        self.context = None
        if args is None:
            return (<Due>call).fire()
        if context is None:
            call(*args)
            return 0
        PyContext_Enter(context)
        try:
            call(*args)
        finally:
            PyContext_Exit(context)
        return 0


cdef inline bint _before(Timer one, Timer other):
    return one.when_ns < other.when_ns or (one.when_ns == other.when_ns and one.number < other.number)


cdef class EventLoop:
    """
    Runs callbacks and timers in the order of their virtual times; those of one time in the order of their creation.

    Args:
        failed: Called for an exception that no code handled, with the context that asyncio's exception handlers get.

        still: Callbacks at one instant after which the loop assumes that time stands still for ever.

    Attributes:
        now: The time, in nanoseconds of the policies' clock.
    """

    def __init__(self, failed, int64_t still=1_000_000):
        self.now = BEGIN
        self._failed = failed
        self._ready = deque()
        self._heap = []
        self._most_still = still

    @property
    def elapsed(self):
        """Virtual seconds since the run began."""
        return (self.now - BEGIN) * 1e-9

    def at(self, int64_t when_ns, call, *args):
        """
        Schedule `call(*args)` for a time, without a context of its own; return its Timer.

        Args:
            when_ns: In nanoseconds of the policies' clock; a time that has passed means now.

            call: A plain function.

            args: Its arguments.
        """
        return self.push(when_ns, call, args, None)

    def run(self, int64_t until_ns, look, int steps=1000):
        """
        Run all that is due until a time, and move the clock there.

        Args:
            until_ns: In nanoseconds of the policies' clock.

            look: Called after every *steps* timers; False stops the run there.

            steps: Timers between two looks, >= 1.

        Returns:
            True if the run reached *until_ns*.

        Raises:
            RuntimeError: An event loop is running in this thread.

            StandstillError: Time stands still; see *still*.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("a simulation cannot run inside of a running event loop")
        _set_running_loop(self)
        self._is_running = True
        self._still = 0
        try:
            while not self._run_timers(until_ns, steps):
                if not look():
                    return False
            self._move_to(until_ns)
            return True
        finally:
            self._is_running = False
            _set_running_loop(None)

    cdef Timer push(self, int64_t when_ns, call, tuple args, context):
        """Do what `at` does; with None for *args*, *call* is a `Due`."""
        cdef Timer timer = Timer.__new__(Timer), above
        cdef list heap = self._heap
        cdef Py_ssize_t place = len(heap), parent
        timer.when_ns = when_ns
        timer.number = self._number
        timer.call = call
        timer.args = args
        timer.context = context
        self._number += 1
        heap.append(timer)
        while place > 0:
            parent = (place - 1) >> 1
            above = <Timer>heap[parent]
            if not _before(timer, above):
                break
            heap[place] = above
            place = parent
        heap[place] = timer
        return timer

    cdef Timer _pop(self):
        """Take the first timer off the heap, which is not empty."""
        cdef list heap = self._heap
        cdef Timer last = <Timer>heap.pop(), first, child
        cdef Py_ssize_t size = len(heap), place = 0, below
        if size == 0:
            return last
        first = <Timer>heap[0]
        while True:
            below = 2 * place + 1
            if below >= size:
                break
            if below + 1 < size and _before(<Timer>heap[below + 1], <Timer>heap[below]):
                below += 1
            child = <Timer>heap[below]
            if not _before(child, last):
                break
            heap[place] = child
            place = below
        heap[place] = last
        return first

    cdef int _move_to(self, int64_t when_ns) except -1:
        if when_ns > self.now:
            self.now = when_ns
            set_virtual(when_ns)
            self._still = 0
        return 0

    cdef bint _run_timers(self, int64_t until_ns, int steps) except -1:
        """Fire up to *steps* timers; True: no other is due until *until_ns*."""
        cdef Timer timer
        for _ in range(steps):
            if self._ready:
                self._run_ready()
            if not self._heap or (<Timer>self._heap[0]).when_ns > until_ns:
                return True
            timer = self._pop()
            if timer.call is not None:
                self._move_to(timer.when_ns)
                self._count_still()
                timer.fire()
        return False

    cdef int _run_ready(self) except -1:
        cdef Timer timer
        ready = self._ready
        while ready:
            timer = <Timer>ready.popleft()
            if timer.call is not None:
                self._count_still()
                timer.fire()
        return 0

    cdef int _count_still(self) except -1:
        self._still += 1
        if self._still > self._most_still:
            raise StandstillError(f"time stands still at {self.elapsed:.6f} s: something goes round without waiting")
        return 0

    # ---- the loop's interface for the tasks and futures of asyncio, and for policies

    def time(self):
        """Return virtual seconds since the run began."""
        return (self.now - BEGIN) * 1e-9

    def call_soon(self, callback, *args, context=None):
        """Schedule `callback(*args)` for the current time, after all callbacks scheduled before."""
        cdef Timer timer = Timer.__new__(Timer)
        timer.call = callback
        timer.args = args
        timer.context = context
        self._ready.append(timer)
        return timer

    def call_soon_threadsafe(self, callback, *args, context=None):
        """Do the same as `call_soon`: there is no other thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(self, double delay, callback, *args, context=None):
        """Schedule `callback(*args)` for *delay* seconds from now."""
        return self.push(self.now + <int64_t>round(delay * 1e9), callback, args, context)

    def call_at(self, double when, callback, *args, context=None):
        """Schedule `callback(*args)` for the time when `time()` is *when*."""
        return self.push(BEGIN + <int64_t>round(when * 1e9), callback, args, context)

    def create_future(self):
        """Return a future of this loop."""
        return Future(loop=self)

    def create_task(self, coro, *, name="", context=None):
        """Return a task of this loop that runs *coro*; it has no name unless one is given, since names take time."""
        return Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context):
        """Pass an unhandled exception's context to *failed*."""
        self._failed(context)

    def get_debug(self):
        """Return False: debug mode would make simulations slow."""
        return False

    def is_running(self):
        """Return True while `run` runs."""
        return self._is_running

    def is_closed(self):
        """Return False: the loop holds no resource to close."""
        return False
