/* The `__exit__` of a block that was fetched last in this thread: see block.c. */
#ifndef RS_PENDING_EXIT_H
#define RS_PENDING_EXIT_H
#include "core.h"

#ifdef Py_GIL_DISABLED
typedef struct {
    PyObject_HEAD
    PyObject *step; /* a weak reference, since a step may die in another thread; or NULL */
} PendingObject;

static RS_THREAD_LOCAL PendingObject *pending; /* owned by the thread's state, which drops it as the thread ends */

static inline void pending_forget(void)
{
    if (pending)
        Py_CLEAR(pending->step);
}

static void pending_dealloc(PendingObject *self)
{
    if (pending == self)
        pending = NULL;
    Py_XDECREF(self->step);
    PyObject_Free(self);
}

static PyTypeObject pending_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.PendingExit",
    .tp_basicsize = sizeof(PendingObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Exit fetched last in a thread.",
    .tp_dealloc = (destructor)pending_dealloc,
};

/* First use in this thread. NULL: no memory. */
static PendingObject *pending_new(void)
{
    PyObject *of_thread = PyThreadState_GetDict();
    PendingObject *self = of_thread ? PyObject_New(PendingObject, &pending_type) : NULL;
    if (self == NULL)
        return NULL;
    self->step = NULL;
    int failed = PyDict_SetItemString(of_thread, pending_type.tp_name, (PyObject *)self);
    Py_DECREF(self);
    return failed ? NULL : self;
}

static int pending_ready(void) { return PyType_Ready(&pending_type); }
static inline void pending_died(PyObject *step) {}

static inline void pending_set(PyObject *step)
{
    if (RS_UNLIKELY(pending == NULL))
        pending = pending_new();
    if (pending)
        Py_XSETREF(pending->step, PyWeakref_NewRef(step, NULL));
    rs_drop_error();
}

static inline PyObject *pending_get(void)
{
    PyObject *step = NULL;
    if (pending && pending->step)
        PyWeakref_GetRef(pending->step, &step);
    return step;
}
#else
static PyObject *pending; /* borrowed: cleared when the step dies. No other thread runs inside BEFORE_WITH */

static int pending_ready(void) { return 0; }
static inline void pending_forget(void) { pending = NULL; }
static inline void pending_set(PyObject *step) { pending = step; }
static inline PyObject *pending_get(void) { return Py_XNewRef(pending); }

static inline void pending_died(PyObject *step)
{
    if (pending == step)
        pending = NULL;
}
#endif

#endif
