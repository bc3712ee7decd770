"""
The window of outcomes: a part of primitives.pyx.
"""


@cython.final
cdef class OutcomeWindow:
    """
    The numbers of the latest calls that failed and that were slow, in constant time.

    In a window of time, an outcome counts for the whole span less at most a twentieth, and never longer. A clock that
    goes backwards counts as standing still.

    Args:
        window: 200 is the last 200 calls (at most 10**7), "60s" or a timedelta is time, (200, "60s") is of the last 200
            calls those not older than 60 s.

    Raises:
        TypeError: A float (calls or seconds?), or another wrong type.
        ValueError: Out of range.
    """

    def __cinit__(self, window):
        from resilio._options.fields import parse_window    # its record is declared with attrs, which is slow to import

        self.spec = parse_window("window", window)
        calls, seconds = self.spec.calls or 0, self.spec.seconds
        cdef int64_t span = 0 if seconds is None else round(seconds * 1e9)
        if calls > MOST_CALLS:
            _config.reject("window", window, f"at most {MOST_CALLS} calls")
        if seconds is not None and span < RS_WINDOW_BUCKETS:
            _config.reject("window", window, f"at least {RS_WINDOW_BUCKETS} ns")
        if rs_window_init(&self.window, calls, span):
            raise MemoryError()

    def __dealloc__(self):
        rs_window_free(&self.window)

    def record(self, bint failed, bint slow=False, now_ns=None):
        """
        Count one outcome, at the time of completion.

        Args:
            failed: Whether the call failed.

            slow: Whether it was slow; a call may be both.

            now_ns: The time, in ns of the clock of `resilio._native.clock`; None: now.
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_window_record(&self.window, now, failed, slow)
        rs_lock_release(&self.lock)

    def counts(self, now_ns=None):
        """
        Return the counts of the window at one moment.

        Args:
            now_ns: The time in ns; None: now.

        Returns:
            (total, failed, slow).
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_window_advance(&self.window, now)
        cdef uint64_t total = self.window.total, failed = self.window.failed, slow = self.window.slow
        rs_lock_release(&self.lock)
        return total, failed, slow

    @property
    def total(self) -> int:
        """Outcomes in the window now."""
        return self.counts()[0]

    @property
    def failed(self) -> int:
        """Failures in the window now."""
        return self.counts()[1]

    @property
    def slow(self) -> int:
        """Slow calls in the window now."""
        return self.counts()[2]

    @property
    def failure_rate(self) -> float:
        """The share that failed; NaN while empty."""
        total, failed, _ = self.counts()
        return failed / total if total else NAN

    @property
    def slow_rate(self) -> float:
        """The share that was slow; NaN while empty."""
        total, _, slow = self.counts()
        return slow / total if total else NAN

    def reset(self):
        """Forget all outcomes."""
        rs_lock_acquire(&self.lock)
        rs_window_reset(&self.window)
        rs_lock_release(&self.lock)

    def __sizeof__(self):
        return object.__sizeof__(self) + rs_window_memory(&self.window) - sizeof(rs_window)

    def __repr__(self):
        total, failed, slow = self.counts()
        return f"<OutcomeWindow {self.spec!r} total={total} failed={failed} slow={slow}>"
