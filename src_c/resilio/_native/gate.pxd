"""The contract of a native gate (src_c/include/gate.h, waiters.h) for Cython."""

from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "strategy.h":
    ctypedef struct rs_gate_ops         # both below
    ctypedef struct rs_gate

cdef extern from "buckets.h" nogil:
    enum:
        RS_MOST_RATES
    ctypedef struct rs_claim:
        uint32_t version
        int64_t plan_ns
        uint32_t turn
        uint32_t place
        int64_t cost[RS_MOST_RATES]
        int64_t line[RS_MOST_RATES]

cdef extern from "waiters.h":
    ctypedef void (*rs_slot_leave_op)(rs_gate *, rs_slot *) noexcept
    ctypedef int (*rs_prepare_op)(rs_gate *, rs_slot *, const rs_request *) noexcept
    ctypedef rs_gate *(*rs_resolve_op)(rs_gate *, const rs_request *, rs_gate *) noexcept

cdef extern from "waiters.h" nogil:
    const int64_t RS_NEVER
    const uint8_t RS_NO_START
    const uint8_t RS_NO_LATENCY
    const uint8_t RS_TO_UNDO
    const uint8_t RS_LEFT
    const uint8_t RS_PROBES
    const uint8_t RS_REACHED
    const uint32_t RS_LISTEN_LIMIT
    enum:
        RS_REASONS
        RS_REJECTIONS
        RS_RATE_LIMIT
        RS_HEDGE
        RS_FALLBACK
        RS_SPENT
        RS_ADMITTED
        RS_WAIT
        RS_REJECTED
        RS_SUCCESS
        RS_FAILURE
        RS_IGNORED
        RS_REFUSED
        RS_SLOT_HELD
        RS_SLOT_SHADOW
        RS_WAITER_IDLE
        RS_WAITER_QUEUED
        RS_WAITER_GRANTED
        RS_WAITER_REJECTED
        RS_EXPIRED
        RS_OUT_OF_TIME_TO_WAIT
        RS_OF_HOST
        RS_OF_FLEET

    int rs_is_evidence(int outcome) nogil
    int rs_is_unserved(int outcome) nogil

    ctypedef struct rs_lock:
        pass
    void rs_lock_acquire(rs_lock *)
    void rs_lock_release(rs_lock *)

    ctypedef struct rs_waiter:
        rs_waiter *prev
        rs_waiter *next
        rs_claim *claim
        uint64_t task
        int64_t amount
        int64_t deadline_ns
        int64_t enqueued_ns
        int64_t expires_ns
        uint8_t state
        uint8_t reason
    ctypedef struct rs_queue:
        rs_waiter *head
        rs_waiter *tail
        int64_t length
        int64_t amount
    void rs_queue_push(rs_queue *, rs_waiter *, int64_t)
    void rs_queue_remove(rs_queue *, rs_waiter *)

    ctypedef struct rs_histogram:
        pass
    int64_t rs_histogram_quantile(const rs_histogram *, double)
    bint rs_waiter_expired(const rs_waiter *, int64_t)

    # the state of each kind of gate in a slot
    struct rs_of_breaker:
        uint64_t generation
        int64_t followed
        uint64_t lease
        uint32_t number
    struct rs_of_bulkhead:
        int64_t weight
    struct rs_of_limiter:
        rs_claim *claim
        int64_t cost
        uint32_t version
    struct rs_of_adaptive:
        uint64_t generation
        int64_t inflight
        uint32_t flags
    struct rs_of_shedder:
        uint64_t task
        uint64_t tenant
        int64_t place
        uint32_t level
        uint32_t inflight
    struct rs_of_retry:
        uint32_t before
        uint8_t paid_outside
        uint8_t measures
    struct rs_of_hedge:
        int64_t deadline_ns
        uint8_t raced
        uint8_t judged
    struct rs_of_timeout:
        int64_t total_ns
        int64_t expired_ns
        uint32_t ours
    struct rs_of_deadline:
        PyObject *value
        PyObject *before
    struct rs_of_seat:
        uint8_t place
    ctypedef struct rs_slot:
        rs_of_seat seat
        rs_of_breaker breaker
        rs_of_bulkhead bulkhead
        rs_of_limiter limiter
        rs_of_adaptive adaptive
        rs_of_shedder shedder
        rs_of_retry retry
        rs_of_hedge hedge
        rs_of_timeout timeout
        rs_of_deadline deadline
        int64_t admitted_ns
        int64_t first_ns
        int64_t wake_ns
        rs_gate *gate
        rs_waiter *waiter
        PyObject *extra
        uint8_t state
        uint8_t flags
    enum:
        RS_MOST_PLACES
        RS_SEAT
    ctypedef struct rs_choice:
        uint64_t key
        int64_t now_ns
        int8_t place
        uint8_t asks
    ctypedef struct rs_request:
        PyObject *const *args
        Py_ssize_t nargs
        PyObject *kwnames
        rs_waiter *waiter
        int hedge
        int64_t deadline_ns
        PyObject *func
        PyObject **context
        rs_choice *choice
    ctypedef struct rs_rejection:
        int reason
        double measured
        double limit
        int64_t retry_after_ns
    ctypedef struct rs_counters:
        uint64_t calls, successes, failures, ignored, rejected, would_reject, would_wait, cancelled, abandoned, refused
        int64_t inflight, queued
    ctypedef struct rs_warden:
        int (*may_eject)(rs_warden *, int64_t) noexcept nogil
    ctypedef struct rs_gate:
        const rs_gate_ops *ops
        PyObject *keeper
        PyObject *weakrefs
        rs_warden *warden
        PyObject *entry
        rs_lock lock
        uint32_t changes
        uint32_t listening
        uint32_t enforce_share
        uint64_t rejected[RS_REJECTIONS]
        int64_t spent_ns[RS_SPENT]
        rs_counters counters
        rs_histogram latency

    ctypedef int (*rs_admit_op)(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *) noexcept nogil
    ctypedef int (*rs_poll_op)(rs_gate *, rs_slot *, int64_t, rs_rejection *) noexcept nogil
    ctypedef int (*rs_recheck_op)(rs_gate *, rs_slot *, int64_t, rs_rejection *) noexcept nogil
    ctypedef void (*rs_cancel_op)(rs_gate *, rs_slot *, int64_t) noexcept nogil
    ctypedef void (*rs_settle_op)(rs_gate *, rs_slot *, int, int64_t, int64_t) noexcept nogil
    ctypedef void (*rs_first_item_op)(rs_gate *, rs_slot *, int64_t, int64_t) noexcept nogil
    ctypedef void (*rs_forget_op)(rs_gate *, int64_t) noexcept nogil
    ctypedef double (*rs_share_op)(rs_gate *, int64_t, int64_t *) noexcept nogil
    ctypedef int (*rs_pristine_op)(rs_gate *, int64_t) noexcept nogil
    ctypedef int (*rs_is_shared_op)(const rs_gate *) noexcept nogil
    ctypedef struct rs_gate_ops:
        const char *kind
        const char *error
        const char *const *reasons
        const char *const *states
        rs_prepare_op prepare
        rs_admit_op admit
        rs_poll_op poll
        rs_recheck_op recheck
        rs_cancel_op cancel
        rs_settle_op settle
        rs_first_item_op first_item
        rs_forget_op forget
        rs_slot_leave_op leave
        const void *strategy
        rs_resolve_op resolve
        rs_pristine_op pristine
        int segment
        rs_share_op share
        const rs_gate_ops *kept
        rs_is_shared_op is_shared

    bint rs_gate_enforced(rs_gate *)
    bint rs_gate_may_eject(const rs_gate *, int64_t)
    int rs_gate_add(rs_gate *, rs_gate *)
    void rs_counters_add(rs_counters *, const rs_counters *)
    bint rs_gate_cannot_finish(const rs_gate *, const rs_request *, int64_t, int64_t, rs_rejection *)
    void rs_gate_count_end(rs_gate *, int)
    void rs_gate_change(rs_gate *, uint8_t, uint8_t, uint8_t, int64_t)
    void rs_gate_wake(rs_gate *, rs_waiter *)

    ctypedef class resilio._native.core.Gate [object rs_gate, check_size error]:
        cdef const rs_gate_ops *ops
        cdef uint8_t timeless
        cdef uint8_t span
        cdef rs_lock lock
        cdef rs_counters counters

    ctypedef class resilio._native.core.Waiter [object rs_waiter, check_size error]:
        pass
