/* Kinds of gates: the strings and the class of errors of their operations as Python objects, made once. */
#include "core.h"

#define RS_KINDS 64
static rs_kind kinds[RS_KINDS];
static int n_kinds;
static PyObject *would_block, *deadline;

static int find_constants(void)
{
    if (would_block == NULL)
        would_block = PyUnicode_InternFromString("would_block");
    if (deadline == NULL)
        deadline = PyUnicode_InternFromString("deadline");
    return would_block && deadline ? 0 : -1;
}

static int fill_kind(rs_kind *kind, const rs_gate_ops *ops)
{
    Py_ssize_t n = 0;
    while (ops->reasons && ops->reasons[n])
        n++;
    PyObject *reasons = PyTuple_New(n), *error = NULL;
    kind->kind = PyUnicode_InternFromString(ops->kind);
    kind->error = Py_XNewRef(rs_hook(ops->error, &error));
    for (Py_ssize_t i = 0; reasons && i < n; i++) {
        PyObject *reason = PyUnicode_InternFromString(ops->reasons[i]);
        if (reason == NULL)
            return -1;
        PyTuple_SET_ITEM(reasons, i, reason);
    }
    kind->reasons = reasons;
    if (reasons == NULL || kind->kind == NULL || kind->error == NULL || find_constants() < 0)
        return -1;
    kind->ops = ops;
    return 0;
}

const rs_kind *rs_kind_of(const rs_gate_ops *ops)
{
    if (ops->kept)
        ops = ops->kept;
    int n = __atomic_load_n(&n_kinds, __ATOMIC_ACQUIRE);
    for (int i = 0; i < n; i++)
        if (kinds[i].ops == ops)
            return &kinds[i];
    static rs_lock lock;
    rs_kind kind = {0};
    if (fill_kind(&kind, ops) < 0)
        return NULL;
    rs_lock_acquire(&lock); /* two threads may add the same kind twice: harmless */
    n = n_kinds;
    if (n < RS_KINDS) {
        kinds[n] = kind;
        __atomic_store_n(&n_kinds, n + 1, __ATOMIC_RELEASE);
    }
    rs_lock_release(&lock);
    if (n == RS_KINDS) {
        PyErr_SetString(PyExc_RuntimeError, "too many kinds of gates");
        return NULL;
    }
    return &kinds[n];
}

PyObject *rs_reason(const rs_kind *kind, int reason)
{
    if (reason < 0 || reason >= PyTuple_GET_SIZE(kind->reasons))
        return reason == RS_OUT_OF_TIME_TO_WAIT ? deadline : would_block;
    return PyTuple_GET_ITEM(kind->reasons, reason);
}
