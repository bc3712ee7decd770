/* resilio._native.sending: one request of an async client, sent while a permit is held that may outlive the sending.
 *
 *     CREATED --first send--> (WAITING) --> RUNNING --> DONE
 *
 * What `Call` is to a guarded function, this is to a client's hook, without the settling: what has been answered is handed
 * to `hold` with its permit, and what raises to `settle`. A coroutine in Python that did this cost three times as much.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *acquire, *hold, *settle;
    PyObject *aside;                /* what sends in its place within a guarded call, or when there are news; or NULL */
    PyObject *news;                 /* tells whether there is something to be told first, or NULL */
    long fails_from;                /* the least status that is a failure: what is below and whole ends its permit; 0: ask `hold` */
} AdmissionObject;

typedef enum { CREATED, WAITING, RUNNING, DONE } state;

typedef struct {
    PyObject_HEAD
    AdmissionObject *admission;
    PyObject *request;
    PyObject *send;
    PyObject *permit;               /* NULL: none yet, or it has been handed over */
    PyObject *inner;                /* the wait for a permit, then what sends */
    PyObject *weakrefs;
    uint8_t state, running;
} SendingObject;

static PyTypeObject AdmissionType, SendingType;
static PyObject *current_call;      /* resilio._native.core.current */
static PyObject *name_connection, *name_content, *name_exception, *name_returned, *name_status;

/* ---- errors --------------------------------------------------------------------------------------------------- */

/* The pending exception, or one that says that there was none. */
static PyObject *take_error(void)
{
    PyObject *type, *error, *traceback;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "an error without an exception");
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

static void raise_error(PyObject *error)                /* steals */
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}

/* ---- the ends ------------------------------------------------------------------------------------------------- */

/* Nobody wants it any more: that says nothing. Possibly in a finaliser; keeps a pending exception. */
static void let_go(SendingObject *self)
{
    PyObject *type, *value, *traceback, *permit = self->permit;
    self->permit = NULL;
    self->state = DONE;
    if (permit == NULL)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallMethod(permit, "ignore", NULL);
    if (done == NULL)
        PyErr_Clear();                  /* it has been ended by hand */
    Py_XDECREF(done);
    Py_DECREF(permit);
    PyErr_Restore(type, value, traceback);
}

/* It has raised: settle, and raise that, or what `settle` answers in its place. */
static PySendResult failed(SendingObject *self, PyObject **result)
{
    PyObject *error = take_error(), *permit = self->permit;
    self->permit = NULL;
    self->state = DONE;
    *result = NULL;
    PyObject *args[4] = {NULL, permit ? permit : Py_None, error, self->request};
    PyObject *other = PyObject_Vectorcall(self->admission->settle, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(permit);
    if (other == Py_None || other == error)
        raise_error(error);
    else {
        if (other && PyExceptionInstance_Check(other))
            raise_error(Py_NewRef(other));
        else if (other)
            PyErr_Format(PyExc_TypeError, "settle: must answer with None or an exception, not %R", other);
        Py_DECREF(error);
    }
    Py_XDECREF(other);
    Py_CLEAR(self->send);
    self->running = 0;
    return PYGEN_ERROR;
}

/* Is this attribute None? 0 if there is none of that name. */
static int is_none(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (UNLIKELY(value == NULL))
        PyErr_Clear();
    Py_XDECREF(value);
    return value == Py_None;
}

/* Has a response of aiohttp's ended well with its head, as short ones do? Asked by the attributes behind the properties, which
   are Python; where those are called otherwise `hold` is asked, which goes by the properties. */
static int is_whole(PyObject *response, long fails_from)
{
    if (!is_none(response, name_connection))
        return 0;
    PyObject *status = PyObject_GetAttr(response, name_status);
    long said = status && PyLong_Check(status) ? PyLong_AsLong(status) : fails_from;
    PyObject *content = said < fails_from ? PyObject_GetAttr(response, name_content) : NULL;
    int whole = content && (content == Py_None || is_none(content, name_exception));
    PyErr_Clear();
    Py_XDECREF(status);
    Py_XDECREF(content);
    return whole;
}

/* The permit of what has been answered: ended with it, or held on. NULL with an exception. */
static PyObject *hold(SendingObject *self, PyObject *permit, PyObject *answer)
{
    AdmissionObject *admission = self->admission;
    PyObject *args[3] = {NULL, permit, answer};
    if (LIKELY(admission->fails_from && is_whole(answer, admission->fails_from)))
        return PyObject_VectorcallMethod(name_returned, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return PyObject_Vectorcall(admission->hold, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* It was answered by *value (stolen). */
static PySendResult answered(SendingObject *self, PyObject **value)
{
    PyObject *permit = self->permit;
    self->permit = NULL;
    self->state = DONE;
    PyObject *done = hold(self, permit, *value);
    Py_DECREF(permit);
    self->running = 0;
    if (LIKELY(done != NULL)) {
        Py_DECREF(done);
        return PYGEN_RETURN;
    }
    Py_CLEAR(*value);
    return PYGEN_ERROR;
}

/* ---- driving -------------------------------------------------------------------------------------------------- */

static inline PySendResult send_inner(SendingObject *self, PyObject *value, PyObject **result)
{
    return LIKELY(PyCoro_CheckExact(self->inner)) ? PyCoro_Type.tp_as_async->am_send(self->inner, value, result)
                                                  : PyIter_Send(self->inner, value, result);
}

/* Make what sends the inner iterator; -1 with an exception. */
static int set_inner(SendingObject *self, PyObject *awaitable)     /* steals */
{
    if (LIKELY(PyCoro_CheckExact(awaitable)) || PyGen_CheckExact(awaitable)) {
        self->inner = awaitable;
        return 0;
    }
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
    if (async && async->am_await)
        self->inner = async->am_await(awaitable);
    else
        PyErr_Format(PyExc_TypeError, "what sends must be awaitable, not %R", awaitable);
    Py_DECREF(awaitable);
    return self->inner ? 0 : -1;
}

/* The permit is here: send. NEXT: there is an inner iterator to drive. */
static PySendResult go(SendingObject *self)
{
    self->state = RUNNING;
    PyObject *args[2] = {NULL, self->request};
    PyObject *awaitable = PyObject_Vectorcall(self->send, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return awaitable && set_inner(self, awaitable) == 0 ? PYGEN_NEXT : PYGEN_ERROR;
}

/* One step of the inner iterator has ended as *sent*. */
static PySendResult after(SendingObject *self, PySendResult sent, PyObject **result)
{
    for (;;) {
        if (sent == PYGEN_NEXT) {
            self->running = 0;
            return PYGEN_NEXT;
        }
        Py_CLEAR(self->inner);
        if (UNLIKELY(sent == PYGEN_ERROR))
            return failed(self, result);
        if (LIKELY(self->state == RUNNING)) {
            Py_CLEAR(self->send);
            return answered(self, result);
        }
        self->permit = *result;
        *result = NULL;
        sent = go(self);
        if (sent == PYGEN_NEXT)
            sent = send_inner(self, Py_None, result);
    }
}

/* Ask for a permit. NEXT: there is an inner iterator, and *result* is what it has yielded, NULL if it was not asked. */
static PySendResult start(SendingObject *self, PyObject **result)
{
    PyObject *args[2] = {NULL, self->request};
    PyObject *got = PyObject_Vectorcall(self->admission->acquire, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (got == NULL)
        return PYGEN_ERROR;
    if (LIKELY(!PyTuple_CheckExact(got))) {
        self->permit = got;
        return go(self);
    }
    self->state = WAITING;
    self->inner = Py_NewRef(PyTuple_GET_ITEM(got, 0));
    *result = Py_NewRef(PyTuple_GET_ITEM(got, 1));
    Py_DECREF(got);
    return PYGEN_NEXT;
}

static PySendResult sending_am_send(SendingObject *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (UNLIKELY(self->running)) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    }
    if (self->state == CREATED) {
        if (UNLIKELY(value != Py_None)) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        self->running = 1;
        PySendResult started = start(self, result);
        if (UNLIKELY(started == PYGEN_ERROR || *result))
            return after(self, started, result);
    }
    else if (UNLIKELY(self->inner == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    self->running = 1;
    return after(self, send_inner(self, value, result), result);
}

static PyObject *raise_stop(PyObject *value)            /* steals */
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyObject *sending_iternext(SendingObject *self)
{
    PyObject *result;
    return sending_am_send(self, Py_None, &result) == PYGEN_RETURN ? raise_stop(result) : result;
}

static PyObject *sending_send(SendingObject *self, PyObject *value)
{
    PyObject *result;
    return sending_am_send(self, value, &result) == PYGEN_RETURN ? raise_stop(result) : result;
}

/* Raise what throw() was given: an exception, or a class with an optional value and traceback. */
static void raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *error = PyExceptionInstance_Check(args[0]) ? Py_NewRef(args[0])
        : value && PyExceptionInstance_Check(value) ? Py_NewRef(value)
        : !PyExceptionClass_Check(args[0]) ? NULL
        : value ? PyObject_CallOneArg(args[0], value) : PyObject_CallNoArgs(args[0]);
    if (error == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException");
        return;
    }
    if (nargs > 2 && args[2] != Py_None)
        PyException_SetTraceback(error, args[2]);
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

/* The value of the StopIteration that is pending; NULL if it is something else. */
static PyObject *stopped_with(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyObject *stop = take_error();
    PyObject *value = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return value;
}

static PySendResult throw_inner(SendingObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject **result)
{
    PyObject *throw = PyObject_GetAttrString(self->inner, "throw");
    if (throw == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        raise_thrown(args, nargs);      /* an awaitable without throw: it ends here */
        return PYGEN_ERROR;
    }
    *result = throw ? PyObject_Vectorcall(throw, args, (size_t)nargs, NULL) : NULL;
    Py_XDECREF(throw);
    if (*result)
        return PYGEN_NEXT;
    *result = stopped_with();
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *sending_throw(SendingObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = NULL;
    if (nargs < 1 || nargs > 3)
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "coroutine already executing");
    if (self->state != CREATED && self->inner == NULL)
        return PyErr_Format(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    if (self->state == CREATED) {
        self->state = DONE;
        Py_CLEAR(self->send);
        raise_thrown(args, nargs);
        return NULL;
    }
    self->running = 1;
    PySendResult sent = throw_inner(self, args, nargs, &result);
    return after(self, sent, &result) == PYGEN_RETURN ? raise_stop(result) : result;
}

static PyObject *sending_close(SendingObject *self, PyObject *unused)
{
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "coroutine already executing");
    self->running = 1;
    PyObject *closed = self->inner ? PyObject_CallMethod(self->inner, "close", NULL) : Py_NewRef(Py_None);
    Py_CLEAR(self->inner);
    if (closed == NULL) {
        PyObject *result;
        failed(self, &result);
        return NULL;
    }
    Py_DECREF(closed);
    let_go(self);
    Py_CLEAR(self->send);
    self->running = 0;
    Py_RETURN_NONE;
}

static PyObject *sending_get_await(SendingObject *self, void *unused) { return Py_NewRef(self->inner ? self->inner : Py_None); }

static PyObject *sending_get_running(SendingObject *self, void *unused) { return PyBool_FromLong(self->running); }

/* ---- life ----------------------------------------------------------------------------------------------------- */

static int sending_traverse(SendingObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->admission);
    Py_VISIT(self->request);
    Py_VISIT(self->send);
    Py_VISIT(self->permit);
    Py_VISIT(self->inner);
    return 0;
}

/* What sends is closed first, inside of its permit. */
static int sending_clear(SendingObject *self)
{
    Py_CLEAR(self->inner);
    let_go(self);
    Py_CLEAR(self->send);
    return 0;
}

static void warn_never_awaited(SendingObject *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine 'Sending' was never awaited") < 0)
        PyErr_WriteUnraisable(NULL);    /* not self: it is being freed */
    PyErr_Restore(type, value, traceback);
}

static void sending_dealloc(SendingObject *self)
{
    PyObject_GC_UnTrack(self);
    if (UNLIKELY(self->weakrefs != NULL))
        PyObject_ClearWeakRefs((PyObject *)self);
    if (UNLIKELY(self->state == CREATED))
        warn_never_awaited(self);
    if (UNLIKELY(self->inner || self->permit || self->send))
        sending_clear(self);
    Py_DECREF(self->request);
    Py_DECREF((PyObject *)self->admission);
    PyObject_GC_Del(self);
}

static PyMethodDef sending_methods[] = {
    {"send", (PyCFunction)sending_send, METH_O, "send($self, value, /)\n--\n\nGo on with *value*."},
    {"throw", (PyCFunction)(void (*)(void))sending_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception where it is suspended."},
    {"close", (PyCFunction)sending_close, METH_NOARGS, "close($self, /)\n--\n\nClose what sends, then give the permit back."},
    {NULL}};
static PyGetSetDef sending_getset[] = {
    {"cr_await", (getter)sending_get_await, NULL, "What it waits for, or None."},
    {"cr_running", (getter)sending_get_running, NULL, NULL},
    {NULL}};
static PyAsyncMethods sending_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)sending_am_send};

static PyTypeObject SendingType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.sending.Sending",
    .tp_basicsize = sizeof(SendingObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "One request under way: a coroutine to everybody else.",
    .tp_dealloc = (destructor)sending_dealloc,
    .tp_traverse = (traverseproc)sending_traverse,
    .tp_clear = (inquiry)sending_clear,
    .tp_weaklistoffset = offsetof(SendingObject, weakrefs),
    .tp_iternext = (iternextfunc)sending_iternext,
    .tp_as_async = &sending_async,
    .tp_methods = sending_methods,
    .tp_getset = sending_getset,
};

/* ---- the admission -------------------------------------------------------------------------------------------- */

/* Is a guarded call under way, which wants to know what it waits for, and may be a copy? Or is there news? -1 with an exception. */
static int is_special(AdmissionObject *self)
{
    PyObject *call = PyObject_CallNoArgs(current_call);
    Py_XDECREF(call);
    if (UNLIKELY(call != Py_None))
        return call ? 1 : -1;
    PyObject *news = self->news ? PyObject_CallNoArgs(self->news) : Py_NewRef(Py_False);
    int told = news ? PyObject_IsTrue(news) : -1;
    Py_XDECREF(news);
    return told;
}

static PyObject *sending_new(AdmissionObject *admission, PyObject *request, PyObject *send)
{
    SendingObject *made = PyObject_GC_New(SendingObject, &SendingType);
    if (made == NULL)
        return NULL;
    made->admission = (AdmissionObject *)Py_NewRef((PyObject *)admission);
    made->request = Py_NewRef(request);
    made->send = Py_NewRef(send);
    made->permit = made->inner = made->weakrefs = NULL;
    made->state = CREATED;
    made->running = 0;
    PyObject_GC_Track(made);
    return (PyObject *)made;
}

/* admission(request, send): what awaits send(request) with a permit. */
static PyObject *admission_call(AdmissionObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (UNLIKELY(PyVectorcall_NARGS(nargsf) != 2 || kwnames))
        return PyErr_Format(PyExc_TypeError, "takes a request and what sends it");
    if (self->aside) {
        int aside = self->acquire == NULL ? 1 : is_special(self);
        if (UNLIKELY(aside))
            return aside < 0 ? NULL : PyObject_Vectorcall(self->aside, args, 2, NULL);
    }
    if (UNLIKELY(self->acquire == NULL))
        return PyErr_Format(PyExc_RuntimeError, "this admission has no gates: its __init__ has not run");
    return sending_new(self, args[0], args[1]);
}

static PyObject *admission_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    AdmissionObject *self = (AdmissionObject *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = (vectorcallfunc)admission_call;
    return (PyObject *)self;
}

static void keep(PyObject **field, PyObject *value)
{
    Py_XSETREF(*field, value == Py_None ? NULL : Py_NewRef(value));
}

static int admission_init(AdmissionObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"acquire", "hold", "settle", "aside", "news", "fails_from", NULL};
    PyObject *acquire, *hold, *settle, *aside = Py_None, *news = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOl:Admission", names, &acquire, &hold, &settle, &aside, &news,
                                     &self->fails_from))
        return -1;
    keep(&self->hold, hold);            /* before what lets somebody in */
    keep(&self->settle, settle);
    keep(&self->aside, aside);
    keep(&self->news, news);
    keep(&self->acquire, hold == Py_None || settle == Py_None ? Py_None : acquire);
    return 0;
}

static int admission_traverse(AdmissionObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->acquire);
    Py_VISIT(self->hold);
    Py_VISIT(self->settle);
    Py_VISIT(self->aside);
    Py_VISIT(self->news);
    return 0;
}

static int admission_clear(AdmissionObject *self)
{
    Py_CLEAR(self->aside);
    Py_CLEAR(self->news);
    Py_CLEAR(self->acquire);
    return 0;
}

static void admission_dealloc(AdmissionObject *self)
{
    PyObject_GC_UnTrack(self);
    admission_clear(self);
    Py_CLEAR(self->hold);
    Py_CLEAR(self->settle);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject AdmissionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.sending.Admission",
    .tp_basicsize = sizeof(AdmissionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Admission(acquire, hold, settle, aside=None, news=None, fails_from=0)\n--\n\n"
              "The gates in front of a client's requests, and what becomes of their permits.",
    .tp_new = admission_new,
    .tp_init = (initproc)admission_init,
    .tp_dealloc = (destructor)admission_dealloc,
    .tp_traverse = (traverseproc)admission_traverse,
    .tp_clear = (inquiry)admission_clear,
    .tp_vectorcall_offset = offsetof(AdmissionObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

extern int rs_direct_add(PyObject *module, PyObject *core);

static int exec_module(PyObject *module)
{
    PyObject *core = PyImport_ImportModule("resilio._native.core");
    current_call = core ? PyObject_GetAttrString(core, "current") : NULL;      /* kept for the life of the process */
    int added = current_call ? rs_direct_add(module, core) : -1;
    Py_XDECREF(core);
    if (added < 0)
        return -1;
    name_connection = PyUnicode_InternFromString("_connection");
    name_content = PyUnicode_InternFromString("content");
    name_exception = PyUnicode_InternFromString("_exception");
    name_returned = PyUnicode_InternFromString("returned");
    name_status = PyUnicode_InternFromString("status");
    if (!name_connection || !name_content || !name_exception || !name_returned || !name_status)
        return -1;
    return PyModule_AddType(module, &AdmissionType) < 0 || PyModule_AddType(module, &SendingType) < 0 ? -1 : 0;
}

static PyObject *sending_is_whole(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyLong_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "is_whole takes a response and the least status that fails");
    return PyBool_FromLong(is_whole(args[0], PyLong_AsLong(args[1])));
}

static PyMethodDef methods[] = {
    {"is_whole", (PyCFunction)(void (*)(void))sending_is_whole, METH_FASTCALL,
     "is_whole(response, fails_from, /)\n--\n\nHas a response of aiohttp's surely ended well with its head? False: it may have."},
    {NULL}};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "resilio._native.sending", .m_doc = "One request under way, with its permit.", .m_methods = methods,
    .m_slots = slots};

PyMODINIT_FUNC PyInit_sending(void) { return PyModuleDef_Init(&definition); }
