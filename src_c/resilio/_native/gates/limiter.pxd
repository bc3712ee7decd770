"""The state of a rate limit."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from resilio._native.gate cimport RS_MOST_RATES, Gate, rs_claim, rs_gate, rs_queue, rs_slot
from resilio._native.shared cimport rs_member

cdef extern from "shared/siphash.h" nogil:
    uint64_t rs_siphash(const uint64_t *, const void *, size_t)

cdef extern from "buckets.h" nogil:
    ctypedef struct rs_own_tokens:
        int64_t most
    ctypedef struct rs_own_bucket:
        rs_own_tokens tokens
    int rs_own_set_rate(rs_own_tokens *, double, int64_t, int64_t)
    int64_t rs_own_whole(rs_own_bucket *, int64_t)
    void rs_own_reconfigure(rs_own_bucket *, double, int64_t, int64_t, int64_t)

    ctypedef struct rs_log:
        int64_t limit
        int64_t period_ns
        uint32_t most
        int64_t used
        int64_t last_ns
    rs_log *rs_log_new(int64_t, int64_t, uint32_t)
    void rs_log_free(rs_log *)
    void rs_log_set(rs_log *, int64_t, int64_t, uint32_t)
    int64_t rs_log_fits_at(rs_log *, int64_t, int64_t)
    int64_t rs_log_paced_at(const rs_log *, int64_t, int64_t)
    int64_t rs_log_memory(const rs_log *)

    ctypedef struct rs_purse:
        int64_t end
    ctypedef struct rs_courier:
        rs_word64 expires_ns
    const int64_t RS_LEASE_SOON_NS
    ctypedef enum rs_down:
        pass
    ctypedef struct rs_leased:
        rs_word64 purse
        rs_word64 missed
        rs_word64 expires_ns
        rs_word64 credit
    ctypedef struct rs_lease_terms:
        int64_t grant
        int64_t credit
        int64_t low
        int64_t income
        int64_t stock
        int64_t asked_ns
        int64_t now_ns
        int64_t expires_ns
        int64_t next_ns
        uint64_t peers
    ctypedef struct rs_lease_found:
        int64_t left
        int64_t owed
        int64_t kept
        int64_t purse
        int64_t missed
        int64_t waiting
        int64_t returned
        int64_t unasked
        int64_t joined
        int is_void
    ctypedef struct rs_draw:
        rs_leased *lease
        rs_down down
        int is_exact
    void rs_draw_begin(rs_draw *, rs_leased *, uint64_t)
    int64_t rs_word_signed(rs_word64 *)
    void rs_draw_first(rs_draw *)
    rs_lease_found rs_draw_open(rs_draw *, int64_t, int64_t)
    void rs_draw_grant(rs_draw *, const rs_lease_terms *)
    bint rs_leased_lacks(rs_leased *)
    int64_t rs_leased_queued(rs_leased *)
    bint rs_draw_is_new_order(rs_draw *)
    int64_t rs_draw_join(rs_draw *, int64_t)
    void rs_draw_rest(rs_draw *, rs_word64 *, int64_t)
    void rs_draw_lose(rs_draw *, int64_t, int64_t)

    ctypedef struct rs_host_rate:
        rs_draw draw
    ctypedef struct rs_host_rates:
        rs_member *member
        rs_courier *courier             # of a fleet's limit
        int n
        rs_purse purse
        rs_host_rate rate[RS_MOST_RATES]
    int rs_rates_add_lease(rs_host_rates *, double, int64_t, int64_t, int64_t, rs_down)
    size_t rs_rates_leases_size(const rs_host_rates *)
    void rs_rates_begin_leases(rs_host_rates *, rs_member *, void *, uint64_t)
    bint rs_rates_begin_anew(rs_host_rates *, int64_t)
    bint rs_rates_take(rs_host_rates *, int64_t, const int64_t *)
    void rs_rates_line_up(rs_host_rates *, const int64_t *, int64_t *)
    void rs_rates_fall_out(rs_host_rates *, const int64_t *, bint)
    bint rs_rates_take_at(rs_host_rates *, int64_t, const int64_t *, const int64_t *)
    int64_t rs_rates_wait_at(rs_host_rates *, int64_t, const int64_t *, const int64_t *)
    void rs_rates_wake_others(rs_host_rates *)
    bint rs_rates_has_callers(rs_host_rates *)
    void rs_rates_has_none(rs_host_rates *)
    void rs_rates_miss(rs_host_rates *, const int64_t *)
    bint rs_rates_rest(rs_host_rates *)
    int rs_rates_add_bucket(rs_host_rates *, double, int64_t, int64_t)
    void rs_rates_add_window(rs_host_rates *, int64_t, int64_t, int64_t)
    size_t rs_rates_size(const rs_host_rates *)
    void rs_rates_begin(rs_host_rates *, rs_member *, void *)
    size_t rs_rates_keys_size(const rs_host_rates *, uint64_t)
    void rs_rates_begin_key(rs_host_rates *, rs_member *, void *, uint64_t, uint64_t)
    void rs_rates_fill_keys(rs_host_rates *)
    bint rs_rates_is_bucket(const rs_host_rates *)
    int64_t rs_rates_wait(rs_host_rates *, int, int64_t, int64_t, bint)
    void rs_rates_hold(rs_host_rates *, int64_t)
    bint rs_rates_sees(rs_host_rates *, int64_t *)
    void rs_rates_fill(rs_host_rates *)
    int64_t rs_rates_join(rs_host_rates *, int64_t, int64_t, uint32_t *)
    void rs_rates_leave(rs_host_rates *, int64_t, uint32_t)
    void rs_rates_drop_place(rs_host_rates *, int64_t, uint32_t)
    bint rs_rates_take_due(rs_host_rates *, int64_t, int64_t, uint32_t)

    ctypedef struct rs_buckets:
        int n
        int logs
        rs_own_bucket bucket[RS_MOST_RATES]
        rs_log *log[RS_MOST_RATES]
        rs_host_rates *host
    int64_t rs_bucket_wait(rs_own_bucket *, int64_t, int64_t)
    int64_t rs_rate_available(rs_buckets *, int, int64_t)
    void rs_rate_debit(rs_buckets *, int, int64_t, int64_t)
    void rs_rate_give_back(rs_buckets *, int, int64_t, int64_t)
    void rs_rate_hold(rs_buckets *, int, int64_t)
    void rs_rate_fill(rs_buckets *, int, int64_t)
    void rs_rate_set(rs_buckets *, int, int64_t, int64_t)
    void rs_rate_lower(rs_buckets *, int, int64_t, int64_t)
    int64_t rs_buckets_wait(rs_buckets *, int64_t, const int64_t *, int *)
    bint rs_buckets_take(rs_buckets *, int64_t, const int64_t *)
    bint rs_buckets_take_at_once(rs_buckets *, int64_t, int64_t)
    int rs_buckets_too_small(const rs_buckets *, const int64_t *)
    ctypedef struct rs_plan:
        pass
    void rs_plan_begin(rs_plan *, const rs_buckets *, int64_t)
    int64_t rs_plan_next(const rs_plan *, const rs_buckets *, int64_t, const int64_t *)
    void rs_plan_add(rs_plan *, const rs_buckets *, int64_t, const int64_t *)

ctypedef struct rs_limiter:
    rs_buckets buckets
    int64_t cost[RS_MOST_RATES]     # default, of a call without a cost of its own
    uint32_t version                # of the configuration
    bint variable                   # there are cost functions to ask
    int64_t most_queued
    int64_t max_wait_ns
    int64_t trip_ns                 # of a fleet's limit: how long a call may wait for an answer with its tokens
    bint asks_each                  # ... and each call is asked for
    uint32_t turn                   # ... the questions of this process
    int64_t paused_until_ns         # nothing passes before, even if tokens are given back meanwhile
    rs_queue queue
    bint planned                    # the plan is valid; only with several rates or a window
    int64_t late_ns                 # ... except for this total by which calls were admitted later than planned
    rs_plan plan

cdef extern from *:
    """
    #include "slot.h"
    static inline int64_t *rs_cost_of_slot(rs_slot *slot) { return (int64_t *)RS_SLOT_AT(slot, limiter.cost); }
    """
    int64_t *rs_cost_of_slot(rs_slot *) nogil

# The memory of the two classes seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_limiter_object:
    rs_gate gate
    rs_limiter limiter

ctypedef struct rs_amounts_object:
    PyObject head
    bint shadow
    uint32_t version
    int64_t cost[RS_MOST_RATES]

cdef class Amounts:
    cdef bint shadow
    cdef uint32_t version
    cdef int64_t cost[RS_MOST_RATES]
    cdef tuple units
    cdef uint32_t mask              # the rates whose cost was given

cdef class LimiterGate(Gate):
    cdef rs_limiter limiter
    cdef uint64_t bad_costs
    cdef tuple units                # of every rate; read and replaced under the lock
    cdef tuple functions            # of every rate its cost function or None; likewise
    cdef tuple rates                # as configured
    cdef bint is_exact              # windows are those of the fleet, if it has one
    cdef uint64_t max_keys          # of the keyed policy of which this is one key
    cdef PyObject *cell             # owned, see host.pxi; NULL: the state is the gate's own
