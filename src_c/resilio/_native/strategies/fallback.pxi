"""The fallback stage notices that a call's function has failed; `resilio._strategies.fallback` chooses what answers."""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t
from libc.string cimport memset

from resilio._native.gate cimport (
    Gate, RS_FAILURE, RS_FALLBACK, RS_NO_LATENCY, RS_NO_START, RS_SUCCESS, rs_gate, rs_gate_ops, rs_is_unserved,
    rs_slot,
)
from resilio._native.strategy cimport RS_CALL, RS_PASS, rs_end, rs_strategy_ops


cdef int fallback_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        return (<FallbackStage><object><PyObject *>gate).ended(slot, end)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a fallback failed to decide: what there is goes on")
    return RS_PASS


cdef int fallback_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    """Return True: the public face checks for resting targets."""
    return True


cdef rs_strategy_ops fallback_strategy
memset(&fallback_strategy, 0, sizeof(fallback_strategy))
fallback_strategy.ended = fallback_ended
fallback_strategy.fails_raised = True

cdef const char *fallback_reasons[1]
fallback_reasons[:] = [NULL]
cdef rs_gate_ops fallback_ops
memset(&fallback_ops, 0, sizeof(fallback_ops))
fallback_ops.kind = "fallback"
fallback_ops.segment = RS_FALLBACK
fallback_ops.error = "ResilienceError"
fallback_ops.reasons = fallback_reasons
fallback_ops.strategy = &fallback_strategy
fallback_ops.pristine = fallback_pristine


cdef class FallbackStage(Gate):
    """The native part of a fallback: it asks `begin`, a method of its subclass, for the trial of each failed call."""

    def __cinit__(self, *args, **options):
        self.ops = &fallback_ops
        self.timeless = RS_NO_START | RS_NO_LATENCY

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        cdef object value = None if end.value == NULL else <object>end.value
        cdef object error = None if end.error == NULL else <object>end.error
        if error is not None and not isinstance(error, Exception):
            return RS_PASS
        step = None
        if slot.extra != NULL:
            trial = <object>slot.extra
            step = trial.ended(error, end.outcome, end.now_ns, end.deadline_ns, end.call != NULL)
        elif rs_is_unserved(end.outcome):
            func = None if end.func == NULL else <object>end.func
            trial = self.begin(error, value, end.now_ns, end.called != 0, func, *arguments_of(end.request))
            _give(&slot.extra, trial)
            step = trial.go_on(end.now_ns, end.deadline_ns, end.call != NULL)
        if step is not None:
            return _take(end, step)
        if error is not None and end.outcome == RS_SUCCESS:
            end.outcome = RS_FAILURE        # no success, even if the exception leads to no target
        return RS_PASS

    def stream(self, make):
        """Return a stream that is begun at a target if it fails before its first item."""
        return core.hook("redirected")(self, make)

    def astream(self, make):
        """Return an async stream that is begun at a target if it fails before its first item."""
        return core.hook("aredirected")(self, make)


cdef int _take(rs_end *end, step) except -1:
    """Call the step's function, if it has one, or go on outward with its value or error."""
    function, argument, value, error, outcome = step
    if function is not None:
        _give(&end.target, function)
        if argument is not None:
            _give(&end.argument, argument[0])
        return RS_CALL
    end.outcome = outcome
    if error is None:
        _give(&end.value, value)
        _drop(&end.error)
    else:
        _give(&end.error, error)
        _drop(&end.value)
    return RS_PASS


cdef int _drop(PyObject **place) except -1:
    before, place[0] = place[0], NULL
    Py_XDECREF(before)
    return 0


cdef int _give(PyObject **place, object new) except -1:
    before = place[0]
    Py_INCREF(new)
    place[0] = <PyObject *>new
    Py_XDECREF(before)
    return 0
