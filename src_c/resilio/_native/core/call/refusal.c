/* Refusals: the exception (a new one each time, its fields written directly) and the value that try_acquire returns. */
#include "core.h"

static PyObject *float_or_none(double value)
{
    return isnan(value) ? Py_NewRef(Py_None) : PyFloat_FromDouble(value);
}

static PyObject *retry_after(const rs_refusal *why)
{
    return why->retry_after_ns > 0 ? PyFloat_FromDouble((double)why->retry_after_ns / 1e9) : Py_NewRef(Py_None);
}

static PyObject *name_of(rs_gate *gate)
{
    PyObject *name = rs_gate_own(gate, &gate->name);
    return name ? name : Py_NewRef(Py_None);
}

/* The refusal of a call whose deadline has passed, or is too close. */
static PyObject *deadline_error(rs_gate *gate, const rs_kind *kind, const rs_refusal *why)
{
    static PyObject *class;
    if (rs_hook("DeadlineExceededError", &class) == NULL)
        return NULL;
    PyObject *args[5] = {rs_deadline_allowed(), float_or_none(why->limit), float_or_none(why->measured), Py_NewRef(kind->kind), name_of(gate)};
    PyObject *error = args[0] && args[1] && args[2] ? PyObject_Vectorcall(class, args, 5, NULL) : NULL;
    for (int i = 0; i < 5; i++)
        Py_XDECREF(args[i]);
    return error;
}

/* The advice for a wait that would have blocked an event loop; none for a queue lost in a fork. */
static void add_advice(PyObject *error)
{
    static PyObject *hook;
    if (rs_may_block() || rs_hook("add_advice", &hook) == NULL)
        goto done;
    Py_XDECREF(PyObject_CallOneArg(hook, error));
done:
    if (PyErr_Occurred())
        rs_drop_error();
}

/* A new exception. Its fields are written directly: a third of the cost of __init__. */
PyObject *rs_refusal_error(rs_gate *gate, const rs_refusal *why)
{
    const rs_kind *kind = rs_kind_of(gate->ops);
    if (kind == NULL)
        return NULL;
    if (RS_UNLIKELY(why->reason == RS_OUT_OF_TIME_TO_WAIT))
        return deadline_error(gate, kind, why);
    PyTypeObject *type = (PyTypeObject *)kind->error;
    PyObject *fields = PyTuple_New(6);
    PyObject *value[6] = {Py_NewRef(kind->kind), name_of(gate), Py_NewRef(rs_reason(kind, why->reason)),
                          float_or_none(why->measured), float_or_none(why->limit), retry_after(why)};
    int failed = fields == NULL;
    for (int i = 0; i < 6; i++) {
        failed |= value[i] == NULL;
        if (fields)
            PyTuple_SET_ITEM(fields, i, value[i]);
        else
            Py_XDECREF(value[i]);
    }
    PyObject *error = failed ? NULL : ((PyTypeObject *)PyExc_Exception)->tp_new(type, fields, NULL);
    Py_XDECREF(fields);
    if (RS_UNLIKELY(error && why->reason == RS_WOULD_BLOCK))
        add_advice(error);
    return error;
}

void rs_refusal_raise(rs_gate *gate, const rs_refusal *why)
{
    PyObject *error = rs_refusal_error(gate, why);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
}

/* ---- Refusal: returned by try_acquire instead of raising ----------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    rs_gate *gate;
    rs_refusal why;
} RefusalObject;

PyObject *rs_refusal_new(rs_gate *gate, const rs_refusal *why)
{
    RefusalObject *self = PyObject_GC_New(RefusalObject, &rs_RefusalType);
    if (self == NULL)
        return NULL;
    Py_INCREF((PyObject *)gate);
    self->gate = gate;
    self->why = *why;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The gate refers to user functions, and they may refer to this refusal. The gate's own tp_clear breaks the cycle. */
static int refusal_traverse(RefusalObject *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)self->gate);
    return 0;
}

static void refusal_dealloc(RefusalObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF((PyObject *)self->gate);
    PyObject_GC_Del(self);
}

static PyObject *refusal_get(RefusalObject *self, void *which)
{
    const rs_kind *kind = rs_kind_of(self->gate->ops);
    if (kind == NULL)
        return NULL;
    switch ((intptr_t)which) {
    case 0: return Py_NewRef(kind->kind);
    case 1: return name_of(self->gate);
    case 2: return Py_NewRef(rs_reason(kind, self->why.reason));
    case 3: return float_or_none(self->why.measured);
    case 4: return float_or_none(self->why.limit);
    case 5: return retry_after(&self->why);
    case 6: return rs_refusal_error(self->gate, &self->why);
    default: Py_RETURN_FALSE;
    }
}

static int refusal_bool(RefusalObject *self) { return 0; }

static PyObject *refusal_repr(RefusalObject *self)
{
    PyObject *error = rs_refusal_error(self->gate, &self->why);
    PyObject *text = error ? PyUnicode_FromFormat("<Refusal: %S>", error) : NULL;
    Py_XDECREF(error);
    return text;
}

static PyNumberMethods refusal_number = {.nb_bool = (inquiry)refusal_bool};
static PyGetSetDef refusal_getset[] = {
    {"policy", (getter)refusal_get, NULL, "The policy that refused.", (void *)0},
    {"name", (getter)refusal_get, NULL, "Name of the policy, or None.", (void *)1},
    {"reason", (getter)refusal_get, NULL, "Reason, from a closed set of labels.", (void *)2},
    {"measured", (getter)refusal_get, NULL, "Measured value, or None.", (void *)3},
    {"limit", (getter)refusal_get, NULL, "Limit of the measured value, or None.", (void *)4},
    {"retry_after", (getter)refusal_get, NULL, "Seconds until a new call has a chance, > 0, or None.", (void *)5},
    {"error", (getter)refusal_get, NULL, "Exception of this refusal, a new one at each access.", (void *)6},
    {"admitted", (getter)refusal_get, NULL, "False.", (void *)7},
    {NULL}};

PyTypeObject rs_RefusalType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Refusal",
    .tp_basicsize = sizeof(RefusalObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A refusal as a value: false, with its reason.",
    .tp_dealloc = (destructor)refusal_dealloc,
    .tp_traverse = (traverseproc)refusal_traverse,
    .tp_repr = (reprfunc)refusal_repr,
    .tp_as_number = &refusal_number,
    .tp_getset = refusal_getset,
};
