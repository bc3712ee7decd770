"""
The token bucket: a part of primitives.pyx.
"""


@cython.final
cdef class TokenBucket:
    """
    At most *burst* tokens at once and *rate* a second in the long run, exactly.

    The generic cell rate algorithm: one number and no timer. An idle bucket costs nothing, and the time until a
    rejected cost fits is known. Fractional, tiny and huge rates keep their long-run rate within 1e-9. A clock that goes
    backwards grants nothing extra.

    Args:
        rate: Tokens per second, at least one in ten years and at most 1e12.

        burst: Tokens that a full bucket holds, from 1 to 10**12; None: one second's worth, at least 1. Filling an empty
            bucket may take ten years at most.

        initial: Tokens at the beginning, from 0 to *burst*; None: full.

    Raises:
        TypeError: A wrong type, or a bool.
        ValueError: Out of range.

    Source: ITU-T I.371 (GCRA, virtual scheduling).
    """

    def __cinit__(self, rate, burst=None, *, initial=None):
        cdef int64_t now = rs_clock_now(_clock), size, tokens
        size = self._checked(rate, burst)
        tokens = size if initial is None else _integer("initial", initial, 0, size)
        self.tokens_per_second = rate
        rs_own_set_rate(&self.bucket.tokens, self.tokens_per_second, SECOND, size)
        rs_bucket_debit(&self.bucket, now, size - tokens)

    cdef int64_t _checked(self, object rate, object burst) except -1:
        """Check rate and burst, and return the burst to use."""
        cdef double per_second = _config.number("rate", rate, low=1 / _config.ABSURD_SECONDS, high=MOST_TOKENS)
        cdef int64_t size = max(1, <int64_t> per_second)
        if burst is not None:
            size = _integer("burst", burst, 1, MOST_TOKENS)
            if size > per_second * <double> _config.ABSURD_SECONDS:
                _config.reject("burst", burst, f"at most ten years' worth of tokens at a rate of {rate!r}")
        return size

    cdef int64_t _amount(self, object n) except -1:
        """A number of tokens that a full bucket holds."""
        cdef int64_t amount = _integer("n", n, 1, INT64_MAX)
        if amount > self.bucket.tokens.most:
            _config.reject("n", n, f"at most the burst, {self.bucket.tokens.most}: no wait would be long enough")
        return amount

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens_per_second

    @property
    def burst(self) -> int:
        """Tokens that a full bucket holds."""
        return self.bucket.tokens.most

    def try_acquire(self, n=1, now_ns=None):
        """
        Take *n* tokens if they are available, else change nothing; never waits.

        Args:
            n: Tokens, from 1 to `burst`.

            now_ns: The time, in ns of the clock of `resilio._native.clock`; None: now.

        Returns:
            Whether they were taken.

        Raises:
            ValueError: *n* is more than `burst`: no wait would be long enough.
        """
        cdef int64_t amount = self._amount(n), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int taken = rs_bucket_take(&self.bucket, now, amount)
        rs_lock_release(&self.lock)
        return taken != 0

    def peek(self, n=1, now_ns=None):
        """
        Whether `try_acquire(n)` would succeed; changes nothing.

        Args and raises: as `try_acquire`.
        """
        return self._wait(n, now_ns) == 0

    def retry_after(self, n=1, now_ns=None):
        """
        Seconds until `try_acquire(n)` can succeed if no other caller takes tokens; 0.0 if it can now. Changes nothing.

        Args and raises: as `try_acquire`.
        """
        return _seconds_enough(self._wait(n, now_ns))

    cdef int64_t _wait(self, object n, object now_ns) except -1:
        cdef int64_t amount = self._amount(n), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t wait = rs_bucket_wait(&self.bucket, now, amount)
        rs_lock_release(&self.lock)
        return wait

    def available(self, now_ns=None):
        """
        Whole tokens available now; negative while in debt.

        Args:
            now_ns: The time in ns; None: now.
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t tokens = rs_own_whole(&self.bucket, now)
        rs_lock_release(&self.lock)
        return tokens

    def reserve(self, n=1, now_ns=None):
        """
        Take *n* future tokens; they may be used after the returned time.

        A caller that gives up before that returns them with `refund`.

        Args:
            n: Tokens, from 1 to `burst`.

            now_ns: The time in ns; None: now.

        Returns:
            Seconds to wait; 0.0 if the tokens are available.

        Raises:
            ValueError: *n* is more than `burst`.
        """
        cdef int64_t amount = self._amount(n), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t wait = rs_bucket_wait(&self.bucket, now, amount)
        rs_bucket_debit(&self.bucket, now, amount)
        rs_lock_release(&self.lock)
        return _seconds_enough(wait)

    def refund(self, n=1):
        """
        Put *n* tokens back, never above `burst`.

        Args:
            n: Tokens, >= 1: unused ones of an estimate, or those of a call that did not happen.
        """
        cdef int64_t amount = _integer("n", n, 1, INT64_MAX)
        rs_lock_acquire(&self.lock)
        rs_own_give_back(&self.bucket, amount)
        rs_lock_release(&self.lock)

    def debit(self, n=1, now_ns=None):
        """
        Take *n* tokens even if they are not available: later callers wait until the debt is paid.

        Args:
            n: Tokens, >= 1; may be more than `burst`.

            now_ns: The time in ns; None: now.
        """
        cdef int64_t amount = _integer("n", n, 1, INT64_MAX), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_bucket_debit(&self.bucket, now, amount)
        rs_lock_release(&self.lock)

    def reset(self, now_ns=None):
        """
        Fill the bucket; a debt is forgiven.

        Args:
            now_ns: The time in ns; None: now.
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_own_fill(&self.bucket, now)
        rs_lock_release(&self.lock)

    def reconfigure(self, rate, burst=None, now_ns=None):
        """
        Change rate and burst at once and keep the tokens, up to the new burst; a debt stays.

        Args:
            rate: Tokens per second, as in the constructor.

            burst: Tokens of a full bucket, as in the constructor; None: one second's worth of the new rate.

            now_ns: The time in ns; None: now.

        Raises:
            TypeError, ValueError: As in the constructor; then nothing has changed.
        """
        cdef int64_t size = self._checked(rate, burst), now = _now(now_ns)
        cdef double per_second = rate
        rs_lock_acquire(&self.lock)
        rs_own_reconfigure(&self.bucket, per_second, SECOND, size, now)
        self.tokens_per_second = per_second
        rs_lock_release(&self.lock)

    def __repr__(self):
        return f"TokenBucket(rate={self.tokens_per_second!r}, burst={self.bucket.tokens.most!r})"
