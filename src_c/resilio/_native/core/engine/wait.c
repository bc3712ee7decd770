/* A wait for a gate: resume a call after it, or block a thread for it; end it without an admission. */
#include "core.h"

static PyObject *backend_park_sync;

static int reject_after_wait(rs_run *run, int at, const rs_request *request, int64_t now, rs_rejection *why)
{
    int verdict;
    return rs_run_admit_elsewhere(run, at, request, now, why, &verdict) ? verdict : rs_run_reject(run, at, now, why);
}

/* The gate at *at*, which had admitted the call, rejects it after its wait at *waited*. */
static int reject_rechecked(rs_run *run, int at, int waited, const rs_request *request, int64_t now, rs_rejection *why)
{
    int verdict;
    if (rs_run_admit_elsewhere(run, at, request, now, why, &verdict))
        return verdict;
    rs_slot *slot = &run->slots[at];
    rs_gate *gate = slot->gate;
    uint8_t flags = slot->flags; /* the gate is still needed for its rejection */
    run->cursor = (int16_t)at;
    slot->flags = 0;
    rs_run_cancel(run, rs_run_floor(run, waited), 0, now);
    slot->flags = flags;
    rs_gate_deliver(gate, NULL, 0);
    if (gate->listening & RS_LISTEN_REJECTED)
        rs_notify_rejected(gate, why);
    return RS_REJECTED;
}

/* After a wait at *waited*, ask the gates before it again, up to the next strategy: their state may have changed. The
   index of the one that rejects, or -1. */
static int recheck(rs_run *run, int waited, int64_t now, rs_rejection *why)
{
    for (int i = rs_run_floor(run, waited); i < waited; i++) {
        rs_gate *gate = run->slots[i].gate;
        rs_slot *slot = &run->slots[i];
        if (gate->ops->recheck == NULL || slot->state != RS_SLOT_HELD)
            continue;
        rs_gate_lock(gate);
        int verdict = gate->ops->recheck(gate, slot, now, why);
        if (verdict == RS_REJECTED) {
            rs_gate_inflight(gate, -1);
            rs_gate_count_rejection(gate, why);
            slot->state = RS_SLOT_EMPTY;
        }
        else if (slot->state == RS_SLOT_SHADOW)
            rs_gate_inflight(gate, -1);
        rs_gate_unlock(gate);
        if (verdict == RS_REJECTED)
            return i;
        if (rs_gate_has_news(gate, 0))
            rs_gate_deliver(gate, NULL, 0);
    }
    return -1;
}

/* Return 1 if it is too late for the call at the cursor, granted or not. Lock held. A grantor in another thread
   may be ahead by a few ns. */
static int is_late(const rs_run *run, const rs_slot *slot, int64_t now)
{
    return now >= run->deadline_ns || (slot->waiter->state == RS_WAITER_REJECTED && slot->waiter->reason == RS_EXPIRED);
}

/* End the wait at the cursor with a rejection that is not the gate's. Lock held, released here. */
static int end_wait(rs_run *run, int64_t now, rs_rejection *why)
{
    int at = run->cursor;
    rs_slot *slot = &run->slots[at];
    rs_gate *gate = slot->gate;
    rs_waiter_leave(slot->waiter, now - slot->admitted_ns);
    rs_gate_count_rejection(gate, why);
    gate->ops->cancel(gate, slot, now);
    rs_gate_unlock(gate);
    slot->state = RS_SLOT_EMPTY;
    Py_CLEAR(slot->waiter);
    return rs_run_reject(run, at, now, why);
}

/* Reject because the place in the queue is lost, and with it the permits of the gates outside it. */
static int reject_lost(rs_run *run, int64_t now, rs_rejection *why)
{
    *why = (rs_rejection){RS_WOULD_BLOCK, NAN, NAN, -1};
    rs_run_cancel(run, rs_run_floor(run, run->cursor), 0, now);
    return RS_REJECTED;
}

/* After a wake-up or the timer: poll the waiting gate, and continue if it admits. */
int rs_run_resume(rs_run *run, const rs_request *request, int64_t now, rs_rejection *why)
{
    int i = run->cursor;
    rs_gate *gate = run->slots[i].gate;
    rs_slot *slot = &run->slots[i];
    if (run->epoch != rs_epoch) /* forked meanwhile: the queue is gone */
        return reject_lost(run, now, why);
    __atomic_store_n(&slot->waiter->notified, 0, __ATOMIC_RELEASE);
    rs_gate_lock(gate);
    if (RS_UNLIKELY(!slot->waiter->waiting)) { /* resumed by hand after its loop was closed: its place is gone */
        rs_gate_unlock(gate);
        return reject_lost(run, now, why);
    }
    if (RS_UNLIKELY(is_late(run, slot, now))) {
        *why = (rs_rejection){RS_OUT_OF_TIME_TO_WAIT, NAN, 0.0, -1};
        return end_wait(run, now, why);
    }
    int verdict = gate->ops->poll(gate, slot, now, why);
    if (verdict != RS_WAIT) {
        rs_waiter_leave(slot->waiter, now - slot->admitted_ns);
        if (verdict == RS_ADMITTED) {
            rs_gate_inflight(gate, 1);
            slot->state = RS_SLOT_HELD;
            slot->admitted_ns = now;
        }
        else {
            rs_gate_count_rejection(gate, why);
            slot->state = RS_SLOT_EMPTY;
        }
    }
    rs_gate_unlock(gate);
    if (verdict == RS_WAIT) {
        slot->wake_ns = Py_MIN(slot->wake_ns, run->deadline_ns);
        if (gate->woken)
            rs_gate_deliver(gate, NULL, 0);
        return RS_WAIT;
    }
    Py_CLEAR(slot->waiter);
    if (verdict == RS_REJECTED)
        return reject_after_wait(run, i, request, now, why);
    if (rs_gate_has_news(gate, 0))
        rs_gate_deliver(gate, NULL, 0);
    int at = recheck(run, i, now, why);
    if (at >= 0)
        return reject_rechecked(run, at, i, request, now, why);
    return rs_run_admit(run, request, i + 1, 1, now, why);
}

/* Reject instead of blocking: the blocked event loop would have to release the permit. */
static int reject_to_block(rs_run *run, int64_t now, rs_rejection *why)
{
    static PyObject *hook;
    rs_gate *gate = run->slots[run->cursor].gate;
    *why = (rs_rejection){RS_WOULD_BLOCK, NAN, NAN, -1};
    if (rs_hook("warn_rejection", &hook))
        Py_XDECREF(PyObject_CallOneArg(hook, (PyObject *)gate));
    if (PyErr_Occurred())
        rs_drop_error();
    rs_gate_lock(gate);
    return end_wait(run, now, why);
}

/* Block this thread until the waiting gate decides. Return a verdict, or -1 with an exception and nothing held
   inside the nearest strategy. */
int rs_run_wait_sync(rs_run *run, const rs_request *request, rs_rejection *why)
{
    int verdict = RS_WAIT, blocks = rs_may_block();
    if (blocks < 0) {
        rs_run_cancel(run, rs_run_floor(run, run->cursor), 0, rs_clock_now(rs_clk));
        return -1;
    }
    if (!blocks)
        return reject_to_block(run, rs_clock_now(rs_clk), why);
    while (verdict == RS_WAIT) {
        rs_slot *slot = &run->slots[run->cursor];
        int64_t now = rs_clock_now(rs_clk), poll_at = rs_no_wait_count ? rs_wait_now(run) : now;
        if (poll_at > now) { /* testing.no_wait(): as if that time had passed */
            verdict = rs_run_resume(run, request, poll_at, why);
            continue;
        }
        PyObject *hook = rs_hook("park_sync", &backend_park_sync);
        PyObject *seconds = slot->wake_ns == RS_NEVER
                                ? Py_NewRef(Py_None)
                                : PyFloat_FromDouble((double)Py_MAX(slot->wake_ns - now, 0) / 1e9);
        PyObject *args[2] = {(PyObject *)slot->waiter, seconds};
        PyObject *done = hook && seconds ? PyObject_Vectorcall(hook, args, 2, NULL) : NULL;
        Py_XDECREF(seconds);
        if (done == NULL) { /* KeyboardInterrupt, usually */
            rs_run_cancel(run, rs_run_floor(run, run->cursor), 0, rs_clock_now(rs_clk));
            return -1;
        }
        Py_DECREF(done);
        verdict = rs_run_resume(run, request, rs_wait_now(run), why);
    }
    return verdict;
}
