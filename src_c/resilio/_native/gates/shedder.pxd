"""State of a load shedder."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_waiter
from resilio._native.primitives cimport rs_law

cdef extern from "shedding.h" nogil:
    ctypedef struct rs_shed_state:
        double shed
        double mean_ns
        double median_ns
        double slow_ns
        double recent_ns
        uint64_t samples
        uint64_t successes
        int64_t target_ns
        double patience_ns
        double timely
        double gave_up_ns
        uint64_t random
        uint32_t quiet
        uint8_t overloaded
        uint8_t silent
        uint8_t rising
    uint64_t rs_shed_mix(uint64_t)
    double rs_shed_patience(const rs_shed_state *)
    void rs_shed_note_lost(rs_shed_state *, int64_t)
    void rs_shed_note_patience(rs_shed_state *, int64_t)
    void rs_shed_arrived(rs_shed_state *)
    int rs_shed_count(rs_shed_state *, int64_t)
    int rs_shed_over(rs_shed_state *, int64_t)
    int rs_shed_newest_first(const rs_shed_state *)
    void rs_shed_learn(rs_shed_state *, int64_t, int64_t, int64_t)
    int rs_shed_knows(const rs_shed_state *, int64_t)
    int rs_shed_lost(const rs_shed_state *, int64_t, double)
    double rs_shed_usual_ns(const rs_shed_state *)
    double rs_shed_median_ns(const rs_shed_state *)
    const int RS_SHED_SHORT
    int64_t rs_shed_room_configured(const rs_shed_state *, int64_t, int)
    int64_t rs_shed_room_left(const rs_shed_state *, double, int64_t, int)
    double rs_shed_drain_ns(const rs_shed_state *, int64_t, int64_t)
    double rs_shed_needed_ns(const rs_shed_state *, int64_t, int64_t)
    int64_t rs_shed_patience_ns(const rs_shed_state *, int64_t, int64_t)
    int64_t rs_shed_retry_after_ns(rs_shed_state *, int64_t, int64_t)

cdef extern from "shed_queue.h" nogil:
    enum:
        RS_SHED_CLASSES
    ctypedef struct rs_shed_class:
        void *flows
        int64_t length
    ctypedef struct rs_shed_queue:
        rs_shed_class classes[RS_SHED_CLASSES]
        int64_t length
    int rs_shed_init(rs_shed_queue *, int)
    void rs_shed_release(rs_shed_queue *)
    void rs_shed_forget(rs_shed_queue *)
    int64_t rs_shed_place(int, uint32_t)
    int rs_shed_level(int64_t)
    uint32_t rs_shed_rank(const rs_shed_queue *, uint64_t, int)
    void rs_shed_push(rs_shed_queue *, rs_waiter *, int64_t, int64_t)
    void rs_shed_remove(rs_shed_queue *, rs_waiter *)
    rs_waiter *rs_shed_best(rs_shed_queue *, int, int, int64_t)
    rs_waiter *rs_shed_victim(const rs_shed_queue *, int64_t, int)
    void rs_shed_charge(rs_shed_queue *, int64_t, int64_t, int64_t)
    void rs_shed_move(rs_shed_queue *, rs_shed_queue *)

ctypedef struct rs_shedder:
    rs_shed_state state
    int64_t used            # permits held, or granted to a waiter that has not polled yet
    int64_t limit           # number of permits
    int64_t most[RS_SHED_CLASSES]    # a class is admitted while fewer permits are used
    uint8_t learns          # the limit comes from the law
    rs_law law
    uint8_t fair            # fair queueing by tenant
    uint64_t salt           # of the hashes
    uint64_t *known         # hashes of tasks served before; NULL: none so far
    uint64_t shed[RS_SHED_CLASSES][8]     # by class and reason
    rs_shed_queue queue

# Memory layout of a ShedderGate for C code, which must not touch a reference count; checked at import.
ctypedef struct rs_shedder_object:
    rs_gate gate
    rs_shedder shedder

cdef class ShedderGate(Gate):
    cdef rs_shedder shedder
    cdef object tenant          # function or None; read and replaced under the lock
    cdef object task
    cdef uint64_t bad_tenants
    cdef uint64_t bad_tasks
