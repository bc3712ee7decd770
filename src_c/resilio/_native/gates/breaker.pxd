"""The state of a circuit breaker."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_gate_ops
from resilio._native.shared cimport rs_courier, rs_member, rs_owner_slot

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
    void rs_span_pass(rs_span *, uint32_t)
    uint64_t rs_span_calls(const rs_span *)
    int64_t rs_span_pending(const rs_span *, int64_t)

    ctypedef struct rs_window_bucket:
        uint64_t total
        uint64_t failed
        uint64_t slow
    rs_window_bucket rs_window_recent(const rs_window *, uint64_t)

cdef extern from "shared/breaker_rows.h" nogil:
    enum:
        RS_SHARED_PLACES
        RS_WORKERS
    ctypedef uint64_t rs_word64         # atomic
    ctypedef struct rs_shared_row:
        rs_word64 calls
        rs_word64 begun_ns
        rs_word64 good_ns
        rs_word64 counts
        rs_word64 run
        uint32_t generation
    ctypedef struct rs_shared_breaker:
        rs_word64 word
        rs_word64 trip
        rs_word64 lease[RS_SHARED_PLACES]
        rs_shared_row row[RS_WORKERS]
    ctypedef struct rs_shared_sum:
        uint64_t total, failed, slow
        int64_t run
        uint32_t workers
    ctypedef struct rs_shared_rule:
        double failure_rate
        double slow_rate
        uint64_t min_calls
        int64_t consecutive
        int64_t patience_ns
        uint8_t by_rate
        uint8_t sure
        uint8_t proof
    enum:
        RS_SHARED_BY_RUN
        RS_SHARED_BY_RATE
        RS_SHARED_BY_SLOWNESS
    const int64_t RS_SHARED_AHEAD
    uint64_t rs_atomic_load(const rs_word64 *)
    void rs_atomic_store(void *, uint64_t)
    uint32_t rs_shared_state(uint64_t)
    uint32_t rs_shared_reason(uint64_t)
    uint32_t rs_shared_reopened(uint64_t)
    uint32_t rs_shared_until(uint64_t)
    uint64_t rs_shared_next(uint64_t, uint32_t, uint32_t, uint32_t, uint32_t)
    uint32_t rs_shared_tick_after(int64_t)
    int64_t rs_shared_left(uint32_t, int64_t)
    bint rs_shared_change(rs_shared_breaker *, uint64_t *, uint64_t)
    bint rs_shared_probed(rs_shared_breaker *, uint64_t *, bint, uint32_t, uint32_t, uint32_t, uint32_t)
    bint rs_shared_lease_holds(uint64_t, uint64_t, int64_t)
    uint64_t rs_shared_lease(uint32_t, uint32_t, uint64_t, uint32_t)
    int rs_shared_lease_take(rs_shared_breaker *, uint64_t, uint64_t, int64_t, uint32_t, uint32_t, int64_t *)
    bint rs_shared_lease_free(rs_shared_breaker *, uint32_t, uint64_t)
    uint64_t rs_shared_lease_extend(rs_shared_breaker *, uint32_t, uint64_t, uint32_t)
    uint64_t rs_shared_counts(uint64_t, uint64_t, uint64_t)
    uint64_t rs_shared_pair(uint32_t, uint32_t)
    uint64_t rs_shared_trip(uint64_t, double)
    double rs_shared_tripped(uint64_t, uint64_t)
    void rs_shared_row_begin(rs_shared_row *, uint64_t)
    void rs_shared_row_fail(rs_shared_row *, uint64_t, uint64_t, uint64_t, uint64_t)
    uint64_t rs_shared_latest_good(rs_shared_breaker *, uint64_t, uint64_t)
    int64_t rs_shared_late(rs_shared_breaker *, uint64_t living, uint64_t word, uint64_t late_ns)
    rs_shared_sum rs_shared_add_up(rs_shared_breaker *, uint64_t, uint64_t, uint64_t, uint64_t)
    int rs_shared_judge(const rs_shared_sum *, const rs_shared_rule *, uint64_t)
    size_t rs_shared_breaker_size()
    bint rs_shared_may_join(const rs_member *)

cdef extern from "shared/verdict.h" nogil:
    enum:
        RS_PROBE_FLIES
        RS_PROBE_UNUSED
        RS_PROBE_GOOD
        RS_PROBE_BAD
    ctypedef struct rs_tally:
        rs_word64 good_ns
    ctypedef struct rs_fleet_verdict:
        rs_courier courier
        rs_word64 word
        rs_word64 generation
        rs_word64 trip
        rs_word64 lease
        rs_word64 wanted        # of 32 bits
        rs_tally tally[RS_WORKERS]
    ctypedef struct rs_report:
        uint64_t total, failed, slow, gone, flying, tail, good_ns, tail_ns
    size_t rs_verdict_size()
    bint rs_verdict_stands(rs_fleet_verdict *, uint64_t, int64_t)
    void rs_verdict_set(rs_fleet_verdict *, uint64_t word, uint64_t generation, uint64_t trip)
    rs_report rs_verdict_report(rs_fleet_verdict *, uint64_t living)
    void rs_tally_begin(rs_tally *, uint64_t)
    void rs_tally_call(rs_tally *, bint failed, bint slow, int64_t now_ns)
    void rs_tally_row(rs_tally *, uint32_t flying, bint gone)
    uint64_t rs_shared_word(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t)
    uint32_t rs_probe_phase_of(uint64_t)
    bint rs_verdict_is_told(rs_fleet_verdict *, rs_tally *)
    uint64_t rs_probe_take(rs_fleet_verdict *)
    void rs_probe_give(rs_fleet_verdict *, uint64_t number)
    bint rs_probe_end(rs_fleet_verdict *, uint64_t number, uint32_t phase)
    void rs_probe_reported(rs_fleet_verdict *, uint64_t lease)

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

# The breaker of the host, as this worker takes part in it.
ctypedef struct rs_breaker_of_host:
    rs_member *member
    rs_shared_breaker *cell
    rs_word64 *word         # the cell's; of a worker without a slot its own, which stays 0: closed
    rs_shared_row *row      # what this worker has seen; without a slot its own as well
    uint64_t seen           # the word by which this worker acts
    uint64_t good_ns        # when the successful call that began last began, since the region's epoch
    uint64_t first_ns       # the same of the row that the host counts: of its first failure, and of its last
    uint64_t last_ns
    uint32_t run            # failures in that row
    uint32_t left           # of them callers that left
    uint32_t owner          # by which it takes part; 0: not now
    uint32_t most           # calls of its window that the host counts: its share of a window of calls
    uint32_t probes         # begun here
    bint opened             # the last change of the host's state was made here
    rs_shared_row own_row
    rs_word64 own_word

# The breaker of a fleet, as this process takes part in it (shared/verdict.h).
ctypedef struct rs_breaker_of_fleet:
    rs_member *member
    rs_fleet_verdict *cell
    const rs_gate_ops *below    # of the process's own breaker, or of the host's
    rs_tally *tally         # what calls here have shown; without a slot its own, which nothing reads
    uint64_t seen           # the word by which this process acts
    uint64_t probe          # the lease of the latest probe here: its number
    uint64_t probed         # the breaker's generation when that was admitted
    int64_t begun_ns        # when the latest call came to the breaker below
    uint32_t owner          # by which it counts; 0: not now
    bint passing            # the word is "closed", and it does not rest
    bint rests              # nothing is reported or brought: of a key without calls, until the next one
    bint rejects            # of the last decision: the fleet's state has rejected the call
    rs_tally own_tally

# What the workers of a host have seen together, to be shown.
ctypedef struct rs_breaker_view:
    bint is_shared
    uint8_t state
    uint64_t calls, failures

ctypedef struct rs_breaker:
    rs_breaker_of_host *host    # NULL: the state is the process's own
    rs_breaker_of_fleet *fleet  # NULL: it is in no fleet
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
    cdef PyObject *cell             # owned, see host.pxi; whose body and member `breaker.host` uses; NULL: none
    cdef PyObject *fleets_cell      # the same for `breaker.fleet`
