"""What a rate limit keeps."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_queue

cdef extern from "gcra.h" nogil:
    ctypedef struct rs_gcra:
        int64_t burst
    int rs_gcra_init(rs_gcra *, double, int64_t, int64_t, int64_t)
    int rs_gcra_reconfigure(rs_gcra *, double, int64_t, int64_t, int64_t)
    int64_t rs_gcra_available(rs_gcra *, int64_t)
    void rs_gcra_fill(rs_gcra *, int64_t)
    void rs_gcra_debit(rs_gcra *, int64_t, int64_t)
    void rs_gcra_give_back(rs_gcra *, int64_t)

cdef enum:
    MOST_RATES = 8

# What a call costs, rate by rate. For a single rate the slot's (the waiter's) amount says it all.
ctypedef struct rs_claim:
    uint32_t version        # of the configuration that the tokens belong to
    int64_t plan_ns         # when it will be admitted; with several rates only
    int64_t cost[MOST_RATES]

ctypedef struct rs_limiter:
    int rates
    rs_gcra bucket[MOST_RATES]
    int64_t cost[MOST_RATES]        # of a call that says nothing else
    uint32_t version                # of the configuration
    int64_t most_queued
    int64_t max_wait_ns
    rs_queue queue
    bint planned                    # what follows holds; with several rates only
    int64_t late_ns                 # ... but for so much, by which calls were admitted later than planned
    int64_t plan_ns                 # when the last of the queue will be admitted
    rs_gcra plan[MOST_RATES]        # the buckets as they will be then

# The memory of the two classes seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_limiter_object:
    rs_gate gate
    rs_limiter limiter

ctypedef struct rs_amounts_object:
    PyObject head
    bint shadow
    uint32_t version
    int64_t cost[MOST_RATES]

cdef class Amounts:
    cdef bint shadow
    cdef uint32_t version
    cdef int64_t cost[MOST_RATES]
    cdef tuple units

cdef class LimiterGate(Gate):
    cdef rs_limiter limiter
    cdef uint64_t bad_costs
    cdef PyObject *costs            # a tuple: of every rate None or the function that says what a call costs
    cdef list kept
    cdef tuple units
