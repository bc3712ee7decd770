"""What the breaker keeps, and as much of the gate contract as it uses."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "gate.h" nogil:
    const int64_t RS_NEVER
    enum:
        RS_ADMITTED
        RS_REJECTED
        RS_FAILURE
        RS_IGNORED
        RS_SLOT_SHADOW

    ctypedef struct rs_lock:
        pass
    void rs_lock_acquire(rs_lock *)
    void rs_lock_release(rs_lock *)

    ctypedef struct rs_histogram:
        pass
    int64_t rs_histogram_quantile(const rs_histogram *, double)

    ctypedef struct rs_request:
        pass
    ctypedef struct rs_slot:
        uint64_t generation
        int64_t admitted_ns
        int64_t first_ns
        uint32_t mark
        uint8_t state
    ctypedef struct rs_refusal:
        int reason
        double measured
        double limit
        int64_t retry_after_ns
    ctypedef struct rs_counters:
        uint64_t calls, successes, failures, ignored, rejected, would_reject, would_wait, cancelled
        int64_t inflight, queued
    ctypedef struct rs_gate:
        rs_lock lock
        rs_counters counters
        rs_histogram latency

    ctypedef int (*rs_admit_op)(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_refusal *) noexcept nogil
    ctypedef int (*rs_recheck_op)(rs_gate *, rs_slot *, int64_t, rs_refusal *) noexcept nogil
    ctypedef void (*rs_cancel_op)(rs_gate *, rs_slot *, int64_t) noexcept nogil
    ctypedef void (*rs_settle_op)(rs_gate *, rs_slot *, int, int64_t, int64_t) noexcept nogil
    ctypedef void (*rs_forget_op)(rs_gate *, int64_t) noexcept nogil
    ctypedef struct rs_gate_ops:
        const char *kind
        const char *error
        const char *const *reasons
        const char *const *states
        rs_admit_op admit
        rs_recheck_op recheck
        rs_cancel_op cancel
        rs_settle_op settle
        rs_forget_op forget

    bint rs_gate_enforced(rs_gate *)
    void rs_gate_change(rs_gate *, uint8_t, uint8_t, uint8_t, int64_t)

    ctypedef class resilio._native.core.Gate [object rs_gate, check_size error]:
        cdef const rs_gate_ops *ops
        cdef rs_lock lock
        cdef rs_counters counters

cdef extern from "window.h" nogil:
    ctypedef struct rs_window:
        uint64_t total
        uint64_t failed
        uint64_t slow
    int rs_window_init(rs_window *, uint32_t, int64_t)
    void rs_window_record(rs_window *, int64_t, int, int)
    void rs_window_advance(rs_window *, int64_t)
    void rs_window_reset(rs_window *)
    void rs_window_free(rs_window *)
    size_t rs_window_memory(const rs_window *)

cdef enum:
    MOST_PROBES = 16

ctypedef struct rs_lease:
    int64_t until_ns
    uint32_t number

ctypedef struct rs_breaker_options:
    double failure_rate
    double slow_rate
    uint64_t min_calls
    int64_t consecutive     # INT64_MAX: off
    int64_t slow_ns         # a call that lasts longer is slow; RS_NEVER: off
    int64_t open_ns
    int64_t max_open_ns
    int64_t lease_ns        # 0: from the latencies seen
    int64_t ramp_ns         # 0: none
    int64_t window_ns       # 0: any age
    uint32_t probes
    uint32_t window_calls   # 0: any number

ctypedef struct rs_breaker:
    uint64_t generation     # grows with every change of state: what was admitted before it is stale
    uint8_t state
    uint8_t passing         # every call is admitted without a look at the clock
    rs_breaker_options options
    rs_window window
    int64_t in_a_row        # failures since the last success
    int64_t last_ns         # the latest time seen outside of the fast path
    int64_t until_ns        # open until then
    int64_t open_ns         # this open time before jitter, doubled by every re-opening
    int64_t ramp_end_ns     # 0: no ramp under way
    int64_t ramp_credit
    double trip_measured
    double trip_limit
    uint32_t proven         # probes of this round that succeeded
    uint32_t leases
    uint32_t last_lease
    uint64_t random
    uint64_t stale          # results dropped because their generation was over
    uint64_t lapsed         # leases that ran out
    rs_lease lease[MOST_PROBES]

# The memory of a BreakerGate seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_breaker_object:
    rs_gate gate
    rs_breaker breaker

cdef class BreakerGate(Gate):
    cdef rs_breaker breaker
