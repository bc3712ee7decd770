/* What a ledger reports in the end: slow calls, segments attached to an exception, the time spent so far. */
#include "core.h"

PyObject *rs_ledger_slow_of(rs_gate *gate, const rs_spent *spent)
{
    PyObject *type, *value, *traceback, *slow = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *segments = rs_segments_new(spent);
    if (segments)
        slow = PyTuple_Pack(2, (PyObject *)gate, segments);
    Py_XDECREF(segments);
    PyErr_Restore(type, value, traceback); /* without memory it is not reported */
    return slow;
}

PyObject *rs_ledger_slow_attempt(rs_gate *gate, int64_t ns)
{
    rs_spent spent = {.n = 0};
    rs_spend(&spent, RS_ATTEMPT, 1, ns);
    return rs_ledger_slow_of(gate, &spent);
}

static PyObject *report_hook, *note_hook;

/* Report a slow call, outside all locks; *slow* is stolen. */
void rs_ledger_slow(PyObject *slow, PyObject *error)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *hook = rs_hook("report_slow_call", &report_hook);
    PyObject *args[3] = {PyTuple_GET_ITEM(slow, 0), PyTuple_GET_ITEM(slow, 1), error ? error : Py_None};
    PyObject *done = hook ? PyObject_Vectorcall(hook, args, 3, NULL) : NULL;
    if (done == NULL)
        rs_drop_error();
    Py_XDECREF(done);
    Py_DECREF(slow);
    PyErr_Restore(type, value, traceback);
}

void rs_ledger_slow_dropped(PyObject *slow) { rs_ledger_slow(Py_NewRef(slow), NULL); }

/* Return 1 if there is more than a single attempt. */
static int has_story(const rs_spent *spent)
{
    return spent->n > 1 || (spent->n == 1 && spent->entry[0].segment != RS_ATTEMPT);
}

static PyObject *attribute;

/* Attach the ledger to an exception that leaves the run. No user code runs; skipped if the
   exception cannot hold attributes. *calls*: what its spend limits have kept of it, or NULL. */
void rs_ledger_attach(rs_run *run, PyObject *error, PyObject *calls, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    rs_spent plain = {.n = 0};
    const rs_spent *spent = &plain;
    if (run->base != 0 || run->lent)
        return;
    if (ledger)
        spent = &ledger->spent;
    else if (run->pipe->n && run->slots[0].admitted_ns)
        rs_spend(&plain, RS_ATTEMPT, 1, now - run->slots[0].admitted_ns);
    else
        return; /* duration unknown: keep the segments attached by an inner call */
    if (attribute == NULL && (attribute = PyUnicode_InternFromString("resilio_segments")) == NULL)
        goto out;
    PyObject *segments = rs_segments_new(spent);
    if (segments != NULL)
        rs_segments_add_cost(segments, calls);
    if (segments == NULL || PyObject_GenericSetAttr(error, attribute, segments) < 0)
        PyErr_Clear();
    else if (has_story(spent)) {
        PyObject *hook = rs_hook("note_segments", &note_hook), *args[3] = {error, segments, Py_None};
        if (run->pipe->n)
            args[2] = (PyObject *)run->pipe->gate[0];
        PyObject *done = hook ? PyObject_Vectorcall(hook, args, 3, NULL) : NULL;
        Py_XDECREF(done);
    }
    Py_XDECREF(segments);
out:
    rs_drop_error();
}

/* The same for the pending exception, of a run that waited and never called. */
void rs_ledger_attach_pending(rs_run *run)
{
    if (run->ledger == NULL)
        return;
    PyObject *error = rs_take_error();
    rs_ledger_attach(run, error, NULL, 0);
    rs_raise_error(error);
}

/* What gates written in Python keep of the call, innermost first. */
int rs_run_gate_calls(const rs_run *run, PyObject *into)
{
    for (int i = run->n - 1; i >= run->base; i--) {
        const rs_slot *slot = &run->slots[i];
        if (slot->gate->ops->python && slot->state == RS_SLOT_HELD && slot->custom.call != NULL
            && PyList_Append(into, slot->custom.call) < 0)
            return -1;
    }
    return 0;
}

/* Time spent by the run up to now. NULL with an exception. */
PyObject *rs_ledger_segments(const rs_run *run, int64_t now)
{
    rs_ledger *ledger = rs_ledger_of(run);
    rs_spent spent = {.n = 0};
    if (ledger == NULL)
        rs_spend(&spent, RS_ATTEMPT, run->attempt + 1, rs_run_began(run) ? now - rs_run_began(run) : 0);
    else {
        rs_lock_acquire(&ledger->lock);
        spent = ledger->spent;
        if (!ledger->closed)
            rs_spend(&spent, ledger->segment, ledger->attempt, now - ledger->mark_ns);
        rs_lock_release(&ledger->lock);
        rs_ledger_drop(&ledger);
    }
    PyObject *segments = rs_segments_new(&spent), *calls = segments ? rs_run_spends(run) : NULL;
    if (segments)
        rs_segments_add_cost(segments, calls);
    Py_XDECREF(calls);
    return segments;
}

/* Only gates of our own that are written in Python can name their shared amounts: the spend limits. */
PyObject *rs_run_spends(const rs_run *run)
{
    PyObject *calls = NULL;
    for (int i = run->n - 1; i >= run->base; i--) {
        const rs_gate_ops *ops = run->slots[i].gate->ops;
        if (RS_LIKELY(!ops->python || ops->is_shared == NULL))
            continue;
        if ((calls = PyList_New(0)) == NULL || rs_run_gate_calls(run, calls) < 0) {
            Py_CLEAR(calls);
            rs_drop_error();
        }
        break;
    }
    return calls;
}
