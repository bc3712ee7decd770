"""
A stream that falls back: a part of fallback.pxi.

The core sees no call of it, so the place where it begins is chosen here, by the gate's own rules.
"""

cdef class Passage:
    """
    The choice of the place where a stream begins, until its first item.

    Args:
        gate: The fallback.

        is_async: Whether targets may be async.

        one_shot: The argument that cannot be used again; empty: none may be passed again; None: all may.
    """

    cdef FallbackGate gate
    cdef rs_slot slot
    cdef object trial
    cdef str one_shot
    cdef bint is_async

    def __init__(self, FallbackGate gate not None, bint is_async, str one_shot):
        self.gate = gate
        self.is_async = is_async
        self.slot.extra = NULL
        self.one_shot = one_shot
        self.slot.fallback.before = 0 if one_shot is None else RS_OF_STREAM
        self.slot.fallback.one_shot = <PyObject *>self.one_shot

    cdef int ask(self, rs_end *end) except -1:
        cdef int next
        end.now_ns = api.now_ns()
        end.deadline_ns = api.deadline_ns()
        end.called = 1
        end.call = <PyObject *>self if self.is_async else NULL
        next = self.gate.ended(&self.slot, end)
        if self.trial is None and self.slot.extra != NULL:
            self.trial = <object>self.slot.extra    # takes over its reference
            Py_XDECREF(self.slot.extra)
        return next

    def failed(self, object error):
        """
        Return the next place: a function, its one argument or None for the call's own, and the value if no function.

        Raises:
            Exception: The error of the stream, if no place is left.
        """
        cdef rs_end end
        cdef int next
        memset(&end, 0, sizeof(end))
        judge = self.gate.judge_error
        end.outcome = judge(error)
        Py_INCREF(error)
        end.error = <PyObject *>error
        next = self.ask(&end)
        function, argument, value, shown = taken(end.target), taken(end.argument), taken(end.value), taken(end.error)
        if next == RS_PASS and shown is not None:
            raise shown
        return function if next == RS_CALL else None, argument, value

    def succeeded(self):
        """Note that the stream has begun, or has ended without items."""
        cdef rs_end end
        if self.slot.extra == NULL:
            return
        memset(&end, 0, sizeof(end))
        end.outcome = RS_SUCCESS
        Py_INCREF(None)
        end.value = <PyObject *>None
        self.ask(&end)
        Py_XDECREF(end.value)


cdef str _one_shot_of(rs_slot *slot):
    """The passage's `one_shot` argument, left in the slot."""
    return <str>slot.fallback.one_shot if slot.fallback.before == RS_OF_STREAM else None


cdef object taken(PyObject *owned):
    """The object that a record owned; None for NULL."""
    if owned == NULL:
        return None
    value = <object>owned
    Py_XDECREF(owned)
    return value
