/* Result: the outcome of a call as a value. A rejection's exception is created when it is read, so one costs 50 ns. */
#include "core.h"

typedef struct {
    PyObject_HEAD
    PyObject *value; /* the result, or the exception, or NULL for a rejection */
    rs_gate *gate;   /* the gate that rejected */
    rs_rejection why;
    int outcome; /* rs_outcome, or RS_NOT_CALLED */
    int raised;
} ResultObject;

static PyObject *outcome_names[5];

static ResultObject *result_new(PyObject *value, rs_gate *gate, int outcome)
{
    ResultObject *self = PyObject_GC_New(ResultObject, &rs_ResultType);
    if (self == NULL)
        return NULL;
    self->value = Py_XNewRef(value);
    self->gate = (rs_gate *)Py_XNewRef((PyObject *)gate);
    self->outcome = outcome;
    self->raised = 0;
    PyObject_GC_Track(self);
    return self;
}

PyObject *rs_result_value(PyObject *value, int outcome) { return (PyObject *)result_new(value, NULL, outcome); }

/* Result of a call that raised: no success, even if its gates judged the dependency healthy. */
PyObject *rs_result_error(PyObject *error, int outcome)
{
    ResultObject *self = result_new(error, NULL, outcome == RS_SUCCESS ? RS_FAILURE : outcome);
    if (self)
        self->raised = 1;
    return (PyObject *)self;
}

PyObject *rs_result_rejected(rs_gate *gate, const rs_rejection *why)
{
    ResultObject *self = result_new(NULL, gate, RS_NOT_CALLED);
    if (self)
        self->why = *why;
    return (PyObject *)self;
}

static int result_traverse(ResultObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->value);
    Py_VISIT(self->gate);
    return 0;
}

static int result_clear(ResultObject *self)
{
    Py_CLEAR(self->value);
    Py_CLEAR(self->gate);
    return 0;
}

static void result_dealloc(ResultObject *self)
{
    PyObject_GC_UnTrack(self);
    result_clear(self);
    PyObject_GC_Del(self);
}

/* The exception, borrowed. A rejection's exception is created once and kept, so that `result.error is result.error`. If
   two threads create it concurrently, the second one takes that of the first. */
static PyObject *result_exception(ResultObject *self)
{
    PyObject *kept = __atomic_load_n(&self->value, __ATOMIC_ACQUIRE);
    if (self->outcome != RS_NOT_CALLED || kept)
        return kept;
    PyObject *made = rs_rejection_error(self->gate, &self->why);
    if (made && !__atomic_compare_exchange_n(&self->value, &kept, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        Py_DECREF(made);
        return kept;
    }
    return made;
}

/* Attach the ledger of a rejection that followed a wait. */
void rs_result_attach(PyObject *result, rs_run *run)
{
    PyObject *error = result && run->ledger ? result_exception((ResultObject *)result) : NULL;
    if (error)
        rs_ledger_attach(run, error, NULL, 0);
    else if (result)
        PyErr_Clear(); /* no memory: it is created when it is read */
}

static int result_failed(ResultObject *self) { return self->raised || self->outcome == RS_NOT_CALLED; }
static int result_bool(ResultObject *self) { return self->outcome == RS_SUCCESS && !self->raised; }
static PyObject *result_ok(ResultObject *self, void *unused) { return PyBool_FromLong(result_bool(self)); }
static PyObject *result_called(ResultObject *self, void *unused)
{
    return PyBool_FromLong(self->outcome != RS_NOT_CALLED);
}

static PyObject *result_unwrap(ResultObject *self, PyObject *unused)
{
    if (!result_failed(self))
        return Py_NewRef(self->value);
    PyObject *error = result_exception(self);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    return NULL;
}

static PyObject *result_get_value(ResultObject *self, void *unused)
{
    return Py_NewRef(result_failed(self) ? Py_None : self->value);
}

static PyObject *result_get_error(ResultObject *self, void *unused)
{
    return result_failed(self) ? Py_XNewRef(result_exception(self)) : Py_NewRef(Py_None);
}

static PyObject *result_outcome(ResultObject *self, void *unused)
{
    static const char *const names[5] = {"success", "failure", "ignored", "refused", "rejected"};
    PyObject *name = outcome_names[self->outcome];
    if (name == NULL) {
        name = PyUnicode_InternFromString(names[self->outcome]);
        outcome_names[self->outcome] = name;
    }
    return Py_XNewRef(name);
}

static PyObject *result_repr(ResultObject *self)
{
    PyObject *outcome = result_outcome(self, NULL);
    PyObject *content = outcome ? (result_failed(self) ? result_exception(self) : self->value) : NULL;
    PyObject *text = content ? PyUnicode_FromFormat("Result(%U, %R)", outcome, content) : NULL;
    Py_XDECREF(outcome);
    return text;
}

static PyNumberMethods result_number = {.nb_bool = (inquiry)result_bool};
static PyMethodDef result_methods[] = {
    {"unwrap", (PyCFunction)result_unwrap, METH_NOARGS,
     "unwrap($self, /)\n--\n\nReturn the value, or raise the exception or rejection."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Result[T]"},
    {NULL},
};
static PyGetSetDef result_getset[] = {
    {"ok", (getter)result_ok, NULL, "True if the call succeeded."},
    {"value", (getter)result_get_value, NULL, "Return value of the callee; None if it raised or was not called."},
    {"error", (getter)result_get_error, NULL, "Exception of the callee, or the rejection; None if it returned."},
    {"outcome", (getter)result_outcome, NULL, "success, failure, ignored or rejected."},
    {"called", (getter)result_called, NULL, "True if the callee was called."},
    {NULL},
};

PyTypeObject rs_ResultType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Result",
    .tp_basicsize = sizeof(ResultObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The outcome of `try_call` or `try_acall`: true if it succeeded.",
    .tp_dealloc = (destructor)result_dealloc,
    .tp_traverse = (traverseproc)result_traverse,
    .tp_clear = (inquiry)result_clear,
    .tp_repr = (reprfunc)result_repr,
    .tp_as_number = &result_number,
    .tp_methods = result_methods,
    .tp_getset = result_getset,
};
