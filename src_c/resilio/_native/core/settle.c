/* The end of a run: cancel (the callee was never called) or settle (judge, count, tell the gate). Innermost first. */
#include "core.h"

/* Give everything back: the callee was never called. Innermost first. Keeps a pending exception. */
void rs_run_cancel(rs_run *run, int in_finaliser, int64_t now)
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
            rs_gate_lock(gate);
            if (state == RS_SLOT_HELD)
                gate->counters.inflight--;
            else
                gate->counters.queued--;
            gate->counters.cancelled++;
            rs_gate_let_go(gate);
            gate->ops->cancel(gate, slot, now);
            rs_gate_take_back(gate);
            rs_gate_unlock(gate);
            slot->state = RS_SLOT_EMPTY;
            slot->waiter = NULL;
            if (gate->changes || gate->woken)
                rs_gate_deliver(gate, NULL, in_finaliser);
        }
        else if (run->epoch == rs_epoch && state == RS_SLOT_SHADOW) {
            rs_gate_lock(gate);
            gate->counters.cancelled++;
            rs_gate_unlock(gate);
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
    rs_gate_lock(gate);
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
        rs_gate_let_go(gate);
        gate->ops->settle(gate, slot, outcome, latency, now);
        rs_gate_take_back(gate);
    }
    rs_gate_unlock(gate);
    if (RS_UNLIKELY(gate->changes || gate->woken))
        rs_gate_deliver(gate, error, in_finaliser);
    if (RS_UNLIKELY(gate->listening & RS_LISTEN_SETTLED) && !in_finaliser)
        rs_tell_settled(gate, outcome, latency);
}

/* Settle every gate with one outcome. *in_finaliser*: no listener is called. */
void rs_run_settle(rs_run *run, int outcome, PyObject *error, int in_finaliser, int64_t now)
{
    int n = run->n;
    run->n = 0;
    if (RS_UNLIKELY(run->epoch != rs_epoch))
        return;
    for (int i = n - 1; i >= 0; i--)
        settle_one(run->pipe->gate[i], &run->slots[i], outcome, error, in_finaliser, now);
}

void rs_drop_error(void)
{
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_SetInterrupt();
    PyErr_Clear();
}

/* Ask the judge at *field*, which may replace itself meanwhile; -1: there is none any more. */
static int ask_judge(rs_gate *gate, PyObject **field, PyObject *subject)
{
    PyObject *judge = rs_gate_own(gate, field);
    if (judge == NULL)
        return -1;
    PyObject *answer = PyObject_CallOneArg(judge, subject);
    long outcome = answer ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    Py_DECREF(judge);
    if (outcome >= RS_SUCCESS && outcome <= RS_IGNORED)
        return (int)outcome;
    rs_drop_error();
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
            outcome = Py_MAX(ask_judge(gate, &gate->judge_value, value), RS_SUCCESS);
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
    PyObject *leaves = ((PyBaseExceptionGroupObject *)error)->excs;     /* the attribute may say anything, of itself too */
    int all = leaves && PyTuple_Check(leaves) && !Py_EnterRecursiveCall(" in a group of exceptions");
    if (!all)
        return 0;
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(leaves); i++)
        all = is_refusal(PyTuple_GET_ITEM(leaves, i));
    Py_LeaveRecursiveCall();
    return all;
}

static int judge_error(rs_gate *gate, PyObject *error)
{
    /* CancelledError, trio.Cancelled, GeneratorExit, KeyboardInterrupt, SystemExit, and any group that holds one. */
    if (!PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception))
        return RS_IGNORED;
    int outcome = gate->judge_error ? ask_judge(gate, &gate->judge_error, error) : -1;
    if (outcome >= 0)
        return outcome;
    outcome = is_refusal(error) ? RS_IGNORED : RS_FAILURE;
    rs_drop_error();                    /* a group that is nested too deeply is a failure */
    return outcome;
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

/* The first item of a stream: latency counts up to here, and a gate that wants a verdict now may take one. */
void rs_run_first_item(rs_run *run, int64_t now)
{
    for (int i = run->n - 1; i >= 0; i--) {
        rs_gate *gate = run->pipe->gate[i];
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
            rs_gate_deliver(gate, NULL, 0);
    }
}
