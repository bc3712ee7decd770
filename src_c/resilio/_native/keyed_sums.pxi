"""
Counters of gates for repeated readings: a part of keyed.pyx.

`Sums` is a gate that admits nothing and holds the added counters of many gates of one kind. `News` reads the changes of
one gate since the last reading.
"""

from libc.math cimport round as nearest
from libc.string cimport memcmp, memcpy

from resilio._native.gate cimport RS_SPENT
from resilio._native.primitives cimport rs_histogram_copy, rs_histogram_quantile, rs_histogram_since

from resilio._native.core import SEGMENTS


cdef class Sums(Gate):
    """
    The added counters of several gates, with the readings of a single gate.

    Args:
        like: A gate of the kind and with the reasons of all.
    """

    def __init__(self, Gate like not None):
        self.ops = like.ops

    def add(self, list gates not None):
        """
        Add the present counters of some gates.

        Args:
            gates: Of the kind of *like*.

        Raises:
            TypeError: A gate of another kind, or no gate.

            MemoryError: No memory for all latencies.
        """
        cdef Gate gate
        for one in gates:
            gate = <Gate?>one
            if gate.ops.kind != self.ops.kind:
                raise TypeError(f"{gate.kind} cannot be added to what {self.kind}s have counted")
            if rs_gate_add(<rs_gate *><PyObject *>self, <rs_gate *><PyObject *>gate):
                raise MemoryError("no memory for all latencies")


# ---- the changes of one gate -----------------------------------------------------------------------------------

cdef tuple segments = (*SEGMENTS, "wasted")
cdef tuple totals = (
    "inflight", "queued", "calls", "successes", "failures", "ignored", "rejected", "would_reject", "cancelled",
)


@cython.final
cdef class News:
    """
    Reads the numbers of one gate: at first all, later those that have changed since the last reading.

    Totals are since the gate was made. Rates per second, quantiles in milliseconds and the seconds by segment ("time")
    are of the interval between two readings, None or 0 at the first. For one thread at a time.
    """

    cdef rs_counters counters           # all as last read
    cdef int64_t spent_ns[RS_SPENT]
    cdef rs_latencies latency, interval
    cdef int64_t read_ns                # 0: never
    cdef bint still                     # nothing changed, and the last reading showed that
    cdef double last[6]                 # rates and quantiles as last returned; -1: None
    cdef dict time

    def __cinit__(self):
        rs_histogram_init(&self.latency)
        rs_histogram_init(&self.interval)

    def __dealloc__(self):
        rs_histogram_free(&self.latency)
        rs_histogram_free(&self.interval)

    @property
    def latency(self):
        """The latencies of the last interval as a LatencyHistogram; None if no call has ended in it."""
        cdef rs_latencies copy
        if self.interval.count == 0:
            return None
        if rs_histogram_copy(&copy, &self.interval):
            raise MemoryError("no memory for a copy of the latencies")
        return histogram_adopt(&copy)

    def read(self, Gate gate not None, int64_t now_ns):
        """
        Return the numbers that have changed, by name; all of them at the first reading.

        Args:
            gate: The same each time, or Sums of the same gates.

            now_ns: On resilio's clock.

        Raises:
            MemoryError: No memory for a copy of the latencies; the next reading includes what this one missed.
        """
        cdef rs_gate *of = <rs_gate *><PyObject *>gate
        cdef rs_counters counters
        cdef rs_latencies latency
        cdef int64_t spent_ns[RS_SPENT]
        cdef int failed = 0
        rs_lock_acquire(&of.lock)
        counters = of.counters
        memcpy(spent_ns, of.spent_ns, sizeof(spent_ns))
        cdef bint same = self.read_ns and memcmp(&counters, &self.counters, sizeof(counters)) == 0
        cdef bint ended = not self.read_ns or (
            counters.successes + counters.failures != self.counters.successes + self.counters.failures
        )
        rs_histogram_init(&latency)
        if ended:
            failed = rs_histogram_copy(&latency, <rs_latencies *>&of.latency)
        rs_lock_release(&of.lock)
        if failed:
            raise MemoryError("no memory for a copy of the latencies")
        if same and self.still:
            self.read_ns = now_ns
            return {}
        found = {}
        self.add_totals(found, &counters)
        self.add_rates(found, &counters, now_ns)
        self.add_quantiles(found, ended, &latency)
        self.add_time(found, spent_ns)
        self.counters, self.read_ns, self.still = counters, now_ns, same
        return found

    cdef int add_totals(self, dict found, const rs_counters *now) except -1:
        cdef dict new = now[0], old = self.counters
        for name in totals:
            if self.read_ns == 0 or new[name] != old[name]:
                found[name] = new[name]
        return 0

    cdef int add_rates(self, dict found, const rs_counters *now, int64_t now_ns) except -1:
        cdef double seconds = <double>(now_ns - self.read_ns) / 1e9 if self.read_ns else 0.0
        self.add_if_new(found, 0, "calls_s", rate(now.calls, self.counters.calls, seconds))
        self.add_if_new(found, 1, "failures_s", rate(now.failures, self.counters.failures, seconds))
        self.add_if_new(found, 2, "rejected_s", rate(now.rejected, self.counters.rejected, seconds))
        return 0

    cdef int add_quantiles(self, dict found, bint ended, rs_latencies *now) except -1:
        """Add the quantiles of calls that ended in the interval; takes ownership of *now*."""
        rs_histogram_free(&self.interval)
        rs_histogram_init(&self.interval)
        if ended:
            if self.read_ns and rs_histogram_since(&self.interval, now, &self.latency):
                rs_histogram_init(&self.interval)   # no memory, or the gate was reset
            rs_histogram_free(&self.latency)
            self.latency = now[0]
        self.add_if_new(found, 3, "p50", quantile(&self.interval, 0.5))
        self.add_if_new(found, 4, "p95", quantile(&self.interval, 0.95))
        self.add_if_new(found, 5, "p99", quantile(&self.interval, 0.99))
        return 0

    cdef int add_if_new(self, dict found, int which, str name, double value) except -1:
        if self.read_ns == 0 or value != self.last[which]:
            self.last[which] = value
            found[name] = value if value >= 0 else None
        return 0

    cdef int add_time(self, dict found, const int64_t *spent_ns) except -1:
        cdef dict time = {}
        cdef double seconds
        cdef int i
        for i in range(RS_SPENT):
            seconds = rounded(<double>(spent_ns[i] - self.spent_ns[i]) / 1e9) if self.read_ns else 0.0
            if seconds > 0:
                time[segments[i]] = seconds
        memcpy(self.spent_ns, spent_ns, sizeof(self.spent_ns))
        if self.time is None or time != self.time:
            found["time"] = self.time = time
        return 0


cdef double rate(uint64_t now, uint64_t before, double seconds) noexcept:
    return rounded(<double>(now - before) / seconds) if seconds > 0 and now > before else 0.0


cdef double quantile(const rs_latencies *latency, double share) noexcept:
    return rounded(<double>rs_histogram_quantile(latency, share) / 1e6) if latency.count else -1.0


cdef double rounded(double value) noexcept:
    """The value rounded for people: four decimal places, fewer for larger numbers."""
    cdef double scale = 10.0 if value >= 100 else 100.0 if value >= 1 else 10000.0
    return nearest(value * scale) / scale
