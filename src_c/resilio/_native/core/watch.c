/* Watch: notes how the first try of a call ends that somebody has begun without awaiting it, as grpcio begins calls; or that a
 * strategy of it has something to do before that. Says so once, and keeps nothing then: what it was told by is kept by grpcio.
 */
#include "call.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    CallObject *call;               /* NULL: it has said so */
    PyObject *made;                 /* what its function has given */
    PyObject *ended;                /* ended(how, made): True, so has the call; False: the call is to be awaited; None: it is, by now */
    rs_timer timer;
} WatchObject;

#define AHEAD_NS 2000000            /* of the time that a strategy waits for: until then the call is awaited, and its own timer armed */

static PyTypeObject WatchType;

/* *how*: -1 for None. Steals nothing. */
static PyObject *say(WatchObject *self, int how)
{
    CallObject *call = self->call;
    PyObject *made = self->made, *ended = self->ended;
    rs_timer_disarm(&self->timer);
    if (call == NULL)
        Py_RETURN_NONE;
    self->call = NULL;
    self->made = self->ended = NULL;
    if (how > 0)
        how = rs_call_has_succeeded(call);
    PyObject *args[3] = {NULL, how < 0 ? Py_None : how ? Py_True : Py_False, made};
    PyObject *done = PyObject_Vectorcall(ended, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF((PyObject *)call);
    Py_DECREF(made);
    Py_DECREF(ended);
    return done;
}

static PyObject *watch_call(WatchObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *inner = self->made ? rs_inside(self->made) : NULL;
    int ok = rs_is_ok(inner);
    Py_XDECREF(inner);
    return say(self, ok);
}

static void is_due(rs_timer *timer)
{
    Py_XDECREF(say((WatchObject *)((char *)timer - offsetof(WatchObject, timer)), -1));
}

static int watch_clear(WatchObject *self)
{
    rs_timer_disarm(&self->timer);
    Py_CLEAR(self->call);
    Py_CLEAR(self->made);
    Py_CLEAR(self->ended);
    return 0;
}

static int watch_traverse(WatchObject *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)self->call);
    Py_VISIT(self->made);
    Py_VISIT(self->ended);
    return 0;
}

static void watch_dealloc(WatchObject *self)
{
    PyObject_GC_UnTrack(self);
    watch_clear(self);
    PyObject_GC_Del(self);
}

/* _watch(made, ended) of a call that was begun */
PyObject *rs_call_watch(CallObject *call, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "_watch: takes what the call's function has given, and what is told how that ends");
    WatchObject *self = PyObject_GC_New(WatchObject, &WatchType);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)watch_call;
    self->call = (CallObject *)Py_NewRef((PyObject *)call);
    self->made = Py_NewRef(args[0]);
    self->ended = Py_NewRef(args[1]);
    memset(&self->timer, 0, sizeof self->timer);
    self->timer.fire = is_due;
    self->timer.owner = self;
    PyObject_GC_Track(self);
    int64_t due = rs_call_due(call), at = due == RS_NEVER ? due : due - AHEAD_NS;
    PyObject *inner = rs_inside(args[0]), *told;
    if (at == RS_NEVER || (at > rs_clock_now(rs_clk) && rs_timer_arm(&self->timer, at, NULL) == 0))
        told = rs_tell_when_done(args[0], inner, (PyObject *)self);
    else {                              /* at once; or no loop of asyncio runs yet: a task waits for that */
        PyErr_Clear();
        told = say(self, -1);
    }
    Py_XDECREF(inner);
    Py_DECREF((PyObject *)self);
    return told;
}

static PyTypeObject WatchType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Watch",
    .tp_basicsize = sizeof(WatchObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)watch_dealloc,
    .tp_traverse = (traverseproc)watch_traverse,
    .tp_clear = (inquiry)watch_clear,
    .tp_vectorcall_offset = offsetof(WatchObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

int rs_watch_add(void) { return PyType_Ready(&WatchType); }
