/* Rejections: the exception (a new one each time, its fields written directly) and the value that try_acquire returns.
 */
#include "core.h"

#define RS_FIELDS 7 /* arguments of a RejectedError */

static PyObject *float_or_none(double value) { return isnan(value) ? Py_NewRef(Py_None) : PyFloat_FromDouble(value); }

static PyObject *retry_after(const rs_rejection *why)
{
    return why->retry_after_ns > 0 ? PyFloat_FromDouble((double)why->retry_after_ns / 1e9) : Py_NewRef(Py_None);
}

static PyObject *scope(const rs_rejection *why) { return PyUnicode_InternFromString(RS_SCOPES[why->scope]); }

static PyObject *name_of(rs_gate *gate)
{
    PyObject *name = rs_gate_own(gate, &gate->name);
    return name ? name : Py_NewRef(Py_None);
}

/* The rejection of a call whose deadline has passed, or is too close. */
static PyObject *deadline_error(rs_gate *gate, const rs_kind *kind, const rs_rejection *why)
{
    static PyObject *class;
    if (rs_hook("DeadlineExceededError", &class) == NULL)
        return NULL;
    PyObject *args[5] = {rs_deadline_allowed(), float_or_none(why->limit), float_or_none(why->measured),
                         Py_NewRef(kind->kind), name_of(gate)};
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
PyObject *rs_rejection_error(rs_gate *gate, const rs_rejection *why)
{
    const rs_kind *kind = rs_kind_of(gate->ops);
    if (kind == NULL)
        return NULL;
    if (RS_UNLIKELY(why->reason == RS_OUT_OF_TIME_TO_WAIT))
        return deadline_error(gate, kind, why);
    PyTypeObject *type = (PyTypeObject *)kind->error;
    PyObject *fields = PyTuple_New(RS_FIELDS);
    PyObject *value[RS_FIELDS] = {Py_NewRef(kind->kind),
                                  name_of(gate),
                                  Py_NewRef(rs_reason(kind, why->reason)),
                                  float_or_none(why->measured),
                                  float_or_none(why->limit),
                                  retry_after(why),
                                  scope(why)};
    int failed = fields == NULL;
    for (int i = 0; i < RS_FIELDS; i++) {
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

void rs_rejection_raise(rs_gate *gate, const rs_rejection *why)
{
    PyObject *error = rs_rejection_error(gate, why);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
}

/* ---- Rejection: returned by try_acquire instead of raising ----------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    rs_gate *gate;
    rs_rejection why;
} RejectionObject;

PyObject *rs_rejection_new(rs_gate *gate, const rs_rejection *why)
{
    RejectionObject *self = PyObject_GC_New(RejectionObject, &rs_RejectionType);
    if (self == NULL)
        return NULL;
    Py_INCREF((PyObject *)gate);
    self->gate = gate;
    self->why = *why;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The gate refers to user functions, and they may refer to this rejection. The gate's own tp_clear breaks the cycle. */
static int rejection_traverse(RejectionObject *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)self->gate);
    return 0;
}

static void rejection_dealloc(RejectionObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF((PyObject *)self->gate);
    PyObject_GC_Del(self);
}

static PyObject *rejection_get(RejectionObject *self, void *which)
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
    case 6: return rs_rejection_error(self->gate, &self->why);
    case 7: return scope(&self->why);
    default: Py_RETURN_FALSE;
    }
}

/* False, unlike an exception: one that is false breaks `if error:` in code that has never heard of rejections. */
static int rejection_bool(RejectionObject *self) { return 0; }

static PyObject *rejection_repr(RejectionObject *self)
{
    PyObject *error = rs_rejection_error(self->gate, &self->why);
    PyObject *text = error ? PyUnicode_FromFormat("<Rejection: %S>", error) : NULL;
    Py_XDECREF(error);
    return text;
}

static PyNumberMethods rejection_number = {.nb_bool = (inquiry)rejection_bool};
static PyGetSetDef rejection_getset[] = {
    {"policy", (getter)rejection_get, NULL, "The policy that rejected.", (void *)0},
    {"name", (getter)rejection_get, NULL, "Name of the policy, or None.", (void *)1},
    {"reason", (getter)rejection_get, NULL, "Reason, from a closed set of labels.", (void *)2},
    {"measured", (getter)rejection_get, NULL, "Measured value, or None.", (void *)3},
    {"limit", (getter)rejection_get, NULL, "Limit of the measured value, or None.", (void *)4},
    {"retry_after", (getter)rejection_get, NULL, "Seconds until a new call has a chance, > 0, or None.", (void *)5},
    {"error", (getter)rejection_get, NULL, "Exception of this rejection, a new one at each access.", (void *)6},
    {"scope", (getter)rejection_get, NULL, "Whose state rejected: \"process\" or \"host\".", (void *)7},
    {"admitted", (getter)rejection_get, NULL, "False.", (void *)8},
    {NULL},
};

PyTypeObject rs_RejectionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Rejection",
    .tp_basicsize = sizeof(RejectionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A rejection as a value: false, with its reason.",
    .tp_dealloc = (destructor)rejection_dealloc,
    .tp_traverse = (traverseproc)rejection_traverse,
    .tp_repr = (reprfunc)rejection_repr,
    .tp_as_number = &rejection_number,
    .tp_getset = rejection_getset,
};
