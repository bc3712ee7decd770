/* Admission: ask the gates in order, all or nothing. If one returns WAIT, wait.c goes on. */
#include "core.h"

uint32_t rs_epoch = 1;

/* Record a wait or a rejection. *final*: the gate is not asked again. Lock held. */
static RS_APART void note_not_admitted(rs_gate *gate, rs_slot *slot, int verdict, int final, uint32_t credit,
                                       rs_rejection *why)
{
    if (verdict == RS_WAIT) {
        gate->counters.calls++;
        gate->counters.queued++;
        slot->state = RS_SLOT_WAITING;
        rs_waiter_enter(slot->waiter, gate);
    }
    else if (final) {
        gate->counters.calls++;
        rs_gate_count_rejection(gate, why);
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
            rs_gate_inflight(gate, 1);
    }
    else
        note_not_admitted(gate, slot, verdict, final, credit, why);
    rs_gate_unlock(gate);
    return verdict;
}

/* Ask with a waiter, after the gate rejected to admit at once. So a call that need not wait allocates nothing. */
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

/* The gate at *at* has rejected the call: cancel the gates before it up to the nearest strategy, and report it. */
RS_APART int rs_run_reject(rs_run *run, int at, int64_t now, const rs_rejection *why)
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
    rs_gate_count_rejection(gate, why);
    rs_gate_unlock(gate);
    return rs_run_reject(run, at, now, why);
}

/* The same with no gate between the last strategy and the function. Returns -1. */
static RS_APART int raise_late(rs_run *run)
{
    if (run->n == run->base)
        rs_run_uncalled(run);
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
    rs_gate_inflight(gate, 1);
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

/* The gate of a stage for this call. NULL: all endpoints of the pool have rejected it. */
static RS_APART rs_gate *resolve(rs_run *run, int at, const rs_request *request, int64_t now, rs_elsewhere *away)
{
    rs_gate *stage = run->pipe->gate[at];
    rs_gate *gate = stage->span ? rs_run_choose(run, at, request, now, away)
                                : stage->ops->resolve(stage, request, rs_run_before(run, at));
    if (gate && gate != stage)
        run->slots[at].flags = RS_RESOLVED;
    return gate;
}

/* Return 1 if the pool of the stage at *at* may have an endpoint that admits the call at once. */
static inline int another_first(const rs_run *run, int at, const rs_elsewhere *away)
{
    int stage = away->choice.stage;
    return RS_UNLIKELY(stage >= 0) && !away->choice.waits && at < stage + run->pipe->gate[stage]->span;
}

static inline void begin_slot(rs_slot *slot, rs_gate *gate, int64_t now)
{
    slot->gate = gate;
    slot->waiter = NULL;
    slot->extra = NULL;
    slot->first_ns = 0;
    slot->admitted_ns = now;
    slot->wake_ns = RS_NEVER;
}

/* Ask the gates from *first* on. *now* = 0: read the clock, if any of them needs it. ADMITTED: all hold. WAIT:
   run->cursor waits, those before it hold. REJECTED: none inside the nearest strategy holds. DELEGATE: Python runs the
   strategy at run->cursor, which holds. -1: an exception in place of a rejection. */
static inline __attribute__((always_inline)) int admit_stages(rs_run *run, const rs_request *request, int first,
                                                              int may_wait, int64_t now, rs_rejection *why,
                                                              rs_elsewhere *away)
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
            gate = resolve(run, i, request, now, away);
            if (RS_UNLIKELY(gate == NULL))
                return rs_run_all_rejected(run, now, why, away);
            ops = gate->ops;
        }
        begin_slot(slot, gate, now);
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
        if (RS_UNLIKELY(verdict == RS_REJECTED && queue) && !another_first(run, i, away))
            verdict = ask_to_wait(gate, slot, request, deadline, now, why);
        rs_run_hold(run, i + 1);
        if (RS_UNLIKELY(verdict == RS_REJECTED)) {
            if (!rs_run_go_elsewhere(run, i, request, may_wait, now, why, away))
                return rs_run_reject(run, i, now, why);
            i = away->choice.stage - 1;
            continue;
        }
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
        return raise_late(run);
    return RS_ADMITTED;
}

int rs_run_admit(rs_run *run, const rs_request *request, int first, int may_wait, int64_t now, rs_rejection *why)
{
    rs_elsewhere away;
    away.choice.stage = -1;
    int verdict = admit_stages(run, request, first, may_wait, now, why, &away);
    if (RS_UNLIKELY(away.choice.stage >= 0))
        rs_elsewhere_end(&away);
    return verdict;
}

/* A gate has rejected the call after a wait. 1: it is one of a pool, whose other endpoints have been asked, and must admit
   the call at once. */
RS_APART int rs_run_admit_elsewhere(rs_run *run, int at, const rs_request *request, int64_t now, rs_rejection *why,
                                    int *verdict)
{
    rs_elsewhere away;
    away.choice.stage = -1;
    if (!rs_run_go_elsewhere(run, at, request, 0, now, why, &away))
        return 0;
    *verdict = admit_stages(run, request, away.choice.stage, 0, now, why, &away);
    rs_elsewhere_end(&away);
    return 1;
}
