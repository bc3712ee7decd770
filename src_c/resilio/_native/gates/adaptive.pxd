"""State of an adaptive limit."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_queue
from resilio._native.primitives cimport rs_law

ctypedef struct rs_adaptive:
    rs_law law
    int64_t used            # permits held, or granted to a waiter that has not polled yet
    int64_t passing         # calls in flight that enforcement would have rejected
    int64_t most_queued
    int64_t max_wait_ns
    uint64_t generation     # of the learned state: calls from before a reset are no samples
    double reported             # the limit that was last reported to listeners
    double moved[2]         # a move not yet reported: from, to
    rs_queue queue
    uint64_t rules          # by the options; those of the host may have been changed elsewhere
    rs_host *host           # the permits are the host's; NULL: this process's own
    rs_host_law *learning   # with it: what the host has learned
    rs_ahead ahead          # whether `law` is what the host has learned, and more
    int64_t limit           # of the host, as this worker has last seen it

# Memory layout of an AdaptiveGate for C code, which must not touch a reference count; checked at import.
ctypedef struct rs_adaptive_object:
    rs_gate gate
    rs_adaptive adaptive

cdef class AdaptiveGate(Gate):
    cdef rs_adaptive adaptive
    cdef PyObject *cell     # keeps `adaptive.host` and `.learning` valid; owned, see host.pxi
    cdef bytes stock        # of the cell that it wants, or has
    cdef uint32_t room      # permits in that cell
