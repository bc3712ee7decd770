/* Driving a call: send a value in, and pass on the value that comes out. */
#include "call/call.h"

static inline PySendResult send_inner(CallObject *self, PyObject *value, PyObject **result)
{
    rs_call_enter(self);
    PySendResult sent = RS_LIKELY(PyCoro_CheckExact(self->inner)) /* avoids PyIter_Send's look-up */
                            ? PyCoro_Type.tp_as_async->am_send(self->inner, value, result)
                            : PyIter_Send(self->inner, value, result);
    rs_call_leave(self);
    return sent;
}

/* The function has returned *value* (stolen): in nearly all calls a plain success. */
static inline PySendResult returned(CallObject *self, PyObject *value, PyObject **result)
{
    int outcome = RS_SUCCESS;
    if (RS_LIKELY(!self->pipe->strategies))
        outcome = rs_run_returned(&self->run, value, rs_clock_now(rs_clk));
    else {
        self->running = 1; /* a listener may hold this call, and must not drive it */
        if (RS_UNLIKELY(!rs_run_succeeded(&self->run)))
            return rs_call_ended(self, value, result);
    }
    if (RS_UNLIKELY(self->mode != RS_MODE_RAISE))
        return rs_call_finish(self, value, NULL, outcome, result);
    rs_call_end(self);
    if (self->total || self->kwnames)
        rs_call_drop_args(self);
    *result = value;
    return PYGEN_RETURN;
}

/* One step of the inner iterator has ended as *sent*. Continue until there is a value to yield or
   return, or an exception to raise. */
PySendResult rs_call_after(CallObject *self, PySendResult sent, PyObject **result)
{
    for (;;) {
        if (sent == PYGEN_NEXT) {
            if (!self->suspended) { /* it may now be dropped while holding permits, and lie among frozen objects */
                self->suspended = 1;
                rs_call_make_young(self);
            }
            if (RS_LIKELY(!self->pipe->timed))
                return PYGEN_NEXT;
            if (!self->armed)
                rs_call_arm(self);
            return PYGEN_NEXT;
        }
        Py_CLEAR(self->inner);
        if (RS_LIKELY(self->state == RUNNING))
            sent = RS_LIKELY(sent == PYGEN_RETURN) ? returned(self, *result, result)
                                                   : rs_call_ended(self, NULL, result);
        else
            sent = self->state == WAITING ? rs_call_parked(self, sent, result) : rs_call_slept(self, sent, result);
        if (RS_LIKELY(sent != PYGEN_NEXT))
            return sent;
        sent = send_inner(self, Py_None, result);
    }
}

static inline PySendResult start(CallObject *self, PyObject **result)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    self->run.epoch = rs_epoch;
    self->running = 1; /* a cost function, a gate or a listener may hold this call, and must not drive it */
    if (RS_UNLIKELY(rs_bypass_count) && rs_run_bypassed())
        return rs_call_bypass(self, result);
    if (self->pipe->placed)
        self->run.place = (uint8_t)rs_place_here();
    rs_request request = rs_call_request(self);
    int verdict = rs_run_admit(&self->run, &request, self->run.base, 1, 0, &why);
    if (RS_UNLIKELY(verdict != RS_ADMITTED || self->mode == RS_MODE_PERMIT))
        return rs_call_go_on(self, verdict, &why, result);
    PySendResult sent = rs_call_invoke(self, result);
    return RS_LIKELY(sent == PYGEN_NEXT) ? PYGEN_NEXT
                                         : rs_call_ended(self, sent == PYGEN_RETURN ? *result : NULL, result);
}

PySendResult rs_call_send(CallObject *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (RS_UNLIKELY(self->running)) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    }
    if (self->state == CREATED) {
        if (RS_UNLIKELY(value != Py_None)) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        PySendResult started = start(self, result);
        if (RS_UNLIKELY(started != PYGEN_NEXT))
            return started;
    }
    else if (RS_UNLIKELY(self->state == DONE || self->inner == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    return rs_call_after(self, send_inner(self, value, result), result);
}

/* Continue a run whose gate at the cursor returned WAIT before this call existed. */
PySendResult rs_call_wait(CallObject *self, PyObject **result)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    self->running = 1;
    PySendResult sent = rs_call_go_on(self, RS_WAIT, &why, result);
    return RS_LIKELY(sent == PYGEN_NEXT) ? rs_call_after(self, send_inner(self, Py_None, result), result) : sent;
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED) && !defined(RS_PUBLIC_ONLY)
static PyObject *spare_stop; /* a StopIteration without other references */

/* Return 1 if this StopIteration can be reused: no other reference to it, and no attribute was set. */
static int stop_is_clean(PyObject *stop)
{
    PyBaseExceptionObject *base = (PyBaseExceptionObject *)stop;
    return Py_REFCNT(stop) == 1 && !base->traceback && !base->context && !base->cause && !base->notes && !base->dict;
}

void rs_call_recycle_stop(PyObject *stop)
{
    if (!stop_is_clean(stop)) {
        Py_DECREF(stop);
        return;
    }
    Py_CLEAR(((PyStopIterationObject *)stop)->value); /* may run any code: the slot is read only after it */
    if (spare_stop == NULL)
        spare_stop = stop;
    else
        Py_DECREF(stop);
}
#else
void rs_call_recycle_stop(PyObject *stop) { Py_DECREF(stop); }
#endif

PyObject *rs_call_raise_stop(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

PyObject *rs_call_iternext(CallObject *self)
{
    PyObject *result;
    PySendResult sent = rs_call_send(self, Py_None, &result);
    if (sent != PYGEN_RETURN)
        return result;
    if (result == Py_None) {
        Py_DECREF(result);
        return NULL; /* the end without an exception means None */
    }
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED) && !defined(RS_PUBLIC_ONLY)
    if (RS_UNLIKELY(!RS_USES(stop_iteration)))
        return rs_call_raise_stop(result);
    PyObject *stop = spare_stop;
    spare_stop = NULL;
    if (stop == NULL)
        stop = PyObject_CallNoArgs(PyExc_StopIteration);
    if (stop == NULL) {
        Py_DECREF(result);
        return NULL;
    }
    Py_XSETREF(((PyStopIterationObject *)stop)->value, result);
    self->stop = Py_NewRef(stop);
    PyErr_SetRaisedException(stop);
    return NULL;
#else
    return rs_call_raise_stop(result);
#endif
}
