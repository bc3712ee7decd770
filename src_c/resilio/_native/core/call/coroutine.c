/* The coroutine interface of a call: throw, close, the cr_ attributes. */
#include "call/call.h"

static PyObject *call_send(CallObject *self, PyObject *value)
{
    PyObject *result;
    return rs_call_send(self, value, &result) == PYGEN_RETURN ? rs_call_raise_stop(result) : result;
}

/* Raise the arguments of throw(): an exception, or a class with an optional value and traceback. */
static void raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *type = args[0], *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL, *error;
    if (PyExceptionInstance_Check(type))
        error = Py_NewRef(type);
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(type)->tp_name);
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

static PySendResult throw_inner(CallObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject **result)
{
    PyObject *throw = PyObject_GetAttrString(self->inner, "throw");
    if (throw == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        raise_thrown(args, nargs); /* an awaitable without throw: it ends here */
        *result = NULL;
        return PYGEN_ERROR;
    }
    rs_call_enter(self);
    *result = throw ? PyObject_Vectorcall(throw, args, (size_t)nargs, NULL) : NULL;
    rs_call_leave(self);
    Py_XDECREF(throw);
    if (*result)
        return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    *result = PyObject_TypeCheck(error, (PyTypeObject *)PyExc_StopIteration) ? rs_stop_value(error)
                                                                             : Py_NewRef(Py_None);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return PYGEN_RETURN;
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
        rs_call_end(self);
        rs_call_drop_args(self);
        raise_thrown(args, nargs);
        return NULL;
    }
    PySendResult sent = throw_inner(self, args, nargs, &result);
    sent = rs_call_after(self, sent, &result);
    return sent == PYGEN_RETURN ? rs_call_raise_stop(result) : result;
}

static PyObject *call_close(CallObject *self, PyObject *unused)
{
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "coroutine already executing");
    if (self->state == CREATED || self->state == DONE || self->inner == NULL) {
        if (self->run.n != self->run.base) /* the collector has cleared the inner iterator, and the call survived */
            rs_call_settle_dropped(self);
        rs_call_end(self);
        rs_call_drop_args(self);
        Py_RETURN_NONE;
    }
    PyObject *close = PyObject_GetAttrString(self->inner, "close"), *closed = NULL;
    if (close) {
        rs_call_enter(self);
        closed = PyObject_CallNoArgs(close);
        rs_call_leave(self);
        Py_DECREF(close);
    }
    else
        PyErr_Clear();
    if (closed == NULL && PyErr_Occurred() && self->state == RUNNING) {
        /* A closed call is not run again, and close raises for an attempt too. */
        rs_run_raised(&self->run, rs_clock_now(rs_clk));
        rs_call_end(self);
        rs_call_drop_args(self);
        Py_CLEAR(self->inner);
        return NULL;
    }
    Py_XDECREF(closed);
    Py_CLEAR(self->inner);
    rs_call_settle_dropped(self);
    rs_call_end(self);
    rs_call_drop_args(self);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- for strategies written in Python ------------------------------------------------------------------------ */

static PyObject *call_inner(CallObject *self, PyObject *stage)
{
    long at = PyLong_AsLong(stage);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (self->pipe == NULL || at < self->run.base || at >= self->pipe->n)
        return PyErr_Format(PyExc_ValueError, "stage: this call has none of the number %ld", at);
    rs_request request = rs_call_request(self);
    return rs_inner_call_of(rs_inner_call_new(self->pipe, (int)at + 1, self->func, self->guard, &request, 1),
                            &self->run);
}

static PyObject *call_interrupt(CallObject *self, PyObject *args)
{
    int stage, reason;
    if (!PyArg_ParseTuple(args, "ii:_interrupt", &stage, &reason))
        return NULL;
    return PyLong_FromLong(rs_call_interrupt((PyObject *)self, stage, reason));
}

static PyObject *call_context(CallObject *self, PyObject *unused)
{
    return Py_NewRef(self->context ? self->context : Py_None);
}

static PyObject *call_ending(CallObject *self, PyObject *unused) { return PyBool_FromLong(rs_call_ending(self)); }

/* ---- the attributes of a coroutine -------------------------------------------------------------------------- */

static PyObject *call_mirror(CallObject *self, void *attribute)
{
    PyObject *value = NULL;
    if (self->state == RUNNING && self->inner)
        value = PyObject_GetAttrString(self->inner, attribute);
    rs_drop_error();
    return value ? value : Py_NewRef(Py_None);
}

static PyObject *call_get_running(CallObject *self, void *unused) { return PyBool_FromLong(self->running); }

/* Read by inspect.getcoroutinestate since 3.15. Before, it goes by the frame: a call that has not begun looks closed,
   as the user's coroutine does not exist before admission. */
static PyObject *call_get_state(CallObject *self, void *unused)
{
    const char *state = self->running            ? "CORO_RUNNING"
                        : self->state == CREATED ? "CORO_CREATED"
                        : self->state == DONE    ? "CORO_CLOSED"
                                                 : "CORO_SUSPENDED";
    return PyUnicode_InternFromString(state);
}

static PyObject *call_get_suspended(CallObject *self, void *unused)
{
    return PyBool_FromLong(!self->running && self->state != CREATED && self->state != DONE);
}

static PyObject *call_get_spare(CallObject *self, void *unused) { return PyBool_FromLong(self->pipe == NULL); }

static PyObject *call_get_origin(CallObject *self, void *unused)
{
    return Py_NewRef(self->origin ? self->origin : Py_None);
}

static PyObject *call_get_code(CallObject *self, void *unused)
{
    PyObject *from = self->guard ? (PyObject *)self->guard : self->func;
    PyObject *code = from ? PyObject_GetAttrString(from, "__code__") : NULL;
    rs_drop_error();
    return code ? code : Py_NewRef(Py_None);
}

static PyObject *call_get_name(CallObject *self, void *attribute)
{
    PyObject *name = NULL;
    if (self->guard)
        name = PyObject_GetAttrString((PyObject *)self->guard, attribute);
    else if (self->func)
        name = PyObject_GetAttrString(self->func, attribute);
    rs_drop_error();
    return name ? name : PyUnicode_FromString("guarded call");
}

static PyObject *call_get_class(CallObject *self, void *unused) { return Py_NewRef((PyObject *)&PyCoro_Type); }

static PyObject *call_repr(CallObject *self)
{
    PyObject *holder;
    const char *name = rs_call_name(self, &holder);
    PyObject *text = PyUnicode_FromFormat("<guarded coroutine %s at %p>", name, self);
    Py_XDECREF(holder);
    return text;
}

static PyMethodDef call_methods[] = {
    {"send", (PyCFunction)call_send, METH_O, "send($self, value, /)\n--\n\nResume the call with *value*."},
    {"throw", (PyCFunction)(void (*)(void))call_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception where the call is suspended."},
    {"close", (PyCFunction)call_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose the user's coroutine, then release all permits."},
    {"_inner", (PyCFunction)call_inner, METH_O,
     "_inner($self, stage, /)\n--\n\nReturn the inside of a stage, for a strategy."},
    {"_interrupt", (PyCFunction)call_interrupt, METH_VARARGS,
     "_interrupt($self, stage, reason, /)\n--\n\n"
     "Cancel the call, from a callback of its loop. Return 1, 0 if it is already ending, or -1 if another\n"
     "interruption of its task is in progress."},
    {"_context", (PyCFunction)call_context, METH_NOARGS,
     "_context($self, /)\n--\n\nContext of the task that it suspends, or None before it has suspended."},
    {"_ending", (PyCFunction)call_ending, METH_NOARGS,
     "_ending($self, /)\n--\n\n"
     "Return True if it is interrupted, or its task was cancelled otherwise since it first suspended."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Call[T]"},
    {NULL},
};
static PyGetSetDef call_getset[] = {
    {"cr_frame", (getter)call_mirror, NULL, "Frame of the user's coroutine, or None.", "cr_frame"},
    {"cr_await", (getter)call_mirror, NULL, "Object that the user's coroutine awaits, or None.", "cr_await"},
    {"cr_running", (getter)call_get_running, NULL, NULL},
    {"cr_suspended", (getter)call_get_suspended, NULL, NULL},
    {"cr_state", (getter)call_get_state, NULL, NULL},
    {"cr_origin", (getter)call_get_origin, NULL, NULL},
    {"cr_code", (getter)call_get_code, NULL, NULL},
    {"_spare", (getter)call_get_spare, NULL,
     "True if it is no call but memory kept for the next one; only the collector's lists show it.", NULL},
    {"__name__", (getter)call_get_name, NULL, NULL, "__name__"},
    {"__qualname__", (getter)call_get_name, NULL, NULL, "__qualname__"},
    {"__class__", (getter)call_get_class, NULL,
     "types.CoroutineType, so that inspect.iscoroutine is true; type() returns the real type."},
    {NULL},
};
static PyAsyncMethods call_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)rs_call_send};

PyTypeObject rs_CallType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Call",
    .tp_basicsize = sizeof(CallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A guarded call in flight: a coroutine to all other code.",
    .tp_dealloc = (destructor)rs_call_dealloc,
    .tp_traverse = (traverseproc)rs_call_traverse,
    .tp_clear = (inquiry)rs_call_clear,
    .tp_repr = (reprfunc)call_repr,
    .tp_weaklistoffset = offsetof(CallObject, weakrefs),
    .tp_iternext = (iternextfunc)rs_call_iternext,
    .tp_as_async = &call_async,
    .tp_methods = call_methods,
    .tp_getset = call_getset,
};
