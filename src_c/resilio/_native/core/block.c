/* Blocks: `with policy:` and `async with policy:`, whose permit has an owner at every moment, also for a Ctrl-C.
 *
 * The interpreter fetches __enter__ and __exit__ from the class before it calls __enter__, and keeps the bound __exit__
 * on the stack of the frame until the block is left. So each fetch of __exit__ makes a step, and the one that belongs to
 * a `with` statement owns its permit: it is settled when the step is called, or else when it dies with the frame. From
 * the admission to the settling no bytecode is run at which a signal could come in between.
 *
 * Which step belongs to the __enter__ that is called? The one that was fetched last, if nothing else was fetched since.
 * Everybody else (an ExitStack, who calls __enter__ by hand) gets the function written in Python, which finds its block
 * again at the end by where it is.
 */
#include "core.h"

#define RS_FREE_STEPS 32

typedef enum { ENTER = 0, EXIT = 1, AENTER = 2, AEXIT = 3 } block_part;     /* an exit follows its entry */

typedef struct {                    /* what stands in the class */
    PyObject_HEAD
    PyObject *function;             /* the same written in Python */
    int part;                       /* block_part */
} MethodObject;

typedef struct {                    /* what is fetched from an instance: a bound method */
    PyObject_HEAD
    vectorcallfunc vectorcall;
    MethodObject *method;
    PyObject *policy;
    PyObject *permit;               /* of the open block, owned; or NULL */
    PyObject *weakrefs;
    unsigned long thread;           /* that fetched it */
} StepObject;

typedef struct {                    /* what `async with` awaits */
    PyObject_HEAD
    PyObject *call;                 /* that acquires the permit; NULL: nothing to wait for */
    StepObject *exit;               /* that will own it; NULL once it does, or never will */
} EntryObject;

static PyTypeObject method_type, step_type, entry_type;
static PyObject *nothing;           /* the entry that is awaited at a block's end */
static PyObject *name_acquire, *name_aacquire;

/* ---- the exit fetched last, in this thread ------------------------------------------------------------------ */

#ifdef Py_GIL_DISABLED
static RS_THREAD_LOCAL PyObject *pending;  /* a weak reference: the last of a step may go in another thread */

static void pending_forget(void) { Py_CLEAR(pending); }
static void pending_died(StepObject *step) {}

static void pending_set(StepObject *step)
{
    Py_XSETREF(pending, PyWeakref_NewRef((PyObject *)step, NULL));
    if (pending == NULL)
        PyErr_Clear();
}

static StepObject *pending_get(void)
{
    PyObject *step = NULL;
    if (pending)
        PyWeakref_GetRef(pending, &step);
    return (StepObject *)step;
}
#else
static StepObject *pending;         /* borrowed: it forgets itself when it dies. No other thread runs inside BEFORE_WITH */

static void pending_forget(void) { pending = NULL; }
static void pending_set(StepObject *step) { pending = step; }
static StepObject *pending_get(void) { return (StepObject *)Py_XNewRef((PyObject *)pending); }

static void pending_died(StepObject *step)
{
    if (pending == step)
        pending = NULL;
}
#endif

/* The exit of the `with` statement that calls this entry, a new reference; NULL: it is not called by one. */
static StepObject *exit_of(const StepObject *entry)
{
    StepObject *step = pending_get();
    if (step == NULL)
        return NULL;
    pending_forget();
    if (step->policy == entry->policy && step->method->part == entry->method->part + 1 && step->permit == NULL
        && step->thread == PyThread_get_thread_ident())
        return step;
    Py_DECREF((PyObject *)step);
    return NULL;
}

/* ---- entering and leaving ----------------------------------------------------------------------------------- */

/* Make the exit the owner of the permit. */
static int own(StepObject *exit, PyObject *permit)
{
    if (Py_TYPE(permit) != &rs_PermitType) {
        PyErr_Format(PyExc_TypeError, "%R acquired %R, which is not a permit", exit->policy, permit);
        return 0;
    }
    PyObject *before = __atomic_exchange_n(&exit->permit, Py_NewRef(permit), __ATOMIC_ACQ_REL);
    Py_XDECREF(before);
    return 1;
}

static PyObject *enter(StepObject *exit)
{
    PyObject *permit = PyObject_CallMethodNoArgs(exit->policy, name_acquire);
    if (permit && !own(exit, permit))
        Py_CLEAR(permit);
    return permit;
}

static PyObject *enter_later(StepObject *exit)
{
    PyObject *call = PyObject_CallMethodNoArgs(exit->policy, name_aacquire);
    EntryObject *self = call ? PyObject_GC_New(EntryObject, &entry_type) : NULL;
    if (self == NULL) {
        Py_XDECREF(call);
        return NULL;
    }
    self->call = call;
    self->exit = (StepObject *)Py_NewRef((PyObject *)exit);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *leave(StepObject *self, PyObject *error)
{
    PyObject *permit = __atomic_exchange_n(&self->permit, NULL, __ATOMIC_ACQ_REL);
    int left = permit ? rs_permit_leave(permit, error == Py_None ? NULL : error) : 0;
    Py_XDECREF(permit);
    if (left < 0)
        return NULL;
    return Py_NewRef(self->method->part == AEXIT ? nothing : Py_None);
}

/* The function written in Python, called by the same frame. */
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
    if (kwnames == NULL && nargs == 3 && __atomic_load_n(&self->permit, __ATOMIC_ACQUIRE))
        return leave(self, args[1]);
    StepObject *exit = kwnames == NULL && nargs == 0 ? exit_of(self) : NULL;
    if (exit == NULL)
        return by_hand(self, args, nargs, kwnames);
    PyObject *entered = self->method->part == ENTER ? enter(exit) : enter_later(exit);
    Py_DECREF((PyObject *)exit);
    return entered;
}

/* ---- the bound method --------------------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
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
    if (RS_LIKELY(n_free < RS_FREE_STEPS))
        free_steps[n_free++] = self;
    else
        PyObject_GC_Del(self);
}
#endif

static PyObject *method_get(MethodObject *self, PyObject *instance, PyObject *owner)
{
    if (instance == NULL || instance == Py_None)
        return Py_NewRef(self->function);       /* what an ExitStack takes from the class */
    StepObject *step = step_alloc();
    if (step == NULL)
        return NULL;
    step->vectorcall = (vectorcallfunc)step_call;
    step->method = (MethodObject *)Py_NewRef((PyObject *)self);
    step->policy = Py_NewRef(instance);
    step->permit = NULL;
    step->weakrefs = NULL;
    step->thread = PyThread_get_thread_ident();
    PyObject_GC_Track(step);
    if (self->part == EXIT || self->part == AEXIT)
        pending_set(step);
#if PY_VERSION_HEX < 0x030E0000                 /* up to 3.13 the entry is fetched before the exit */
    else
        pending_forget();
#endif
    return (PyObject *)step;
}

static int step_traverse(StepObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->policy);
    Py_VISIT(self->permit);
    return 0;
}

/* The frame is gone, and the block was never left: its permit goes back, even if somebody else still has it. */
static void step_dealloc(StepObject *self)
{
    PyObject_GC_UnTrack(self);
    pending_died(self);
    if (RS_UNLIKELY(self->weakrefs != NULL))
        PyObject_ClearWeakRefs((PyObject *)self);
    if (RS_UNLIKELY(self->permit != NULL)) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        rs_permit_drop(self->permit);
        Py_CLEAR(self->permit);
        PyErr_Restore(type, error, traceback);
    }
    Py_CLEAR(self->policy);
    Py_DECREF((PyObject *)self->method);
    step_free(self);
}

/* As of bound methods: the same one of the same object. */
static PyObject *step_compare(StepObject *self, PyObject *other, int op)
{
    if (Py_TYPE(other) != &step_type || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    StepObject *step = (StepObject *)other;
    int same = self->policy == step->policy && self->method == step->method;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t step_hash(StepObject *self)
{
    Py_hash_t hash = _Py_HashPointer(self->policy) ^ _Py_HashPointer(self->method);
    return hash == -1 ? -2 : hash;
}

static PyObject *step_repr(StepObject *self)
{
    return PyUnicode_FromFormat("<bound method %U of %R>", ((PyFunctionObject *)self->method->function)->func_qualname, self->policy);
}

/* What the function has, a bound method has too: __name__, __doc__, __func__ and so on. */
static PyObject *step_getattr(StepObject *self, PyObject *name)
{
    PyObject *own = PyObject_GenericGetAttr((PyObject *)self, name);
    if (own || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyObject_GetAttr(self->method->function, name);
}

static PyObject *step_function(StepObject *self, void *unused) { return Py_NewRef(self->method->function); }
static PyObject *step_doc(StepObject *self, void *unused) { return PyObject_GetAttrString(self->method->function, "__doc__"); }

static PyMemberDef step_members[] = {
    {"__self__", T_OBJECT, offsetof(StepObject, policy), READONLY, "The policy."},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(StepObject, vectorcall), READONLY},
    {NULL}};
static PyGetSetDef step_getset[] = {
    {"__func__", (getter)step_function, NULL, "The function written in Python."},
    {"__doc__", (getter)step_doc, NULL, NULL},
    {NULL}};

static PyTypeObject step_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.BlockStep",
    .tp_basicsize = sizeof(StepObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
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

/* ---- what stands in the class ------------------------------------------------------------------------------- */

static PyObject *block_method(PyObject *module, PyObject *function)
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
            PyObject_GC_Track(self);
            return (PyObject *)self;
        }
    return PyErr_Format(PyExc_ValueError, "block_method: %R neither enters nor leaves a block", function);
}

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
    {NULL}};

static PyTypeObject method_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.BlockMethod",
    .tp_basicsize = sizeof(MethodObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)method_dealloc,
    .tp_traverse = (traverseproc)method_traverse,
    .tp_descr_get = (descrgetfunc)method_get,
    .tp_members = method_members,
};

/* ---- what `async with` awaits ------------------------------------------------------------------------------- */

/* One step of the call ended as *sent*; the permit that it may have returned has its owner from here on. */
static PySendResult entry_after(EntryObject *self, PySendResult sent, PyObject **result)
{
    if (sent == PYGEN_NEXT)
        return sent;
    StepObject *exit = self->exit;
    self->exit = NULL;
    if (exit && sent == PYGEN_RETURN && !own(exit, *result)) {
        Py_CLEAR(*result);
        sent = PYGEN_ERROR;
    }
    Py_XDECREF((PyObject *)exit);
    return sent;
}

static PySendResult entry_am_send(EntryObject *self, PyObject *value, PyObject **result)
{
    if (self->call)
        return entry_after(self, PyIter_Send(self->call, value, result), result);
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* As coroutines end: a returned value is the value of a StopIteration. */
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

/* From 3.12 on `await` takes this way: the end without an exception means None, and the call's StopIteration is its own. */
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
        PyObject *permit = error && PyErr_GivenExceptionMatches(error, PyExc_StopIteration)
            ? Py_XNewRef(((PyStopIterationObject *)error)->value) : NULL;
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

/* What the call's throw ended with, other than by an exception of its own. */
static PySendResult caught(PyObject **result)
{
    PyObject *type, *error, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    *result = Py_XNewRef(((PyStopIterationObject *)error)->value);
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

/* What a coroutine shows, those who look at suspended tasks find at the call. */
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
    {NULL}};
static PyAsyncMethods entry_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)entry_am_send};

static PyTypeObject entry_type = {
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

static PyMethodDef functions[] = {
    {"block_method", block_method, METH_O,
     "block_method(function, /)\n--\n\nMake a policy's __enter__, __exit__, __aenter__ or __aexit__ one that never loses a permit, with "
     "*function* for those who call it by hand."},
    {NULL}};

int rs_block_add(PyObject *module)
{
    if (PyType_Ready(&method_type) < 0 || PyType_Ready(&step_type) < 0 || PyType_Ready(&entry_type) < 0)
        return -1;
    name_acquire = PyUnicode_InternFromString("acquire");
    name_aacquire = PyUnicode_InternFromString("aacquire");
    EntryObject *entry = PyObject_GC_New(EntryObject, &entry_type);
    if (entry == NULL || name_acquire == NULL || name_aacquire == NULL)
        return -1;
    entry->call = NULL;
    entry->exit = NULL;
    nothing = (PyObject *)entry;
    return PyModule_AddFunctions(module, functions);
}
