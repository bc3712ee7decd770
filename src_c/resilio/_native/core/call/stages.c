/* The work of a call between two steps of its inner iterator: admission, waits, the callee, the answers of strategies.
 *
 * A PySendResult of NEXT means here that there is an inner iterator to drive, and nothing was yielded.
 */
#include "call/call.h"

static PyObject *backend_park, *backend_asleep;

/* Make *awaitable* (stolen, rs_is_awaitable) the inner iterator. */
int rs_call_set_inner(CallObject *self, PyObject *awaitable)
{
    if (RS_LIKELY(PyCoro_CheckExact(awaitable)) || PyGen_CheckExact(awaitable)) { /* of types.coroutine */
        self->inner = awaitable;
        return 0;
    }
    self->inner = Py_TYPE(awaitable)->tp_as_async->am_await(awaitable);
    Py_DECREF(awaitable);
    return self->inner ? 0 : -1;
}

void rs_call_end_slowly(CallObject *self)
{
    if (self->in_use || self->context)
        rs_call_end_timer(self);
    if (self->frame.view)
        rs_frame_end(&self->frame);
}

/* Finish the call for its caller: it returned *value* (stolen), or raised *error* (stolen). */
PySendResult rs_call_finish(CallObject *self, PyObject *value, PyObject *error, int outcome, PyObject **result)
{
    rs_call_end(self);
    if (RS_UNLIKELY(self->total || self->kwnames))
        rs_call_drop_args(self);
    if (RS_LIKELY(value && self->mode == RS_MODE_RAISE)) {
        *result = value;
        return PYGEN_RETURN;
    }
    *result = NULL;
    if (value)
        *result = rs_result_value(value, outcome);
    else if (self->mode != RS_MODE_RESULT || !PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception)) {
        rs_raise_error(error);
        return PYGEN_ERROR;
    }
    else
        *result = rs_result_error(error, outcome);
    Py_XDECREF(value);
    Py_XDECREF(error);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult finish_rejected(CallObject *self, const rs_rejection *why, PyObject **result)
{
    rs_gate *gate = self->run.slots[self->run.cursor].gate;
    rs_call_end(self);
    rs_call_drop_args(self);
    *result = NULL;
    if (self->mode == RS_MODE_RESULT)
        rs_result_attach(*result = rs_result_rejected(gate, why), &self->run);
    else {
        rs_rejection_raise(gate, why);
        rs_ledger_attach_pending(&self->run);
    }
    rs_run_forget_rejected(&self->run);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PySendResult finish_permit(CallObject *self, PyObject **result)
{
    *result = rs_permit_by_hand(rs_permit_new(&self->run));
    rs_call_end(self);
    rs_call_drop_args(self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

/* Suspend in hook(*args) of the backend. */
static PySendResult suspend_in(CallObject *self, int state, PyObject *hook, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *coroutine = hook ? PyObject_Vectorcall(hook, args, (size_t)nargs, NULL) : NULL;
    self->state = (uint8_t)state;
    self->running = 0;
    self->armed = 0;
    return coroutine && rs_call_set_inner(self, coroutine) == 0 ? PYGEN_NEXT : PYGEN_ERROR;
}

static PyObject *seconds_until(int64_t at, int64_t now)
{
    return PyFloat_FromDouble((double)Py_MAX(at - now, 0) / 1e9);
}

/* A gate returned WAIT: park in the caller's own loop. ERROR: the permits are returned, exception pending. */
static PySendResult park(CallObject *self)
{
    rs_slot *slot = &self->run.slots[self->run.cursor];
    PyObject *hook = rs_hook("park", &backend_park);
    PyObject *seconds = slot->wake_ns == RS_NEVER ? Py_NewRef(Py_None)
                                                  : seconds_until(slot->wake_ns, rs_clock_now(rs_clk));
    PyObject *args[2] = {(PyObject *)slot->waiter, seconds};
    PySendResult parked = seconds ? suspend_in(self, WAITING, hook, args, 2) : PYGEN_ERROR;
    if (parked == PYGEN_NEXT && slot->waiter)
        memcpy(slot->waiter->near, (const void *[RS_NEAR]){&self->run, self->inner, self->run.ledger},
               sizeof slot->waiter->near);
    Py_XDECREF(seconds);
    if (parked == PYGEN_ERROR)
        rs_run_cancel(&self->run, rs_run_floor(&self->run, self->run.cursor), 0, rs_clock_now(rs_clk));
    return parked;
}

static PySendResult sleep_until(CallObject *self, int64_t at)
{
    int64_t now = rs_clock_now(rs_clk);
    PyObject *seconds = seconds_until(at, now), *args[1] = {seconds};
    rs_ledger_go(&self->run, RS_RETRY_SLEEP, now);
    PySendResult slept = seconds ? suspend_in(self, SLEEPING, rs_hook("asleep", &backend_asleep), args, 1)
                                 : PYGEN_ERROR;
    Py_XDECREF(seconds);
    return slept;
}

/* The strategy at the cursor runs the inner part in Python. */
static PySendResult delegate(CallObject *self, PyObject **result)
{
    rs_request request = rs_call_request(self);
    PyObject *inner = rs_inner_call_of(
        rs_inner_call_new(self->pipe, self->run.cursor + 1, self->func, self->guard, &request, 1), &self->run);
    self->state = RUNNING;
    rs_call_enter(self);
    PyObject *coroutine = inner ? rs_run_delegate(&self->run, inner, "arun") : NULL;
    rs_call_leave(self);
    Py_XDECREF(inner);
    *result = NULL;
    if (coroutine == NULL)
        return PYGEN_ERROR;
    if (!rs_is_awaitable(coroutine)) {
        PyErr_Format(PyExc_TypeError, "arun must return an awaitable, not %R", coroutine);
        Py_DECREF(coroutine);
        return PYGEN_ERROR;
    }
    return rs_call_set_inner(self, coroutine) < 0 ? PYGEN_ERROR : PYGEN_NEXT;
}

/* testing.no_wait(): end waits at once that only the passage of time would end. */
static int skip_waits(CallObject *self, int verdict, rs_rejection *why)
{
    while (RS_UNLIKELY(verdict == RS_WAIT && rs_no_wait_count)) {
        int64_t now = rs_clock_now(rs_clk), poll_at = rs_wait_now(&self->run);
        if (poll_at <= now)
            break;
        rs_request request = rs_call_request(self);
        verdict = rs_run_resume(&self->run, &request, poll_at, why);
    }
    return verdict;
}

static int admit(CallObject *self, int first, rs_rejection *why)
{
    rs_request request = rs_call_request(self);
    self->armed = 0;
    return rs_run_admit(&self->run, &request, first, 1, 0, why);
}

static int resume(CallObject *self, rs_rejection *why)
{
    rs_request request = rs_call_request(self);
    self->armed = 0;
    return rs_run_resume(&self->run, &request, rs_clock_now(rs_clk), why);
}

/* Act on a verdict. RETURN, ERROR: the inner part of the nearest strategy has ended so; *called*:
   whether the callee was called. */
static PySendResult proceed(CallObject *self, int verdict, rs_rejection *why, PyObject **result, int *called)
{
    *called = 1;
    if (RS_LIKELY(verdict == RS_ADMITTED))
        return rs_call_invoke(self, result);
    if (verdict == RS_DELEGATE)
        return delegate(self, result);
    *called = 0;
    *result = NULL;
    if (verdict == RS_WAIT)
        return park(self);
    if (verdict == -1) /* no gate could reject it */
        return PYGEN_ERROR;
    rs_rejection_raise(self->run.slots[self->run.cursor].gate, why);
    rs_run_forget_rejected(&self->run);
    return PYGEN_ERROR;
}

static PySendResult again(CallObject *self, PyObject **result, int *called)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    self->run.attempt++;
    return proceed(self, skip_waits(self, admit(self, self->run.n, &why), &why), &why, result, called);
}

/* Carry out the answer of the strategy at run.n - 1. RETURN, ERROR: its inner part has ended so. */
static PySendResult answer(CallObject *self, int next, rs_end *end, PyObject **result)
{
    PyObject *target = end->target, *argument = end->argument;
    PySendResult sent = PYGEN_ERROR;
    int called = 1;
    end->target = end->argument = NULL;
    self->armed = 0;
    rs_ledger_answered(&self->run, next, end->now_ns);
    if (next == RS_AGAIN && end->resume_ns > end->now_ns && !(rs_no_wait_count && rs_skips_waits()))
        sent = sleep_until(self, end->resume_ns);
    else if (next == RS_AGAIN)
        sent = again(self, result, &called);
    else if (next == RS_CALL && argument)
        sent = rs_call_function(self, target, &argument, 1, NULL, result);
    else if (next == RS_CALL)
        sent = rs_call_function(self, target, self->args + 1, (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                self->kwnames, result);
    else {
        self->state = RUNNING;
        sent = rs_call_set_inner(self, Py_NewRef(target)) < 0 ? PYGEN_ERROR : PYGEN_NEXT;
    }
    end->called = (uint8_t)called;
    Py_XDECREF(target);
    Py_XDECREF(argument);
    return sent;
}

/* The inner part at run.n has returned *value* (stolen) or, if NULL, raised: ask the strategies. */
static PySendResult ended_inside(CallObject *self, PyObject *value, int called, PyObject **result)
{
    rs_request request = rs_call_request(self);
    rs_end end = {.call = (PyObject *)self, .called = (uint8_t)called, .request = &request, .func = self->func};
    Py_INCREF((PyObject *)self);
    for (;;) {
        self->running = 1;
        rs_end_load(&end, value);
        int next = rs_run_outward(&self->run, &end);
        if (next == RS_PASS)
            break;
        *result = NULL;
        PySendResult sent = answer(self, next, &end, result);
        if (sent == PYGEN_NEXT) {
            self->running = 0;
            Py_XDECREF(end.value);
            Py_XDECREF(end.error);
            Py_DECREF((PyObject *)self);
            return PYGEN_NEXT;
        }
        value = *result;
    }
    PySendResult finished = rs_call_finish(self, end.value, end.error, end.outcome, result);
    Py_DECREF((PyObject *)self);
    return finished;
}

/* The function has returned *value* (stolen) or, if NULL, raised. */
PySendResult rs_call_ended(CallObject *self, PyObject *value, PyObject **result)
{
    if (self->pipe->strategies)
        return ended_inside(self, value, 1, result);
    int outcome = value ? rs_run_returned(&self->run, value, rs_clock_now(rs_clk))
                        : rs_run_raised(&self->run, rs_clock_now(rs_clk));
    return rs_call_finish(self, value, value ? NULL : rs_take_error(), outcome, result);
}

/* Continue after a verdict on the way inward. After a rejection nothing is held inside the nearest strategy. */
PySendResult rs_call_go_on(CallObject *self, int verdict, rs_rejection *why, PyObject **result)
{
    int called;
    verdict = skip_waits(self, verdict, why);
    if (RS_UNLIKELY(verdict == RS_REJECTED && self->run.n == self->run.base))
        return finish_rejected(self, why, result);
    if (RS_UNLIKELY(verdict == RS_ADMITTED && self->mode == RS_MODE_PERMIT))
        return finish_permit(self, result);
    PySendResult sent = proceed(self, verdict, why, result, &called);
    if (RS_LIKELY(sent == PYGEN_NEXT))
        return PYGEN_NEXT;
    if (called || self->run.n > self->run.base)
        return self->pipe->strategies ? ended_inside(self, *result, called, result)
                                      : rs_call_ended(self, *result, result);
    rs_ledger_attach_pending(&self->run);
    rs_call_end(self); /* it could not be parked */
    rs_call_drop_args(self);
    return PYGEN_ERROR;
}

/* testing.disabled() */
PySendResult rs_call_bypass(CallObject *self, PyObject **result)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    return self->mode == RS_MODE_PERMIT ? finish_permit(self, result) : rs_call_go_on(self, RS_ADMITTED, &why, result);
}

/* The park returned or raised. */
PySendResult rs_call_parked(CallObject *self, PySendResult sent, PyObject **result)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    self->running = 1;
    if (RS_LIKELY(sent == PYGEN_RETURN)) {
        Py_CLEAR(*result);
        return rs_call_go_on(self, resume(self, &why), &why, result);
    }
    PyObject *error = rs_take_error(); /* cancelled while waiting */
    rs_run_cancel(&self->run, rs_run_floor(&self->run, self->run.cursor), 0, rs_clock_now(rs_clk));
    rs_raise_error(error);
    if (self->run.n > self->run.base)
        return ended_inside(self, NULL, 0, result);
    rs_ledger_attach_pending(&self->run);
    rs_call_end(self);
    rs_call_drop_args(self);
    return PYGEN_ERROR;
}

/* A strategy's sleep is over, or was cut short. */
PySendResult rs_call_slept(CallObject *self, PySendResult sent, PyObject **result)
{
    int called = 0;
    self->running = 1;
    if (sent == PYGEN_RETURN) {
        Py_CLEAR(*result);
        sent = again(self, result, &called);
    }
    if (sent == PYGEN_NEXT)
        self->running = 0;
    return sent == PYGEN_NEXT ? PYGEN_NEXT : ended_inside(self, *result, called, result);
}
