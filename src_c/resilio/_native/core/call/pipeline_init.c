/* A new pipeline: its gates are checked, and what calls need to know of all of them is noted. */
#include "call/call.h"

PyObject *rs_pipeline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    rs_pipeline *self = (rs_pipeline *)type->tp_alloc(type, 0);
    if (self && (self->gates = PyTuple_New(0)) == NULL)
        Py_CLEAR(self);
    if (self)
        self->n = self->pool = -1;
    return (PyObject *)self;
}

/* Return 1 if these are the judges of a client's pipeline, or none. */
static int are_judges(PyObject *judges)
{
    if (judges == Py_None || (PyTuple_Check(judges) && PyTuple_GET_SIZE(judges) == RS_JUDGES))
        return 1;
    PyErr_Format(PyExc_TypeError, "judges: must be None or a tuple of %d judges, not %R", RS_JUDGES, judges);
    return 0;
}

/* Return 1 if a call can go through these gates. */
static int are_gates(PyObject *gates)
{
    Py_ssize_t n = PyTuple_GET_SIZE(gates);
    if (n > RS_MAX_GATES) {
        PyErr_Format(PyExc_ValueError, "gates: at most %d gates in one pipeline, not %zd", RS_MAX_GATES, n);
        return 0;
    }
    int pools = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *gate = PyTuple_GET_ITEM(gates, i);
        if (!PyObject_TypeCheck(gate, &rs_GateType) || ((rs_gate *)gate)->ops == NULL) {
            PyErr_Format(PyExc_TypeError, "gates: item %zd must be a gate, not %R", i, gate);
            return 0;
        }
        pools += ((rs_gate *)gate)->span != 0;
    }
    if (pools > 1)
        PyErr_SetString(
            PyExc_ValueError,
            "a pipeline has at most one pool, since a call goes to one endpoint at a time: give one pool the "
            "endpoints of both, or use the other one in the function that is called");
    return pools <= 1;
}

/* Take a gate as the stage at *i*. */
static void take(rs_pipeline *self, Py_ssize_t i, rs_gate *gate)
{
    const rs_strategy_ops *strategy = gate->ops->strategy;
    self->gate[i] = gate;
    self->timeless &= (gate->timeless & RS_NO_START) != 0;
    if (gate->span) {
        self->pool = (int8_t)i;
        rs_pools = 1;
    }
    self->strategies |= strategy != NULL;
    self->timed |= strategy && strategy->expired;
    self->placed |= strategy && (strategy->expired || strategy->delegates);
}

int rs_pipeline_init(rs_pipeline *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"gates", "judges", "hand_over", NULL};
    rs_shares_stack(); /* look for greenlets before there are calls */
    PyObject *gates, *judges = Py_None, *hand_over = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|OO:Pipeline", names, &PyTuple_Type, &gates, &judges, &hand_over)
        || !are_judges(judges))
        return -1;
    if (hand_over != Py_None && !PyCallable_Check(hand_over)) {
        PyErr_Format(PyExc_TypeError, "hand_over: must be None or a function of what is held, not %R", hand_over);
        return -1;
    }
    if (self->n >= 0) {
        PyErr_SetString(PyExc_RuntimeError, "a pipeline's gates are set once: calls under way hold their places");
        return -1;
    }
    if (!are_gates(gates))
        return -1;
    Py_ssize_t n = PyTuple_GET_SIZE(gates);
    self->gate = PyMem_Malloc((size_t)(n ? n : 1) * sizeof(rs_gate *));
    if (self->gate == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->timeless = 1;
    self->pool = -1;
    self->strategies = hand_over != Py_None;
    for (Py_ssize_t i = 0; i < n; i++)
        take(self, i, (rs_gate *)PyTuple_GET_ITEM(gates, i));
    Py_XSETREF(self->judges, judges == Py_None ? NULL : Py_NewRef(judges));
    Py_XSETREF(self->hand_over, hand_over == Py_None ? NULL : Py_NewRef(hand_over));
    Py_XSETREF(self->gates, Py_NewRef(gates));
    self->n = (int)n;
    return 0;
}
