"""The stages of a policy that has gates for each of several keys or endpoints."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from resilio._native.gate cimport rs_gate, rs_gate_ops, rs_lock, rs_request

cdef extern from "gate.h":
    ctypedef class resilio._native.core.Gate [object rs_gate, check_size error]:     # `counters` is a method here
        cdef const rs_gate_ops *ops
        cdef uint8_t span
        cdef rs_lock lock

cdef extern from "pipeline.h":
    ctypedef class resilio._native.core.Pipeline [object rs_pipeline, check_size error]:
        cdef tuple gates
        cdef uint8_t used               # of a keyed policy: since the clock hand's last visit

cdef class CallKey:
    cdef object function                # returns the key from the call's arguments; None: use `parameter`
    cdef str parameter
    cdef object where
    cdef dict places                    # function -> Where
    cdef object of(self, const rs_request *request)
    cdef object by_keyword(self, const rs_request *request, object found)
    cdef object look(self, object function)

cdef class Table:
    cdef list gates_of(self, Py_ssize_t index)
    cdef list left_of(self, Py_ssize_t index)
    cdef Pipeline policy_at(self, const rs_request *request, rs_gate *before)

cdef class KeyedGate(Gate):
    cdef readonly Table table
    cdef readonly Py_ssize_t index
    cdef list counted(self)
