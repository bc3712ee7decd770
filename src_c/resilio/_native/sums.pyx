# cython: auto_pickle=False
"""What many gates of one kind have counted, added up: a gate that admits nothing and has their counters."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from resilio._native.gate cimport Gate, rs_counters, rs_gate, rs_lock_acquire, rs_lock_release
from resilio._native.primitives cimport rs_histogram as rs_latencies, rs_histogram_merge

__all__ = ["Sums"]


cdef class Sums(Gate):
    """
    Adds gates up; what a gate tells of its calls, this tells of all of theirs.

    Args:
        like: Its kind and reasons are those of all.
    """

    def __init__(self, Gate like not None):
        self.ops = like.ops

    def add(self, list gates not None):
        """
        Add what each of some gates has counted up to now.

        Args:
            gates: Of the kind that was given.

        Raises:
            TypeError: Something else.

            MemoryError: No memory for all latencies.
        """
        cdef Gate gate
        for one in gates:
            gate = <Gate?>one
            if gate.ops.kind != self.ops.kind:
                raise TypeError(f"a {gate.kind} cannot be added to what {self.kind}s have counted")
            if add_one(<rs_gate *><PyObject *>self, <rs_gate *><PyObject *>gate):
                raise MemoryError("no memory for all latencies")


cdef int add_one(rs_gate *into, rs_gate *of) noexcept:
    """Nobody else writes into *into*, so that only one lock is held."""
    cdef int i, failed
    rs_lock_acquire(&of.lock)
    add_counters(&into.counters, &of.counters)
    for i in range(17):
        into.refused[i] += of.refused[i]
    for i in range(11):
        into.spent_ns[i] += of.spent_ns[i]
    into.waited_ns += of.waited_ns
    failed = rs_histogram_merge(<rs_latencies *>&into.latency, <rs_latencies *>&of.latency)
    rs_lock_release(&of.lock)
    return failed


cdef void add_counters(rs_counters *into, const rs_counters *of) noexcept nogil:
    into.calls += of.calls
    into.successes += of.successes
    into.failures += of.failures
    into.ignored += of.ignored
    into.rejected += of.rejected
    into.would_reject += of.would_reject
    into.would_wait += of.would_wait
    into.cancelled += of.cancelled
    into.abandoned += of.abandoned
    into.inflight += of.inflight
    into.queued += of.queued
