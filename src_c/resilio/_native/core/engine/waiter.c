/* Waiter: parks one call in its own loop or thread. */
#include "core.h"

static rs_lock wake_lock; /* for binding against waking */

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

/* The waker refers to the waiting task, and the task to this waiter: a cycle that only the
   garbage collector can break. */
static int waiter_traverse(rs_waiter *self, visitproc visit, void *arg)
{
    Py_VISIT(self->waker);
    Py_VISIT(self->gate);
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
    Py_CLEAR(self->gate);
    PyObject_GC_Del(self);
}

#define LINE 64
#define LINES 6

/* Prefetch: in a long queue each call has left the caches, and is back by the time that its task runs. */
static void prefetch(const rs_waiter *waiter)
{
    for (int i = 0; i < RS_NEAR && waiter->near[i]; i++)
        for (int line = 0; line < LINES; line++)
            __builtin_prefetch((const char *)waiter->near[i] + line * LINE);
}

/* Wake the parked call. Any thread, any time. The waker must not raise; an exception of it is
   harmless. 0: its loop is closed. */
int rs_waiter_wake(rs_waiter *self)
{
    prefetch(self);
    rs_lock_acquire(&wake_lock);
    __atomic_store_n(&self->notified, 1, __ATOMIC_RELEASE);
    PyObject *waker = Py_XNewRef(self->waker);
    rs_lock_release(&wake_lock);
    if (waker == NULL)
        return 1;
    PyObject *done = PyObject_CallNoArgs(waker);
    int interrupted = 0, again = 0;
    while (done == NULL && again++ < (PyErr_ExceptionMatches(PyExc_Exception) ? 1 : 8)) {
        /* Not the waker's exception: a signal handler raised in between. The waiter must get its wake-up, and the user
           the Ctrl-C; the exception of another handler has nowhere else to go. */
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
    int is_lost = done == Py_False;
    Py_XDECREF(done);
    Py_DECREF(waker);
    return !is_lost;
}

/* Begin to wait at *gate*. Lock held. */
void rs_waiter_enter(rs_waiter *self, rs_gate *gate)
{
    self->waiting = 1;
    self->epoch = rs_epoch;
    self->gate = (rs_gate *)Py_NewRef((PyObject *)gate);
}

/* End the wait. Lock held. */
void rs_waiter_leave(rs_waiter *self, int64_t waited_ns)
{
    self->waiting = 0;
    self->gate->counters.queued--;
    self->gate->waited_ns += Py_MAX(waited_ns, 0);
}

/* Its loop is closed: leave the queue for the call, or pass on its granted permit. Lock held. */
static void cancel_lost(rs_waiter *self, rs_gate *gate, int64_t now)
{
    rs_slot slot = {.gate = gate, .waiter = self, .state = RS_SLOT_WAITING};
    rs_waiter_leave(self, now - self->enqueued_ns);
    gate->counters.cancelled++;
    gate->ops->cancel(gate, &slot, now);
}

/* Its loop is closed: pass its grant on. Deliver the gate after this. */
void rs_waiter_lose(rs_waiter *self)
{
    rs_gate *gate = self->gate;
    if (gate == NULL || self->epoch != rs_epoch)
        return;
    int64_t now = rs_clock_now(rs_clk);
    rs_gate_lock(gate);
    if (self->waiting)
        cancel_lost(self, gate, now);
    rs_gate_unlock(gate);
}

static PyObject *waiter_lost(rs_waiter *self, PyObject *unused)
{
    rs_waiter_lose(self);
    if (self->gate && self->gate->woken)
        rs_gate_deliver(self->gate, NULL, 1);
    Py_RETURN_NONE;
}

static PyObject *waiter_bind(rs_waiter *self, PyObject *waker)
{
    Py_INCREF(waker);
    rs_lock_acquire(&wake_lock);
    PyObject *old = self->waker;
    int notified = __atomic_load_n(&self->notified, __ATOMIC_ACQUIRE);
    self->waker = notified ? NULL : waker;
    rs_lock_release(&wake_lock);
    Py_XDECREF(old);
    if (notified)
        Py_DECREF(waker);
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
     "bind($self, waker, /)\n--\n\nCall *waker* when the wait is over; return True if it already is: do not park.\n\n"
     "Args:\n    waker: Function that returns False if its event loop is closed: then another waiter gets the permit."},
    {"unbind", (PyCFunction)waiter_unbind, METH_NOARGS, "unbind($self, /)\n--\n\nForget the waker."},
    {"lost", (PyCFunction)waiter_lost, METH_NOARGS,
     "lost($self, /)\n--\n\nPass on the granted permit: the loop was closed before the wake-up reached it."},
    {NULL},
};
static PyMemberDef waiter_members[] = {
    {"notified", T_BOOL, offsetof(rs_waiter, notified), READONLY, "True if a wake-up is due or delivered."},
    {NULL},
};

PyTypeObject rs_WaiterType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Waiter",
    .tp_basicsize = sizeof(rs_waiter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = waiter_new,
    .tp_doc = "Waiter()\n--\n\nOne call that waits at a gate, or another party that a gate wakes.",
    .tp_traverse = (traverseproc)waiter_traverse,
    .tp_clear = (inquiry)waiter_clear,
    .tp_dealloc = (destructor)waiter_dealloc,
    .tp_methods = waiter_methods,
    .tp_members = waiter_members,
};
