/* Timer: the wheel for Python, for the backend's long waits and for tests. */
#include "core.h"
#include "timers/keeper.h"
#include "timers/timers.h"

typedef struct {
    PyObject_HEAD
    rs_timer timer;
    rs_keep keep;
    PyObject *callback;
    PyObject *args; /* tuple */
} TimerObject;

static void fire(rs_timer *timer)
{
    TimerObject *self = (TimerObject *)((char *)timer - offsetof(TimerObject, timer));
    Py_XDECREF(PyObject_CallObject(self->callback, self->args));
}

static PyObject *timer_make(PyObject *callback, PyObject *args)
{
    TimerObject *self = args ? PyObject_GC_New(TimerObject, &rs_TimerType) : NULL;
    if (self == NULL) {
        Py_XDECREF(args);
        return NULL;
    }
    memset(&self->timer, 0, sizeof self->timer);
    memset(&self->keep, 0, sizeof self->keep);
    self->timer.fire = fire;
    self->timer.owner = self;
    self->callback = Py_NewRef(callback);
    self->args = args;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *timer_vectorcall(PyObject *type, PyObject *const *given, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (kwnames && PyTuple_GET_SIZE(kwnames)) {
        PyErr_SetString(PyExc_TypeError, "Timer() takes no keyword arguments");
        return NULL;
    }
    if (nargs == 0 || !PyCallable_Check(given[0])) {
        PyErr_Format(PyExc_TypeError, "callback must be callable, not %R", nargs ? given[0] : Py_None);
        return NULL;
    }
    PyObject *args = PyTuple_New(nargs - 1);
    for (Py_ssize_t i = 1; args && i < nargs; i++)
        PyTuple_SET_ITEM(args, i - 1, Py_NewRef(given[i]));
    return timer_make(given[0], args);
}

/* Convert seconds to nanoseconds, capped at INT64_MAX. -1 with an exception if *given* is no duration. */
static int64_t nanoseconds(PyObject *given)
{
    double seconds = PyFloat_AsDouble(given);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "seconds must be a number >= 0, not %R", given);
        return -1;
    }
    return seconds < 9.2e9 ? (int64_t)(seconds * 1e9) : INT64_MAX;
}

static PyObject *timer_arm(TimerObject *self, PyObject *seconds)
{
    int64_t ns = nanoseconds(seconds), now = rs_clock_now(rs_clk);
    if (ns < 0 || rs_timer_arm(&self->timer, ns > INT64_MAX - now ? INT64_MAX : now + ns, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *timer_disarm(TimerObject *self, PyObject *unused)
{
    rs_timer_disarm(&self->timer);
    rs_keep_end(&self->keep);
    Py_RETURN_NONE;
}

static PyObject *timer_keep(TimerObject *self, PyObject *const *given, Py_ssize_t nargs)
{
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "keep() takes 2 arguments, not %zd", nargs);
    rs_keep_end(&self->keep);
    rs_keep_begin(&self->keep, given[0], NULL, given[1]);
    Py_RETURN_NONE;
}

static PyObject *timer_armed(TimerObject *self, void *unused) { return PyBool_FromLong(rs_timer_armed(&self->timer)); }

static int timer_traverse(TimerObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->keep.keeper);
    Py_VISIT(self->callback);
    Py_VISIT(self->args);
    return 0;
}

/* An object being cleared must not fire any more, so its callback can go. */
static int timer_clear(TimerObject *self)
{
    rs_timer_disarm(&self->timer);
    rs_keep_end(&self->keep);
    Py_CLEAR(self->args);
    return 0;
}

static void timer_dealloc(TimerObject *self)
{
    PyObject_GC_UnTrack(self); /* first: the lines below may call Python, and trigger a collection */
    rs_timer_disarm(&self->timer);
    rs_keep_end(&self->keep);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->args);
    PyObject_GC_Del(self);
}

static PyMethodDef timer_methods[] = {
    {"arm", (PyCFunction)timer_arm, METH_O,
     "arm($self, seconds, /)\n--\n\n"
     "Call the callback after *seconds* of the library's clock, in the loop that runs in this thread."},
    {"disarm", (PyCFunction)timer_disarm, METH_NOARGS,
     "disarm($self, /)\n--\n\nCancel the callback and release the kept object; from any thread."},
    {"keep", (PyCFunction)(void (*)(void))timer_keep, METH_FASTCALL,
     "keep($self, loop, kept, /)\n--\n\n"
     "Keep *kept* alive by *loop*, armed or not, until the timer is disarmed or dropped."},
    {NULL},
};
static PyGetSetDef timer_getset[] = {
    {"armed", (getter)timer_armed, NULL, "True if the callback is still to be called."},
    {NULL},
};

PyTypeObject rs_TimerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Timer",
    .tp_basicsize = sizeof(TimerObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Timer(callback, *args)\n--\n\n"
              "One call of a callback, late by up to an eighth of a millisecond and the loop's delay; "
              "none if the timer is dropped before.",
    .tp_vectorcall = timer_vectorcall,
    .tp_traverse = (traverseproc)timer_traverse,
    .tp_clear = (inquiry)timer_clear,
    .tp_dealloc = (destructor)timer_dealloc,
    .tp_methods = timer_methods,
    .tp_getset = timer_getset,
};
