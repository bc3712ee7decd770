/* Greenlets: stacks that take turns in one thread, each with its own calls in flight.

   The ambient chain belongs to the thread. While `greenlet` is loaded, a reader gets the chain of the running greenlet:
   its own calls, and around them those of the greenlets that started it. The stack of a greenlet that is not running
   may be moved, so calls that begin from then on are not kept on the stack: see invoke.c. Earlier calls can stay, as no
   greenlet runs on their part of the stack: each one's stack begins below that of the greenlet that started it. */
#include "core.h"

#define CHAINS 2
typedef struct {
    rs_frame *innermost, *outermost;
} chain; /* NULL: it has none */
typedef struct {
    PyObject_HEAD
    chain own[CHAINS]; /* while another greenlet runs */
} StackObject;

int rs_greenlets;
PyObject *rs_modules;
Py_ssize_t rs_modules_seen = -1;
static PyObject *(*current)(void); /* greenlet's C function, or a call of its public one */
static PyObject *getcurrent;
static PyObject *kept_as;

static RS_THREAD_LOCAL PyObject *running; /* the greenlet that owns the thread's chain; only compared */
/* Owned by the thread's state, and by the greenlet while it lives; NULL: not used yet. */
static RS_THREAD_LOCAL StackObject *its;
static RS_THREAD_LOCAL rs_frame *around[CHAINS]; /* the outer part of the chains, not its own */

/* A thread that ends drops the objects of its state; their destructors may still read the chain. */
static void stack_dealloc(StackObject *self)
{
    if (its == self) {
        its = NULL;
        running = NULL;
    }
    PyObject_Free(self);
}

static PyTypeObject StackType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Stack",
    .tp_basicsize = sizeof(StackObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Calls in flight in a greenlet.",
    .tp_dealloc = (destructor)stack_dealloc,
};

static inline rs_frame **chain_of(int which) { return which ? &rs_streams : &rs_innermost; }

/* The greenlet's stack object, made if *make*. NULL without an exception: none yet, or no memory. */
static StackObject *stack_of(PyObject *greenlet, int make)
{
    PyObject *kept = PyObject_GenericGetDict(greenlet, NULL);
    StackObject *stack = kept ? (StackObject *)PyDict_GetItemWithError(kept, kept_as) : NULL;
    if (kept && stack == NULL && make && (stack = PyObject_New(StackObject, &StackType)) != NULL) {
        memset(stack->own, 0, sizeof stack->own);
        int failed = PyDict_SetItem(kept, kept_as, (PyObject *)stack);
        Py_DECREF(stack);
        stack = failed ? NULL : stack;
    }
    Py_XDECREF(kept);
    rs_drop_error();
    return stack;
}

/* The frame around a greenlet's calls: the innermost call of the nearest outer greenlet that has one. */
static rs_frame *outside(PyObject *greenlet, int which)
{
    rs_frame *found = NULL;
    PyObject *parent = PyObject_GetAttrString(greenlet, "parent");
    while (found == NULL && parent && parent != Py_None) {
        StackObject *stack = stack_of(parent, 0);
        found = stack ? stack->own[which].innermost : NULL;
        Py_SETREF(parent, PyObject_GetAttrString(parent, "parent"));
    }
    Py_XDECREF(parent);
    rs_drop_error();
    return found;
}

static void put_away(void)
{
    for (int which = 0; which < CHAINS; which++) {
        rs_frame *innermost = *chain_of(which), *frame = innermost == around[which] ? NULL : innermost;
        its->own[which].innermost = frame;
        while (frame && frame->outer && frame->outer != around[which])
            frame = frame->outer;
        its->own[which].outermost = frame;
    }
}

static void take_out(PyObject *greenlet)
{
    for (int which = 0; which < CHAINS; which++) {
        chain *own = &its->own[which];
        around[which] = outside(greenlet, which);
        if (own->outermost)
            own->outermost->outer = around[which];
        *chain_of(which) = own->innermost ? own->innermost : around[which];
    }
}

/* First use in this thread: the calls in flight began in the root greenlet. */
static PyObject *root_of(PyObject *greenlet)
{
    PyObject *root = Py_NewRef(greenlet), *parent;
    while ((parent = PyObject_GetAttrString(root, "parent")) != NULL && parent != Py_None)
        Py_SETREF(root, parent);
    Py_XDECREF(parent);
    rs_drop_error();
    return root;
}

static void change_to(PyObject *greenlet)
{
    PyObject *of_thread = PyThreadState_GetDict();
    if (its == NULL && (rs_innermost || rs_streams)) {
        PyObject *root = root_of(greenlet);
        its = stack_of(root, 1);
        Py_DECREF(root);
    }
    StackObject *stack = stack_of(greenlet, 1), *before = (StackObject *)Py_XNewRef((PyObject *)its);
    /* No memory: keep the former one. */
    if (stack && of_thread && PyDict_SetItem(of_thread, kept_as, (PyObject *)stack) == 0) {
        if (before)
            put_away();
        its = stack;
        running = greenlet;
        take_out(greenlet);
    }
    Py_XDECREF((PyObject *)before);
}

void rs_greenlet_runs(void)
{
    PyObject *greenlet = current();
    /* A dead greenlet may have left its address to a new one: then only this thread still
       refers to its stack object. */
    if (RS_UNLIKELY(greenlet == NULL || greenlet != running || its == NULL || Py_REFCNT((PyObject *)its) < 2)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        if (greenlet)
            change_to(greenlet);
        rs_drop_error();
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(greenlet);
}

static PyObject *ask_current(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *greenlet = PyObject_CallNoArgs(getcurrent);
    rs_drop_error();
    PyErr_Restore(type, value, traceback);
    return greenlet;
}

/* Entry 4 of the table in greenlet's capsule has been PyGreenlet_GetCurrent since greenlet 0.4. Used
   only if it returns the same. */
static int has_table(PyObject *module)
{
    PyObject *capsule = PyObject_GetAttrString(module, "_C_API");
    void **api = capsule && PyCapsule_IsValid(capsule, "greenlet._C_API")
                     ? PyCapsule_GetPointer(capsule, "greenlet._C_API")
                     : NULL;
    PyObject *here = api ? ask_current() : NULL, *same = NULL;
    if (here) {
        current = (PyObject * (*)(void)) api[4];
        same = current();
    }
    int holds = here && here == same;
    Py_XDECREF(here);
    Py_XDECREF(same);
    Py_XDECREF(capsule);
    rs_drop_error();
    return holds;
}

/* Return 1 if greenlet supports free threading (3.3 or later), or there is a GIL. An older one, used in many
   threads, ends the process when they end: their greenlets are cleaned up in the main thread meanwhile. If it
   was loaded all the same, it is left alone. */
static int is_safe(PyObject *module)
{
#ifdef Py_GIL_DISABLED
    int major = 0, minor = 0;
    PyObject *ask = PySys_GetObject("_is_gil_enabled"), *answer = ask ? PyObject_CallNoArgs(ask) : NULL;
    PyObject *version = PyObject_GetAttrString(module, "__version__");
    const char *text = version && PyUnicode_Check(version) ? PyUnicode_AsUTF8(version) : NULL;
    int safe = answer == Py_True
               || (text && sscanf(text, "%d.%d", &major, &minor) == 2 && (major > 3 || (major == 3 && minor >= 3)));
    Py_XDECREF(version);
    Py_XDECREF(answer);
    return safe;
#else
    (void)module;
    return 1;
#endif
}

/* The number of modules has changed. */
int rs_greenlets_loaded(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    rs_modules_seen = PyDict_GET_SIZE(rs_modules);
    PyObject *module = rs_item(rs_modules, "greenlet");
    getcurrent = module && is_safe(module) ? PyObject_GetAttrString(module, "getcurrent") : NULL;
    if (getcurrent) {
        if (rs_private_may(RS_PRIVATE_greenlet))
            rs_private_proved(RS_PRIVATE_greenlet, has_table(module));
        if (rs_private_is[RS_PRIVATE_greenlet] != RS_IN_USE)
            current = ask_current;
        rs_greenlets = 1;
    }
    else if (module && PyErr_Occurred())
        rs_modules_seen = -1; /* it is being imported right now */
    Py_XDECREF(module);
    rs_drop_error();
    PyErr_Restore(type, value, traceback);
    return rs_greenlets;
}

int rs_greenlets_init(void)
{
    rs_modules = Py_XNewRef(PyImport_GetModuleDict());
    kept_as = PyUnicode_InternFromString("_resilio_stack");
    return rs_modules && kept_as && PyType_Ready(&StackType) == 0 ? 0 : -1;
}
