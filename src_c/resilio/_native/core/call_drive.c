/* Driving a call: what happens between two sends. */
#include "call.h"

/* Make *awaitable* (stolen, rs_is_awaitable) the inner iterator. */
int rs_call_set_inner(CallObject *self, PyObject *awaitable)
{
    if (RS_LIKELY(PyCoro_CheckExact(awaitable))) {
        self->inner = awaitable;
        return 0;
    }
    if (PyGen_CheckExact(awaitable)) {      /* of a types.coroutine function */
        self->inner = awaitable;
        return 0;
    }
    self->inner = Py_TYPE(awaitable)->tp_as_async->am_await(awaitable);
    Py_DECREF(awaitable);
    return self->inner ? 0 : -1;
}

void rs_call_end(CallObject *self)
{
    self->state = DONE;
    self->running = 0;
    if (RS_UNLIKELY(self->frame.view != NULL))
        rs_frame_end(&self->frame);
}

static inline PySendResult send_inner(CallObject *self, PyObject *value, PyObject **result)
{
    if (RS_LIKELY(PyCoro_CheckExact(self->inner)))      /* what PyIter_Send finds out by asking */
        return PyCoro_Type.tp_as_async->am_send(self->inner, value, result);
    return PyIter_Send(self->inner, value, result);
}

/* The callee returned *value* (stolen). */
static PySendResult finish_value(CallObject *self, PyObject *value, PyObject **result)
{
    int outcome = rs_run_returned(&self->run, value, rs_clock_now(rs_clk));
    rs_call_end(self);
    if (RS_UNLIKELY(self->mode == RS_MODE_RESULT)) {
        *result = rs_result_value(value, outcome);
        Py_DECREF(value);
        return *result ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *result = value;
    return PYGEN_RETURN;
}

/* The callee raised; the exception is pending. */
PySendResult rs_call_finish_error(CallObject *self, PyObject **result)
{
    int outcome = rs_run_raised(&self->run, rs_clock_now(rs_clk));
    rs_call_end(self);
    *result = NULL;
    if (self->mode != RS_MODE_RESULT || !PyErr_ExceptionMatches(PyExc_Exception))
        return PYGEN_ERROR;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    *result = rs_result_error(error, outcome);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult finish_refused(CallObject *self, const rs_refusal *why, PyObject **result)
{
    rs_gate *gate = self->pipe->gate[self->run.cursor];
    rs_call_end(self);
    rs_call_drop_args(self);
    if (self->mode == RS_MODE_RESULT) {
        *result = rs_result_refused(gate, why);
        return *result ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *result = NULL;
    rs_refusal_raise(gate, why);
    return PYGEN_ERROR;
}

/* All gates admitted: create the user's coroutine. NEXT means that there is an inner iterator to drive. */
static PySendResult invoke(CallObject *self, PyObject **result)
{
    if (self->mode == RS_MODE_PERMIT) {
        *result = rs_permit_new(&self->run);
        rs_call_end(self);
        rs_call_drop_args(self);
        return *result ? PYGEN_RETURN : PYGEN_ERROR;
    }
    self->state = RUNNING;
    rs_call_enter(self);
    PyObject *coroutine = rs_vectorcall(self->func, self->args + 1, (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                        self->kwnames);
    rs_call_drop_args(self);            /* may run a finaliser that knows this call: it is running, so left alone */
    rs_call_leave(self);
    if (RS_UNLIKELY(coroutine == NULL))
        return rs_call_finish_error(self, result);
    if (RS_LIKELY(PyCoro_CheckExact(coroutine))) {
        self->inner = coroutine;
        return PYGEN_NEXT;
    }
    if (!rs_is_awaitable(coroutine))
        return finish_value(self, coroutine, result);       /* acall of a plain function */
    return rs_call_set_inner(self, coroutine) < 0 ? rs_call_finish_error(self, result) : PYGEN_NEXT;
}

static PyObject *backend_park;

/* A gate said WAIT: park in the caller's own loop. NEXT: drive the park; ERROR: given back, exception pending. */
static PySendResult park(CallObject *self)
{
    rs_slot *slot = &self->run.slots[self->run.cursor];
    PyObject *hook = rs_python("resilio._backends", "park", &backend_park);
    PyObject *seconds = slot->wake_ns == RS_NEVER ? Py_NewRef(Py_None)
        : PyFloat_FromDouble((double)Py_MAX(slot->wake_ns - rs_clock_now(rs_clk), 0) / 1e9);
    PyObject *args[2] = {(PyObject *)slot->waiter, seconds};
    PyObject *coroutine = hook && seconds ? PyObject_Vectorcall(hook, args, 2, NULL) : NULL;
    Py_XDECREF(seconds);
    self->state = WAITING;
    if (coroutine && rs_call_set_inner(self, coroutine) == 0) {
        self->running = 0;
        return PYGEN_NEXT;
    }
    rs_run_cancel(&self->run, 0, rs_clock_now(rs_clk));
    rs_call_end(self);
    return PYGEN_ERROR;
}

static rs_request request_of(CallObject *self)
{
    return (rs_request){self->args + 1, self->nargs, self->kwnames, NULL};
}

/* What follows a verdict. NEXT: there is an inner iterator to drive. */
static PySendResult proceed(CallObject *self, int verdict, rs_refusal *why, PyObject **result)
{
    for (;;) {
        if (RS_LIKELY(verdict == RS_ADMITTED))
            return invoke(self, result);
        if (verdict == RS_REJECTED)
            return finish_refused(self, why, result);
        self->state = WAITING;
        int64_t now = rs_clock_now(rs_clk), poll_at = rs_no_wait_count ? rs_wait_now(&self->run) : now;
        if (poll_at <= now) {
            *result = NULL;
            return park(self);
        }
        rs_request request = request_of(self);      /* testing.no_wait(): as if that time had passed */
        verdict = rs_run_resume(&self->run, &request, poll_at, why);
    }
}

static PySendResult start(CallObject *self, PyObject **result)
{
    rs_refusal why = {-1, NAN, NAN, -1};
    self->run.epoch = rs_epoch;
    if (RS_UNLIKELY(rs_bypass_count) && rs_run_bypassed())
        return invoke(self, result);
    rs_request request = request_of(self);
    self->running = 1;                  /* a cost function, a gate or a listener may know this call: it must not drive it */
    int verdict = rs_run_admit(&self->run, &request, 0, 1, rs_clock_now(rs_clk), &why);
    return proceed(self, verdict, &why, result);
}

/* The park returned or raised. */
static PySendResult parked(CallObject *self, PySendResult sent, PyObject **result)
{
    self->running = 1;
    Py_CLEAR(self->inner);
    if (sent == PYGEN_ERROR) {                      /* cancelled while waiting */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        rs_run_cancel(&self->run, 0, rs_clock_now(rs_clk));
        PyErr_Restore(type, value, traceback);
        rs_call_end(self);
        rs_call_drop_args(self);
        return PYGEN_ERROR;
    }
    Py_CLEAR(*result);
    rs_refusal why = {-1, NAN, NAN, -1};
    rs_request request = request_of(self);
    int verdict = rs_run_resume(&self->run, &request, rs_clock_now(rs_clk), &why);
    return proceed(self, verdict, &why, result);
}

/* One step of the inner iterator has ended as *sent*. Goes on until something is to be yielded, returned or raised. */
PySendResult rs_call_after(CallObject *self, PySendResult sent, PyObject **result)
{
    for (;;) {
        if (sent == PYGEN_NEXT)
            return PYGEN_NEXT;
        if (RS_LIKELY(self->state == RUNNING)) {
            Py_CLEAR(self->inner);
            return RS_LIKELY(sent == PYGEN_RETURN) ? finish_value(self, *result, result) : rs_call_finish_error(self, result);
        }
        sent = parked(self, sent, result);
        if (sent != PYGEN_NEXT)
            return sent;
        rs_call_enter(self);
        sent = send_inner(self, Py_None, result);
        rs_call_leave(self);
    }
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
    rs_call_enter(self);
    PySendResult sent = send_inner(self, value, result);
    rs_call_leave(self);
    return rs_call_after(self, sent, result);
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
static PyObject *spare_stop;        /* one StopIteration that nobody else holds */

/* May this StopIteration be used again? Only if nobody kept it or wrote anything on it. */
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
    Py_CLEAR(((PyStopIterationObject *)stop)->value);   /* may run anything: the slot is looked at only after it */
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
        return NULL;                /* the end without an exception means None */
    }
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
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
