"""
The laws of an adaptive limit (src_c/include/laws.h) for Python: to replay one on a recorded trace.

A gate has an `rs_law` in its own memory and updates it under its own lock; this class is a law without a gate.
"""

from libc.math cimport isnan
from libc.stdint cimport int64_t


cdef enum:
    MOST_INFLIGHT = 1_000_000_000

cdef double LONGEST_NS = 4e18               # 126 years, well within an int64

LAWS = ("default", "gradient", "vegas", "aimd")


cpdef int kind_of(str name) except -1:
    """Return the number of the law of this name, as `rs_law_init` takes it."""
    if name not in LAWS:
        raise ValueError(f"law must be one of {', '.join(LAWS)}, not {name!r}")
    return LAWS.index(name)


cdef class Law:
    """Law that learns a limit from ends of calls, without a gate. Not thread-safe."""

    def __init__(self, str law="default", *, double start=20.0, double floor=1.0, double ceiling=1000.0):
        """
        Make a law that has learned nothing.

        Args:
            law: default, gradient, vegas or aimd.

            start: The limit to begin with.

            floor: The least limit, >= 1.

            ceiling: The largest limit, >= floor.

        Raises:
            ValueError: No such law, or contradictory bounds.
        """
        if not 1 <= floor <= ceiling <= MOST_INFLIGHT:
            raise ValueError(f"1 <= floor <= ceiling <= {MOST_INFLIGHT} must hold, not floor={floor!r}, "
                             f"ceiling={ceiling!r}")
        if not 0 < start <= MOST_INFLIGHT:
            raise ValueError(f"start must be a number > 0 and <= {MOST_INFLIGHT}, not {start!r}")
        rs_law_init(&self.law, kind_of(law), start, floor, ceiling)

    def learn(self, double now, double latency, double inflight, bint dropped=False, double present=0.0):
        """
        Learn from the end of one call; with any numbers the limit stays finite and within its bounds.

        Args:
            now: Time of its end, in seconds; only differences count. With NaN, the law ignores when calls arrived.

            latency: Seconds from admission to end; 0 and less count as a nanosecond, a call with NaN is ignored.

            inflight: Calls in flight at its admission, itself included.

            dropped: It timed out or was rejected, so its latency is no evidence.

            present: Calls in flight at its end, itself included; less than 1 and NaN: unknown.
        """
        if isnan(latency) or isnan(inflight):
            return
        cdef int64_t latency_ns = 1
        cdef int64_t level = 1
        cdef int64_t now_present = 0
        if latency > 0:
            latency_ns = <int64_t>min(latency * 1e9, LONGEST_NS)
        if inflight > 1:
            level = <int64_t>min(inflight, <double>MOST_INFLIGHT)
        if present >= 1:
            now_present = <int64_t>min(present, <double>MOST_INFLIGHT)
        cdef double now_ns = 0.0 if isnan(now) else max(min(now * 1e9, LONGEST_NS), -LONGEST_NS)
        rs_law_learn(&self.law, latency_ns, level, now_present, dropped, <int64_t>now_ns)

    def reset(self):
        """Forget the learned state."""
        rs_law_reset(&self.law)

    def bound(self, double floor, double ceiling):
        """Move the bounds, 1 <= floor <= ceiling, and keep the learned state."""
        if not 1 <= floor <= ceiling <= MOST_INFLIGHT:
            raise ValueError(f"1 <= floor <= ceiling <= {MOST_INFLIGHT} must hold, not floor={floor!r}, "
                             f"ceiling={ceiling!r}")
        rs_law_bound(&self.law, floor, ceiling)

    @property
    def name(self):
        """Name of the law."""
        return LAWS[self.law.kind]

    @property
    def limit(self):
        """The limit in force: the number of calls, rounded down, that may be in flight."""
        return self.law.limit

    @property
    def learned(self):
        """The limit without dips: moments in which the default law admits few calls, to measure them."""
        return self.law.learned

    @property
    def baseline(self):
        """Latency without queueing, in seconds; None: not known yet."""
        cdef double baseline_ns = rs_law_baseline(&self.law)
        return baseline_ns / 1e9 if baseline_ns > 0 else None
