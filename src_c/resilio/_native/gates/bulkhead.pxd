"""The state of a bulkhead."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_queue, rs_waiter

ctypedef struct rs_bulkhead:
    int64_t capacity        # permits, free and held
    int64_t used            # permits held, or granted to a waiter that has not taken them yet
    int64_t weight          # permits that a call takes; 0: ask the weigher
    int64_t most_queued
    int64_t max_wait_ns
    int64_t trip_ns         # of a fleet: a call may wait so long for an ask, if the store had its slots
    uint8_t order
    uint8_t closed
    rs_waiter *chosen       # its turn has come, but it does not fit yet: no call overtakes it; NULL: none
    rs_queue queue
    int64_t patient         # queued waiters without a limit, which the bound does not count
    rs_queue idlers         # woken when no permit is held and no call waits
    int64_t configured      # permits by the options: `capacity`, unless the host's limit was moved elsewhere
    rs_host *host           # the permits are the host's; NULL: this process's own
    rs_slots *slots         # of a fleet, whose part of them `host` takes; NULL: of none
    uint64_t reported       # the ask for which calls that wait here have been counted last

# The memory of a BulkheadGate seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_bulkhead_object:
    rs_gate gate
    rs_bulkhead bulkhead

cdef class BulkheadGate(Gate):
    cdef rs_bulkhead bulkhead
    cdef uint64_t bad_weights
    cdef object weigher         # a function, or None; read and replaced under the lock
    cdef PyObject *cell         # keeps `bulkhead.host` valid; owned, see host.pxi
    cdef set watching
    cdef bytes stock            # of the cell that it wants, or has
    cdef uint32_t room          # permits in that cell
