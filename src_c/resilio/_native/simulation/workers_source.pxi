"""
The source of simulated calls: a part of workers.pxi.
"""


cdef class Source(Due):
    """
    The arrivals of tasks.

    Args:
        loop: The loop of the simulation.

        tally: The counters of the run.

        times: An iterator of seconds since the run began.

        end: Seconds after which no task arrives.

        patience_ns: Time from the arrival of a task to its cancellation; 0: never.
    """

    cdef readonly EventLoop loop
    cdef readonly Tally tally
    cdef readonly dict under_way
    """The tasks that have not ended, by number; a task removes itself when it ends."""
    cdef object _times
    cdef double _end
    cdef int64_t _number, _patience_ns

    def __init__(self, EventLoop loop, Tally tally, times, double end, int64_t patience_ns):
        self.loop = loop
        self.tally = tally
        self.under_way = {}
        self._times = iter(times)
        self._end = end
        self._patience_ns = patience_ns

    def begin(self, number):
        """Return the coroutine of a task."""
        raise NotImplementedError

    cpdef start(self):
        """Schedule the next arrival; each arrival schedules the one after it."""
        cdef double seconds
        for found in self._times:
            seconds = found
            if seconds < self._end:
                self.loop.push(BEGIN + <int64_t>round(seconds * 1e9), self, None, None)
            return

    cdef int fire(self) except -1:
        """Start the arriving task, and schedule the next arrival."""
        number = self._number
        self._number += 1
        self.tally._begun(self.loop.now)
        task = Task(self.begin(number), loop=self.loop, name="")
        self.under_way[number] = task
        if self._patience_ns:
            self.loop.push(self.loop.now + self._patience_ns, task.cancel, (), None)
        self.start()
        return 0
