/* Judges: the outcome of a call for a gate, which is success, failure, refused or ignored. */
#include "core.h"

/* The judge of errors or of answers at a gate, a new reference, since the call may replace it. NULL: none. */
static PyObject *judge_at(const rs_pipeline *pipe, rs_gate *gate, int of_value)
{
    if (RS_UNLIKELY(pipe && pipe->judges)) {
        PyObject *replay = rs_gate_own(gate, of_value ? &gate->replay_value : &gate->replay_error);
        int rule = of_value ? gate->value_rule : gate->error_rule;
        if (replay)
            return replay;
        PyObject *judge = rule ? PyTuple_GET_ITEM(pipe->judges, 2 * (rule - 1) + of_value) : Py_None;
        if (judge != Py_None)
            return Py_NewRef(judge);
    }
    return rs_gate_own(gate, of_value ? &gate->judge_value : &gate->judge_error);
}

/* Ask the judge of errors or of answers; -1: there is none. */
int rs_ask_judge(const rs_pipeline *pipe, rs_gate *gate, int of_value, PyObject *subject)
{
    PyObject *judge = judge_at(pipe, gate, of_value);
    if (judge == NULL)
        return -1;
    PyObject *answer = PyObject_CallOneArg(judge, subject);
    long outcome = answer ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    Py_DECREF(judge);
    if (outcome >= RS_SUCCESS && outcome <= RS_REFUSED)
        return (int)outcome;
    rs_drop_error();
    return RS_IGNORED; /* an outcome whose predicate raises is ignored */
}

static PyObject *rejected_error, *deadline_error;

/* Return 1 if the error was raised in place of a call that did not fit into its deadline. */
static int is_rejected_for_time(PyObject *error)
{
    PyObject *class = rs_hook("DeadlineExceededError", &deadline_error);
    if (class == NULL || !PyObject_TypeCheck(error, (PyTypeObject *)class))
        return 0;
    PyObject *called = PyObject_GetAttrString(error, "called");
    Py_XDECREF(called);
    return called == Py_False;
}

/* Return 1 for rejections, and groups of nothing but rejections: they do not concern the callee. */
int rs_is_rejection(PyObject *error)
{
    PyObject *class = rs_hook("RejectedError", &rejected_error);
    int is = (class && PyObject_TypeCheck(error, (PyTypeObject *)class)) || is_rejected_for_time(error);
    rs_drop_error();
    if (is)
        return 1;
    if (!PyObject_TypeCheck(error, (PyTypeObject *)PyExc_BaseExceptionGroup))
        return 0;
    PyObject *leaves = rs_group_leaves(error); /* user code may set the attribute to anything, the group itself too */
    int all = leaves && PyTuple_Check(leaves) && !Py_EnterRecursiveCall(" in a group of exceptions");
    if (all) {
        for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(leaves); i++)
            all = rs_is_rejection(PyTuple_GET_ITEM(leaves, i));
        Py_LeaveRecursiveCall();
    }
    Py_XDECREF(leaves);
    return all;
}

/* The label, for the gate at *stage*, of a cancellation that resilio itself has sent. It is set in this run by a stage
   outside the gate, or in a run around this one. */
static int label_of(const rs_run *run, int stage)
{
    if (run->interrupt && stage > run->interrupt_stage)
        return run->interrupt;
    for (const rs_frame *frame = *rs_ambient(); frame; frame = frame->outer) {
        const rs_run *outer = frame->run;
        if (outer == run)
            continue;
        if (outer->interrupt)
            return outer->interrupt;
        for (int i = outer->base; i < outer->n; i++) {
            const rs_strategy_ops *strategy = outer->slots[i].gate->ops->strategy;
            int label = strategy && strategy->label ? strategy->label(outer->slots[i].gate, &outer->slots[i]) : 0;
            if (label)
                return label;
        }
    }
    return RS_UNINTERRUPTED;
}

#define ENOUGH_FOR_A_P99 100

/* Ignored; but a gate may draw conclusions if all its callers leave. */
static int ignored_as_left(rs_slot *slot)
{
    slot->flags |= RS_LEFT;
    return RS_IGNORED;
}

/* Judge a passed deadline: a failure if the call had as much time as 99 % of its successes took. */
int rs_judge_out_of_time(rs_slot *slot, int64_t now)
{
    rs_gate_lock(slot->gate);
    int64_t p99 = slot->gate->counters.successes >= ENOUGH_FOR_A_P99 ? rs_histogram_quantile(&slot->gate->latency, 0.99)
                                                                     : RS_NEVER;
    rs_gate_unlock(slot->gate);
    return now - slot->admitted_ns >= p99 ? RS_FAILURE : ignored_as_left(slot);
}

/* Judge CancelledError, trio.Cancelled, GeneratorExit, KeyboardInterrupt, SystemExit, and any group that holds one.
   They are ignored, except for a cancellation by a timeout, or by a deadline that the attempt had ample time to
   meet. */
static int judge_cancelled(const rs_run *run, int stage, PyObject *error, int64_t now)
{
    if (PyObject_TypeCheck(error, (PyTypeObject *)PyExc_KeyboardInterrupt)
        || PyObject_TypeCheck(error, (PyTypeObject *)PyExc_SystemExit)
        || PyObject_TypeCheck(error, (PyTypeObject *)PyExc_GeneratorExit))
        return RS_IGNORED;
    int label = label_of(run, stage);
    if (label == RS_UNINTERRUPTED && rs_deadline_interrupts(now))
        label = RS_OUT_OF_TIME; /* by a block around the call */
    if (label == RS_TIMED_OUT)
        return RS_FAILURE;
    if (label == RS_OUT_OF_TIME)
        return rs_judge_out_of_time(&run->slots[stage], now);
    return label == RS_UNINTERRUPTED ? ignored_as_left(&run->slots[stage]) : RS_IGNORED;
}

/* Judge an exception that is not a cancellation. */
int rs_judge_exception(const rs_pipeline *pipe, rs_gate *gate, PyObject *error)
{
    int asks = gate->judge_error || RS_UNLIKELY(pipe && pipe->judges);
    int outcome = asks ? rs_ask_judge(pipe, gate, 0, error) : -1;
    if (outcome >= 0)
        return outcome;
    outcome = rs_is_rejection(error) ? RS_IGNORED : RS_FAILURE;
    rs_drop_error(); /* a group that is nested too deeply is a failure */
    return outcome;
}

int rs_judge_error(const rs_run *run, int stage, PyObject *error, int64_t now)
{
    if (!PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception))
        return judge_cancelled(run, stage, error, now);
    return rs_judge_exception(run->pipe, run->slots[stage].gate, error);
}
