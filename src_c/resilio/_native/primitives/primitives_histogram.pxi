"""
The latency histogram, its bytes and its copies: a part of primitives.pyx.
"""


@cython.final
cdef class LatencyHistogram:
    """
    Counts latencies in at most 12 KB, with every quantile within 0.8 % of the sample it stands for.

    Range 0 to 4.9 hours (2**44 ns), in whole nanoseconds; longer latencies count as that. `count`, `sum`, `min`
    and `max` are exact. Histograms merge without loss, also across processes (`to_bytes`). Memory comes an octave at a
    time: latencies of 1 to 100 ms need 2.5 KB.
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
        The latency not exceeded by a share *q* of all, within 0.8 %; NaN while empty.

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
        """Latencies dropped for lack of memory; no other figure includes them."""
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
        The numbers of latencies at or below each bound: the cumulative buckets of a classic Prometheus histogram.

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
        Add all latencies of *other*, which does not change.

        Args:
            other: A LatencyHistogram; may be this one.

        Raises:
            TypeError: Not a LatencyHistogram.
            OverflowError: More than 2**63 - 1 latencies; nothing has changed.
            MemoryError: No memory; nothing has changed.
        """
        if not isinstance(other, LatencyHistogram):
            _config.reject("other", other, "a LatencyHistogram", TypeError)
        cdef LatencyHistogram copy = (<LatencyHistogram> other).copy()
        rs_lock_acquire(&self.lock)
        cdef bint many = copy.histogram.count > <uint64_t> INT64_MAX - self.histogram.count
        cdef int failed = rs_histogram_merge(&self.histogram, &copy.histogram)
        rs_lock_release(&self.lock)
        if failed:
            raise OverflowError("more than 2**63 - 1 latencies") if many else MemoryError()

    cpdef LatencyHistogram copy(self):
        """Return an independent histogram with the same contents."""
        cdef rs_histogram copy
        rs_lock_acquire(&self.lock)
        cdef int failed = rs_histogram_copy(&copy, &self.histogram)
        rs_lock_release(&self.lock)
        if failed:
            raise MemoryError()
        return histogram_adopt(&copy)

    def since(self, earlier, /):
        """
        A histogram of the latencies counted since the copy *earlier*; its `min` and `max` are within 0.8 %.

        Args:
            earlier: A copy of this histogram, made before.

        Raises:
            TypeError: Not a LatencyHistogram.
            ValueError: *earlier* is no copy of this histogram, or one from before a reset.
        """
        if not isinstance(earlier, LatencyHistogram):
            _config.reject("earlier", earlier, "a LatencyHistogram", TypeError)
        cdef LatencyHistogram now = self.copy(), before = (<LatencyHistogram> earlier).copy()
        cdef rs_histogram found
        cdef int failed = rs_histogram_since(&found, &now.histogram, &before.histogram)
        if failed < 0:
            raise MemoryError()
        if failed:
            _config.reject("earlier", earlier, "an earlier copy of this histogram")
        return histogram_adopt(&found)

    def reset(self):
        """Forget all latencies and free their memory."""
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
            _config.reject("data", data, "bytes that LatencyHistogram.to_bytes made", TypeError)
        cdef bytes body = bytes(data[:-4])
        if len(data) < 4 or crc32(body).to_bytes(4, "little") != bytes(data[-4:]):
            _config.reject("data", data, "bytes that LatencyHistogram.to_bytes made (the checksum is wrong)")
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
        _config.reject("data", data, f"bytes that LatencyHistogram.to_bytes made ({wrong.decode()})")
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
