"""The state of a circuit breaker."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate

cdef extern from "window.h" nogil:
    ctypedef struct rs_window:
        uint64_t total
        uint64_t failed
        uint64_t slow
    int rs_window_init(rs_window *, uint32_t, int64_t)
    void rs_window_record(rs_window *, int64_t, int, int)
    bint rs_window_is_current(const rs_window *, int64_t)
    void rs_window_add(rs_window *, bint, bint)
    void rs_window_advance(rs_window *, int64_t)
    void rs_window_reset(rs_window *)
    void rs_window_free(rs_window *)
    size_t rs_window_memory(const rs_window *)

cdef extern from "throttle.h" nogil:
    ctypedef struct rs_overdue:
        uint64_t overdue
        uint64_t answered
        int64_t end_ns
    double RS_THROTTLE_RELIEF
    double rs_throttle_share(uint64_t, uint64_t, double)
    double rs_throttle_sure(uint64_t, uint64_t, double)
    bint rs_throttle_proof(int64_t, uint64_t, uint64_t)
    void rs_overdue_reset(rs_overdue *)
    void rs_overdue_turn(rs_overdue *, int64_t, int64_t)
    int64_t rs_overdue_begin(rs_overdue *)
    void rs_overdue_end(rs_overdue *, int64_t)
    bint rs_overdue_silent(const rs_overdue *)

cdef extern from "span.h" nogil:
    ctypedef struct rs_span:
        int64_t since_ns
        uint32_t first
        uint32_t last
        uint32_t failed
        uint32_t on
    bint rs_span_before(uint32_t, uint32_t)
    void rs_span_begin(rs_span *, uint32_t, int64_t)
    void rs_span_add(rs_span *, uint32_t, bint)
    uint64_t rs_span_calls(const rs_span *)
    int64_t rs_span_pending(const rs_span *, int64_t)

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
    uint32_t closing        # successful probes that close it
    uint32_t window_calls   # 0: any number
    uint32_t throttle       # the probabilistic mode
    uint32_t sure           # the default law: failures open it only if chance cannot explain them

ctypedef struct rs_breaker:
    uint64_t generation     # grows with every change of state: results of calls admitted before are stale
    uint8_t state
    uint8_t passing         # every call is admitted without a look at the clock
    rs_breaker_options options
    rs_window window
    int64_t in_a_row        # the row: failures, and callers that left, of calls that began after every success
    int64_t left            # of the row: callers that left
    int64_t left_ns         # of the row: when the last caller left
    uint32_t begun          # while closed: the number of the call admitted last
    uint32_t good           # the number of a call: the latest-begun one that has succeeded
    rs_span row             # of the failures in a row
    rs_span wave            # of the overlapping calls by which the rate is judged
    int64_t good_in_a_row   # while throttling: calls since the last failed or slow one
    int64_t sent_ns         # while throttling: when the last call passed
    rs_overdue overdue      # in the probabilistic mode: calls in flight
    int64_t last_ns         # the latest time seen outside of the fast path
    int64_t until_ns        # open until then
    int64_t forced_ns       # forced open until then; 0: without limit, or not forced open
    int64_t open_ns         # this open time before jitter, half as long again after every re-opening
    int64_t ramp_end_ns     # 0: no ramp in progress
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
