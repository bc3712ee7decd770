# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The laws of an adaptive limit (src_c/include/laws.h) for Python: to replay one on a recorded trace.

A gate keeps an `rs_law` in its own memory and teaches it under its own lock; this class is one without a gate.
"""

from libc.math cimport isnan
from libc.stdint cimport int64_t


__all__ = ["LAWS", "Law", "kind_of"]

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
    """A law that learns a limit from how calls end, apart from any gate. Not for several threads at once."""

    def __init__(self, str law="default", *, double start=20.0, double floor=1.0, double ceiling=1000.0):
        """
        Make a law that has learned nothing.

        Args:
            law: default, gradient, vegas or aimd.

            start: The limit to begin with.

            floor: The least limit, >= 1.

            ceiling: The largest limit, >= floor.

        Raises:
            ValueError: No such law, or bounds that contradict.
        """
        if not 1 <= floor <= ceiling <= MOST_INFLIGHT:
            raise ValueError(f"1 <= floor <= ceiling <= {MOST_INFLIGHT} must hold, not floor={floor!r}, "
                             f"ceiling={ceiling!r}")
        if not 0 < start <= MOST_INFLIGHT:
            raise ValueError(f"start must be a number > 0 and <= {MOST_INFLIGHT}, not {start!r}")
        rs_law_init(&self.law, kind_of(law), start, floor, ceiling)

    def learn(self, double now, double latency, double inflight, bint dropped=False):
        """
        Learn from the end of one call; whatever the numbers, the limit stays finite and within its bounds.

        Args:
            now: When it ended, in seconds; only differences count. Without (NaN) calls are not told apart by when they came.

            latency: What it took, in seconds: 0 and less count as the least there is, NaN teaches nothing.

            inflight: Calls in flight when it was admitted, itself included.

            dropped: It timed out or was refused: its latency says nothing.
        """
        if isnan(latency) or isnan(inflight):
            return
        cdef int64_t latency_ns = 1
        cdef int64_t level = 1
        if latency > 0:
            latency_ns = <int64_t>min(latency * 1e9, LONGEST_NS)
        if inflight > 1:
            level = <int64_t>min(inflight, <double>MOST_INFLIGHT)
        cdef double now_ns = 0.0 if isnan(now) else max(min(now * 1e9, LONGEST_NS), -LONGEST_NS)
        rs_law_learn(&self.law, latency_ns, level, 0, dropped, <int64_t>now_ns)

    def reset(self):
        """Forget everything learned."""
        rs_law_reset(&self.law)

    def bound(self, double floor, double ceiling):
        """Move the bounds, 1 <= floor <= ceiling, and keep what was learned."""
        if not 1 <= floor <= ceiling <= MOST_INFLIGHT:
            raise ValueError(f"1 <= floor <= ceiling <= {MOST_INFLIGHT} must hold, not floor={floor!r}, "
                             f"ceiling={ceiling!r}")
        rs_law_bound(&self.law, floor, ceiling)

    @property
    def name(self):
        """Which law it is."""
        return LAWS[self.law.kind]

    @property
    def limit(self):
        """The limit in force: how many calls, rounded down, may be in flight."""
        return self.law.limit

    @property
    def learned(self):
        """The limit but for the moments in which the default law lets few calls be in flight, to see what they take."""
        return self.law.learned

    @property
    def baseline(self):
        """What a call takes where none waits, in seconds; None: not known yet."""
        cdef double baseline_ns = rs_law_baseline(&self.law)
        return baseline_ns / 1e9 if baseline_ns > 0 else None
