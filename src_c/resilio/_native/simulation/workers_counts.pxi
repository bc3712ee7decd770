"""
The counters of simulated calls: a part of workers.pxi.
"""


cdef class Counts:
    """The counters of a slice of time, or of a load."""

    cdef public int64_t offered, good, late, failed, rejected, gave_up, unfinished, sent, arrived
    cdef readonly object latency

    def __cinit__(self):
        self.latency = LatencyHistogram()


cdef class Tally:
    """
    The counts of one run.

    Args:
        slices: The counts of each slice of the time line.

        slice_ns: The length of a slice.

        deadline_ns: The longest time from the arrival of a task to a good answer.

        warm_ns: Tasks that arrive before this time count in their slice only.

        bin_ns: The length of a bin of `offered_bins` and `good_bins`; 0: these are not counted.

        bins: The number of bins.
    """

    cdef public int64_t offered, requests, sent, received, in_outage, done, wasted
    cdef readonly list slices, offered_bins, good_bins
    cdef int64_t _slice_ns, _deadline_ns, _warm_ns, _bin_ns

    def __init__(self, list slices, int64_t slice_ns, int64_t deadline_ns, int64_t warm_ns, int64_t bin_ns, int bins):
        self.slices = slices
        self.offered_bins = [0] * bins
        self.good_bins = [0] * bins
        self._slice_ns = slice_ns
        self._deadline_ns = deadline_ns
        self._warm_ns = warm_ns
        self._bin_ns = bin_ns

    cdef Counts _at(self, int64_t when_ns):
        cdef Py_ssize_t number = (when_ns - BEGIN) // self._slice_ns, last = len(self.slices) - 1
        return <Counts>self.slices[number if number < last else last]

    cdef void _bin(self, list bins, int64_t when_ns):
        if self._bin_ns:
            bins[(when_ns - BEGIN) // self._bin_ns] += 1

    cdef void _begun(self, int64_t now_ns):
        cdef Counts part = self._at(now_ns)
        self.offered += 1
        part.offered += 1
        self._bin(self.offered_bins, now_ns)

    def answered(self, Counts load, int64_t born_ns, int64_t now_ns):
        """Count a task of a load that has received its answer."""
        cdef Counts part = self._at(born_ns)
        cdef int64_t took = now_ns - born_ns
        cdef bint warm = born_ns >= self._warm_ns
        part.latency.record_ns(took)
        if warm:
            load.latency.record_ns(took)
        if took <= self._deadline_ns:
            part.good += 1
            load.good += warm
            self._bin(self.good_bins, born_ns)
        else:
            part.late += 1
            load.late += warm

    def ended(self, Counts load, int64_t born_ns, str fate):
        """Count a task of a load that ends without an answer."""
        for counts in (self._at(born_ns), load) if born_ns >= self._warm_ns else (self._at(born_ns),):
            setattr(counts, fate, getattr(counts, fate) + 1)

    cdef void _attempted(self, int64_t now_ns):
        cdef Counts part = self._at(now_ns)
        self.sent += 1
        part.sent += 1

    cpdef arrived(self, int64_t now_ns):
        """Count a request that has reached a replica."""
        cdef Counts part = self._at(now_ns)
        self.received += 1
        part.arrived += 1

    def rejected(self, who, reason):
        """Count a rejection; a subclass keeps the reasons."""
        raise NotImplementedError
