/* Blocks that hold a permit, and the awaitable of `async with policy:`. It drives a call that acquires the permit, and
   gives it its owner at once. */
#include "call/block.h"

PyObject *rs_block_nothing;
static PyObject *name_acquire, *name_aacquire;

typedef struct {
    PyObject_HEAD
    PyObject *call; /* acquires the permit; NULL: nothing to wait for */
    PyObject *exit; /* will own the permit; NULL once it does, or never will */
} EntryObject;

/* Make the exit the owner of the acquired permit. 0 with an exception: it is no permit. */
static int own(PyObject *exit, PyObject *permit)
{
    if (Py_TYPE(permit) != &rs_PermitType) {
        PyErr_Format(PyExc_TypeError, "%R acquired %R, which is not a permit", rs_block_owner(exit), permit);
        return 0;
    }
    rs_block_own(exit, Py_NewRef(permit));
    return 1;
}

/* One step of the call ended as *sent*. A permit that it returned has its owner from here on. */
static PySendResult entry_after(EntryObject *self, PySendResult sent, PyObject **result)
{
    if (sent == PYGEN_NEXT)
        return sent;
    PyObject *exit = self->exit;
    self->exit = NULL;
    if (exit && sent == PYGEN_RETURN && !own(exit, *result)) {
        Py_CLEAR(*result);
        sent = PYGEN_ERROR;
    }
    Py_XDECREF(exit);
    return sent;
}

static PySendResult entry_am_send(EntryObject *self, PyObject *value, PyObject **result)
{
    if (self->call)
        return entry_after(self, PyIter_Send(self->call, value, result), result);
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* End like a coroutine: a returned value is the value of a StopIteration. */
static PyObject *ended(PySendResult sent, PyObject *result)
{
    if (sent != PYGEN_RETURN)
        return result;
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *entry_send(EntryObject *self, PyObject *value)
{
    PyObject *result = NULL;
    PySendResult sent = entry_am_send(self, value, &result);
    return ended(sent, result);
}

/* From 3.12 on `await` takes this way: the end without an exception means None, and the call's
   StopIteration is its own. */
static PyObject *entry_next(EntryObject *self)
{
    if (self->call == NULL)
        return NULL;
#if PY_VERSION_HEX >= 0x030C0000
    if (RS_LIKELY(Py_TYPE(self->call) == &rs_CallType)) {
        PyObject *item = rs_CallType.tp_iternext(self->call);
        if (item)
            return item;
        PyObject *error = PyErr_GetRaisedException();
        PyObject *permit = error && PyErr_GivenExceptionMatches(error, PyExc_StopIteration) ? rs_stop_value(error)
                                                                                            : NULL;
        int owned = entry_after(self, permit ? PYGEN_RETURN : PYGEN_ERROR, &permit) == PYGEN_RETURN;
        Py_XDECREF(permit);
        if (owned || !PyErr_Occurred())
            PyErr_SetRaisedException(error);
        else
            Py_XDECREF(error);
        return NULL;
    }
#endif
    return entry_send(self, Py_None);
}

/* The result of the call's throw, other than an exception of its own. */
static PySendResult caught(PyObject **result)
{
    PyObject *type, *error, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    *result = rs_stop_value(error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return PYGEN_RETURN;
}

static PyObject *entry_throw(EntryObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (self->call == NULL)
        return PyErr_Format(PyExc_RuntimeError, "the end of a block waits for nothing: there is nothing to throw into");
    PyObject *throw = PyObject_GetAttrString(self->call, "throw");
    if (throw == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(throw, args, (size_t)nargs, NULL);
    Py_DECREF(throw);
    PySendResult sent = entry_after(self, result ? PYGEN_NEXT : caught(&result), &result);
    return ended(sent, result);
}

static PyObject *entry_close(EntryObject *self, PyObject *unused)
{
    Py_CLEAR(self->exit);
    if (self->call)
        return PyObject_CallMethod(self->call, "close", NULL);
    Py_RETURN_NONE;
}

/* Coroutine attributes are those of the call, for tools that inspect suspended tasks. */
static PyObject *entry_getattr(EntryObject *self, PyObject *name)
{
    PyObject *own = PyObject_GenericGetAttr((PyObject *)self, name);
    if (own || !self->call || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyObject_GetAttr(self->call, name);
}

static int entry_traverse(EntryObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->call);
    Py_VISIT(self->exit);
    return 0;
}

static void entry_dealloc(EntryObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->call);
    Py_CLEAR(self->exit);
    PyObject_GC_Del(self);
}

static PyMethodDef entry_methods[] = {
    {"send", (PyCFunction)entry_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))entry_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)entry_close, METH_NOARGS, NULL},
    {NULL},
};
static PyAsyncMethods entry_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)entry_am_send};

PyTypeObject rs_BlockEntryType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.BlockEntry",
    .tp_basicsize = sizeof(EntryObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)entry_dealloc,
    .tp_traverse = (traverseproc)entry_traverse,
    .tp_getattro = (getattrofunc)entry_getattr,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)entry_next,
    .tp_as_async = &entry_async,
    .tp_methods = entry_methods,
};

static PyObject *entry_new(PyObject *call, PyObject *exit)
{
    EntryObject *self = PyObject_GC_New(EntryObject, &rs_BlockEntryType);
    if (self == NULL) {
        Py_XDECREF(call);
        return NULL;
    }
    self->call = call;
    self->exit = Py_XNewRef(exit);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *enter(PyObject *policy, PyObject *exit, int is_async)
{
    PyObject *acquired = PyObject_CallMethodNoArgs(policy, is_async ? name_aacquire : name_acquire);
    if (acquired && is_async)
        return entry_new(acquired, exit);
    if (acquired && !own(exit, acquired))
        Py_CLEAR(acquired);
    return acquired;
}

const rs_block_kind rs_permit_block = {enter, rs_permit_leave, rs_permit_drop};

int rs_block_entry_init(void)
{
    if (PyType_Ready(&rs_BlockEntryType) < 0)
        return -1;
    name_acquire = PyUnicode_InternFromString("acquire");
    name_aacquire = PyUnicode_InternFromString("aacquire");
    rs_block_nothing = entry_new(NULL, NULL);
    return name_acquire && name_aacquire && rs_block_nothing ? 0 : -1;
}
