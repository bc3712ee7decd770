"""Permits of the host in a gate (src_c/include/host_permits.h)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from resilio._native.gate cimport rs_gate, rs_queue, rs_slot, rs_waiter
from resilio._native.primitives cimport rs_law
from resilio._native.shared cimport rs_courier, rs_member

cdef extern from "shared/slots.h" nogil:
    enum:
        RS_SLOTS_MOST
    ctypedef enum rs_slots_down:
        pass
    ctypedef struct rs_slots:
        rs_courier courier
        uint64_t terms
        uint32_t capacity
        uint32_t peers
        uint32_t down
    ctypedef struct rs_slots_found:
        uint64_t terms
        uint32_t kept
        uint32_t sure
        uint32_t used
        uint32_t capacity
        uint64_t missed
        uint64_t waiting
        uint64_t ends_us
    rs_permits *rs_slots_permits(rs_slots *)
    size_t rs_slots_size(uint32_t room)
    uint32_t rs_slots_share(rs_slots *)
    uint32_t rs_slots_bound(rs_slots *, uint64_t terms, int64_t now_ns)
    uint32_t rs_slots_used(rs_slots *, uint32_t room)
    void rs_slots_miss(rs_slots *, rs_member *, uint32_t n)
    uint64_t rs_slots_next(rs_slots *)
    bint rs_slots_wait_for(rs_slots *, uint64_t *reported, uint64_t ask, uint64_t n, uint64_t all)
    void rs_slots_left(rs_slots *, rs_member *)
    bint rs_slots_are_left(rs_slots *, int64_t n)
    bint rs_slots_were_left(rs_slots *, int64_t n)
    void rs_slots_note(rs_slots *, uint32_t left)
    rs_slots_found rs_slots_open(rs_slots *, uint32_t room, int64_t now_ns, uint32_t keep)
    bint rs_slots_grant(rs_slots *, uint64_t ask, uint64_t terms, uint32_t allotment, int64_t end_ns,
                        uint64_t ends_us, bint eager)
    void rs_slots_give_up(rs_slots *, uint64_t terms)
    int rs_slots_begin_anew(rs_slots *, int64_t now_ns)

cdef extern from "host_permits.h" nogil:
    ctypedef struct rs_permits:
        pass
    size_t rs_permits_size(uint32_t room)
    void rs_permits_begin(rs_permits *, uint32_t limit)
    void rs_permits_set_limit(rs_permits *, uint32_t limit)
    uint32_t rs_permits_used(rs_permits *)

    ctypedef struct rs_hold:
        rs_permits *permits
        uint32_t owner
        rs_member *member
        uint32_t room
        uint32_t held
    ctypedef struct rs_host:
        rs_hold hold

    rs_host *rs_host_new(rs_permits *, rs_member *, uint32_t room)
    void rs_host_free(rs_host *)
    uint32_t rs_hold_owner(rs_hold *)
    void rs_host_forget(rs_host *)
    uint32_t rs_host_limit(rs_host *)
    int64_t rs_host_take(rs_host *, int64_t used, int64_t wanted)
    void rs_host_give(rs_host *, int64_t used)
    int64_t rs_host_take_slots(rs_host *, rs_slots *, int64_t now_ns, int64_t used, int64_t wanted)
    bint rs_host_yields(const rs_host *, int64_t used)
    void rs_host_queued(rs_host *, rs_waiter *, int64_t now_ns)
    void rs_host_unqueued(rs_gate *, rs_host *, const rs_queue *, rs_waiter *, bint newest_first)
    void rs_host_wait(const rs_host *, rs_slot *, const rs_waiter *)
    bint rs_host_asks(const rs_host *, const rs_waiter *, int64_t now_ns)
    void rs_host_asked(rs_host *, bint found, int64_t now_ns)

cdef extern from "host_ahead.h" nogil:
    ctypedef struct rs_rules:
        uint32_t kind
        uint32_t start
        uint32_t floor
        uint32_t ceiling
    ctypedef struct rs_sample:
        int64_t end_ns
        int64_t latency_ns
        uint32_t inflight
        uint32_t present
        int dropped
    ctypedef struct rs_host_law:
        uint64_t rules
        uint64_t resets
        uint64_t mean_ns
    ctypedef union rs_law_words:
        rs_law law
        uint64_t resets
    size_t rs_host_law_size(uint32_t room)
    rs_permits *rs_host_law_permits(rs_host_law *)
    void rs_host_law_init(rs_host_law *, rs_rules)
    uint64_t rs_rules_word(rs_rules)
    int64_t rs_host_law_passing(rs_host_law *, const rs_member *)
    int64_t rs_host_law_enter(rs_host_law *)
    int64_t rs_host_law_leave(rs_host_law *)
    int64_t rs_host_law_inflight(rs_host_law *)
    void rs_host_law_set_passing(rs_host_law *, uint32_t owner, uint32_t passing)
    void rs_host_law_set_rules(rs_host_law *, rs_rules)
    void rs_host_law_reset(rs_host_law *)
    rs_rules rs_rules_of(uint64_t)
    bint rs_host_law_look(rs_host_law *, rs_law_words *)
    void rs_host_law_note(rs_host_law *, const rs_member *, uint32_t owner, const rs_sample *)
    bint rs_host_law_is_due(rs_host_law *, const rs_member *, uint32_t owner, int64_t now_ns)
    ctypedef struct rs_ahead:
        uint32_t owner
    bint rs_host_law_is_ahead(rs_host_law *, const rs_member *, uint32_t owner, const rs_ahead *)
    bint rs_host_law_catch_up(rs_host_law *, const rs_member *, uint32_t owner, uint64_t over, int64_t now_ns,
                              rs_law_words *, rs_ahead *)
    bint rs_host_law_learn_ahead(rs_host_law *, const rs_member *, uint32_t owner, rs_ahead *, rs_law *,
                                 const rs_sample *)
    void rs_host_law_settle(rs_host_law *, const rs_member *, uint32_t owner, rs_ahead *, const rs_law *,
                            int64_t now_ns)
    bint rs_member_is_alone(const rs_member *)
