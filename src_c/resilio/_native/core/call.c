/* Call: the awaitable that a guarded coroutine function returns. To others it is a coroutine.
 *
 *     CREATED --first send--> (WAITING <-> park)* --> RUNNING --> DONE
 *
 * Nothing is admitted before the first send, and the user's coroutine does not exist before admission. While WAITING
 * the inner iterator is a park coroutine of the backend; while RUNNING it is the user's.
 */
#include "core.h"

#define RS_INLINE_ARGS 6
#define RS_FREE_CALLS 64

enum { CREATED, WAITING, RUNNING, DONE };

typedef struct CallObject {
    PyObject_HEAD
    rs_run run;
    rs_pipeline *pipe;
    PyObject *func;
    GuardObject *guard;             /* names, for people; or NULL */
    PyObject *inner;
    PyObject *kwnames;
    PyObject **args;                /* args[0] is free for vectorcall's offset */
    Py_ssize_t nargs, total;
    rs_frame frame;
    PyObject *stop;                 /* the recycled StopIteration that carried the result out */
    PyObject *origin;
    PyObject *weakrefs;
    uint8_t state, mode, running;
    rs_slot slots[RS_INLINE_GATES];
    PyObject *inline_args[RS_INLINE_ARGS + 1];
} CallObject;

/* ---- making and freeing ------------------------------------------------------------------------------------- */

#ifndef Py_GIL_DISABLED
static CallObject *free_calls[RS_FREE_CALLS];
static int n_free;
#endif

static CallObject *call_alloc(void)
{
#ifndef Py_GIL_DISABLED
    if (RS_LIKELY(n_free > 0)) {
        CallObject *self = free_calls[--n_free];
        _Py_NewReference((PyObject *)self);
        return self;
    }
#endif
    return PyObject_GC_New(CallObject, &rs_CallType);
}

static void call_free(CallObject *self)
{
#ifndef Py_GIL_DISABLED
    if (RS_LIKELY(n_free < RS_FREE_CALLS)) {
        free_calls[n_free++] = self;
        return;
    }
#endif
    PyObject_GC_Del(self);
}

static PyObject *call_origin(int depth)
{
    PyObject *origin = PyList_New(0);
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    for (; origin && frame && depth > 0; depth--) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        PyObject *entry = Py_BuildValue("(OiO)", code->co_filename, PyFrame_GetLineNumber(frame), code->co_name);
        if (entry == NULL || PyList_Append(origin, entry) < 0)
            Py_CLEAR(origin);
        Py_XDECREF(entry);
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    PyObject *tuple = origin ? PyList_AsTuple(origin) : NULL;
    Py_XDECREF(origin);
    return tuple;
}

static CallObject *call_make(rs_pipeline *pipe, PyObject *func, int mode, GuardObject *guard)
{
    CallObject *self = call_alloc();
    if (self == NULL)
        return NULL;
    self->run.pipe = pipe;
    self->run.slots = self->slots;
    self->run.n = 0;
    self->run.verdict = -1;
    self->pipe = (rs_pipeline *)Py_NewRef((PyObject *)pipe);
    self->func = Py_XNewRef(func);
    self->guard = (GuardObject *)Py_XNewRef((PyObject *)guard);
    self->inner = self->kwnames = self->stop = self->origin = self->weakrefs = NULL;
    self->frame.view = NULL;
    self->frame.run = &self->run;
    self->args = self->inline_args;
    self->nargs = self->total = 0;
    self->state = CREATED;
    self->mode = (uint8_t)mode;
    self->running = 0;
    return self;
}

PyObject *rs_call_new(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames, int mode,
                      GuardObject *guard)
{
    CallObject *self = call_make(pipe, func, mode, guard);
    if (self == NULL)
        return NULL;
    self->nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t total = self->nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    if (RS_UNLIKELY(total > RS_INLINE_ARGS))
        self->args = PyMem_Malloc((size_t)(total + 1) * sizeof(PyObject *));
    if (RS_UNLIKELY(pipe->n > RS_INLINE_GATES))
        self->run.slots = rs_slots_for(pipe->n, self->slots);
    if (RS_UNLIKELY(self->args == NULL || self->run.slots == NULL)) {
        self->args = self->args ? self->args : self->inline_args;
        self->run.slots = self->run.slots ? self->run.slots : self->slots;
        self->state = DONE;
        PyObject_GC_Track(self);
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->total = total;
    for (Py_ssize_t i = 0; i < total; i++)
        self->args[i + 1] = Py_NewRef(args[i]);
    self->kwnames = Py_XNewRef(kwnames);
    int depth = PyThreadState_Get()->coroutine_origin_tracking_depth;
    if (RS_UNLIKELY(depth > 0))
        self->origin = call_origin(depth);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int set_inner(CallObject *self, PyObject *awaitable);

/* A sync function returned an awaitable: the call goes on until that ends. Takes the run over; steals *awaitable*. */
PyObject *rs_call_adopt(rs_run *run, PyObject *func, PyObject *awaitable, int mode, GuardObject *guard)
{
    CallObject *self = call_make(run->pipe, func, mode, guard);
    if (self == NULL) {
        rs_run_settle(run, RS_IGNORED, NULL, rs_clock_now(rs_clk));
        Py_DECREF(awaitable);
        return NULL;
    }
    rs_slot *slots = self->run.slots;
    self->run = *run;
    if (run->pipe->n <= RS_INLINE_GATES) {
        memcpy(slots, run->slots, (size_t)run->n * sizeof(rs_slot));
        self->run.slots = slots;
    }
    else
        run->slots = NULL;
    run->n = 0;
    self->state = RUNNING;
    PyObject_GC_Track(self);
    if (set_inner(self, awaitable) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void drop_args(CallObject *self)
{
    Py_ssize_t total = self->total;
    self->total = self->nargs = 0;
    for (Py_ssize_t i = 1; i <= total; i++)
        Py_DECREF(self->args[i]);
    if (RS_UNLIKELY(self->args != self->inline_args)) {
        PyMem_Free(self->args);
        self->args = self->inline_args;
    }
    Py_CLEAR(self->kwnames);
}

static int call_traverse(CallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    Py_VISIT(self->func);
    Py_VISIT(self->guard);
    Py_VISIT(self->inner);
    Py_VISIT(self->stop);
    Py_VISIT(self->origin);
    for (Py_ssize_t i = 1; i <= self->total; i++)
        Py_VISIT(self->args[i]);
    if (self->state == WAITING && self->run.n > self->run.cursor)
        Py_VISIT((PyObject *)self->run.slots[self->run.cursor].waiter);
    return 0;
}

/* The collector: drop what may lead back to us, keep what settling needs. */
static int call_clear(CallObject *self)
{
    Py_CLEAR(self->inner);
    drop_args(self);
    Py_CLEAR(self->origin);
    return 0;
}

static const char *call_name(CallObject *self, PyObject **holder)
{
    *holder = NULL;
    if (self->guard && self->guard->dict)
        *holder = Py_XNewRef(PyDict_GetItemString(self->guard->dict, "__qualname__"));
    if (*holder == NULL && self->func)
        *holder = PyObject_GetAttrString(self->func, "__qualname__");
    PyErr_Clear();
    const char *name = *holder && PyUnicode_Check(*holder) ? PyUnicode_AsUTF8(*holder) : NULL;
    PyErr_Clear();
    return name ? name : "guarded call";
}

static void warn_never_awaited(CallObject *self)
{
    PyObject *type, *value, *traceback, *holder;
    PyErr_Fetch(&type, &value, &traceback);
    const char *name = call_name(self, &holder);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited", name) < 0)
        PyErr_WriteUnraisable(NULL);            /* not self: it is being freed */
    Py_XDECREF(holder);
    PyErr_Restore(type, value, traceback);
}

static void settle_dropped(CallObject *self)
{
    if (self->state == WAITING)
        rs_run_cancel(&self->run, rs_clock_now(rs_clk));
    else
        rs_run_settle(&self->run, RS_IGNORED, NULL, rs_clock_now(rs_clk));
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
static PyObject *spare_stop;        /* one StopIteration that nobody else holds */

/* May this StopIteration be used again? Only if nobody kept it or wrote anything on it. */
static int stop_is_clean(PyObject *stop)
{
    PyBaseExceptionObject *base = (PyBaseExceptionObject *)stop;
    return Py_REFCNT(stop) == 1 && !base->traceback && !base->context && !base->cause && !base->notes && !base->dict;
}

static void recycle_stop(PyObject *stop)
{
    Py_CLEAR(((PyStopIterationObject *)stop)->value);
    if (spare_stop == NULL && stop_is_clean(stop))
        spare_stop = stop;
    else
        Py_DECREF(stop);
}
#endif

static void call_dealloc(CallObject *self)
{
    PyObject_GC_UnTrack(self);
    if (RS_UNLIKELY(self->weakrefs != NULL))
        PyObject_ClearWeakRefs((PyObject *)self);
    if (RS_UNLIKELY(self->state == CREATED))
        warn_never_awaited(self);
    Py_CLEAR(self->inner);          /* the user's cleanup runs first, inside its permit */
    if (RS_UNLIKELY(self->run.n != 0))
        settle_dropped(self);
    if (RS_UNLIKELY(self->frame.view != NULL))
        rs_frame_end(&self->frame);
    if (RS_UNLIKELY(self->total != 0 || self->kwnames))
        drop_args(self);
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
    if (self->stop)
        recycle_stop(self->stop);
#endif
    if (RS_UNLIKELY(self->run.slots && self->run.slots != self->slots))
        PyMem_Free(self->run.slots);
    Py_XDECREF(self->origin);
    Py_XDECREF(self->func);
    Py_XDECREF((PyObject *)self->guard);
    Py_DECREF((PyObject *)self->pipe);
    call_free(self);
}

/* ---- driving ------------------------------------------------------------------------------------------------ */

/* Make *awaitable* (stolen) the inner iterator. */
static int set_inner(CallObject *self, PyObject *awaitable)
{
    if (RS_LIKELY(PyCoro_CheckExact(awaitable))) {
        self->inner = awaitable;
        return 0;
    }
    unaryfunc await = Py_TYPE(awaitable)->tp_as_async ? Py_TYPE(awaitable)->tp_as_async->am_await : NULL;
    self->inner = await ? await(awaitable) : NULL;
    if (await == NULL)
        PyErr_Format(PyExc_TypeError, "cannot await %R", awaitable);
    Py_DECREF(awaitable);
    return self->inner ? 0 : -1;
}

static inline void enter(CallObject *self)
{
    rs_frame **top = rs_ambient();
    self->frame.outer = *top;
    *top = &self->frame;
    self->running = 1;
}

static inline void leave(CallObject *self)
{
    *rs_ambient() = self->frame.outer;
    self->running = 0;
}

static inline void end(CallObject *self)
{
    self->state = DONE;
    if (RS_UNLIKELY(self->frame.view != NULL))
        rs_frame_end(&self->frame);
}

/* The callee returned *value* (stolen). */
static PySendResult finish_value(CallObject *self, PyObject *value, PyObject **result)
{
    int outcome = rs_run_returned(&self->run, value, rs_clock_now(rs_clk));
    end(self);
    if (RS_UNLIKELY(self->mode == RS_MODE_RESULT)) {
        *result = rs_result_value(value, outcome);
        Py_DECREF(value);
        return *result ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *result = value;
    return PYGEN_RETURN;
}

/* The callee raised; the exception is pending. */
static PySendResult finish_error(CallObject *self, PyObject **result)
{
    int outcome = rs_run_raised(&self->run, rs_clock_now(rs_clk));
    end(self);
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
    end(self);
    drop_args(self);
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
        end(self);
        drop_args(self);
        return *result ? PYGEN_RETURN : PYGEN_ERROR;
    }
    self->state = RUNNING;
    enter(self);
    PyObject *coroutine = PyObject_Vectorcall(self->func, self->args + 1, (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                              self->kwnames);
    leave(self);
    drop_args(self);
    if (RS_UNLIKELY(coroutine == NULL))
        return finish_error(self, result);
    if (RS_LIKELY(PyCoro_CheckExact(coroutine))) {
        self->inner = coroutine;
        return PYGEN_NEXT;
    }
    if (Py_TYPE(coroutine)->tp_as_async == NULL || Py_TYPE(coroutine)->tp_as_async->am_await == NULL)
        return finish_value(self, coroutine, result);       /* acall of a plain function */
    return set_inner(self, coroutine) < 0 ? finish_error(self, result) : PYGEN_NEXT;
}

static PyObject *backend_park;

/* A gate said WAIT: park in the caller's own loop. NEXT: drive the park; ERROR: given back, exception pending. */
static PySendResult park(CallObject *self)
{
    rs_slot *slot = &self->run.slots[self->run.cursor];
    PyObject *hook = rs_python("resilio._backends", "park", &backend_park);
    PyObject *seconds = slot->wake_ns == RS_NEVER ? Py_NewRef(Py_None)
        : PyFloat_FromDouble((double)Py_MAX(slot->wake_ns - rs_clock_now(rs_clk), 0) * 1e-9);
    PyObject *args[2] = {(PyObject *)slot->waiter, seconds};
    PyObject *coroutine = hook && seconds ? PyObject_Vectorcall(hook, args, 2, NULL) : NULL;
    Py_XDECREF(seconds);
    self->state = WAITING;
    if (coroutine && set_inner(self, coroutine) == 0)
        return PYGEN_NEXT;
    rs_run_cancel(&self->run, rs_clock_now(rs_clk));
    end(self);
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
    int verdict = rs_run_admit(&self->run, &request, 0, 1, rs_clock_now(rs_clk), &why);
    return proceed(self, verdict, &why, result);
}

/* The park returned or raised. */
static PySendResult parked(CallObject *self, PySendResult sent, PyObject **result)
{
    Py_CLEAR(self->inner);
    if (sent == PYGEN_ERROR) {                      /* cancelled while waiting */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        rs_run_cancel(&self->run, rs_clock_now(rs_clk));
        PyErr_Restore(type, value, traceback);
        end(self);
        drop_args(self);
        return PYGEN_ERROR;
    }
    Py_CLEAR(*result);
    rs_refusal why = {-1, NAN, NAN, -1};
    rs_request request = request_of(self);
    int verdict = rs_run_resume(&self->run, &request, rs_clock_now(rs_clk), &why);
    return proceed(self, verdict, &why, result);
}

/* One step of the inner iterator has ended as *sent*. Goes on until something is to be yielded, returned or raised. */
static PySendResult after(CallObject *self, PySendResult sent, PyObject **result)
{
    for (;;) {
        if (sent == PYGEN_NEXT)
            return PYGEN_NEXT;
        if (RS_LIKELY(self->state == RUNNING)) {
            Py_CLEAR(self->inner);
            return RS_LIKELY(sent == PYGEN_RETURN) ? finish_value(self, *result, result) : finish_error(self, result);
        }
        sent = parked(self, sent, result);
        if (sent != PYGEN_NEXT)
            return sent;
        enter(self);
        sent = PyIter_Send(self->inner, Py_None, result);
        leave(self);
    }
}

static PySendResult call_am_send(CallObject *self, PyObject *value, PyObject **result)
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
    enter(self);
    PySendResult sent = PyIter_Send(self->inner, value, result);
    leave(self);
    return after(self, sent, result);
}

static PyObject *raise_stop(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyObject *call_iternext(CallObject *self)
{
    PyObject *result;
    PySendResult sent = call_am_send(self, Py_None, &result);
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
    return raise_stop(result);
#endif
}

static PyObject *call_send(CallObject *self, PyObject *value)
{
    PyObject *result;
    return call_am_send(self, value, &result) == PYGEN_RETURN ? raise_stop(result) : result;
}

/* ---- throw and close ---------------------------------------------------------------------------------------- */

static PySendResult throw_inner(CallObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject **result)
{
    PyObject *throw = PyObject_GetAttrString(self->inner, "throw");
    if (throw == NULL && nargs == 1 && PyExceptionInstance_Check(args[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);     /* an awaitable without throw: it ends here */
        *result = NULL;
        return PYGEN_ERROR;
    }
    enter(self);
    *result = throw ? PyObject_Vectorcall(throw, args, (size_t)nargs, NULL) : NULL;
    leave(self);
    Py_XDECREF(throw);
    if (*result)
        return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    *result = Py_NewRef(((PyStopIterationObject *)error)->value);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return PYGEN_RETURN;
}

/* Raise what throw() was given: an exception, or a class with an optional value and traceback. */
static void raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *type = args[0], *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL, *error;
    if (PyExceptionInstance_Check(type))
        error = Py_NewRef(type);
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s", Py_TYPE(type)->tp_name);
        return;
    }
    else if (value && PyExceptionInstance_Check(value))
        error = Py_NewRef(value);
    else
        error = value ? PyObject_CallOneArg(type, value) : PyObject_CallNoArgs(type);
    if (error == NULL)
        return;
    if (nargs > 2 && args[2] != Py_None)
        PyException_SetTraceback(error, args[2]);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

static PyObject *call_throw(CallObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = NULL;
    if (nargs < 1 || nargs > 3)
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "coroutine already executing");
    if (self->state == DONE || (self->state != CREATED && self->inner == NULL))
        return PyErr_Format(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    if (self->state == CREATED) {
        end(self);
        drop_args(self);
        raise_thrown(args, nargs);
        return NULL;
    }
    PySendResult sent = after(self, throw_inner(self, args, nargs, &result), &result);
    return sent == PYGEN_RETURN ? raise_stop(result) : result;
}

static PyObject *call_close(CallObject *self, PyObject *unused)
{
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "coroutine already executing");
    if (self->state == CREATED || self->state == DONE || self->inner == NULL) {
        end(self);
        drop_args(self);
        Py_RETURN_NONE;
    }
    PyObject *close = PyObject_GetAttrString(self->inner, "close"), *closed = NULL;
    if (close) {
        enter(self);
        closed = PyObject_CallNoArgs(close);
        leave(self);
        Py_DECREF(close);
    }
    else
        PyErr_Clear();
    if (closed == NULL && PyErr_Occurred() && self->state == RUNNING) {
        PyObject *result;
        int suspended = self->mode;                 /* close raises, also for an attempt */
        self->mode = RS_MODE_RAISE;
        finish_error(self, &result);
        self->mode = (uint8_t)suspended;
        Py_CLEAR(self->inner);
        return NULL;
    }
    Py_XDECREF(closed);
    Py_CLEAR(self->inner);
    settle_dropped(self);
    end(self);
    drop_args(self);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- what a coroutine shows --------------------------------------------------------------------------------- */

static PyObject *call_mirror(CallObject *self, void *attribute)
{
    PyObject *value = NULL;
    if (self->state == RUNNING && self->inner)
        value = PyObject_GetAttrString(self->inner, attribute);
    if (value == NULL)
        PyErr_Clear();
    return value ? value : Py_NewRef(Py_None);
}

static PyObject *call_get_running(CallObject *self, void *unused) { return PyBool_FromLong(self->running); }

static PyObject *call_get_suspended(CallObject *self, void *unused)
{
    return PyBool_FromLong(!self->running && (self->state == WAITING || self->state == RUNNING));
}

static PyObject *call_get_origin(CallObject *self, void *unused) { return Py_NewRef(self->origin ? self->origin : Py_None); }

static PyObject *call_get_code(CallObject *self, void *unused)
{
    PyObject *from = self->guard ? (PyObject *)self->guard : self->func;
    PyObject *code = from ? PyObject_GetAttrString(from, "__code__") : NULL;
    PyErr_Clear();
    return code ? code : Py_NewRef(Py_None);
}

static PyObject *call_get_name(CallObject *self, void *attribute)
{
    PyObject *name = NULL;
    if (self->guard)
        name = PyObject_GetAttrString((PyObject *)self->guard, attribute);
    else if (self->func)
        name = PyObject_GetAttrString(self->func, attribute);
    PyErr_Clear();
    return name ? name : PyUnicode_FromString("guarded call");
}

static PyObject *call_get_class(CallObject *self, void *unused) { return Py_NewRef((PyObject *)&PyCoro_Type); }

static PyObject *call_repr(CallObject *self)
{
    PyObject *holder;
    const char *name = call_name(self, &holder);
    PyObject *text = PyUnicode_FromFormat("<guarded coroutine %s at %p>", name, self);
    Py_XDECREF(holder);
    return text;
}

static PyMethodDef call_methods[] = {
    {"send", (PyCFunction)call_send, METH_O, "send(value, /)\n--\n\nResume the call with *value*."},
    {"throw", (PyCFunction)(void (*)(void))call_throw, METH_FASTCALL,
     "throw(type, value=None, traceback=None, /)\n--\n\nRaise an exception where the call is suspended."},
    {"close", (PyCFunction)call_close, METH_NOARGS,
     "close()\n--\n\nClose the user's coroutine, then give everything back."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Call[T]"},
    {NULL}};
static PyGetSetDef call_getset[] = {
    {"cr_frame", (getter)call_mirror, NULL, "The user's coroutine's frame, or None.", "cr_frame"},
    {"cr_await", (getter)call_mirror, NULL, "What the user's coroutine awaits, or None.", "cr_await"},
    {"cr_running", (getter)call_get_running, NULL, NULL},
    {"cr_suspended", (getter)call_get_suspended, NULL, NULL},
    {"cr_origin", (getter)call_get_origin, NULL, NULL},
    {"cr_code", (getter)call_get_code, NULL, NULL},
    {"__name__", (getter)call_get_name, NULL, NULL, "__name__"},
    {"__qualname__", (getter)call_get_name, NULL, NULL, "__qualname__"},
    {"__class__", (getter)call_get_class, NULL, "types.CoroutineType, so that inspect.iscoroutine says yes; type() is honest."},
    {NULL}};
static PyAsyncMethods call_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)call_am_send};

PyTypeObject rs_CallType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Call",
    .tp_basicsize = sizeof(CallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A guarded call under way: a coroutine to everybody else.",
    .tp_dealloc = (destructor)call_dealloc,
    .tp_traverse = (traverseproc)call_traverse,
    .tp_clear = (inquiry)call_clear,
    .tp_repr = (reprfunc)call_repr,
    .tp_weaklistoffset = offsetof(CallObject, weakrefs),
    .tp_iternext = (iternextfunc)call_iternext,
    .tp_as_async = &call_async,
    .tp_methods = call_methods,
    .tp_getset = call_getset,
};
