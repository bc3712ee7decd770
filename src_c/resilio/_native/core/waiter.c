/* Waiter: parks one call in its own loop or thread. */
#include "core.h"

static rs_lock wake_lock;           /* binding against waking */

void rs_waiter_after_fork(void) { rs_lock_reset(&wake_lock); }

rs_waiter *rs_waiter_new(void)
{
    rs_waiter *self = PyObject_GC_New(rs_waiter, &rs_WaiterType);
    if (self) {
        memset((char *)self + sizeof(PyObject), 0, sizeof(rs_waiter) - sizeof(PyObject));
        PyObject_GC_Track(self);
    }
    return self;
}

static PyObject *waiter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *none[] = {NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Waiter", none) ? (PyObject *)rs_waiter_new() : NULL;
}

/* The waker leads to the task that waits, and the task to this waiter: a cycle that only the collector can end. */
static int waiter_traverse(rs_waiter *self, visitproc visit, void *arg)
{
    Py_VISIT(self->waker);
    return 0;
}

static int waiter_clear(rs_waiter *self)
{
    Py_CLEAR(self->waker);
    return 0;
}

static void waiter_dealloc(rs_waiter *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->waker);
    PyObject_GC_Del(self);
}

#define LINE 64
#define LINES 6

/* Of thousands of calls in a queue each is out of the caches; by the time that its task runs it is back. */
static void prefetch(const rs_waiter *waiter)
{
    for (int i = 0; i < RS_NEAR && waiter->near[i]; i++)
        for (int line = 0; line < LINES; line++)
            __builtin_prefetch((const char *)waiter->near[i] + line * LINE);
}

/* Wake the park. Any thread, any time; the waker must not raise, and if it does nobody is harmed. */
void rs_waiter_wake(rs_waiter *self)
{
    prefetch(self);
    rs_lock_acquire(&wake_lock);
    self->notified = 1;
    PyObject *waker = Py_XNewRef(self->waker);
    rs_lock_release(&wake_lock);
    if (waker == NULL)
        return;
    PyObject *done = PyObject_CallNoArgs(waker);
    int interrupted = 0, again = 0;
    while (done == NULL && again++ < (PyErr_ExceptionMatches(PyExc_Exception) ? 1 : 8)) {
        /* Not the waker's: a signal handler raised in between. Neither must the waiter miss its wake-up, nor the user the
           Ctrl-C; the exception of another handler has nowhere else to go. */
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
            interrupted = 1;
            PyErr_Clear();
        }
        else
            PyErr_WriteUnraisable(waker);
        done = PyObject_CallNoArgs(waker);
    }
    if (interrupted)
        PyErr_SetInterrupt();
    if (done == NULL)
        PyErr_WriteUnraisable(waker);
    Py_XDECREF(done);
    Py_DECREF(waker);
}

static PyObject *waiter_bind(rs_waiter *self, PyObject *waker)
{
    Py_INCREF(waker);
    rs_lock_acquire(&wake_lock);
    PyObject *old = self->waker;
    int notified = self->notified;
    self->waker = waker;
    rs_lock_release(&wake_lock);
    Py_XDECREF(old);
    return PyBool_FromLong(notified);
}

static PyObject *waiter_unbind(rs_waiter *self, PyObject *unused)
{
    rs_lock_acquire(&wake_lock);
    PyObject *old = self->waker;
    self->waker = NULL;
    rs_lock_release(&wake_lock);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef waiter_methods[] = {
    {"bind", (PyCFunction)waiter_bind, METH_O,
     "bind($self, waker, /)\n--\n\nCall *waker* when the wait is over; True: it already is, do not park."},
    {"unbind", (PyCFunction)waiter_unbind, METH_NOARGS, "unbind($self, /)\n--\n\nForget the waker."},
    {NULL}};
static PyMemberDef waiter_members[] = {
    {"notified", T_BOOL, offsetof(rs_waiter, notified), READONLY, "A wake-up is due or delivered."},
    {NULL}};

PyTypeObject rs_WaiterType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Waiter",
    .tp_basicsize = sizeof(rs_waiter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = waiter_new,
    .tp_doc = "Waiter()\n--\n\nOne call that waits at a gate, or whoever else a gate wakes.",
    .tp_traverse = (traverseproc)waiter_traverse,
    .tp_clear = (inquiry)waiter_clear,
    .tp_dealloc = (destructor)waiter_dealloc,
    .tp_methods = waiter_methods,
    .tp_members = waiter_members,
};
