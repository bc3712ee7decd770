# cython: auto_pickle=False
"""
What a response holds of policies until its body has ended, in the part that each passes; `resilio.integrations` has the rest.

A part of a body passes here without a frame, and an error without a line in its traceback: the slots of the types that
iterate are functions of C, which hand on what they are given.
"""

from collections import deque
from functools import partial

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer

from resilio._native.gate cimport RS_ATTEMPT, RS_BODY
from resilio._native.strategy cimport RS_ABANDON, RS_ABORT, RS_COMPLETE, rs_core_api

from resilio._native import core

__all__ = ["AsyncBody", "Bodies", "Body", "Held", "Parts", "RawBody", "next_untold", "note_abandoned", "untold"]

cdef extern from "Python.h":
    ctypedef PyObject *(*iternextfunc)(PyObject *) noexcept
    ctypedef struct PyAsyncMethods:
        object (*am_aiter)(object)
        object (*am_anext)(object)
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *, object, PyObject *)
        iternextfunc tp_iternext
        void (*tp_finalize)(PyObject *) noexcept
        PyAsyncMethods *tp_as_async
    PyTypeObject *Py_TYPE(object) noexcept
    PyObject *PyErr_Occurred() noexcept
    int PyErr_GivenExceptionMatches(PyObject *, PyObject *) noexcept
    bint PyIter_Check(object) noexcept
    bint PyAsyncGen_CheckExact(object) noexcept
    void PyErr_SetNone(object) noexcept
    void PyErr_Fetch(PyObject **, PyObject **, PyObject **) noexcept
    void PyErr_NormalizeException(PyObject **, PyObject **, PyObject **) noexcept
    void PyErr_Restore(PyObject *, PyObject *, PyObject *) noexcept
    int PyException_SetTraceback(PyObject *, PyObject *) noexcept

cdef enum:
    MOST_LABELS = 1000

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")
cdef object _untold = deque(maxlen=MOST_LABELS)


cpdef bint untold():
    """Tell whether something was abandoned that is not in the log yet."""
    return bool(_untold)


cpdef note_abandoned(str label):
    """Remember what to log: a finaliser runs in the middle of anything, a handler's own lock included."""
    if label not in _untold:
        _untold.append(label)


def next_untold():
    """Return the label of something that was abandoned, and forget it; None: there is nothing to tell."""
    return _untold.popleft() if _untold else None


cdef class Held:
    """
    The permits of one response: what they end as is said once, by whoever is first; all later calls change nothing.

    Dropped with permits, it has been abandoned.
    """

    cdef object __weakref__
    cdef readonly list _permits
    cdef public str label

    def __init__(self, str label="a response"):
        self._permits = []
        self.label = label

    def __bool__(self):
        return bool(self._permits)

    def add(self, permit):
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""
        self._permits.append(permit)

    # A list's own atomicity decides: of a reader, a task that closes and a collector, one gets each permit. What was
    # ended by hand is left alone.

    cdef bint _end(self, int how):
        cdef bint found = False
        while self._permits:
            try:
                found |= api.end(self._permits.pop(), how)
            except IndexError:
                continue
        return found

    def ended(self):
        """The body is complete: each gate counts what it has thought of the headers."""
        self._end(RS_COMPLETE)

    def failed(self, error):
        """The body broke off with `error`: each gate judges it by its own rules, a cancellation is no outcome."""
        while self._permits:
            try:
                self._permits.pop().raised(error)
            except (IndexError, RuntimeError):
                continue

    def aborted(self):
        """The caller wants no more: no outcome, unless the headers already were a failure."""
        self._end(RS_ABORT)

    def abandoned(self):
        """Nobody closed it: as `aborted`, counted by each gate and logged now and then."""
        if self._end(RS_ABANDON):
            note_abandoned((<object>self).label)  # which classes of bodies have, for all of theirs

    cdef _over(self):
        """What it is the body of has come to its end."""
        self._end(RS_COMPLETE)

    cdef _broke(self, error):
        """It has broken off."""
        self.failed(error)

    def _next(self):
        """Take a permit that nobody else has taken, for those who end it in a way of their own."""
        try:
            return self._permits.pop()
        except IndexError:
            return None

    def __del__(self):
        if self._permits:
            self.abandoned()


cdef void _stopped(Held held, PyObject *end) noexcept:
    """The error that is set, and stays so, is the body's end if it is of the type *end*, or else breaks it off."""
    cdef PyObject *kind = NULL
    cdef PyObject *error = NULL
    cdef PyObject *traceback = NULL
    PyErr_Fetch(&kind, &error, &traceback)
    try:
        if kind == NULL or PyErr_GivenExceptionMatches(kind, end):
            held._over()
        else:
            PyErr_NormalizeException(&kind, &error, &traceback)
            if traceback != NULL:
                PyException_SetTraceback(error, traceback)
            held._broke(<object>error)
    except BaseException:  # nothing here raises; if it did, what is left of the permits ends with the body
        pass
    PyErr_Restore(kind, error, traceback)


include "body_raw.pxi"
include "body_http.pxi"
