"""The laws of an adaptive limit, for gates with one in their own memory: C arithmetic, safe under a gate's lock."""

from libc.stdint cimport int64_t, uint8_t

cdef extern from "laws.h" nogil:
    enum:
        RS_LAW_DEFAULT

    ctypedef struct rs_law:
        double limit            # in force: always finite and within floor..ceiling
        double learned          # the same without dips, in which a law measures few calls
        double floor
        double ceiling
        double start
        double mean             # latency in ns; 0: none yet
        double knee             # estimated workers; of the default law
        double patience         # of callers, in ns, set by the owner; 0: unknown
        uint8_t kind
        uint8_t phase
        uint8_t fresh           # no conclusion yet
        uint8_t regains         # rises again after a time without answers

    void rs_law_init(rs_law *, int kind, double start, double floor, double ceiling)
    void rs_law_queue_before(rs_law *)
    void rs_law_reset(rs_law *)
    void rs_law_bound(rs_law *, double floor, double ceiling)
    void rs_law_learn(rs_law *, int64_t latency_ns, int64_t inflight, int64_t present, int dropped, int64_t now_ns)
    double rs_law_baseline(const rs_law *)
    bint rs_law_untouched(const rs_law *)

cdef class Law:
    cdef rs_law law

    cdef inline void take(self, int64_t latency_ns, int64_t inflight, bint dropped, int64_t now_ns) noexcept nogil:
        rs_law_learn(&self.law, latency_ns, inflight, 0, dropped, now_ns)

cpdef int kind_of(str name) except -1
