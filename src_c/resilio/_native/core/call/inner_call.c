/* InnerCall: the inner part of a stage, as one callable. */
#include "core.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    rs_inside inside; /* up to here an rs_inner_head */
    rs_pipeline *pipe;
    PyObject *func;
    GuardObject *guard; /* for names in messages; or NULL */
    PyObject *args;     /* tuple: positional, then the keyword values */
    PyObject *kwnames;  /* tuple or NULL */
    Py_ssize_t nargs;
    PyObject *cut; /* the object that may cancel it early, for the label of the stage; or NULL */
    int first;
    int is_async;
    int64_t wait_ns; /* from the stage's admission to its `wake_ns`; RS_NEVER: it has none */
} InnerCallObject;
_Static_assert(offsetof(InnerCallObject, inside) == offsetof(rs_inner_head, inside), "the engine reads it");

PyObject *rs_call_inside(rs_pipeline *pipe, int first, PyObject *func, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames, GuardObject *guard, const rs_inside *inside);

static PyObject *inner_call_vectorcall(InnerCallObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) || kwnames)
        return PyErr_Format(PyExc_TypeError,
                            "what is inside of a stage has its arguments already: call it without any");
    PyObject *const *own = &PyTuple_GET_ITEM(self->args, 0);
    rs_around_begin(self->inside.around);
    if (self->is_async)
        return rs_call_inside(self->pipe, self->first, self->func, own, self->nargs, self->kwnames, self->guard,
                              &self->inside);
    return rs_invoke_inside(self->pipe, self->first, self->func, own, (size_t)self->nargs, self->kwnames, self->guard,
                            &self->inside);
}

PyObject *rs_inner_call_new(rs_pipeline *pipe, int first, PyObject *func, GuardObject *guard, const rs_request *request,
                            int is_async)
{
    Py_ssize_t total = request->nargs + (request->kwnames ? PyTuple_GET_SIZE(request->kwnames) : 0);
    PyObject *args = PyTuple_New(total);
    InnerCallObject *self = args ? PyObject_GC_New(InnerCallObject, &rs_InnerCallType) : NULL;
    if (self == NULL) {
        Py_XDECREF(args);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < total; i++)
        PyTuple_SET_ITEM(args, i, Py_NewRef(request->args[i]));
    self->vectorcall = (vectorcallfunc)inner_call_vectorcall;
    self->pipe = (rs_pipeline *)Py_NewRef((PyObject *)pipe);
    self->func = Py_NewRef(func);
    self->guard = (GuardObject *)Py_XNewRef((PyObject *)guard);
    self->args = args;
    self->kwnames = Py_XNewRef(request->kwnames);
    self->nargs = request->nargs;
    self->first = first;
    self->is_async = is_async;
    self->inside = (rs_inside){.ledger = NULL};
    self->wait_ns = RS_NEVER;
    self->cut = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* Bind the inner part of a stage to this run: its time is the run's. NULL passes through. */
PyObject *rs_inner_call_of(PyObject *inner, rs_run *run)
{
    InnerCallObject *self = (InnerCallObject *)inner;
    if (self) {
        self->inside.attempt = run->attempt;
        self->inside.ledger = rs_ledger_share(run, self->first, &self->inside.lane);
        self->inside.route = rs_route_share(run);
        self->inside.around = rs_around_new(run);
    }
    return inner;
}

static int inner_call_traverse(InnerCallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    Py_VISIT(self->func);
    Py_VISIT(self->guard);
    Py_VISIT(self->args);
    Py_VISIT(self->cut);
    return rs_around_visit(self->inside.around, visit, arg);
}

static void inner_call_dealloc(InnerCallObject *self)
{
    PyObject_GC_UnTrack(self);
    if (self->inside.ledger) {
        RS_SPEND(self->pipe->gate[0], RS_WASTED, rs_ledger_wasted(self->inside.ledger));
        rs_ledger_drop(&self->inside.ledger);
    }
    rs_route_drop(&self->inside.route);
    rs_around_drop(&self->inside.around);
    Py_DECREF((PyObject *)self->pipe);
    Py_DECREF(self->func);
    Py_XDECREF((PyObject *)self->guard);
    Py_DECREF(self->args);
    Py_XDECREF(self->kwnames);
    Py_XDECREF(self->cut);
    PyObject_GC_Del(self);
}

static PyObject *inner_call_args(InnerCallObject *self, void *unused)
{
    return PyTuple_GetSlice(self->args, 0, self->nargs);
}

static PyObject *inner_call_kwargs(InnerCallObject *self, void *unused)
{
    PyObject *kwargs = PyDict_New();
    for (Py_ssize_t i = 0; kwargs && self->kwnames && i < PyTuple_GET_SIZE(self->kwnames); i++)
        if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(self->kwnames, i), PyTuple_GET_ITEM(self->args, self->nargs + i))
            < 0)
            Py_CLEAR(kwargs);
    return kwargs;
}

static PyObject *inner_call_replayable(InnerCallObject *self, void *unused)
{
    rs_request request = {&PyTuple_GET_ITEM(self->args, 0), self->nargs, self->kwnames, NULL, 0};
    return PyBool_FromLong(rs_api.replayable(&request, self->func, 1));
}

/* The same stages around another function: a hedge's other target. */
static PyObject *inner_call_around(InnerCallObject *self, PyObject *func)
{
    if (!PyCallable_Check(func))
        return PyErr_Format(PyExc_TypeError, "around: must be given a function, not %R", func);
    rs_request request = {&PyTuple_GET_ITEM(self->args, 0), self->nargs, self->kwnames, NULL, 0};
    InnerCallObject *other = (InnerCallObject *)rs_inner_call_new(self->pipe, self->first, func, NULL, &request,
                                                                  self->is_async);
    if (other) {
        other->inside = self->inside;
        rs_ledger_keep(self->inside.ledger);
        rs_route_keep(self->inside.route);
        rs_around_keep(self->inside.around);
    }
    return (PyObject *)other;
}

/* Begin a copy beside a call in flight, with its own ledger. */
static PyObject *inner_call_begin_copy(InnerCallObject *self, PyObject *number)
{
    long hedge = PyLong_AsLong(number);
    if (hedge == -1 && PyErr_Occurred())
        return NULL;
    self->inside.hedge = (int)hedge;
    rs_ledger_drop(&self->inside.ledger);
    self->inside.ledger = rs_ledger_of_copy(self->first, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

/* The copy has won. */
static PyObject *inner_call_adopt(InnerCallObject *self, PyObject *copy)
{
    if (Py_TYPE(copy) != &rs_InnerCallType)
        return PyErr_Format(PyExc_TypeError, "adopt: must be given a copy, not %R", copy);
    rs_ledger *other = ((InnerCallObject *)copy)->inside.ledger;
    if (self->inside.ledger && other) /* memory sufficed for both */
        rs_ledger_adopt(self->inside.ledger, other, self->first - 1, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

static PyObject *inner_call_called(InnerCallObject *self, void *unused)
{
    return PyBool_FromLong(rs_around_called(self->inside.around));
}

/* The function will not be called any more, though a run inside has not ended. */
static PyObject *inner_call_give_up(InnerCallObject *self, PyObject *unused)
{
    if (self->inside.around)
        __atomic_store_n(&self->inside.around->calls, 0, __ATOMIC_RELEASE);
    Py_RETURN_NONE;
}

static PyObject *inner_call_told_ns(InnerCallObject *self, void *unused)
{
    return PyLong_FromLongLong(self->inside.around ? self->inside.around->told_ns : 0);
}

/* The nearest gate of a kind outside this part's own stage. */
static PyObject *inner_call_outside(InnerCallObject *self, PyObject *kind)
{
    const char *name = PyUnicode_AsUTF8(kind);
    for (int i = self->first - 2; name && i >= 0; i--) /* not a keyed one: its gate differs by call */
        if (self->pipe->gate[i]->ops->resolve == NULL && strcmp(self->pipe->gate[i]->ops->kind, name) == 0)
            return Py_NewRef((PyObject *)self->pipe->gate[i]);
    if (name == NULL)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef inner_call_methods[] = {
    {"outside", (PyCFunction)inner_call_outside, METH_O,
     "outside($self, kind, /)\n--\n\nNearest gate of that kind outside of this stage, or None."},
    {"begin_copy", (PyCFunction)inner_call_begin_copy, METH_O,
     "begin_copy($self, number, /)\n--\n\n"
     "Become copy *number*, from 1, of a call in flight, with a ledger of its own."},
    {"adopt", (PyCFunction)inner_call_adopt, METH_O,
     "adopt($self, copy, /)\n--\n\n"
     "Take the time of the winning copy as the call's; the time spent here meanwhile was wasted."},
    {"give_up", (PyCFunction)inner_call_give_up, METH_NOARGS,
     "give_up($self, /)\n--\n\n"
     "Note that the function was not called, and will not be, though a run of this part has not ended yet."},
    {"around", (PyCFunction)inner_call_around, METH_O,
     "around($self, fn, /)\n--\n\nReturn the same stages around another function, with the same arguments."},
    {NULL},
};
static PyMemberDef inner_call_members[] = {
    {"func", T_OBJECT, offsetof(InnerCallObject, func), READONLY, "The function."},
    {"is_async", T_BOOL, offsetof(InnerCallObject, is_async), READONLY, "True if a call returns an awaitable."},
    {"hedge", T_INT, offsetof(InnerCallObject, inside.hedge), READONLY,
     "Number of a copy of a call in flight, which gates may reject; 0: no copy."},
    {"cut", T_OBJECT, offsetof(InnerCallObject, cut), 0,
     "Object that may cancel it early, or None; the stage and inner gates read cancel_called and cancelled_caught."},
    {"wait_ns", T_LONGLONG, offsetof(InnerCallObject, wait_ns), READONLY,
     "Nanoseconds after the start of this stage in which it is due: a timeout's time, the delay of a first copy."},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(InnerCallObject, vectorcall), READONLY},
    {NULL},
};
static PyGetSetDef inner_call_getset[] = {
    {"replayable", (getter)inner_call_replayable, NULL,
     "False if an argument, other than a method's self, can be used once only or "
     "not concurrently: an iterator, a file, a cursor."},
    {"called", (getter)inner_call_called, NULL,
     "True if an attempt or a copy may have called the function: each that has begun, unless it ended without a call."},
    {"told_ns", (getter)inner_call_told_ns, NULL,
     "Time that a server has named to an attempt or a copy which waits for it, on the native clock; 0: none."},
    {"args", (getter)inner_call_args, NULL, "Positional arguments."},
    {"kwargs", (getter)inner_call_kwargs, NULL, "Keyword arguments, a new dict."},
    {NULL},
};

PyTypeObject rs_InnerCallType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.InnerCall",
    .tp_basicsize = sizeof(InnerCallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
                | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Inside of a stage: further stages and the function. It may be called any number of times.",
    .tp_dealloc = (destructor)inner_call_dealloc,
    .tp_traverse = (traverseproc)inner_call_traverse,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(InnerCallObject, vectorcall),
    .tp_methods = inner_call_methods,
    .tp_members = inner_call_members,
    .tp_getset = inner_call_getset,
};

/* Run the strategy at the cursor in Python and return its result, for arun an awaitable. Its
   slot keeps *inner*, if it is free. */
PyObject *rs_run_delegate(rs_run *run, PyObject *inner, const char *method)
{
    rs_slot *slot = &run->slots[run->cursor];
    if (slot->wake_ns != RS_NEVER)
        ((InnerCallObject *)inner)->wait_ns = slot->wake_ns - slot->admitted_ns;
    if (slot->extra == NULL) {
        slot->extra = Py_NewRef(inner);
        slot->flags |= RS_OWN_WAY;
    }
    return PyObject_CallMethod((PyObject *)slot->gate, method, "O", inner);
}

/* For strategies: judge, at their gate, an attempt that another task has made. *inner*: its inner part;
   *error*: an Exception, or NULL. */
int rs_gate_judge(rs_gate *gate, PyObject *inner, PyObject *value, PyObject *error)
{
    const rs_pipeline *pipe = Py_IS_TYPE(inner, &rs_InnerCallType) ? ((InnerCallObject *)inner)->pipe : NULL;
    if (error)
        return rs_judge_exception(pipe, gate, error);
    return Py_MAX(rs_ask_judge(pipe, gate, 1, value), RS_SUCCESS);
}
