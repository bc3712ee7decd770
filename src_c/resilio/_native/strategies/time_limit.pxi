"""
The time left of a call in a thread, for clients that limit their sockets to it: a part of timing.pxi.

A thread cannot be interrupted. But a client that checks the time left before each wait of a socket ends by itself when
a timeout or a deadline ends. While such a call runs, its time limit is the ambient deadline of its context, so that
gates inside wait no longer either. `TimeLimit` records the timeout that has set it.
"""

cdef object _limits = _context.time_limit
cdef rs_lock _limits_lock               # of `outer` and `around`: threads with a copy of the context read them


cdef bint _restored(object variable, object token) noexcept:
    """Restore a context variable; False without memory."""
    try:
        PyContextVar_Reset(variable, token)
    except ValueError:
        pass                                # in another context than that of the token there is nothing to restore
    except MemoryError:
        return False
    return True


cdef object _read(object variable):
    """The value of a context variable; its default is None."""
    cdef PyObject *found = NULL
    PyContextVar_Get(variable, NULL, &found)
    return _taken(found)


@cython.final
@cython.auto_pickle(False)
@cython.freelist(8)
cdef class TimeLimit:
    """
    A time by which a call has to end: the function that it runs, or several, step by step.

    Args:
        gate: The gate of the timeout that has set it; None: a deadline.

        until_ns: The time at which it ends.

        seconds: Its length in seconds.

        clock: The clock of the timeout: "total", "first" or "idle".

    Attributes:
        total: Of a limit on the first part of a call, the seconds of the whole; None: no limit.

        late: True if it has ended the call.

        outer: The limit around the call.

        around: The ambient deadline that no limit has set.
    """
    cdef readonly TimeoutGate gate
    cdef readonly int64_t until_ns
    cdef readonly double seconds
    cdef readonly object total
    cdef readonly str clock
    cdef public bint late
    cdef readonly TimeLimit outer
    cdef readonly object around

    cdef void put(self, TimeLimit outer, object around) noexcept:
        """Replace both; the objects before are released after the lock, since that may run any code."""
        rs_lock_acquire(&_limits_lock)
        before, self.outer = self.outer, outer
        deadline, self.around = self.around, around
        rs_lock_release(&_limits_lock)

    cdef TimeLimit outside(self):
        rs_lock_acquire(&_limits_lock)
        outer = self.outer
        rs_lock_release(&_limits_lock)
        return outer

    cdef object deadline(self):
        rs_lock_acquire(&_limits_lock)
        around = self.around
        rs_lock_release(&_limits_lock)
        return around

    def __init__(self, TimeoutGate gate, int64_t until_ns, double seconds, str clock="total"):
        self.gate = gate
        self.until_ns = until_ns
        self.seconds = seconds
        self.clock = clock

    def run(self, function, /, *args, **kwargs):
        """Call a function within the limit, and return its result. The nearer of two limits applies."""
        cdef TimeLimit outer = _read(_limits)
        before, value, deadline = _read(_ambient), None, None
        if outer is not self:               # an answer that is read while it is judged: within the same limit
            self.put(outer, ambient_deadline() if outer is None else outer.deadline())
        limit = PyContextVar_Set(_limits, self)
        try:
            if self.until_ns < _core.deadline_ns():
                allowed_ns = <int64_t>(self.seconds * 1e9 + 0.5)
                value = _core.deadline(self.until_ns, allowed_ns, <PyObject *>before)
                deadline = PyContextVar_Set(_ambient, value)
            return function(*args, **kwargs)
        finally:                            # a Ctrl-C cannot come in between: nothing here is in Python
            if deadline is not None and not _restored(_ambient, deadline):
                _core.forget(<PyObject *>value)
            _restored(_limits, limit)

    @property
    def cancel_called(self):
        """True if the time was up; read by the label of a stage."""
        return self.late

    @property
    def cancelled_caught(self):
        """True if the limit has ended the call."""
        return self.late

    def expired(self):
        """Return the exception that replaces a socket's error: the limit has passed, and no deadline before it."""
        self.late = True
        if self.gate is None:
            return DeadlineExceededError(self.seconds, 0.0)
        # The moment just before the limit, at which no deadline had passed.
        return self.gate.timed_out(self.until_ns - 1, self.seconds, self.clock)


def late_error():
    """Return the exception that ends the call in this thread, None as long as it has time."""
    cdef TimeLimit limit
    deadline = ambient_deadline()
    if deadline is None or _core.now_ns() < deadline.until_ns:
        return None
    limit = _read(_limits)
    while limit is not None and limit.until_ns > deadline.until_ns:
        limit = limit.outside()
    around = None if limit is None else limit.deadline()
    if limit is None or (around is not None and around.until_ns <= limit.until_ns):     # deadline first
        return DeadlineExceededError(deadline.allowed_ns / 1e9, 0.0)
    return limit.expired()


cdef TimeLimit _limit_of(TimeoutGate gate, inner, bint to_headers):
    """The limit of a call that begins now."""
    cdef int64_t total_ns = inner.wait_ns, first_ns = gate.timeout.first_ns, now_ns = _core.now_ns()
    cdef TimeLimit limit
    if to_headers and first_ns < total_ns:
        limit = TimeLimit(gate, _later(now_ns, first_ns), first_ns / 1e9, "first")
        limit.total = None if total_ns == RS_NEVER else total_ns / 1e9
        return limit
    return TimeLimit(gate, _later(now_ns, total_ns), 0.0 if total_ns == RS_NEVER else total_ns / 1e9)


cdef object _run_within(TimeoutGate gate, inner, bint to_headers):
    """
    Run *inner*, which heeds the ambient deadline, in this thread, within a timeout's time.

    Raises:
        CallTimeoutError: The time was up.

        DeadlineExceededError: The ambient deadline passed, before or with it.
    """
    cdef TimeLimit limit = _limit_of(gate, inner, to_headers)
    inner.cut = limit
    try:
        return limit.run(inner)
    except DeadlineExceededError as error:
        in_time = _core.now_ns() < limit.until_ns and error.policy is None  # else of a gate inside, which rejects early
        if limit.late or in_time or error.deadline != limit.seconds:
            raise
        limit.late = True
        raise gate.timed_out(limit.until_ns, limit.seconds, limit.clock) from error
