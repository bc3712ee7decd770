/* The engine: admit a call through the gates all or nothing, settle it exactly once. */
#include "core.h"

uint32_t rs_epoch = 1;
static PyObject *events_deliver, *events_rejected, *events_settled, *backend_park_sync, *backend_can_block;
static PyObject *context_bypass, *context_no_wait;
int rs_bypass_count, rs_no_wait_count;

/* ---- outside the lock: wake-ups and events ------------------------------------------------------------------ */

static void wake_all(rs_gate *gate)
{
    rs_lock_acquire(&gate->lock);
    rs_waiter *waiter = gate->woken;
    gate->woken = NULL;
    rs_lock_release(&gate->lock);
    while (waiter) {
        rs_waiter *next = waiter->next_woken;
        waiter->next_woken = NULL;
        waiter->woken = 0;
        rs_waiter_wake(waiter);
        Py_DECREF((PyObject *)waiter);
        waiter = next;
    }
}

static void call_hook(PyObject *hook, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = hook ? PyObject_Vectorcall(hook, args, nargs, NULL) : NULL;
    if (result == NULL && PyErr_Occurred())
        PyErr_WriteUnraisable(hook);
    Py_XDECREF(result);
}

static void deliver_changes(rs_gate *gate)
{
    PyObject *args[1] = {(PyObject *)gate};
    call_hook(rs_python("resilio.events", "deliver", &events_deliver), args, 1);
}

static int deliver_later(void *gate)
{
    deliver_changes(gate);
    Py_DECREF((PyObject *)gate);
    return 0;
}

static int finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Deliver what the gate recorded under its lock. *in_finaliser*: user code must not run now, so listeners are called later. */
static void outside(rs_gate *gate, PyObject *error, int in_finaliser)
{
    if (finalizing())
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (gate->woken)
        wake_all(gate);
    if (gate->changes) {
        if (error && gate->on_trip) {
            PyObject *args[2] = {(PyObject *)gate, error};
            call_hook(gate->on_trip, args, 2);
        }
        if (!in_finaliser)
            deliver_changes(gate);
        else {
            Py_INCREF((PyObject *)gate);
            if (Py_AddPendingCall(deliver_later, gate) < 0)     /* full: the next change delivers this one too */
                Py_DECREF((PyObject *)gate);
        }
    }
    PyErr_Restore(type, value, traceback);
}

static PyObject *number(double value)
{
    return isnan(value) ? Py_NewRef(Py_None) : PyFloat_FromDouble(value);
}

static void tell_rejected(rs_gate *gate, const rs_refusal *why)
{
    const rs_kind *kind = rs_kind_of(gate->ops);
    PyObject *args[5] = {(PyObject *)gate, kind ? rs_reason(kind, why->reason) : Py_None, number(why->measured), number(why->limit),
                         why->retry_after_ns > 0 ? PyFloat_FromDouble((double)why->retry_after_ns * 1e-9) : Py_NewRef(Py_None)};
    if (args[2] && args[3] && args[4])
        call_hook(rs_python("resilio.events", "rejected", &events_rejected), args, 5);
    PyErr_Clear();
    for (int i = 2; i < 5; i++)
        Py_XDECREF(args[i]);
}

static void tell_settled(rs_gate *gate, int outcome, int64_t latency_ns)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *code = PyLong_FromLong(outcome), *seconds = PyFloat_FromDouble((double)latency_ns * 1e-9);
    PyObject *args[3] = {(PyObject *)gate, code, seconds};
    if (code && seconds)
        call_hook(rs_python("resilio.events", "settled", &events_settled), args, 3);
    Py_XDECREF(code);
    Py_XDECREF(seconds);
    PyErr_Restore(type, value, traceback);
}

/* ---- admission ---------------------------------------------------------------------------------------------- */

#define LOCK(gate) do { if (RS_LIKELY(!(gate)->ops->python)) rs_lock_acquire(&(gate)->lock); } while (0)
#define UNLOCK(gate) do { if (RS_LIKELY(!(gate)->ops->python)) rs_lock_release(&(gate)->lock); } while (0)

static inline int ask(rs_gate *gate, rs_slot *slot, const rs_request *request, int final, int64_t now, rs_refusal *why)
{
    slot->state = RS_SLOT_HELD;
    LOCK(gate);
    uint32_t credit = gate->enforce_credit;
    int verdict = gate->ops->admit(gate, slot, request, now, why);
    if (RS_LIKELY(verdict == RS_ADMITTED)) {
        gate->counters.calls++;
        if (RS_LIKELY(slot->state == RS_SLOT_HELD))
            gate->counters.inflight++;
    }
    else if (verdict == RS_WAIT) {
        gate->counters.calls++;
        gate->counters.queued++;
        slot->state = RS_SLOT_WAITING;
    }
    else if (final) {
        gate->counters.calls++;
        gate->counters.rejected++;
        slot->state = RS_SLOT_EMPTY;
    }
    else {
        gate->enforce_credit = credit;      /* the second question must get the same share */
        slot->state = RS_SLOT_EMPTY;
    }
    UNLOCK(gate);
    return verdict;
}

/* Ask with a waiter, now that the gate refused to admit at once. */
static int ask_to_wait(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now, rs_refusal *why)
{
    rs_request waiting = *request;
    waiting.waiter = rs_waiter_new();
    if (waiting.waiter == NULL) {
        PyErr_Clear();                      /* no memory to wait with: the refusal stands */
        return ask(gate, slot, request, 1, now, why);
    }
    slot->waiter = waiting.waiter;
    int verdict = ask(gate, slot, &waiting, 1, now, why);
    if (verdict != RS_WAIT)
        Py_CLEAR(slot->waiter);
    return verdict;
}

static int refuse(rs_run *run, int at, int64_t now, const rs_refusal *why)
{
    rs_gate *gate = run->pipe->gate[at];
    run->cursor = (int16_t)at;
    run->n = (int16_t)at;
    rs_run_cancel(run, now);
    if (RS_UNLIKELY(gate->changes || gate->woken))
        outside(gate, NULL, 0);
    if (RS_UNLIKELY(gate->listening & RS_LISTEN_REJECTED))
        tell_rejected(gate, why);
    return RS_REJECTED;
}

/* Ask the gates from *first* on. ADMITTED: all hold. WAIT: run->cursor waits, those before it hold. REJECTED: none holds. */
int rs_run_admit(rs_run *run, const rs_request *request, int first, int may_wait, int64_t now, rs_refusal *why)
{
    rs_pipeline *pipe = run->pipe;
    for (int i = first; i < pipe->n; i++) {
        rs_gate *gate = pipe->gate[i];
        rs_slot *slot = &run->slots[i];
        slot->waiter = NULL;
        slot->first_ns = 0;
        slot->admitted_ns = now;
        slot->wake_ns = RS_NEVER;
        if (gate->ops->prepare)
            gate->ops->prepare(gate, slot, request);
        int queue = may_wait && gate->ops->poll != NULL;
        int verdict = ask(gate, slot, request, !queue, now, why);
        if (RS_UNLIKELY(verdict == RS_REJECTED && queue))
            verdict = ask_to_wait(gate, slot, request, now, why);
        run->n = (int16_t)(i + 1);
        if (RS_UNLIKELY(verdict == RS_REJECTED))
            return refuse(run, i, now, why);
        if (RS_UNLIKELY(gate->changes || gate->woken))
            outside(gate, NULL, 0);
        if (RS_UNLIKELY(verdict == RS_WAIT)) {
            run->cursor = (int16_t)i;
            return RS_WAIT;
        }
    }
    run->n = (int16_t)pipe->n;
    return RS_ADMITTED;
}

/* After a wait at *waited* the gates before it are asked again: the world may have changed meanwhile. */
static int recheck(rs_run *run, int waited, int64_t now, rs_refusal *why)
{
    for (int i = 0; i < waited; i++) {
        rs_gate *gate = run->pipe->gate[i];
        rs_slot *slot = &run->slots[i];
        if (gate->ops->recheck == NULL || slot->state != RS_SLOT_HELD)
            continue;
        LOCK(gate);
        int verdict = gate->ops->recheck(gate, slot, now, why);
        if (verdict == RS_REJECTED) {
            gate->counters.inflight--;
            gate->counters.rejected++;
            slot->state = RS_SLOT_EMPTY;
        }
        else if (slot->state == RS_SLOT_SHADOW)
            gate->counters.inflight--;
        UNLOCK(gate);
        if (verdict == RS_REJECTED) {
            run->cursor = (int16_t)i;
            rs_run_cancel(run, now);
            outside(gate, NULL, 0);
            if (gate->listening & RS_LISTEN_REJECTED)
                tell_rejected(gate, why);
            return RS_REJECTED;
        }
        if (gate->changes || gate->woken)
            outside(gate, NULL, 0);
    }
    return RS_ADMITTED;
}

/* A wake-up or the timer: poll the gate that waits, and go on if it admits. */
int rs_run_resume(rs_run *run, const rs_request *request, int64_t now, rs_refusal *why)
{
    int i = run->cursor;
    rs_gate *gate = run->pipe->gate[i];
    rs_slot *slot = &run->slots[i];
    if (run->epoch != rs_epoch) {               /* forked meanwhile: the queue is gone */
        *why = (rs_refusal){-1, NAN, NAN, -1};
        rs_run_cancel(run, now);
        return RS_REJECTED;
    }
    slot->waiter->notified = 0;
    LOCK(gate);
    int verdict = gate->ops->poll(gate, slot, now, why);
    if (verdict != RS_WAIT) {
        gate->counters.queued--;
        if (verdict == RS_ADMITTED) {
            gate->counters.inflight++;
            slot->state = RS_SLOT_HELD;
            slot->admitted_ns = now;
        }
        else {
            gate->counters.rejected++;
            slot->state = RS_SLOT_EMPTY;
        }
    }
    UNLOCK(gate);
    if (verdict == RS_WAIT) {
        if (gate->woken)
            outside(gate, NULL, 0);
        return RS_WAIT;
    }
    Py_CLEAR(slot->waiter);
    if (verdict == RS_REJECTED)
        return refuse(run, i, now, why);
    if (gate->changes || gate->woken)
        outside(gate, NULL, 0);
    if (recheck(run, i, now, why) == RS_REJECTED)
        return RS_REJECTED;
    return rs_run_admit(run, request, i + 1, 1, now, why);
}

static int context_flag(int count, const char *name, PyObject **cache)
{
    PyObject *variable, *value = NULL;
    if (RS_LIKELY(count == 0))
        return 0;
    variable = rs_python("resilio._context", name, cache);
    if (variable == NULL || PyContextVar_Get(variable, Py_False, &value) < 0) {
        PyErr_Clear();
        return 0;
    }
    int on = value == Py_True;
    Py_XDECREF(value);
    return on;
}

/* testing.disabled(): the gates are not asked in this context. */
int rs_run_bypassed(void)
{
    return context_flag(rs_bypass_count, "bypass", &context_bypass);
}

/* The time at which a wait is polled: now, or under testing.no_wait() the time that the wait would have ended at. */
int64_t rs_wait_now(const rs_run *run)
{
    int64_t now = rs_clock_now(rs_clk), wake = run->slots[run->cursor].wake_ns;
    if (wake != RS_NEVER && wake > now && context_flag(rs_no_wait_count, "no_wait", &context_no_wait))
        return wake;
    return now;
}

static int may_block(void)
{
    PyObject *hook = rs_python("resilio._backends", "can_block", &backend_can_block);
    PyObject *answer = hook ? PyObject_CallNoArgs(hook) : NULL;
    int yes = answer && PyObject_IsTrue(answer) == 1;
    Py_XDECREF(answer);
    PyErr_Clear();
    return yes;
}

/* Block this thread until the waiting gate decides. ADMITTED, REJECTED, or -1 with an exception and nothing held. */
int rs_run_wait_sync(rs_run *run, const rs_request *request, rs_refusal *why)
{
    int verdict = RS_WAIT;
    if (!may_block()) {
        /* Blocking here would stop the event loop that has to free the permit: refuse instead. */
        rs_gate *gate = run->pipe->gate[run->cursor];
        *why = (rs_refusal){-1, NAN, NAN, -1};
        int at = run->cursor;
        LOCK(gate);
        gate->counters.rejected++;
        UNLOCK(gate);
        rs_run_cancel(run, rs_clock_now(rs_clk));
        run->cursor = (int16_t)at;
        return RS_REJECTED;
    }
    verdict = rs_run_resume(run, request, rs_wait_now(run), why);
    while (verdict == RS_WAIT) {
        rs_slot *slot = &run->slots[run->cursor];
        PyObject *hook = rs_python("resilio._backends", "park_sync", &backend_park_sync);
        PyObject *seconds = slot->wake_ns == RS_NEVER ? Py_NewRef(Py_None)
            : PyFloat_FromDouble((double)Py_MAX(slot->wake_ns - rs_clock_now(rs_clk), 0) * 1e-9);
        PyObject *args[2] = {(PyObject *)slot->waiter, seconds};
        PyObject *done = hook && seconds ? PyObject_Vectorcall(hook, args, 2, NULL) : NULL;
        Py_XDECREF(seconds);
        if (done == NULL) {                     /* KeyboardInterrupt, usually */
            rs_run_cancel(run, rs_clock_now(rs_clk));
            return -1;
        }
        Py_DECREF(done);
        verdict = rs_run_resume(run, request, rs_wait_now(run), why);
    }
    return verdict;
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* Give everything back: the callee was never called. Innermost first. Keeps a pending exception. */
void rs_run_cancel(rs_run *run, int64_t now)
{
    int n = run->n;
    run->n = 0;
    for (int i = n - 1; i >= 0; i--) {
        rs_gate *gate = run->pipe->gate[i];
        rs_slot *slot = &run->slots[i];
        rs_waiter *waiter = slot->waiter;
        int state = slot->state;
        slot->state = RS_SLOT_EMPTY;
        slot->waiter = NULL;
        if (run->epoch == rs_epoch && (state == RS_SLOT_HELD || state == RS_SLOT_WAITING)) {
            slot->waiter = waiter;
            slot->state = (uint8_t)state;
            LOCK(gate);
            if (state == RS_SLOT_HELD)
                gate->counters.inflight--;
            else
                gate->counters.queued--;
            gate->counters.cancelled++;
            gate->ops->cancel(gate, slot, now);
            UNLOCK(gate);
            slot->state = RS_SLOT_EMPTY;
            slot->waiter = NULL;
            if (gate->changes || gate->woken)
                outside(gate, NULL, 0);
        }
        Py_XDECREF((PyObject *)waiter);
    }
}

static inline void settle_one(rs_gate *gate, rs_slot *slot, int outcome, PyObject *error, int in_finaliser, int64_t now)
{
    int64_t latency = (slot->first_ns ? slot->first_ns : now) - slot->admitted_ns;
    if (RS_UNLIKELY(latency < 0))
        latency = 0;
    int held = slot->state == RS_SLOT_HELD;
    slot->state = RS_SLOT_EMPTY;
    LOCK(gate);
    if (RS_LIKELY(outcome == RS_SUCCESS))
        gate->counters.successes++;
    else if (outcome == RS_FAILURE)
        gate->counters.failures++;
    else
        gate->counters.ignored++;
    if (outcome != RS_IGNORED)
        rs_histogram_record(&gate->latency, latency);
    if (RS_LIKELY(held)) {
        gate->counters.inflight--;
        gate->ops->settle(gate, slot, outcome, latency, now);
    }
    UNLOCK(gate);
    if (RS_UNLIKELY(gate->changes || gate->woken))
        outside(gate, error, in_finaliser);
    if (RS_UNLIKELY(gate->listening & RS_LISTEN_SETTLED) && !in_finaliser)
        tell_settled(gate, outcome, latency);
}

/* Settle every gate with one outcome. *error* NULL and RS_IGNORED: possibly in a finaliser, so no user code runs. */
void rs_run_settle(rs_run *run, int outcome, PyObject *error, int64_t now)
{
    int n = run->n;
    run->n = 0;
    if (RS_UNLIKELY(run->epoch != rs_epoch))
        return;
    for (int i = n - 1; i >= 0; i--)
        settle_one(run->pipe->gate[i], &run->slots[i], outcome, error, outcome == RS_IGNORED && error == NULL, now);
}

static int ask_judge(PyObject *judge, PyObject *subject)
{
    PyObject *answer = PyObject_CallOneArg(judge, subject);
    long outcome = answer ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    if (outcome >= RS_SUCCESS && outcome <= RS_IGNORED)
        return (int)outcome;
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_SetInterrupt();               /* not the predicate's fault: raise it again at the next safe point */
    PyErr_Clear();
    return RS_IGNORED;                      /* a raising predicate teaches nothing */
}

/* Of two verdicts on one call, the one that says more: a failure at one gate is a failure of the call. */
static inline int worse(int a, int b)
{
    return a == RS_FAILURE || b == RS_FAILURE ? RS_FAILURE : Py_MAX(a, b);
}

int rs_run_returned(rs_run *run, PyObject *value, int64_t now)
{
    int n = run->n, verdict = RS_SUCCESS;
    run->n = 0;
    if (RS_UNLIKELY(run->epoch != rs_epoch))
        return verdict;
    for (int i = n - 1; i >= 0; i--) {
        rs_gate *gate = run->pipe->gate[i];
        int outcome = RS_SUCCESS;
        if (RS_UNLIKELY(run->verdict >= 0))
            outcome = run->verdict;
        else if (RS_UNLIKELY(gate->judge_value != NULL))
            outcome = ask_judge(gate->judge_value, value);
        settle_one(gate, &run->slots[i], outcome, NULL, 0, now);
        verdict = worse(verdict, outcome);
    }
    return verdict;
}

static PyObject *rejected_error;

/* Refusals, and groups of nothing but refusals, say nothing about the callee. */
static int is_refusal(PyObject *error)
{
    PyObject *class = rs_python("resilio.errors", "RejectedError", &rejected_error);
    if (class && PyObject_TypeCheck(error, (PyTypeObject *)class))
        return 1;
    if (!PyObject_TypeCheck(error, (PyTypeObject *)PyExc_BaseExceptionGroup))
        return 0;
    PyObject *leaves = PyObject_GetAttrString(error, "exceptions");
    int all = leaves && PyTuple_Check(leaves);
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(leaves); i++)
        all = is_refusal(PyTuple_GET_ITEM(leaves, i));
    Py_XDECREF(leaves);
    PyErr_Clear();
    return all;
}

static int judge_error(rs_gate *gate, PyObject *error)
{
    /* CancelledError, trio.Cancelled, GeneratorExit, KeyboardInterrupt, SystemExit, and any group that holds one. */
    if (!PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception))
        return RS_IGNORED;
    if (gate->judge_error)
        return ask_judge(gate->judge_error, error);
    return is_refusal(error) ? RS_IGNORED : RS_FAILURE;
}

/* Settle by the pending exception, which stays pending. */
int rs_run_raised(rs_run *run, int64_t now)
{
    PyObject *type, *error, *traceback;
    int n = run->n, verdict = RS_SUCCESS;
    run->n = 0;
    if (RS_UNLIKELY(run->epoch != rs_epoch) || n == 0)
        return RS_FAILURE;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    for (int i = n - 1; i >= 0; i--) {
        rs_gate *gate = run->pipe->gate[i];
        int outcome = judge_error(gate, error);
        if (RS_UNLIKELY(run->verdict >= 0 && outcome == RS_SUCCESS))
            outcome = run->verdict;
        settle_one(gate, &run->slots[i], outcome, error, 0, now);
        verdict = worse(verdict, outcome);
    }
    PyErr_Restore(type, error, traceback);
    return verdict;
}

void rs_run_first_item(rs_run *run, int64_t now)
{
    for (int i = 0; i < run->n; i++)
        if (run->slots[i].first_ns == 0)
            run->slots[i].first_ns = now;
}
