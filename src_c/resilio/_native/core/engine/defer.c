/* Work that a finaliser defers. The garbage collector interrupts any code, so what a finaliser calls must not take a
 * lock that the interrupted code may hold: it neither logs nor calls a listener. It counts, and defers the rest to the
 * next call that ends outside of a finaliser, in any thread, or to the exit of the process.
 *
 * Py_AddPendingCall is no way out: it runs the work between any two instructions of the main thread, so in the middle
 * of a logging handler too, and never while the main thread waits in C.
 */
#include "core.h"

typedef struct work {
    struct work *next;
    rs_work run;
    PyObject *about; /* owned */
} work;

int rs_deferred;
static work *oldest, *newest;
static rs_lock lock;

void rs_defer(rs_work run, PyObject *about)
{
    work *made = rs_finalizing() ? NULL : PyMem_RawMalloc(sizeof *made); /* NULL: it is not done */
    if (made == NULL)
        return;
    *made = (work){NULL, run, Py_NewRef(about)};
    rs_lock_acquire(&lock);
    if (oldest)
        newest->next = made;
    else
        oldest = made;
    newest = made;
    __atomic_store_n(&rs_deferred, 1, __ATOMIC_RELAXED);
    rs_lock_release(&lock);
}

static work *take(void)
{
    rs_lock_acquire(&lock);
    work *first = oldest;
    oldest = NULL;
    __atomic_store_n(&rs_deferred, 0, __ATOMIC_RELAXED);
    rs_lock_release(&lock);
    return first;
}

static void drop(work *one)
{
    Py_DECREF(one->about);
    PyMem_RawFree(one);
}

void rs_run_deferred(void)
{
    for (work *one = take(), *next; one; one = next) {
        next = one->next;
        one->run(one->about);
        drop(one);
    }
}

/* The parent does its work itself. */
void rs_defer_after_fork(void)
{
    rs_lock_reset(&lock);
    for (work *one = take(), *next; one; one = next) {
        next = one->next;
        drop(one);
    }
}

static void call(PyObject *pair)
{
    PyObject *argument = PyTuple_GET_ITEM(pair, 1);
    rs_call_hook(PyTuple_GET_ITEM(pair, 0), &argument, 1);
}

static PyObject *defer(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *pair = nargs == 2 ? PyTuple_Pack(2, args[0], args[1]) : NULL;
    if (pair == NULL)
        return nargs == 2 ? NULL : PyErr_Format(PyExc_TypeError, "defer: takes a function and its argument");
    rs_defer(call, pair);
    Py_DECREF(pair);
    Py_RETURN_NONE;
}

static PyObject *run_deferred(PyObject *module, PyObject *unused)
{
    rs_run_deferred();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"defer", (PyCFunction)(void (*)(void))defer, METH_FASTCALL,
     "defer(function, argument, /)\n--\n\n"
     "Call `function(argument)` when the next call ends outside of a finaliser, in any thread, or at exit.\n\n"
     "For finalisers, which must neither log nor run code of the application."},
    {"_run_deferred", run_deferred, METH_NOARGS, NULL},
    {NULL},
};

int rs_defer_add(PyObject *module)
{
    PyObject *exits = PyModule_AddFunctions(module, functions) < 0 ? NULL : rs_import("atexit");
    PyObject *run = exits ? PyObject_GetAttrString(module, "_run_deferred") : NULL;
    PyObject *done = run ? PyObject_CallMethod(exits, "register", "O", run) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(run);
    Py_XDECREF(exits);
    return done ? 0 : -1;
}
