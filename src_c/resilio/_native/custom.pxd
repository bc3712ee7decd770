"""The state of the gates of this module, and the part of the gate contract that they use."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from resilio._native.primitives cimport rs_histogram, rs_lock, rs_lock_acquire, rs_lock_release

cdef extern from "gate.h" nogil:
    enum:
        RS_ADMITTED
        RS_REJECTED
        RS_SLOT_SHADOW
        RS_REASONS

    ctypedef struct rs_request:
        void *const *args
        Py_ssize_t nargs
        void *kwnames
    struct rs_of_custom:
        PyObject *call
    ctypedef struct rs_slot:
        rs_of_custom custom
        uint8_t state
    ctypedef struct rs_rejection:
        int reason
        double measured
        double limit
        int64_t retry_after_ns
    ctypedef struct rs_counters:
        int64_t inflight
        unsigned long long would_reject
    ctypedef struct rs_gate:
        rs_lock lock
        rs_counters counters
        rs_histogram latency

    bint rs_gate_enforced(rs_gate *)
    void rs_gate_change(rs_gate *, uint8_t, uint8_t, uint8_t, int64_t)

cdef extern from "gate.h":  # not nogil: with `python` set, the core holds the GIL when it calls an operation
    ctypedef int (*rs_admit_op)(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *) noexcept
    ctypedef void (*rs_cancel_op)(rs_gate *, rs_slot *, int64_t) noexcept
    ctypedef void (*rs_settle_op)(rs_gate *, rs_slot *, int, int64_t, int64_t) noexcept
    ctypedef void (*rs_forget_op)(rs_gate *, int64_t) noexcept
    ctypedef int (*rs_pristine_op)(rs_gate *, int64_t) noexcept
    ctypedef int (*rs_is_shared_op)(const rs_gate *) noexcept
    ctypedef struct rs_gate_ops:
        const char *kind
        const char *error
        const char *const *reasons
        const char *const *states
        int python
        rs_admit_op admit
        rs_cancel_op cancel
        rs_settle_op settle
        rs_forget_op forget
        rs_pristine_op pristine
        rs_is_shared_op is_shared

    ctypedef class resilio._native.core.Gate [object rs_gate, check_size error]:
        cdef const rs_gate_ops *ops
        cdef rs_lock lock
        cdef rs_counters counters
        cdef rs_histogram latency

ctypedef enum rs_door_state:
    SERVING = 0
    DRAINING = 1
    DRAINED = 2

# The memory of a pipeline's door seen from C, where nothing may touch a reference count; each door checks it.
ctypedef struct rs_door:
    rs_gate gate
    int state

cdef class DoorGate(Gate):
    cdef int door

cdef class GateCall:
    cdef readonly tuple args
    cdef readonly dict kwargs
    cdef public object data

ctypedef struct rs_named_ops:
    rs_gate_ops ops
    const char *reasons[RS_REASONS + 1]     # and a NULL

cdef class PythonGate(Gate):
    cdef object target
    cdef object cancels
    cdef tuple reasons
    cdef bint own
    cdef public int shared
    cdef readonly unsigned long long errors
    cdef int explain(self, object rejection, rs_rejection *why) except -1
    cdef void failed(self, str method, object error) noexcept
