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

void rs_run_enter(rs_run *run, const rs_inside *inside)
{
    run->inside = 1;
    run->ledger = rs_ledger_keep(inside->ledger);
    run->route = rs_route_keep(inside->route);
    run->seat = Py_XNewRef(inside->seat);
    run->attempt = inside->attempt;
    run->hedge = (uint8_t)inside->hedge;
    run->lane = inside->lane;
}

void rs_run_leave(rs_run *run)
{
    if (run->ledger)
        rs_ledger_drop(&run->ledger);
    rs_route_drop(&run->route);
    Py_CLEAR(run->seat);
}

/* For the collector: what a run owns. A route that several runs share is not visited, since it refers once for all. */
int rs_run_visit(const rs_run *run, visitproc visit, void *arg)
{
    for (int i = run->base; i < run->n; i++) {
        const rs_slot *slot = &run->slots[i];
        Py_VISIT(slot->extra);
        if (slot->flags & RS_RESOLVED)
            Py_VISIT(rs_keeper_of(slot->gate));
    }
    Py_VISIT(run->seat);
    if (run->route && run->route->refs == 1)
        Py_VISIT((PyObject *)run->route->pool);
    return 0;
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
        Py_DECREF(rs_keeper_of(slot->gate));
    PyErr_Restore(type, value, traceback);
}
