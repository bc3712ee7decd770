"""Times that a user's function computes from the arguments of a call: a part of strategies.pyx."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from resilio._native.gate cimport rs_request
from resilio._native.options cimport ns_of

from resilio._options.validators import seconds as _checked_seconds

cdef extern from "Python.h":
    object call_for_time "PyObject_Vectorcall"(object, PyObject *const *, size_t, PyObject *)


cdef int64_t time_ns(object answer, int64_t none_ns, bint zero_ok) except? -1:
    """Nanoseconds of what a function has returned: a time, or None, which stands for *none_ns*; else raises."""
    if answer is None:
        return none_ns
    if type(answer) is float and 1e-6 <= <double>answer <= 1e6:
        return ns_of(answer)
    return ns_of(_checked_seconds("the time of a call", answer, zero_ok=zero_ok))


cdef int64_t asked_time_ns(object function, const rs_request *request, int64_t none_ns, bint zero_ok) except? -1:
    """Call a function with the arguments of a call; return the time that it returns, in nanoseconds."""
    return time_ns(call_for_time(function, request.args, request.nargs, request.kwnames), none_ns, zero_ok)
