/* The slots of a run. */
#include "core.h"

rs_slot *rs_slots_new(const rs_pipeline *pipe)
{
    if (pipe->n < 0) {
        PyErr_SetString(PyExc_RuntimeError, "this pipeline has no gates yet: its __init__ has not run");
        return NULL;
    }
    rs_slot *slots = PyMem_Malloc((size_t)pipe->n * sizeof(rs_slot));
    if (slots == NULL)
        PyErr_NoMemory();
    return slots;
}

/* The first stage to cancel with the one at *at*: all gates up to the nearest outer strategy,
   which receives the rejection. */
int rs_run_floor(const rs_run *run, int at)
{
    if (RS_UNLIKELY(run->pipe->strategies))
        for (; at > run->base; at--)
            if (run->slots[at - 1].gate->ops->strategy)
                return at;
    return run->base;
}

void rs_slot_leave_slowly(rs_slot *slot)
{
    PyObject *type, *value, *traceback, *extra = slot->extra;
    const rs_gate_ops *ops = slot->gate->ops;
    void (*leave)(rs_gate *, rs_slot *) = ops->strategy ? ops->strategy->leave : ops->leave;
    PyErr_Fetch(&type, &value, &traceback);
    if ((extra || slot->flags & RS_TO_UNDO) && leave)
        leave(slot->gate, slot);
    slot->extra = NULL;
    Py_XDECREF(extra);
    int owned = slot->flags & RS_RESOLVED;
    slot->flags = 0;
    if (owned)
        Py_DECREF(slot->gate->keeper ? slot->gate->keeper : (PyObject *)slot->gate);
    PyErr_Restore(type, value, traceback);
}
