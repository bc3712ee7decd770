# What both middlewares do with every request, each in its own module.
#
# It is called as what it is in C: to look for a method, and to call it as Python does, costs more than most of them do. Code
# that runs once a request is cold.

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from resilio._native.core import Permit, _private_state

ctypedef PyObject *(*nullary)(PyObject *, PyObject *) except NULL

ctypedef object (*vector)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *)
ctypedef void (*anything)()

cdef extern from "Python.h":
    enum:
        METH_FASTCALL
        METH_KEYWORDS
    ctypedef struct Method "PyMethodDef":
        void *ml_meth
    ctypedef struct Descriptor "PyMethodDescrObject":
        Method *d_method
    bint PyCFunction_CheckExact(object)
    int PyCFunction_GET_FLAGS(object)
    void *PyCFunction_GET_FUNCTION(object)
    PyObject *PyCFunction_GET_SELF(object)
    object PyCFunction_NewEx(Method *, object, PyObject *)
    object PyMethod_New(object, object)
    void Py_DECREF(PyObject *)

cdef PyObject *_end_well(PyObject *permit, PyObject *nothing) except NULL:
    ended = (<object>permit).success()
    Py_INCREF(ended)
    return <PyObject *>ended


cdef bint _known = _private_state()["method"] == "in use"      # what a method in C looks like
cdef nullary _success = <nullary>(<Descriptor *>Permit.success).d_method.ml_meth if _known else _end_well
cdef type _Permit = Permit
cdef type _Descriptor = type(Permit.success)


cdef object bound(method, instance):
    """Bind a method; one in C as what the interpreter calls without a detour."""
    if _known and type(method) is _Descriptor:
        return PyCFunction_NewEx((<Descriptor *>method).d_method, instance, NULL)
    return PyMethod_New(method, instance)


cdef vector in_c(function):
    """What it is in C, NULL if it is none of a policy's own methods that ask for a permit."""
    if PyCFunction_CheckExact(function) and PyCFunction_GET_FLAGS(function) == METH_FASTCALL | METH_KEYWORDS:
        return <vector><anything>PyCFunction_GET_FUNCTION(function)
    return NULL


cdef inline object call(function, vector quick, argument):
    """Call it with one argument; *quick* is what `in_c` says of it."""
    cdef PyObject *given = <PyObject *>argument
    if quick == NULL:
        return function(argument)
    return quick(PyCFunction_GET_SELF(function), &given, 1, NULL)


cdef enum:
    LONGEST = 63                            # of what a mask of lengths has room for


cdef unsigned long long lengths_of(names):
    """A mask of how long they are: most of what is looked for among them has another length, and needs no hash."""
    cdef unsigned long long lengths = 0
    for name in names:
        lengths |= <unsigned long long>1 << min(len(name), LONGEST)
    return lengths


cdef inline bint is_named(path, frozenset names, unsigned long long lengths) except -1:
    """Tell whether it is one of the names, of which *lengths* says how long they are."""
    return lengths >> <int>min(len(path), LONGEST) & 1 and path in names


cpdef settle(permit, long status):
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""
    if status < 400:
        if type(permit) is _Permit:
            Py_DECREF(_success(<PyObject *>permit, NULL))
        else:
            permit.success()
    elif status < 500:
        permit.ignore()
    else:
        permit.failure()
