"""What a bulkhead keeps."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_queue, rs_waiter

ctypedef struct rs_bulkhead:
    int64_t capacity        # permits there are
    int64_t used            # permits held, or granted to a waiter that has not yet come for them
    int64_t weight          # permits that a call takes; 0: the weigher says
    int64_t most_queued
    int64_t max_wait_ns
    uint8_t order
    uint8_t closed
    rs_waiter *chosen       # its turn has come and it does not fit yet: nobody overtakes it; NULL: nobody
    rs_queue queue
    int64_t patient         # of the queue, those who wait without limit: the bound is not for them
    rs_queue idlers         # woken when nothing is held and nobody waits

# The memory of a BulkheadGate seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_bulkhead_object:
    rs_gate gate
    rs_bulkhead bulkhead

cdef class BulkheadGate(Gate):
    cdef rs_bulkhead bulkhead
    cdef uint64_t bad_weights
    cdef object weigher         # a function, or None; read and replaced under the lock
    cdef set watching
