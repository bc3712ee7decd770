# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""
The data structures of the gates as classes of their own: token bucket, latency histogram, outcome window.

The arithmetic is in gcra.h, loglinear.h and window.h; here are locks, checks of arguments, and Python's units:
seconds as float outside, int64 nanoseconds inside. Every method of every object may be called from any thread.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from libc.math cimport INFINITY, NAN, nextafter
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from binascii import crc32

from resilio import _config
from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now

__all__ = ["LatencyHistogram", "OutcomeWindow", "TokenBucket"]

cdef extern from "loglinear_bytes.h":
    const size_t RS_HISTOGRAM_BYTES_MAX
    size_t rs_histogram_encode(const rs_histogram *histogram, uint8_t *out) noexcept nogil
    const char *rs_histogram_decode(rs_histogram *histogram, const uint8_t *data, size_t length) noexcept nogil

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef rs_clock *_clock = rs_clock_import()

cdef double NS = 1e9
cdef int64_t SECOND = 1_000_000_000
cdef int64_t MOST_TOKENS = 1_000_000_000_000
cdef int64_t MOST_CALLS = 10_000_000
cdef int64_t LATEST_NS = 1 << 61


cdef int64_t _integer(str name, object value, int64_t low, int64_t high) except -1:
    """An int in [low, high], low >= 0."""
    cdef int overflow = 0
    cdef int64_t number
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if low <= number <= high and not overflow:
            return number
    return _config.positive_int(name, value, zero_ok=low == 0, high=high)


cdef inline int64_t _now(object now_ns) except -1:
    """The time to use: what the caller says, or the clock's."""
    if now_ns is None:
        return rs_clock_now(_clock)
    return _integer("now_ns", now_ns, 0, LATEST_NS)


cdef double _seconds_enough(int64_t ns) noexcept:
    """Seconds that are not a rounding error shorter than *ns*."""
    cdef double seconds = <double> ns / NS
    return seconds if seconds * NS >= <double> ns else nextafter(seconds, seconds + 1)


cdef int64_t _nanoseconds(str name, object value) except -1:
    """Seconds >= 0 as ns; what is above the histogram's range is its end."""
    cdef double seconds
    if PyFloat_CheckExact(value):
        seconds = PyFloat_AS_DOUBLE(value)
        if 0.0 <= seconds < 17592.0:
            return <int64_t> (seconds * NS + 0.5)
    seconds = _config.number(name, value, low=0.0) * NS + 0.5
    return <int64_t> seconds if seconds < RS_HISTOGRAM_MAX_NS else RS_HISTOGRAM_MAX_NS


cdef inline double _share(str name, object value) except? -1:
    """A number in [0, 1]."""
    if PyFloat_CheckExact(value) and 0.0 <= PyFloat_AS_DOUBLE(value) <= 1.0:
        return PyFloat_AS_DOUBLE(value)
    return _config.number(name, value, low=0.0, high=1.0)


@cython.final
cdef class TokenBucket:
    """
    At most *burst* tokens at once and *rate* a second in the long run, exactly.

    The generic cell rate algorithm: one number and no timer, so an idle bucket costs nothing, and the time until a
    refused cost fits is known. Fractional, tiny and huge rates keep their long-run rate within 1e-9. A clock that goes
    backwards grants nothing extra.

    Args:
        rate: Tokens per second, at least one in ten years and at most 1e12.

        burst: Tokens that a full bucket holds, from 1 to 10**12; None: one second's worth, at least 1. Filling an empty
            bucket may take ten years at most.

        initial: Tokens it begins with, from 0 to *burst*; None: full.

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
        rs_gcra_init(&self.gcra, self.tokens_per_second, SECOND, size, now)
        rs_gcra_debit(&self.gcra, now, size - tokens)

    cdef int64_t _checked(self, object rate, object burst) except -1:
        """Refuse a wrong rate or burst; the burst to use."""
        cdef double per_second = _config.number("rate", rate, low=1 / _config.ABSURD_SECONDS, high=MOST_TOKENS)
        cdef int64_t size = max(1, <int64_t> per_second)
        if burst is not None:
            size = _integer("burst", burst, 1, MOST_TOKENS)
            if size > per_second * <double> _config.ABSURD_SECONDS:
                _config.refuse("burst", burst, f"at most ten years' worth of tokens at a rate of {rate!r}")
        return size

    cdef int64_t _amount(self, object n) except -1:
        """A number of tokens that a full bucket holds."""
        cdef int64_t amount = _integer("n", n, 1, INT64_MAX)
        if amount > self.gcra.burst:
            _config.refuse("n", n, f"at most the burst, {self.gcra.burst}: no wait would be long enough")
        return amount

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens_per_second

    @property
    def burst(self) -> int:
        """Tokens that a full bucket holds."""
        return self.gcra.burst

    def try_acquire(self, n=1, now_ns=None):
        """
        Take *n* tokens if they are there, else change nothing; never waits.

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
        cdef int taken = rs_gcra_take(&self.gcra, now, amount)
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
        Seconds until `try_acquire(n)` can succeed if nobody else takes tokens; 0.0 if it can now. Changes nothing.

        Args and raises: as `try_acquire`.
        """
        return _seconds_enough(self._wait(n, now_ns))

    cdef int64_t _wait(self, object n, object now_ns) except -1:
        cdef int64_t amount = self._amount(n), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t wait = rs_gcra_wait(&self.gcra, now, amount)
        rs_lock_release(&self.lock)
        return wait

    def available(self, now_ns=None):
        """
        Whole tokens there now; below zero while in debt.

        Args:
            now_ns: The time in ns; None: now.
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t tokens = rs_gcra_available(&self.gcra, now)
        rs_lock_release(&self.lock)
        return tokens

    def reserve(self, n=1, now_ns=None):
        """
        Take *n* tokens of the future: they are the caller's after the time that is returned.

        Who gives up before that gives them back with `refund`.

        Args:
            n: Tokens, from 1 to `burst`.

            now_ns: The time in ns; None: now.

        Returns:
            Seconds to wait; 0.0 if the tokens are there.

        Raises:
            ValueError: *n* is more than `burst`.
        """
        cdef int64_t amount = self._amount(n), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        cdef int64_t wait = rs_gcra_reserve(&self.gcra, now, amount)
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
        rs_gcra_give_back(&self.gcra, amount)
        rs_lock_release(&self.lock)

    def debit(self, n=1, now_ns=None):
        """
        Take *n* tokens whether they are there or not: a debt that later takers wait out.

        Args:
            n: Tokens, >= 1; may be more than `burst`.

            now_ns: The time in ns; None: now.
        """
        cdef int64_t amount = _integer("n", n, 1, INT64_MAX), now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_gcra_debit(&self.gcra, now, amount)
        rs_lock_release(&self.lock)

    def reset(self, now_ns=None):
        """
        Fill the bucket; a debt is forgiven.

        Args:
            now_ns: The time in ns; None: now.
        """
        cdef int64_t now = _now(now_ns)
        rs_lock_acquire(&self.lock)
        rs_gcra_fill(&self.gcra, now)
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
        rs_gcra_reconfigure(&self.gcra, per_second, SECOND, size, now)
        self.tokens_per_second = per_second
        rs_lock_release(&self.lock)

    def __repr__(self):
        return f"TokenBucket(rate={self.tokens_per_second!r}, burst={self.gcra.burst!r})"


@cython.final
cdef class LatencyHistogram:
    """
    Counts latencies so that every quantile is within 0.8 % of the sample it stands for, in at most 12 KB.

    Range 0 to 4.9 hours (2**44 ns), in whole nanoseconds; longer ones count as that. `count`, `sum`, `min` and `max`
    are exact. Histograms merge without loss, also across processes (`to_bytes`). Memory comes an octave at a time:
    latencies of 1 to 100 ms need 2.5 KB.
    """

    def __cinit__(self):
        rs_histogram_init(&self.histogram)

    def __dealloc__(self):
        rs_histogram_free(&self.histogram)

    def record(self, seconds, /):
        """
        Count one latency.

        Args:
            seconds: >= 0; rounded to a nanosecond.

        Raises:
            TypeError: Not a number, or a bool.
            ValueError: Negative, NaN or infinite.
        """
        cdef int64_t ns = _nanoseconds("seconds", seconds)
        rs_lock_acquire(&self.lock)
        rs_histogram_record(&self.histogram, ns)
        rs_lock_release(&self.lock)

    def record_ns(self, ns, /):
        """
        Count one latency given in nanoseconds.

        Args:
            ns: An int, 0 to 2**63 - 1.

        Raises:
            TypeError: Not an int, or a bool.
            ValueError: Out of range.
        """
        cdef int64_t value = _integer("ns", ns, 0, INT64_MAX)
        rs_lock_acquire(&self.lock)
        rs_histogram_record(&self.histogram, value)
        rs_lock_release(&self.lock)

    def quantile(self, q, /):
        """
        The latency that a share *q* of all did not exceed, within 0.8 %; NaN while empty.

        Args:
            q: 0 to 1; 0 is the exact minimum, 1 the exact maximum, 0.5 the lower median.

        Returns:
            Seconds.
        """
        cdef double share = _share("q", q)
        rs_lock_acquire(&self.lock)
        cdef int64_t ns = rs_histogram_quantile(&self.histogram, share)
        rs_lock_release(&self.lock)
        return <double> ns / NS if ns >= 0 else NAN

    def quantiles(self, qs, /):
        """
        Several quantiles of the same samples.

        Args:
            qs: Numbers from 0 to 1, in any order.

        Returns:
            A list of seconds, in the order of *qs*; NaN while empty.
        """
        cdef LatencyHistogram copy = self.copy()
        return [copy.quantile(q) for q in qs]

    @property
    def count(self) -> int:
        """Latencies counted."""
        rs_lock_acquire(&self.lock)
        cdef uint64_t count = self.histogram.count
        rs_lock_release(&self.lock)
        return count

    @property
    def lost(self) -> int:
        """Latencies that found no memory, and are in no other figure."""
        rs_lock_acquire(&self.lock)
        cdef uint64_t lost = self.histogram.lost
        rs_lock_release(&self.lock)
        return lost

    @property
    def sum(self) -> float:
        """The sum in seconds."""
        rs_lock_acquire(&self.lock)
        cdef double ns = rs_histogram_sum(&self.histogram)
        rs_lock_release(&self.lock)
        return ns / NS

    @property
    def mean(self) -> float:
        """The mean in seconds; NaN while empty."""
        rs_lock_acquire(&self.lock)
        cdef double ns = rs_histogram_sum(&self.histogram)
        cdef uint64_t count = self.histogram.count
        rs_lock_release(&self.lock)
        return ns / <double> count / NS if count else NAN

    @property
    def min(self) -> float:
        """The shortest in seconds; NaN while empty."""
        return self.quantile(0.0)

    @property
    def max(self) -> float:
        """The longest in seconds; NaN while empty."""
        return self.quantile(1.0)

    def buckets(self, bounds, /):
        """
        How many latencies are at or below each bound: the cumulative buckets of a classic Prometheus histogram.

        A latency within 0.8 % of a bound may be counted on its other side.

        Args:
            bounds: Seconds >= 0, in any order; infinity is allowed.

        Returns:
            A list of counts, in the order of *bounds*, all of the same samples.
        """
        cdef LatencyHistogram copy = self.copy()
        return [copy._at_or_below(bound) for bound in bounds]

    cdef object _at_or_below(self, object bound):
        if bound == INFINITY:
            return self.histogram.count
        return rs_histogram_at_or_below(&self.histogram, _nanoseconds("bounds", bound))

    def merge(self, other, /):
        """
        Count all that *other* has counted; *other* does not change.

        Args:
            other: A LatencyHistogram; may be this one.

        Raises:
            TypeError: Not a LatencyHistogram.
            OverflowError: More than 2**63 - 1 latencies; nothing has changed.
            MemoryError: No memory; nothing has changed.
        """
        if not isinstance(other, LatencyHistogram):
            _config.refuse("other", other, "a LatencyHistogram", TypeError)
        cdef LatencyHistogram copy = (<LatencyHistogram> other).copy()
        rs_lock_acquire(&self.lock)
        cdef bint many = copy.histogram.count > <uint64_t> INT64_MAX - self.histogram.count
        cdef int failed = rs_histogram_merge(&self.histogram, &copy.histogram)
        rs_lock_release(&self.lock)
        if failed:
            raise OverflowError("more than 2**63 - 1 latencies") if many else MemoryError()

    cpdef LatencyHistogram copy(self):
        """A histogram of its own with the same contents."""
        cdef rs_histogram copy
        rs_lock_acquire(&self.lock)
        cdef int failed = rs_histogram_copy(&copy, &self.histogram)
        rs_lock_release(&self.lock)
        if failed:
            raise MemoryError()
        return histogram_adopt(&copy)

    def since(self, earlier, /):
        """
        A histogram of what was counted since this one was *earlier*; its `min` and `max` are within 0.8 %.

        Args:
            earlier: A copy of this histogram, made before.

        Raises:
            TypeError: Not a LatencyHistogram.
            ValueError: It holds what this one does not: no earlier copy, or one from before a reset.
        """
        if not isinstance(earlier, LatencyHistogram):
            _config.refuse("earlier", earlier, "a LatencyHistogram", TypeError)
        cdef LatencyHistogram now = self.copy(), before = (<LatencyHistogram> earlier).copy()
        cdef rs_histogram found
        cdef int failed = rs_histogram_since(&found, &now.histogram, &before.histogram)
        if failed < 0:
            raise MemoryError()
        if failed:
            _config.refuse("earlier", earlier, "an earlier copy of this histogram")
        return histogram_adopt(&found)

    def reset(self):
        """Forget everything; the memory is given back."""
        rs_lock_acquire(&self.lock)
        rs_histogram_reset(&self.histogram)
        rs_lock_release(&self.lock)

    def to_bytes(self):
        """The contents, compact (about two bytes a cell in use), for `from_bytes` in any process of any machine."""
        cdef uint8_t *out = <uint8_t *> malloc(RS_HISTOGRAM_BYTES_MAX)
        if out == NULL:
            raise MemoryError()
        rs_lock_acquire(&self.lock)
        cdef size_t length = rs_histogram_encode(&self.histogram, out)
        rs_lock_release(&self.lock)
        try:
            body = PyBytes_FromStringAndSize(<char *> out, length)
        finally:
            free(out)
        return body + crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data, /):
        """
        A histogram with the contents that `to_bytes` wrote.

        Args:
            data: bytes, bytearray or memoryview.

        Raises:
            TypeError: Not bytes.
            ValueError: Cut off, altered, of an unknown version, or no histogram.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            _config.refuse("data", data, "bytes that LatencyHistogram.to_bytes made", TypeError)
        cdef bytes body = bytes(data[:-4])
        if len(data) < 4 or crc32(body).to_bytes(4, "little") != bytes(data[-4:]):
            _config.refuse("data", data, "bytes that LatencyHistogram.to_bytes made (the checksum is wrong)")
        return _decoded(data, body)

    def __reduce__(self):
        return LatencyHistogram.from_bytes, (self.to_bytes(),)

    def __sizeof__(self):
        rs_lock_acquire(&self.lock)
        cdef size_t memory = rs_histogram_memory(&self.histogram)
        rs_lock_release(&self.lock)
        return object.__sizeof__(self) + memory - sizeof(rs_histogram)

    def __repr__(self):
        p50, p99, longest = self.quantiles((0.5, 0.99, 1.0))
        return f"<LatencyHistogram count={self.count} p50={p50:.3g} p99={p99:.3g} max={longest:.3g}>"


cdef object _decoded(object data, bytes body):
    cdef rs_histogram histogram
    cdef const char *wrong = rs_histogram_decode(&histogram, body, len(body))
    if wrong != NULL:
        _config.refuse("data", data, f"bytes that LatencyHistogram.to_bytes made ({wrong.decode()})")
    return histogram_adopt(&histogram)


cdef LatencyHistogram histogram_adopt(rs_histogram *copy):
    cdef LatencyHistogram made
    try:
        made = LatencyHistogram.__new__(LatencyHistogram)
    except BaseException:
        rs_histogram_free(copy)
        raise
    made.histogram = copy[0]
    rs_histogram_init(copy)
    return made


@cython.final
cdef class OutcomeWindow:
    """
    How many of the last calls failed and how many were slow, always ready, in constant time.

    By time, an outcome counts for its whole span less at most a twentieth, and never longer. A clock that goes
    backwards stands still.

    Args:
        window: 200 is the last 200 calls (at most 10**7), "60s" or a timedelta is time, (200, "60s") is of the last 200
            calls those not older than 60 s.

    Raises:
        TypeError: A float (calls or seconds?), or another wrong type.
        ValueError: Out of range.
    """

    def __cinit__(self, window):
        from resilio._options import parse_window      # the record it returns is declared with attrs, which is slow to import

        self.spec = parse_window("window", window)
        calls, seconds = self.spec.calls or 0, self.spec.seconds
        cdef int64_t span = 0 if seconds is None else round(seconds * 1e9)
        if calls > MOST_CALLS:
            _config.refuse("window", window, f"at most {MOST_CALLS} calls")
        if seconds is not None and span < RS_WINDOW_BUCKETS:
            _config.refuse("window", window, f"at least {RS_WINDOW_BUCKETS} ns")
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
        What is in the window, of one moment.

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
        """How many of them failed."""
        return self.counts()[1]

    @property
    def slow(self) -> int:
        """How many of them were slow."""
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
