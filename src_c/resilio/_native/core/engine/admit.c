/* Admission: ask the gates in order, all or nothing; wait if one returns WAIT. */
#include "core.h"

uint32_t rs_epoch = 1;
static PyObject *backend_park_sync;

/* Record a wait or a rejection. *final*: the gate is not asked again. Lock held. */
static RS_APART void note_not_admitted(rs_gate *gate, rs_slot *slot, int verdict, int final, uint32_t credit,
                                       const rs_rejection *why)
{
    if (verdict == RS_WAIT) {
        gate->counters.calls++;
        gate->counters.queued++;
        slot->state = RS_SLOT_WAITING;
        rs_waiter_enter(slot->waiter, gate);
    }
    else if (final) {
        gate->counters.calls++;
        rs_gate_count_rejection(gate, why->reason);
        slot->state = RS_SLOT_EMPTY;
    }
    else {
        gate->enforce_credit = credit; /* the second question must get the same share */
        slot->state = RS_SLOT_EMPTY;
    }
}

static inline int ask(rs_gate *gate, rs_slot *slot, const rs_request *request, int final, int64_t now,
                      rs_rejection *why)
{
    slot->state = RS_SLOT_HELD;
    rs_gate_lock(gate);
    uint32_t credit = gate->enforce_credit;
    rs_gate_let_go(gate);
    int verdict = gate->ops->admit(gate, slot, request, now, why);
    rs_gate_take_back(gate);
    if (RS_LIKELY(verdict == RS_ADMITTED)) {
        gate->counters.calls++;
        /* A branch is predicted; a sum would wait for the state to be read back. */
        if (RS_LIKELY(slot->state == RS_SLOT_HELD))
            gate->counters.inflight++;
    }
    else
        note_not_admitted(gate, slot, verdict, final, credit, why);
    rs_gate_unlock(gate);
    return verdict;
}

/* Ask with a waiter, after the gate rejected to admit at once. */
static RS_APART int ask_to_wait(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t deadline, int64_t now,
                                rs_rejection *why)
{
    rs_request waiting = *request;
    waiting.waiter = rs_waiter_new();
    waiting.deadline_ns = deadline == RS_NEVER ? 0 : deadline;
    if (waiting.waiter == NULL) {
        PyErr_Clear(); /* no memory to wait with: the rejection stands */
        return ask(gate, slot, request, 1, now, why);
    }
    slot->waiter = waiting.waiter;
    slot->waiter->expires_ns = waiting.deadline_ns;
    int verdict = ask(gate, slot, &waiting, 1, now, why);
    if (verdict != RS_WAIT)
        Py_CLEAR(slot->waiter);
    return verdict;
}

/* The rejection of the gate at the cursor has been reported: drop the gate that was resolved for this call alone. */
void rs_run_forget_rejected(rs_run *run) { rs_slot_leave(&run->slots[run->cursor]); }

static RS_APART int reject(rs_run *run, int at, int64_t now, const rs_rejection *why)
{
    rs_gate *gate = run->slots[at].gate;
    run->cursor = (int16_t)at;
    if (RS_UNLIKELY(run->ledger != NULL))
        rs_ledger_uncalled(run, rs_run_floor(run, at), now);
    rs_run_hold(run, at);
    rs_run_cancel(run, rs_run_floor(run, at), 0, now);
    if (rs_gate_has_news(gate, 0))
        rs_gate_deliver(gate, NULL, 0);
    if (RS_UNLIKELY(gate->listening & RS_LISTEN_REJECTED))
        rs_notify_rejected(gate, why);
    return RS_REJECTED;
}

/* Reject because the deadline has passed, without asking the gate at *at*. Not for a gate in shadow
   mode, which rejects nothing. */
static RS_APART int reject_late(rs_run *run, int at, int64_t now, rs_rejection *why)
{
    rs_gate *gate = run->slots[at].gate;
    *why = (rs_rejection){RS_OUT_OF_TIME_TO_WAIT, NAN, 0.0, -1};
    run->slots[at].state = RS_SLOT_EMPTY;
    rs_gate_lock(gate);
    gate->counters.calls++;
    rs_gate_count_rejection(gate, why->reason);
    rs_gate_unlock(gate);
    return reject(run, at, now, why);
}

/* The same with no gate between the last strategy and the function. Returns -1. */
static RS_APART int raise_late(void)
{
    static PyObject *class;
    PyObject *args[2] = {rs_deadline_allowed(), PyFloat_FromDouble(0.0)}, *error = NULL;
    if (args[0] && args[1] && rs_hook("DeadlineExceededError", &class))
        error = PyObject_Vectorcall(class, args, 2, NULL);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    Py_XDECREF(error);
    return -1;
}

/* Enter a strategy, which neither waits nor rejects. 1: Python must run it. */
static inline int enter_strategy(rs_run *run, int at, const rs_request *request, int64_t now)
{
    rs_slot *slot = &run->slots[at];
    rs_gate *gate = slot->gate;
    const rs_gate_ops *ops = gate->ops;
    slot->strategy.before = (uint32_t)(at - run->base);
    slot->strategy.deadline_ns = run->deadline_ns;
    if (ops->prepare)
        ops->prepare(gate, slot, request);
    slot->state = RS_SLOT_HELD;
    rs_gate_lock(gate);
    gate->counters.calls++;
    gate->counters.inflight++;
    if (ops->admit)
        ops->admit(gate, slot, request, now, NULL);
    rs_gate_unlock(gate);
    rs_run_hold(run, at + 1);
    if (RS_LIKELY(run->place == RS_ON_ASYNCIO || ops->strategy->delegates == NULL
                  || !ops->strategy->delegates(gate, slot, run->place)))
        return 0;
    run->cursor = (int16_t)at;
    return 1;
}

/* Return 1 if the deadline has passed, and no gate between the last strategy and the function could reject the call. */
static int too_late(const rs_run *run, int first, int64_t now, int64_t deadline)
{
    const rs_pipeline *pipe = run->pipe;
    return (now ? now : rs_clock_now(rs_clk)) >= deadline
           && (first == pipe->n || run->slots[pipe->n - 1].gate->ops->strategy);
}

/* Ask the gates from *first* on. *now* = 0: read the clock, if any of them needs it. ADMITTED: all hold. WAIT:
   run->cursor waits, those before it hold. REJECTED: none inside the nearest strategy holds. DELEGATE: Python runs the
   strategy at run->cursor, which holds. -1: an exception in place of a rejection. */
int rs_run_admit(rs_run *run, const rs_request *request, int first, int may_wait, int64_t now, rs_rejection *why)
{
    rs_pipeline *pipe = run->pipe;
    int64_t deadline = run->deadline_ns = Py_MIN(run->deadline_ns, rs_deadline_ns());
    run->detached = rs_detached;
    if (RS_LIKELY(now == 0 && (!pipe->timeless || deadline != RS_NEVER || run->ledger)))
        now = rs_clock_now(rs_clk);
    for (int i = first; i < pipe->n; i++) {
        rs_gate *gate = pipe->gate[i];
        rs_slot *slot = &run->slots[i];
        const rs_gate_ops *ops = gate->ops;
        slot->flags = 0;
        if (RS_UNLIKELY(ops->resolve != NULL)) {
            gate = ops->resolve(gate, request, i > run->base ? run->slots[i - 1].gate : NULL);
            ops = gate->ops;
            slot->flags = RS_RESOLVED;
        }
        slot->gate = gate;
        slot->waiter = NULL;
        slot->extra = NULL;
        slot->first_ns = 0;
        slot->admitted_ns = now;
        slot->wake_ns = RS_NEVER;
        if (ops->strategy) {
            if (RS_UNLIKELY(run->ledger != NULL && ops->segment == RS_HEDGE))
                rs_ledger_save(run, i, now);
            int delegates = enter_strategy(run, i, request, now);
            if (ops->strategy->sets_deadline)
                deadline = run->deadline_ns = slot->wake_ns = Py_MIN(deadline, slot->wake_ns);
            if (RS_UNLIKELY(delegates)) {
                rs_ledger_go(run, RS_ATTEMPT, now);
                return RS_DELEGATE;
            }
            continue;
        }
        if (RS_UNLIKELY(now >= deadline) && gate->enforce_share)
            return reject_late(run, i, now, why);
        if (ops->prepare)
            ops->prepare(gate, slot, request);
        int queue = may_wait && ops->poll != NULL && !request->hedge;
        int verdict = ask(gate, slot, request, !queue, now, why);
        if (RS_UNLIKELY(verdict == RS_REJECTED && queue))
            verdict = ask_to_wait(gate, slot, request, deadline, now, why);
        rs_run_hold(run, i + 1);
        if (RS_UNLIKELY(verdict == RS_REJECTED))
            return reject(run, i, now, why);
        if (rs_gate_has_news(gate, 0))
            rs_gate_deliver(gate, NULL, 0);
        if (RS_UNLIKELY(verdict == RS_WAIT)) {
            run->cursor = (int16_t)i;
            slot->wake_ns = Py_MIN(slot->wake_ns, deadline);
            rs_ledger_begin(run);
            rs_ledger_go(run, ops->segment ? ops->segment : RS_QUEUE, now);
            return RS_WAIT;
        }
    }
    rs_run_hold(run, pipe->n);
    if (RS_UNLIKELY(run->ledger != NULL))
        rs_ledger_go(run, RS_ATTEMPT, now);
    if (RS_UNLIKELY(deadline != RS_NEVER) && too_late(run, first, now, deadline))
        return raise_late();
    return RS_ADMITTED;
}

/* After a wait at *waited*, ask the gates before it again, up to the next strategy: their state may have changed. */
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
            gate->counters.inflight--;
            rs_gate_count_rejection(gate, why->reason);
            slot->state = RS_SLOT_EMPTY;
        }
        else if (slot->state == RS_SLOT_SHADOW)
            gate->counters.inflight--;
        rs_gate_unlock(gate);
        if (verdict == RS_REJECTED) {
            uint8_t flags = slot->flags; /* the gate is still needed for its rejection */
            run->cursor = (int16_t)i;
            slot->flags = 0;
            rs_run_cancel(run, rs_run_floor(run, waited), 0, now);
            slot->flags = flags;
            rs_gate_deliver(gate, NULL, 0);
            if (gate->listening & RS_LISTEN_REJECTED)
                rs_notify_rejected(gate, why);
            return RS_REJECTED;
        }
        if (rs_gate_has_news(gate, 0))
            rs_gate_deliver(gate, NULL, 0);
    }
    return RS_ADMITTED;
}

/* Return 1 if it is too late for the call at the cursor, granted or not. Lock held. A grantor in another thread
   may be ahead by a few ns. */
static int is_late(const rs_run *run, const rs_slot *slot, int64_t now)
{
    return now >= run->deadline_ns || (slot->waiter->state == RS_WAITER_REJECTED && slot->waiter->reason == RS_EXPIRED);
}

/* End the wait at the cursor with a rejection that is not the gate's. Lock held, released here. */
static int end_wait(rs_run *run, int64_t now, const rs_rejection *why)
{
    int at = run->cursor;
    rs_slot *slot = &run->slots[at];
    rs_gate *gate = slot->gate;
    rs_waiter_leave(slot->waiter, now - slot->admitted_ns);
    rs_gate_count_rejection(gate, why->reason);
    gate->ops->cancel(gate, slot, now);
    rs_gate_unlock(gate);
    slot->state = RS_SLOT_EMPTY;
    Py_CLEAR(slot->waiter);
    return reject(run, at, now, why);
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
            gate->counters.inflight++;
            slot->state = RS_SLOT_HELD;
            slot->admitted_ns = now;
        }
        else {
            rs_gate_count_rejection(gate, why->reason);
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
        return reject(run, i, now, why);
    if (rs_gate_has_news(gate, 0))
        rs_gate_deliver(gate, NULL, 0);
    if (recheck(run, i, now, why) == RS_REJECTED)
        return RS_REJECTED;
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
