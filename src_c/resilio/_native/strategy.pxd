"""The contract of a native strategy (src_c/include/strategy.h) for Cython, beside that of a gate (gate.pxd)."""

from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int16_t, int64_t, uint8_t, uint64_t

from resilio._native.gate cimport rs_gate, rs_gate_ops, rs_request, rs_slot

cdef extern from "strategy.h":
    enum:
        RS_PASS
        RS_AGAIN
        RS_CALL
        RS_AWAIT
        RS_IN_THREAD
        RS_ON_ASYNCIO
        RS_ON_TRIO
        RS_UNINTERRUPTED
        RS_TIMED_OUT
        RS_OUT_OF_TIME
        RS_SUPERSEDED

    ctypedef struct rs_end:
        PyObject *value
        PyObject *error
        int64_t now_ns
        int64_t deadline_ns
        int64_t resume_ns
        PyObject *target
        PyObject *argument
        PyObject *call
        int16_t stage
        int8_t outcome
        uint8_t called
        uint8_t fired
        uint8_t cancelled
        uint8_t place
        uint8_t untried
        const rs_request *request
        PyObject *func

    ctypedef int (*rs_ended_op)(rs_gate *, rs_slot *, rs_end *) noexcept
    ctypedef int (*rs_expired_op)(rs_gate *, rs_slot *, PyObject *, int, int64_t) noexcept
    ctypedef void (*rs_leave_op)(rs_gate *, rs_slot *) noexcept
    ctypedef int (*rs_delegates_op)(rs_gate *, rs_slot *, int) noexcept
    ctypedef void (*rs_told_op)(rs_slot *, int64_t, int64_t) noexcept
    ctypedef int (*rs_label_op)(rs_gate *, rs_slot *) noexcept
    ctypedef struct rs_strategy_ops:
        rs_ended_op ended
        rs_expired_op expired
        rs_leave_op leave
        rs_delegates_op delegates
        rs_told_op told
        rs_label_op label
        int sets_deadline
        int fails_raised

    ctypedef int (*rs_ask)(rs_gate *, rs_slot *, void *) noexcept
    ctypedef struct rs_core_api:
        int (*outer)(const rs_gate_ops *, rs_ask, void *, int *) noexcept
        rs_gate *(*outside)(PyObject *, int, const char *) noexcept
        int64_t (*deadline_ns)() noexcept
        int64_t (*now_ns)() noexcept
        int (*may_block)() except -1
        int (*replayable)(const rs_request *, PyObject *, int) noexcept
        object (*deadline)(int64_t, int64_t, PyObject *)
        void (*forget)(PyObject *) noexcept
        const int *priorities
        int (*priority)(uint64_t *) noexcept
        void (*told)(PyObject *, int64_t, int64_t) noexcept
        int (*judge)(rs_gate *, PyObject *, PyObject *, PyObject *) noexcept
