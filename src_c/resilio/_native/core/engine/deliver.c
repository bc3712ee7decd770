/* The work after a gate's lock is released: wake waiters, deliver state changes, notify listeners. */
#include "core.h"

static PyObject *events_deliver, *events_rejected, *events_settled;

static void wake_marked(rs_gate *gate)
{
    rs_lock_acquire(&gate->lock);
    rs_waiter *last = gate->woken, *waiter = NULL;
    gate->woken = NULL;
    rs_lock_release(&gate->lock);
    while (last) { /* pushed on a stack: reverse it, to wake the oldest waiter first */
        rs_waiter *before = last->next_woken;
        last->next_woken = waiter;
        waiter = last;
        last = before;
    }
    while (waiter) {
        rs_waiter *next = waiter->next_woken;
        waiter->next_woken = NULL;
        __atomic_store_n(&waiter->woken, 0, __ATOMIC_RELEASE); /* from here on it may be linked again */
        if (RS_UNLIKELY(!rs_waiter_wake(waiter)))
            rs_waiter_lose(waiter);
        Py_DECREF((PyObject *)waiter);
        waiter = next;
    }
}

/* Wake all. A waiter whose loop is closed passes its permit on, which marks the next one. */
static void wake_all(rs_gate *gate)
{
    while (gate->woken)
        wake_marked(gate);
}

static void deliver_changes(PyObject *gate) { rs_call_hook(rs_hook("deliver", &events_deliver), &gate, 1); }

int rs_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Deliver the records that the gate made under its lock. *subject*: of the call that ended, or NULL. *in_finaliser*:
   listeners are called later. */
void rs_gate_deliver(rs_gate *gate, PyObject *subject, int in_finaliser)
{
    if (rs_finalizing())
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (gate->woken)
        wake_all(gate);
    if (gate->changes) {
        PyObject *on_trip = subject && gate->span != RS_SEAT ? rs_gate_own(gate, &gate->on_trip) : NULL;
        if (on_trip) {
            PyObject *args[2] = {(PyObject *)gate, subject};
            rs_call_hook(on_trip, args, 2);
            Py_DECREF(on_trip);
        }
        if (in_finaliser)
            rs_defer(deliver_changes, (PyObject *)gate);
        else
            deliver_changes((PyObject *)gate);
    }
    if (!in_finaliser)
        rs_run_deferred();
    PyErr_Restore(type, value, traceback);
}

static PyObject *number(double value) { return isnan(value) ? Py_NewRef(Py_None) : PyFloat_FromDouble(value); }

void rs_notify_rejected(rs_gate *gate, const rs_rejection *why)
{
    const rs_kind *kind = rs_kind_of(gate->ops);
    PyObject *args[6] = {(PyObject *)gate,
                         kind ? rs_reason(kind, why->reason) : Py_None,
                         number(why->measured),
                         number(why->limit),
                         why->retry_after_ns > 0 ? PyFloat_FromDouble((double)why->retry_after_ns / 1e9)
                                                 : Py_NewRef(Py_None),
                         PyUnicode_InternFromString(RS_SCOPES[why->scope])};
    if (args[2] && args[3] && args[4] && args[5])
        rs_call_hook(rs_hook("rejected", &events_rejected), args, 6);
    PyErr_Clear();
    for (int i = 2; i < 6; i++)
        Py_XDECREF(args[i]);
}

void rs_notify_settled(rs_gate *gate, int outcome, int64_t latency_ns, PyObject *error)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *code = PyLong_FromLong(outcome), *seconds = PyFloat_FromDouble((double)latency_ns / 1e9);
    PyObject *args[4] = {(PyObject *)gate, code, seconds, error};
    if (code && seconds)
        rs_call_hook(rs_hook("settled", &events_settled), args, 4);
    Py_XDECREF(code);
    Py_XDECREF(seconds);
    PyErr_Restore(type, value, traceback);
}
