/* The end of a run, or of its inner part, without a call of the function: give everything back.
 *
 * Whether the function was called is one fact of an attempt. It is known where the attempt ends (rs_end). A strategy
 * keeps it on its slot while it makes another attempt, and for the runs that Python makes of its inner part all of them
 * count together (rs_around). A gate outside is cancelled if no attempt inside of it has called the function.
 */
#include "core.h"

/* This run has ended, and has not called the function. */
void rs_run_uncalled(rs_run *run)
{
    if (RS_UNLIKELY(run->around != NULL))
        __atomic_sub_fetch(&run->around->calls, 1, __ATOMIC_ACQ_REL);
}

/* Return 1 if the function was called by what has ended inside of the innermost held stage. */
int rs_run_called(rs_run *run, rs_end *end)
{
    rs_slot *slot = &run->slots[run->n - 1];
    if (RS_LIKELY(!(slot->flags & RS_OWN_WAY)))
        return end->called;
    slot->flags &= (uint8_t)~RS_OWN_WAY;
    if (slot->extra == NULL || !Py_IS_TYPE(slot->extra, &rs_InnerCallType))
        return 0; /* its awaitable or its handler has ended */
    return end->called = (uint8_t)rs_around_called(((rs_inner_head *)slot->extra)->inside.around);
}

/* ---- giving back ------------------------------------------------------------------------------------------------- */

/* Return the permit, or leave the queue. Lock held. */
static void cancel_one(rs_gate *gate, rs_slot *slot, int64_t now)
{
    if (slot->state == RS_SLOT_HELD)
        rs_gate_inflight(gate, -1);
    else
        rs_waiter_leave(slot->waiter, now - slot->admitted_ns);
    gate->counters.cancelled++;
    rs_gate_let_go(gate);
    if (RS_LIKELY(gate->ops->cancel != NULL))
        gate->ops->cancel(gate, slot, now);
    rs_gate_take_back(gate);
}

/* Give back what the stages from *floor* inward hold, innermost first. Keeps a pending exception. */
void rs_run_give_back(rs_run *run, int floor, int in_finaliser, int64_t now)
{
    int n = run->n;
    rs_run_hold(run, floor);
    for (int i = n - 1; i >= floor; i--) {
        rs_slot *slot = &run->slots[i];
        rs_gate *gate = slot->gate;
        rs_waiter *waiter = slot->waiter;
        int state = slot->state;
        slot->state = RS_SLOT_EMPTY;
        slot->waiter = NULL;
        if (run->epoch == rs_epoch && (state == RS_SLOT_HELD || state == RS_SLOT_WAITING)) {
            slot->waiter = waiter;
            slot->state = (uint8_t)state;
            rs_gate_lock(gate);
            if (RS_LIKELY(state == RS_SLOT_HELD || waiter->waiting))
                cancel_one(gate, slot, now);
            rs_gate_unlock(gate);
            slot->state = RS_SLOT_EMPTY;
            slot->waiter = NULL;
            if (rs_gate_has_news(gate, 0))
                rs_gate_deliver(gate, NULL, in_finaliser);
        }
        else if (run->epoch == rs_epoch && state == RS_SLOT_SHADOW) {
            rs_gate_lock(gate);
            gate->counters.cancelled++;
            rs_gate_unlock(gate);
        }
        Py_XDECREF((PyObject *)waiter);
        rs_slot_leave(slot);
    }
}

/* The same at the end of the run, or of what its nearest strategy runs: the function was not called. */
void rs_run_cancel(rs_run *run, int floor, int in_finaliser, int64_t now)
{
    if (RS_UNLIKELY(run->ledger != NULL))
        rs_ledger_uncalled(run, floor, now);
    rs_run_give_back(run, floor, in_finaliser, now);
    if (floor == run->base)
        rs_run_uncalled(run);
}
