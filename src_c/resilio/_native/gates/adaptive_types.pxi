"""What an adaptive limit keeps."""

from libc.stdint cimport int64_t, uint64_t
from resilio._native.gate cimport Gate, rs_gate, rs_queue
from resilio._native.primitives cimport rs_law

ctypedef struct rs_adaptive:
    rs_law law
    int64_t used            # permits held, or granted to a waiter that has not yet come for them
    int64_t passing         # calls under way that enforcement would have refused
    int64_t most_queued
    int64_t max_wait_ns
    uint64_t generation     # of what was learned: who came before a reset teaches nothing
    double told             # the limit that listeners know
    double moved[2]         # a move that they do not know yet: from, to
    rs_queue queue

# The memory of an AdaptiveGate seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_adaptive_object:
    rs_gate gate
    rs_adaptive adaptive

cdef class AdaptiveGate(Gate):
    cdef rs_adaptive adaptive
