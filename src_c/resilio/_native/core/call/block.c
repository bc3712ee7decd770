/* Blocks: `with` and `async with`. A block holds a permit, or values set in its context. These have an owner at every
 * moment, even when a Ctrl-C interrupts.
 *
 * The interpreter fetches __enter__ and __exit__ from the class before it calls __enter__. (Since 3.14 the exit
 * comes first; the order is determined at import.) It keeps the bound __exit__ on the stack of the frame until
 * the block is left. So each fetch of __exit__ makes a step, and the step of a `with` statement owns what the
 * block holds. The step releases it when it is called, or else when it dies with the frame. In between no
 * bytecode runs at which a signal could arrive.
 *
 * The step that belongs to a call of __enter__ is the last one fetched, provided that nothing else was fetched since.
 * Other callers (an ExitStack, a direct call of __enter__) get the function written in Python, which finds its block
 * again at the end by the frame.
 */
#include "call/block.h"
#include "call/pending_exit.h"

#define RS_FREE_STEPS 32

typedef enum { ENTER = 0, EXIT = 1, AENTER = 2, AEXIT = 3 } block_part; /* an exit follows its entry */

typedef struct { /* the descriptor in the class */
    PyObject_HEAD
    PyObject *function; /* the same written in Python */
    int part;           /* block_part */
    const rs_block_kind *kind;
} MethodObject;

typedef struct { /* a bound method, as fetched from an instance */
    PyObject_HEAD
    vectorcallfunc vectorcall;
    MethodObject *method;
    PyObject *policy; /* or another object that is entered */
    PyObject *held;   /* of the open block, owned: see its kind; or NULL */
    PyObject *weakrefs;
    unsigned long thread; /* the thread that fetched it */
} StepObject;

static PyTypeObject method_type, step_type;
static int entry_first; /* does `with` fetch the entry first? */

/* ---- the exit fetched last, in this thread ------------------------------------------------------------------ */

static int pending_is_of(PyObject *policy)
{
    StepObject *step = (StepObject *)pending_get();
    int is_of = step && step->policy == policy;
    Py_XDECREF((PyObject *)step);
    return is_of;
}

/* The exit of the `with` statement that calls this entry, a new reference; NULL: a direct call. */
static StepObject *exit_of(const StepObject *entry)
{
    StepObject *step = (StepObject *)pending_get();
    if (step == NULL)
        return NULL;
    pending_forget();
    if (step->policy == entry->policy && step->method->part == entry->method->part + 1 && step->held == NULL
        && step->thread == PyThread_get_thread_ident())
        return step;
    Py_DECREF((PyObject *)step);
    return NULL;
}

/* ---- entering and leaving ----------------------------------------------------------------------------------- */

PyObject *rs_block_owner(PyObject *exit) { return ((StepObject *)exit)->policy; }

void rs_block_own(PyObject *exit, PyObject *held)
{
    PyObject *before = __atomic_exchange_n(&((StepObject *)exit)->held, held, __ATOMIC_ACQ_REL);
    Py_XDECREF(before);
}

static PyObject *leave(StepObject *self, PyObject *error)
{
    PyObject *held = __atomic_exchange_n(&self->held, NULL, __ATOMIC_ACQ_REL);
    int left = 0;
    if (held)
        left = self->method->kind->leave(held, error == Py_None ? NULL : error);
    Py_XDECREF(held);
    if (left < 0)
        return NULL;
    return Py_NewRef(self->method->part == AEXIT ? rs_block_nothing : Py_None);
}

/* Call the function written in Python, from the same frame. */
static PyObject *by_hand(StepObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *bound = PyMethod_New(self->method->function, self->policy);
    PyObject *result = bound ? PyObject_Vectorcall(bound, args, (size_t)nargs, kwnames) : NULL;
    Py_XDECREF(bound);
    return result;
}

static PyObject *step_call(StepObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (kwnames == NULL && nargs == 3 && __atomic_load_n(&self->held, __ATOMIC_ACQUIRE))
        return leave(self, args[1]);
    StepObject *exit = kwnames == NULL && nargs == 0 ? exit_of(self) : NULL;
    if (exit == NULL)
        return by_hand(self, args, nargs, kwnames);
    PyObject *entered = exit->method->kind->enter(exit->policy, (PyObject *)exit, self->method->part == AENTER);
    Py_DECREF((PyObject *)exit);
    return entered;
}

/* ---- the bound method --------------------------------------------------------------------------------------- */

#if defined(Py_GIL_DISABLED) || defined(RS_PUBLIC_ONLY)
static StepObject *step_alloc(void) { return PyObject_GC_New(StepObject, &step_type); }
static void step_free(StepObject *self) { PyObject_GC_Del(self); }
#else
static StepObject *free_steps[RS_FREE_STEPS];
static int n_free;

static StepObject *step_alloc(void)
{
    if (RS_UNLIKELY(n_free == 0))
        return PyObject_GC_New(StepObject, &step_type);
    StepObject *self = free_steps[--n_free];
    _Py_NewReference((PyObject *)self);
    return self;
}

static void step_free(StepObject *self)
{
    if (RS_LIKELY(n_free < RS_FREE_STEPS) && RS_USES(spare_steps))
        free_steps[n_free++] = self;
    else
        PyObject_GC_Del(self);
}
#endif

static PyObject *method_get(MethodObject *self, PyObject *instance, PyObject *owner)
{
    if (instance == NULL || instance == Py_None)
        return Py_NewRef(self->function); /* an ExitStack takes this from the class */
    StepObject *step = step_alloc();
    if (step == NULL)
        return NULL;
    step->vectorcall = (vectorcallfunc)step_call;
    step->method = (MethodObject *)Py_NewRef((PyObject *)self);
    step->policy = Py_NewRef(instance);
    step->held = NULL;
    step->weakrefs = NULL;
    step->thread = PyThread_get_thread_ident();
    PyObject_GC_Track(step);
    if (RS_UNLIKELY(!RS_USES(with_order)))
        return (PyObject *)step;
    if (self->part == EXIT || self->part == AEXIT)
        pending_set((PyObject *)step);
    else if (entry_first || !pending_is_of(instance))
        pending_forget();
    return (PyObject *)step;
}

static int step_traverse(StepObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->policy);
    Py_VISIT(self->held);
    return 0;
}

/* The frame died without leaving the block: release its permit, even if it is referenced elsewhere, or
 * restore the former values. */
static void step_dealloc(StepObject *self)
{
    PyObject_GC_UnTrack(self);
    pending_died((PyObject *)self);
    if (RS_UNLIKELY(self->weakrefs != NULL))
        PyObject_ClearWeakRefs((PyObject *)self);
    if (RS_UNLIKELY(self->held != NULL)) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        self->method->kind->drop(self->held);
        Py_CLEAR(self->held);
        PyErr_Restore(type, error, traceback);
    }
    Py_CLEAR(self->policy);
    Py_DECREF((PyObject *)self->method);
    step_free(self);
}

/* Equal as bound methods are: the same method of the same object. */
static PyObject *step_compare(StepObject *self, PyObject *other, int op)
{
    if (Py_TYPE(other) != &step_type || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    StepObject *step = (StepObject *)other;
    int same = self->policy == step->policy && self->method == step->method;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t hash_of(const void *object)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_HashPointer(object);
#else
    return _Py_HashPointer(object);
#endif
}

static Py_hash_t step_hash(StepObject *self)
{
    Py_hash_t hash = hash_of(self->policy) ^ hash_of(self->method);
    return hash == -1 ? -2 : hash;
}

static PyObject *step_repr(StepObject *self)
{
    return PyUnicode_FromFormat("<bound method %U of %R>", ((PyFunctionObject *)self->method->function)->func_qualname,
                                self->policy);
}

/* A bound method has the attributes of its function: __name__, __doc__, __func__ and so on. */
static PyObject *step_getattr(StepObject *self, PyObject *name)
{
    PyObject *own = PyObject_GenericGetAttr((PyObject *)self, name);
    if (own || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyObject_GetAttr(self->method->function, name);
}

static PyObject *step_function(StepObject *self, void *unused) { return Py_NewRef(self->method->function); }
static PyObject *step_doc(StepObject *self, void *unused)
{
    return PyObject_GetAttrString(self->method->function, "__doc__");
}

static PyMemberDef step_members[] = {
    {"__self__", T_OBJECT, offsetof(StepObject, policy), READONLY, "The policy."},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(StepObject, vectorcall), READONLY},
    {NULL},
};
static PyGetSetDef step_getset[] = {
    {"__func__", (getter)step_function, NULL, "The function written in Python."},
    {"__doc__", (getter)step_doc, NULL, NULL},
    {NULL},
};

static PyTypeObject step_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.BlockStep",
    .tp_basicsize = sizeof(StepObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
                | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)step_dealloc,
    .tp_traverse = (traverseproc)step_traverse,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(StepObject, vectorcall),
    .tp_weaklistoffset = offsetof(StepObject, weakrefs),
    .tp_richcompare = (richcmpfunc)step_compare,
    .tp_hash = (hashfunc)step_hash,
    .tp_repr = (reprfunc)step_repr,
    .tp_getattro = (getattrofunc)step_getattr,
    .tp_members = step_members,
    .tp_getset = step_getset,
};

/* ---- the descriptor in the class ---------------------------------------------------------------------------- */

static PyObject *method_of(PyObject *function, const rs_block_kind *kind)
{
    static const char *const names[] = {"__enter__", "__exit__", "__aenter__", "__aexit__"};
    if (!PyFunction_Check(function))
        return PyErr_Format(PyExc_TypeError, "block_method: must be given a function, not %R", function);
    for (int part = ENTER; part <= AEXIT; part++)
        if (PyUnicode_CompareWithASCIIString(((PyFunctionObject *)function)->func_name, names[part]) == 0) {
            MethodObject *self = PyObject_GC_New(MethodObject, &method_type);
            if (self == NULL)
                return NULL;
            self->function = Py_NewRef(function);
            self->part = part;
            self->kind = kind;
            PyObject_GC_Track(self);
            return (PyObject *)self;
        }
    return PyErr_Format(PyExc_ValueError, "block_method: %R neither enters nor leaves a block", function);
}

static PyObject *block_method(PyObject *module, PyObject *function) { return method_of(function, &rs_permit_block); }
static PyObject *ambient_method(PyObject *module, PyObject *function) { return method_of(function, &rs_setting_block); }

static int method_traverse(MethodObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->function);
    return 0;
}

static void method_dealloc(MethodObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF(self->function);
    PyObject_GC_Del(self);
}

static PyMemberDef method_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(MethodObject, function), READONLY, "The function written in Python."},
    {NULL},
};

static PyTypeObject method_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.BlockMethod",
    .tp_basicsize = sizeof(MethodObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)method_dealloc,
    .tp_traverse = (traverseproc)method_traverse,
    .tp_descr_get = (descrgetfunc)method_get,
    .tp_members = method_members,
};

static PyMethodDef functions[] = {
    {"block_method", block_method, METH_O,
     "block_method(function, /)\n--\n\n"
     "Wrap a policy's __enter__, __exit__, __aenter__ or __aexit__ so that `with` never loses a permit. "
     "Manual calls run *function*."},
    {"ambient_method", ambient_method, METH_O,
     "ambient_method(function, /)\n--\n\n"
     "Wrap a block's __enter__, __exit__, __aenter__ or __aexit__ so that `with` leaves nothing set. "
     "Manual calls run *function*. The block begins by _begin_block(setting, generator, enforced)."},
    {NULL},
};

/* Determine which of the two `with` fetches first. If it fetches others as well, every block
   takes the Python functions. */
static int see_order(void)
{
    static PyObject *with_order;
    PyObject *ask = rs_python("resilio._native.proofs", "with_order", &with_order);
    PyObject *order = ask ? PyObject_CallNoArgs(ask) : NULL;
    const char *first = NULL, *second = NULL;
    if (order && order != Py_None && !PyArg_ParseTuple(order, "ss", &first, &second))
        PyErr_Clear(); /* it fetches more, or less */
    Py_XDECREF(order);
    entry_first = second && strcmp(first, "entry") == 0 && strcmp(second, "exit") == 0;
    rs_private_proved(RS_PRIVATE_with_order,
                      entry_first || (second && strcmp(first, "exit") == 0 && strcmp(second, "entry") == 0));
    return ask ? 0 : -1;
}

int rs_block_add(PyObject *module)
{
    if (rs_private_may(RS_PRIVATE_with_order) && see_order() < 0)
        return -1;
    if (PyType_Ready(&method_type) < 0 || PyType_Ready(&step_type) < 0 || pending_ready() < 0)
        return -1;
    if (rs_block_entry_init() < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
