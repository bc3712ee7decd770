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
    run->around = rs_around_keep(inside->around);
    run->attempt = inside->attempt;
    run->hedge = (uint8_t)inside->hedge;
    run->lane = inside->lane;
}

void rs_run_leave(rs_run *run)
{
    if (run->ledger)
        rs_ledger_drop(&run->ledger);
    rs_route_drop(&run->route);
    rs_around_drop(&run->around);
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
    int found = rs_around_visit(run->around, visit, arg);
    if (found)
        return found;
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

/* ---- what the runs inside of a stage have in common ------------------------------------------------------------- */

rs_around *rs_around_new(rs_run *run)
{
    rs_around *around = PyMem_RawMalloc(sizeof *around);
    if (around)
        *around = (rs_around){.refs = 1, .calls = 0, .seat = Py_XNewRef((PyObject *)rs_run_seat(run))};
    return around;
}

rs_around *rs_around_keep(rs_around *around)
{
    if (around)
        __atomic_add_fetch(&around->refs, 1, __ATOMIC_RELAXED);
    return around;
}

void rs_around_drop(rs_around **of)
{
    rs_around *around = *of;
    *of = NULL;
    if (around && __atomic_sub_fetch(&around->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        Py_XDECREF(around->seat);
        PyMem_RawFree(around);
    }
}

/* For the collector. It refers once for all that share it, so it is visited only if it has one owner. */
int rs_around_visit(const rs_around *around, visitproc visit, void *arg)
{
    if (around && around->refs == 1)
        Py_VISIT(around->seat);
    return 0;
}

void rs_around_begin(rs_around *around)
{
    if (around)
        __atomic_add_fetch(&around->calls, 1, __ATOMIC_ACQ_REL);
}

void rs_around_tell(rs_around *around, int64_t until_ns)
{
    if (around && __atomic_load_n(&around->told_ns, __ATOMIC_RELAXED) < until_ns)
        __atomic_store_n(&around->told_ns, until_ns, __ATOMIC_RELAXED);
}

int rs_around_called(const rs_around *around)
{
    return around == NULL || __atomic_load_n(&around->calls, __ATOMIC_ACQUIRE) > 0;
}
