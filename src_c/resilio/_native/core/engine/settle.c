/* The end of a run, innermost stage first: judge the outcome, count it and pass it to the gate. Gates inside of which
   the function was not called are cancelled instead: uncalled.c. */
#include "core.h"

static RS_APART void notify_settled(rs_gate *gate, int outcome, PyObject *subject, int64_t latency, int in_finaliser)
{
    if (rs_gate_has_news(gate, 0))
        rs_gate_deliver(gate, subject, in_finaliser);
    if (gate->listening & RS_LISTEN_SETTLED && !in_finaliser)
        rs_notify_settled(gate, outcome, latency, subject && PyExceptionInstance_Check(subject) ? subject : Py_None);
}

/* A call to a pool's endpoint was no success, or a server has refused one: its answer may ask for a pause. */
static RS_APART void note_end(rs_gate *gate, PyObject *subject, int outcome)
{
    PyObject *type, *value, *traceback, *on_trip = rs_gate_own(gate, &gate->on_trip);
    if (on_trip == NULL)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *how = PyLong_FromLong(outcome); /* small, so it exists */
    rs_call_hook(on_trip, (PyObject *[]){(PyObject *)gate, subject, how}, 3);
    Py_DECREF(how);
    Py_DECREF(on_trip);
    PyErr_Restore(type, value, traceback);
}

/* *subject*: the exception raised or the value returned; or the part that was kept of it; or NULL. */
static inline void settle_one(rs_gate *gate, rs_slot *slot, int outcome, PyObject *subject, int in_finaliser,
                              int64_t now)
{
    int64_t latency = (slot->first_ns ? slot->first_ns : now) - slot->admitted_ns;
    if (RS_UNLIKELY(latency < 0))
        latency = 0;
    int held = slot->state == RS_SLOT_HELD;
    slot->state = RS_SLOT_EMPTY;
    rs_gate_lock(gate);
    rs_gate_count_end(gate, outcome);
    if (RS_LIKELY(rs_is_evidence(outcome)) && RS_LIKELY(!(gate->timeless & RS_NO_LATENCY)))
        rs_histogram_record(&gate->latency, latency);
    if (RS_LIKELY(held)) {
        rs_gate_inflight(gate, -1);
        rs_gate_let_go(gate);
        if (RS_LIKELY(gate->ops->settle != NULL))
            gate->ops->settle(gate, slot, outcome, latency, now);
        rs_gate_take_back(gate);
    }
    rs_gate_unlock(gate);
    if (RS_UNLIKELY(outcome != RS_SUCCESS) && (gate->span == RS_SEAT || outcome == RS_REFUSED) && subject
        && !in_finaliser)
        note_end(gate, subject, outcome);
    if (rs_gate_has_news(gate, RS_LISTEN_SETTLED))
        notify_settled(gate, outcome, subject, latency, in_finaliser);
    rs_slot_leave(slot);
}

/* End a run that holds no stage, or that began before a fork. If a strategy in Python runs the function alone, its time
   is counted nevertheless, and only once, since the ledger is dropped here. */
static void end_bare(rs_run *run, int64_t now)
{
    rs_run_hold(run, run->base);
    if (RS_LIKELY(run->ledger == NULL || run->base == 0 || run->epoch != rs_epoch))
        return;
    Py_XDECREF(rs_ledger_close(run, now ? now : rs_clock_now(rs_clk)));
    rs_ledger_drop(&run->ledger);
}

static inline int outcome_at(const rs_gate *gate, int outcome)
{
    return RS_LIKELY(outcome != RS_UNSERVED) ? outcome : gate->span == RS_SEAT ? RS_IGNORED : RS_SUCCESS;
}

/* Settle every gate with one outcome, or RS_UNSERVED. *subject*: see settle_one. *in_finaliser*: no listener is called. */
void rs_run_settle(rs_run *run, int outcome, PyObject *subject, int in_finaliser, int64_t now)
{
    int n = run->n;
    if (RS_UNLIKELY(run->epoch != rs_epoch || n == run->base)) {
        end_bare(run, now);
        return;
    }
    PyObject *slow = rs_run_count(run, now);
    rs_run_hold(run, run->base);
    for (int i = n - 1; i >= run->base; i--)
        settle_one(run->slots[i].gate, &run->slots[i], outcome_at(run->slots[i].gate, outcome), subject, in_finaliser,
                   now);
    if (RS_UNLIKELY(slow != NULL) && in_finaliser) {
        rs_defer(rs_ledger_slow_dropped, slow);
        Py_DECREF(slow);
    }
    else if (RS_UNLIKELY(slow != NULL))
        rs_ledger_slow(slow, subject && PyExceptionInstance_Check(subject) ? subject : NULL);
}

/* The outermost stage inside of which no attempt has called the function; the one in progress has not. */
static int first_uncalled(const rs_run *run)
{
    int i = run->n;
    while (i > run->base && !(run->slots[i - 1].flags & RS_REACHED))
        i--;
    return i;
}

/* End the run without an outcome, possibly in a finaliser. *called*: the attempt in progress has called the function. */
void rs_run_drop(rs_run *run, int called, int in_finaliser, int64_t now)
{
    if (!called)
        rs_run_cancel(run, first_uncalled(run), in_finaliser, now);
    rs_run_settle(run, RS_IGNORED, NULL, in_finaliser, now);
}

/* The more severe of two verdicts on one call: a failure at one gate is a failure of the call, then comes a refusal. */
static inline int worse(int a, int b) { return a == RS_FAILURE || b == RS_FAILURE ? RS_FAILURE : Py_MAX(a, b); }

/* The verdict of the first judge of an answer: the gates of a stack that have the same one ask it once. */
typedef struct {
    const PyObject *judge; /* only compared; NULL: none yet */
    int outcome;
} rs_judged;

static inline int judge_value(const rs_run *run, rs_gate *gate, PyObject *value, rs_judged *first)
{
    if (RS_UNLIKELY(run->verdict >= 0))
        return run->verdict;
    if (RS_LIKELY(!rs_judges_values(run->pipe, gate)))
        return RS_SUCCESS;
    const PyObject *judge = run->pipe->judges ? NULL : gate->judge_value;
    if (judge && judge == first->judge)
        return first->outcome;
    int outcome = Py_MAX(rs_ask_judge(run->pipe, gate, 1, value), RS_SUCCESS);
    if (first->judge == NULL)
        *first = (rs_judged){judge, outcome};
    return outcome;
}

int rs_run_returned(rs_run *run, PyObject *value, int64_t now)
{
    int n = run->n, verdict = RS_SUCCESS;
    if (RS_UNLIKELY(run->epoch != rs_epoch || n == run->base)) {
        end_bare(run, now);
        return verdict;
    }
    rs_judged first = {NULL, RS_SUCCESS};
    PyObject *slow = rs_run_count(run, now);
    rs_run_hold(run, run->base);
    for (int i = n - 1; i >= run->base; i--) {
        int outcome = judge_value(run, run->slots[i].gate, value, &first);
        settle_one(run->slots[i].gate, &run->slots[i], outcome, value, 0, now);
        verdict = worse(verdict, outcome);
    }
    if (RS_UNLIKELY(slow != NULL))
        rs_ledger_slow(slow, NULL);
    return verdict;
}

/* What a gate counts for an exception that its rules let pass. */
static inline int let_through(const rs_run *run, const rs_gate *gate)
{
    if (RS_UNLIKELY(run->verdict >= 0))
        return run->verdict;
    return gate->ops->strategy && gate->ops->strategy->fails_raised ? RS_FAILURE : RS_SUCCESS;
}

/* Settle by the pending exception, which stays pending. */
int rs_run_raised(rs_run *run, int64_t now)
{
    PyObject *type, *error, *traceback;
    int n = run->n, verdict = RS_SUCCESS;
    if (RS_UNLIKELY(run->epoch != rs_epoch) || n == run->base) {
        end_bare(run, now);
        return RS_FAILURE;
    }
    PyObject *slow = rs_run_count(run, now);
    PyObject *calls = rs_run_spends(run); /* now: settled gates keep nothing of it */
    rs_run_hold(run, run->base);
    rs_ensure_error();
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    for (int i = n - 1; i >= run->base; i--) {
        rs_gate *gate = run->slots[i].gate;
        int outcome = rs_judge_error(run, i, error, now);
        if (outcome == RS_SUCCESS)
            outcome = let_through(run, gate);
        settle_one(gate, &run->slots[i], outcome, error, 0, now);
        verdict = worse(verdict, outcome);
    }
    rs_ledger_attach(run, error, calls, now);
    Py_XDECREF(calls);
    if (RS_UNLIKELY(slow != NULL))
        rs_ledger_slow(slow, error);
    PyErr_Restore(type, error, traceback);
    return verdict;
}

/* Record that the inner part has ended now: it returned *value* (stolen) or, if NULL, raised the pending exception. */
void rs_end_load(rs_end *end, PyObject *value)
{
    Py_XSETREF(end->error, value ? NULL : rs_take_error());
    Py_XSETREF(end->value, value);
    end->now_ns = rs_clock_now(rs_clk);
}

static inline int wants_to_know(const rs_run *run, int stage, const rs_end *end)
{
    return end->error || end->outcome != RS_SUCCESS || run->slots[stage].extra
           || (run->interrupt && run->interrupt_stage == stage);
}

/* If no stage needs the end time, the clock is read only for a ledger. */
static inline PyObject *count_success(rs_run *run, int64_t now)
{
    if (RS_UNLIKELY(now == 0)) {
        if (run->ledger == NULL)
            return NULL;
        now = rs_clock_now(rs_clk);
    }
    return rs_run_count(run, now);
}

/* The innermost stage's inner part has returned. Settle outward while each stage counts a plain success. 1: all stages
   are settled. 0: the stage at run->n - 1 must be asked. */
int rs_run_succeeded(rs_run *run)
{
    int64_t now = 0;
    PyObject *slow = NULL;
    if (RS_UNLIKELY(run->verdict >= 0 || run->epoch != rs_epoch || run->pipe->hand_over))
        return 0;
    for (int i = run->n - 1; i >= run->base; i--) {
        rs_slot *slot = &run->slots[i];
        rs_gate *gate = slot->gate;
        if (RS_UNLIKELY(rs_judges_values(run->pipe, gate) || slot->extra
                        || (run->interrupt && run->interrupt_stage == i)))
            return 0;
        if (now == 0 && !(gate->timeless & RS_NO_LATENCY))
            now = rs_clock_now(rs_clk);
        if (i == run->base)
            slow = count_success(run, now);
        rs_run_hold(run, i);
        settle_one(gate, slot, RS_SUCCESS, NULL, 0, now);
    }
    if (RS_UNLIKELY(slow != NULL))
        rs_ledger_slow(slow, NULL);
    else if (RS_UNLIKELY(run->ledger != NULL))
        end_bare(run, now);
    return 1;
}

/* The earliest deadline set by stages of this run outside *stage*, RS_NEVER if there is none. */
static int64_t deadline_outside(const rs_run *run, int stage)
{
    int64_t until_ns = RS_NEVER;
    for (int i = run->base; i < stage; i++) {
        const rs_strategy_ops *strategy = run->slots[i].gate->ops->strategy;
        if (strategy && strategy->sets_deadline)
            until_ns = Py_MIN(until_ns, run->slots[i].wake_ns);
    }
    return until_ns;
}

/* Drop the deadlines set inside *stage*, since the work that they limited has ended. Called from outside the
   run, with no exception pending. */
static void leave_deadlines(rs_run *run, int stage)
{
    if (RS_UNLIKELY(run->deadline_ns != RS_NEVER))
        run->deadline_ns = Py_MIN(deadline_outside(run, stage), rs_deadline_ns());
}

/* Index of the outermost gate in the unbroken series of gates that ends at *at*. */
static int first_neighbour(const rs_run *run, int at)
{
    while (at > run->base && run->slots[at - 1].gate->ops->strategy == NULL)
        at--;
    return at;
}

/* A strategy goes on: keep on its slot the facts known so far, for the gates outside of it. */
static void note_answer(rs_slot *slot, const rs_end *end, int called, int next)
{
    if (called)
        slot->flags |= RS_REACHED;
    if (next == RS_AWAIT || (next == RS_CALL && end->argument))
        slot->flags |= RS_OWN_WAY;
}

/* What a fallback has answered is an answer at the door of a pipeline, and a client's gates hold its body. */
static RS_APART int takes_answer(const rs_run *run, const rs_gate *gate, const rs_end *end)
{
    return end->value && (run->pipe->hand_over || strcmp(gate->ops->kind, "pipeline") == 0);
}

/* The inner part of the innermost held stage has ended as *end*. Settle outward until a strategy answers other than
   PASS. PASS: all stages are settled, or cancelled if the function was not called inside of them. Otherwise the stage
   at run->n - 1 has answered, and is still held. */
int rs_run_outward(rs_run *run, rs_end *end)
{
    int verdict = RS_SUCCESS, asked = run->n; /* the hook has been asked about the stages from here on */
    PyObject *slow = NULL, *calls = NULL;
    rs_judged first = {NULL, RS_SUCCESS};
    if (RS_UNLIKELY(run->epoch != rs_epoch || run->n == run->base)) {
        end_bare(run, end->now_ns);
        end->outcome = (int8_t)verdict;
        return RS_PASS;
    }
    if (RS_UNLIKELY(run->ledger != NULL))
        rs_ledger_ended(run, end->now_ns);
    if (RS_UNLIKELY(end->error != NULL))
        calls = rs_run_spends(run);
    int called = rs_run_called(run, end);
    for (int i = run->n - 1; i >= run->base; i--) {
        rs_slot *slot = &run->slots[i];
        const rs_strategy_ops *strategy = slot->gate->ops->strategy;
        if (RS_UNLIKELY(!called) && strategy == NULL && !takes_answer(run, slot->gate, end)) {
            if (i == run->base)
                slow = rs_run_count(run, end->now_ns);
            rs_run_give_back(run, i, 0, end->now_ns);
            continue;
        }
        if (RS_UNLIKELY(run->pipe->hand_over != NULL) && strategy == NULL && i < asked) {
            asked = first_neighbour(run, i);
            if (rs_hand_over(run, asked, end, &slow)) {
                i = asked;
                continue;
            }
        }
        end->outcome = (int8_t)(RS_LIKELY(end->error == NULL) ? judge_value(run, slot->gate, end->value, &first)
                                                              : rs_judge_error(run, i, end->error, end->now_ns));
        if (run->verdict >= 0 && end->outcome == RS_SUCCESS)
            end->outcome = run->verdict;
        if (strategy && RS_UNLIKELY(wants_to_know(run, i, end))) {
            leave_deadlines(run, i);
            end->deadline_ns = run->deadline_ns;
            end->stage = (int16_t)i;
            end->place = run->place;
            end->fired = end->cancelled = 0;
            end->untried = RS_UNLIKELY(run->route != NULL) && rs_run_has_untried(run, i, end->now_ns);
            if (run->interrupt && run->interrupt_stage == i)
                rs_call_settle_interrupt(end->call, end);
            int next = strategy->ended(slot->gate, slot, end);
            first.judge = NULL; /* the answer may be another one now */
            if (run->interrupt && i > run->interrupt_stage && next != RS_AWAIT) {
                Py_CLEAR(end->target); /* the call is being ended: begin nothing more inside */
                Py_CLEAR(end->argument);
                next = RS_PASS;
            }
            if (next != RS_PASS) {
                note_answer(slot, end, called, next);
                run->verdict = -1;
                Py_XDECREF(calls);
                return next;
            }
        }
        called |= (slot->flags & RS_REACHED) != 0;
        if (i == run->base)
            slow = rs_run_count(run, end->now_ns);
        rs_run_hold(run, i);
        settle_one(slot->gate, slot, end->outcome, end->error ? end->error : end->value, 0, end->now_ns);
        verdict = worse(verdict, end->outcome);
    }
    if (end->error)
        rs_ledger_attach(run, end->error, calls, end->now_ns);
    Py_XDECREF(calls);
    if (RS_UNLIKELY(slow != NULL))
        rs_ledger_slow(slow, end->error);
    if (RS_UNLIKELY(!called)) {
        rs_run_uncalled(run);
        if (end->error && rs_is_rejection(end->error))
            verdict = RS_NOT_CALLED;
    }
    end->outcome = (int8_t)verdict;
    return RS_PASS;
}

/* The first item of a stream. Latency counts up to here, and a gate may take its verdict now. Listeners run last, since
   a listener may end the run. */
void rs_run_first_item(rs_run *run, int64_t now)
{
    rs_gate *changed[RS_MAX_GATES];
    rs_gates_deliver(changed, rs_run_note_first_item(run, now, changed));
}

/* The same without notifying listeners. *changed* owns the gates with events to deliver; return their number. */
int rs_run_note_first_item(rs_run *run, int64_t now, rs_gate **changed)
{
    int n = 0;
    rs_ledger_first(run, now);
    for (int i = run->n - 1; i >= run->base; i--) {
        rs_gate *gate = run->slots[i].gate;
        rs_slot *slot = &run->slots[i];
        if (slot->first_ns || run->epoch != rs_epoch)
            continue;
        slot->first_ns = now;
        if (gate->ops->first_item == NULL || slot->state != RS_SLOT_HELD)
            continue;
        rs_gate_lock(gate);
        gate->ops->first_item(gate, slot, Py_MAX(now - slot->admitted_ns, 0), now);
        rs_gate_unlock(gate);
        if (gate->changes || gate->woken)
            changed[n++] = (rs_gate *)Py_NewRef((PyObject *)gate);
    }
    return n;
}

void rs_gates_deliver(rs_gate **changed, int n)
{
    for (int i = 0; i < n; i++) {
        rs_gate_deliver(changed[i], NULL, 0);
        Py_DECREF((PyObject *)changed[i]);
    }
}
