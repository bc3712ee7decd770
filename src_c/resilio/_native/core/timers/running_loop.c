/* The event loop that runs in this thread, found as cheaply as possible, and whether the thread may block. */
#include "core.h"
#include "timers/timers.h"
#if defined(HAVE_GETPID) && PY_VERSION_HEX < 0x030C0000 && !defined(RS_PUBLIC_ONLY)
#include <unistd.h>
#define RS_READ_HOLDER 1
#endif

/* asyncio.events._get_running_loop, or get_running_loop, kept for the life of the process. */
static PyObject *get_running;

static PyObject *not_running(void)
{
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
    return NULL;
}

/* Find the function. Code that runs a loop has imported asyncio; other code does not pay for importing it. */
static PyObject *find(void)
{
    PyObject *name = PyUnicode_FromString("asyncio.events"), *events = name ? PyImport_GetModule(name) : NULL;
    PyObject *found = NULL;
    if (events && rs_private_may(RS_PRIVATE_running_loop)) {
        if ((found = PyObject_GetAttrString(events, "_get_running_loop")) == NULL)
            PyErr_Clear();
        rs_private_proved(RS_PRIVATE_running_loop, found != NULL);
    }
    if (events && found == NULL)
        found = PyObject_GetAttrString(events, "get_running_loop"); /* raises without a running loop */
    if (found)
        __atomic_store_n(&get_running, found, __ATOMIC_RELEASE);
    Py_XDECREF(name);
    Py_XDECREF(events);
    return found;
}

/* Call *function*, directly if it is a C function. New reference to the loop or None. */
static inline PyObject *call(PyObject *function)
{
    if (RS_LIKELY(PyCFunction_CheckExact(function) && PyCFunction_GET_FLAGS(function) == METH_NOARGS))
        return PyCFunction_GET_FUNCTION(function)(PyCFunction_GET_SELF(function), NULL);
    return PyObject_CallNoArgs(function);
}

#ifdef RS_READ_HOLDER
/* Up to 3.11 the C function asks the kernel for the process id each time, to detect a fork. That costs ten times as
   much as all the rest. So the object in the thread's dict is read here, where forks are known anyway. Its layout is
   trusted only after the C function has returned the same loop. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;
    pid_t pid;
} holder;

static PyObject *key;
static PyTypeObject *holder_type;
static pid_t process;

static holder *held(void)
{
    PyObject *here = PyThreadState_GetDict();
    return here ? (holder *)PyDict_GetItemWithError(here, key) : NULL;
}

static inline PyObject *read_holder(void)
{
    if (RS_UNLIKELY(holder_type == NULL))
        return NULL;
    holder *found = held();
    return RS_LIKELY(found && Py_TYPE(found) == holder_type && found->pid == process) ? found->loop : NULL;
}

static void learn_holder(PyObject *loop)
{
    if (!rs_private_may(RS_PRIVATE_running_loop_holder))
        return;
    if (key == NULL && (key = PyUnicode_InternFromString("__asyncio_running_event_loop__")) == NULL) {
        PyErr_Clear();
        return;
    }
    holder *found = held();
    if (found && Py_TYPE(found)->tp_basicsize == sizeof(holder) && found->loop == loop && found->pid == getpid()) {
        process = found->pid;
        holder_type = Py_TYPE(found);
    }
    rs_private_proved(RS_PRIVATE_running_loop_holder, holder_type != NULL);
}

void rs_running_loop_after_fork(void) { process = getpid(); }
#else
static inline PyObject *read_holder(void) { return NULL; }
static void learn_holder(PyObject *loop) { (void)loop; }
void rs_running_loop_after_fork(void) {}
#endif

static PyObject *ask(void)
{
    PyObject *function = __atomic_load_n(&get_running, __ATOMIC_ACQUIRE);
    if (RS_UNLIKELY(function == NULL) && (function = find()) == NULL)
        return not_running();
    PyObject *loop = call(function);
    if (RS_UNLIKELY(loop == NULL || loop == Py_None)) {
        Py_XDECREF(loop);
        return not_running();
    }
    Py_DECREF(loop);
    return loop;
}

PyObject *rs_running_loop(void)
{
    PyObject *loop = read_holder();
    if (RS_LIKELY(loop != NULL && loop != Py_None))
        return loop;
    loop = ask();
    if (loop)
        learn_holder(loop);
    return loop;
}

/* The kind of event loop that runs this task. Called only where a strategy needs it. */
int rs_place_here(void)
{
    static PyObject *use_trio;
    static PyObject *trio;
    if (trio == NULL && (trio = PyUnicode_InternFromString("trio")) == NULL) {
        PyErr_Clear();
        return RS_ON_ASYNCIO;
    }
    static Py_ssize_t known; /* number of modules when trio was not among them */
    PyObject *modules = PyImport_GetModuleDict();
    if (RS_LIKELY(modules && PyDict_GET_SIZE(modules) == __atomic_load_n(&known, __ATOMIC_RELAXED)))
        return RS_ON_ASYNCIO;
    if (RS_LIKELY(modules == NULL || PyDict_GetItemWithError(modules, trio) == NULL)) {
        rs_drop_error();
        if (modules)
            __atomic_store_n(&known, PyDict_GET_SIZE(modules), __ATOMIC_RELAXED);
        return RS_ON_ASYNCIO;
    }
    PyObject *hook = rs_hook("use_trio", &use_trio);
    PyObject *answer = hook ? PyObject_CallNoArgs(hook) : NULL;
    int place = answer == Py_True ? RS_ON_TRIO : RS_ON_ASYNCIO;
    Py_XDECREF(answer);
    rs_drop_error();
    return place;
}

/* -1 with an exception, usually from a signal. */
int rs_may_block(void)
{
    static PyObject *backend_can_block;
    PyObject *hook = rs_hook("can_block", &backend_can_block);
    PyObject *answer = hook ? PyObject_CallNoArgs(hook) : NULL;
    int yes = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return yes;
}
