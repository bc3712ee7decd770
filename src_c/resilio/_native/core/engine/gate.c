/* Gate: the base of every gate. Cython classes derive from it and set ops. */
#include "core.h"

static rs_gate *live; /* all gates, for fork */
static rs_lock live_lock;
static rs_lock drain_lock; /* changes taken by one thread are queued before another thread takes later ones */

static PyObject *gate_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    rs_gate *self = (rs_gate *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->enforce_share = UINT32_MAX;
    rs_histogram_init(&self->latency);
    rs_lock_acquire(&live_lock);
    self->next = live;
    if (live)
        live->prev = self;
    live = self;
    rs_lock_release(&live_lock);
    return (PyObject *)self;
}

static int gate_traverse(rs_gate *self, visitproc visit, void *arg)
{
    Py_VISIT(self->policy);
    Py_VISIT(self->name);
    Py_VISIT(self->judge_error);
    Py_VISIT(self->judge_value);
    Py_VISIT(self->replay_error);
    Py_VISIT(self->replay_value);
    Py_VISIT(self->on_trip);
    Py_VISIT(self->entry);
    return 0;
}

static int gate_clear(rs_gate *self)
{
    Py_CLEAR(self->policy);
    Py_CLEAR(self->name);
    Py_CLEAR(self->judge_error);
    Py_CLEAR(self->judge_value);
    Py_CLEAR(self->replay_error);
    Py_CLEAR(self->replay_value);
    Py_CLEAR(self->on_trip);
    Py_CLEAR(self->entry);
    return 0;
}

static void gate_dealloc(rs_gate *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    rs_lock_acquire(&live_lock);
    if (self->prev)
        self->prev->next = self->next;
    else
        live = self->next;
    if (self->next)
        self->next->prev = self->prev;
    rs_lock_release(&live_lock);
    gate_clear(self);
    rs_histogram_free(&self->latency);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* In the child of a fork: drop all waiters and permits; results from before are dropped by their epoch. */
void rs_gate_forget_all(void)
{
    int64_t now = rs_clock_now(rs_clk);
    rs_epoch++;
    rs_lock_reset(&live_lock);
    rs_lock_reset(&drain_lock);
    rs_waiter_after_fork();
    rs_ledger_after_fork();
    rs_defer_after_fork();
    for (rs_gate *gate = live; gate; gate = gate->next) {
        rs_lock_reset(&gate->lock);
        gate->counters.inflight = gate->counters.queued = 0;
        gate->woken = NULL;
        if (gate->ops && gate->ops->forget)
            gate->ops->forget(gate, now);
    }
}

static PyObject *gate_counters(rs_gate *self, PyObject *unused)
{
    rs_lock_acquire(&self->lock);
    rs_counters c = self->counters;
    rs_lock_release(&self->lock);
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsLsL}", "calls", c.calls, "successes", c.successes, "failures",
                         c.failures, "ignored", c.ignored, "rejected", c.rejected, "would_reject", c.would_reject,
                         "would_wait", c.would_wait, "cancelled", c.cancelled, "abandoned", c.abandoned, "refused",
                         c.refused, "inflight", (long long)c.inflight, "queued", (long long)c.queued);
}

static PyObject *gate_rejections(rs_gate *self, PyObject *unused)
{
    uint64_t rejected[RS_REJECTIONS];
    rs_lock_acquire(&self->lock);
    memcpy(rejected, self->rejected, sizeof rejected);
    rs_lock_release(&self->lock);
    const rs_kind *kind = self->ops ? rs_kind_of(self->ops) : NULL;
    PyObject *dict = kind || !PyErr_Occurred() ? PyDict_New() : NULL;
    for (int i = RS_OUT_OF_TIME_TO_WAIT; dict && kind && i < PyTuple_GET_SIZE(kind->reasons) && i < RS_REASONS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(rejected[RS_REJECTED_AT(i)]);
        if (count == NULL || PyDict_SetItem(dict, rs_reason(kind, i), count) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(count);
    }
    return dict;
}

/* Updated without the lock: each number is right, and they are from nearly one moment. */
static PyObject *gate_seconds(rs_gate *self, PyObject *unused)
{
    int64_t ns[RS_SPENT];
    for (int i = 0; i < RS_SPENT; i++)
        ns[i] = __atomic_load_n(&self->spent_ns[i], __ATOMIC_RELAXED);
    return rs_segments_dict(ns);
}

static PyObject *gate_waited(rs_gate *self, void *unused)
{
    rs_lock_acquire(&self->lock);
    int64_t ns = self->waited_ns;
    rs_lock_release(&self->lock);
    return PyFloat_FromDouble((double)ns / 1e9);
}

static uint32_t copy_changes(rs_gate *self, rs_change *change)
{
    rs_lock_acquire(&self->lock);
    uint32_t n = self->changes;
    memcpy(change, self->change, n * sizeof(rs_change));
    rs_lock_release(&self->lock);
    return n;
}

/* Take the first *n*, if they are still the same. */
static int take_changes(rs_gate *self, const rs_change *change, uint32_t n)
{
    rs_lock_acquire(&self->lock);
    int same = self->changes >= n && memcmp(self->change, change, n * sizeof(rs_change)) == 0;
    if (same) {
        self->changes -= n;
        memmove(self->change, self->change + n, self->changes * sizeof(rs_change));
    }
    rs_lock_release(&self->lock);
    return same;
}

static PyObject *list_of(rs_gate *self, const rs_change *change, uint32_t n)
{
    const rs_kind *kind = n ? rs_kind_of(self->ops) : NULL;
    PyObject *list = kind || n == 0 ? PyList_New(0) : NULL;
    for (uint32_t i = 0; list && i < n; i++) {
        PyObject *item = Py_BuildValue("(LssO)", (long long)change[i].at_ns, self->ops->states[change[i].from],
                                       self->ops->states[change[i].to], rs_reason(kind, change[i].reason));
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *gate_drain_changes(rs_gate *self, PyObject *unused)
{
    rs_change change[RS_CHANGES];
    for (;;) {
        uint32_t n = copy_changes(self, change);
        PyObject *list = list_of(self, change, n);
        if (list == NULL || take_changes(self, change, n))
            return list;
        Py_DECREF(list);
    }
}

/* pass_changes(queue, context): append (gate, changes, context), if there are any. No other thread runs between taking
   and appending, so entries are in the order of the changes. Code that may call Python runs before that. */
static PyObject *gate_pass_changes(rs_gate *self, PyObject *const *args, Py_ssize_t nargs)
{
    static PyObject *append;
    rs_change change[RS_CHANGES];
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "pass_changes: takes a queue and what goes with the changes");
    if (append == NULL && (append = PyUnicode_InternFromString("append")) == NULL)
        return NULL;
    for (;;) {
        uint32_t n = copy_changes(self, change);
        if (n == 0)
            Py_RETURN_NONE;
        PyObject *list = list_of(self, change, n),
                 *entry = list ? PyTuple_Pack(3, (PyObject *)self, list, args[1]) : NULL, *done = NULL;
        Py_XDECREF(list);
        if (entry == NULL)
            return NULL;
        rs_lock_acquire(&drain_lock);
        int taken = take_changes(self, change, n);
        if (taken)
            done = PyObject_CallMethodOneArg(args[0], append, entry);
        rs_lock_release(&drain_lock);
        Py_DECREF(entry);
        if (taken)
            return done;
    }
}

static PyObject *gate_quantile(rs_gate *self, PyObject *arg)
{
    double q = PyFloat_AsDouble(arg);
    if (q == -1.0 && PyErr_Occurred())
        return NULL;
    if (!(q >= 0.0 && q <= 1.0))
        return PyErr_Format(PyExc_ValueError, "quantile: must be from 0 to 1, not %R", arg);
    rs_lock_acquire(&self->lock);
    int64_t ns = self->latency.count ? rs_histogram_quantile(&self->latency, q) : -1;
    rs_lock_release(&self->lock);
    return ns < 0 ? PyFloat_FromDouble(NAN) : PyFloat_FromDouble((double)ns / 1e9);
}

static PyObject *gate_get_enforce(rs_gate *self, void *unused)
{
    return PyFloat_FromDouble(self->enforce_share == UINT32_MAX ? 1.0 : (double)self->enforce_share / 4294967296.0);
}

static int gate_set_enforce(rs_gate *self, PyObject *value, void *unused)
{
    double share = value ? PyFloat_AsDouble(value) : -1.0;
    if (share == -1.0 && PyErr_Occurred())
        return -1;
    if (!(share >= 0.0 && share <= 1.0)) {
        PyErr_Format(PyExc_ValueError, "enforce: must be True, False or a share from 0 to 1, not %R", value);
        return -1;
    }
    rs_lock_acquire(&self->lock);
    self->enforce_share = share >= 1.0 ? UINT32_MAX : (uint32_t)(share * 4294967296.0);
    rs_lock_release(&self->lock);
    return 0;
}

static PyObject *gate_get_kind(rs_gate *self, void *unused)
{
    const rs_kind *kind = self->ops ? rs_kind_of(self->ops) : NULL;
    return kind ? Py_NewRef(kind->kind) : PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* NULL in C is None in Python: the hot path only tests for NULL. */
static PyObject *gate_get_object(PyObject *self, void *offset)
{
    PyObject *value = rs_gate_own((rs_gate *)self, (PyObject **)((char *)self + (intptr_t)offset));
    return value ? value : Py_NewRef(Py_None);
}

PyObject *rs_gate_policy(rs_gate *gate)
{
    PyObject *policy = rs_gate_own(gate, &gate->policy), *alive = NULL;
    if (policy == NULL || !PyWeakref_Check(policy))
        return policy;
#if PY_VERSION_HEX >= 0x030D0000
    PyWeakref_GetRef(policy, &alive);
#else
    alive = PyWeakref_GET_OBJECT(policy);
    alive = alive == Py_None ? NULL : Py_NewRef(alive);
#endif
    Py_DECREF(policy);
    return alive;
}

static PyObject *gate_get_policy(rs_gate *self, void *unused)
{
    PyObject *policy = rs_gate_policy(self);
    return policy ? policy : Py_NewRef(Py_None);
}

static int gate_set_object(PyObject *self, PyObject *value, void *offset)
{
    PyObject **field = (PyObject **)((char *)self + (intptr_t)offset);
    PyObject *new = value && value != Py_None ? Py_NewRef(value) : NULL;
    rs_gate_lock((rs_gate *)self);
    PyObject *old = *field;
    *field = new;
    rs_gate_unlock((rs_gate *)self);
    Py_XDECREF(old);
    return 0;
}

static PyObject *gate_get_error(rs_gate *self, void *unused)
{
    return self->ops ? PyUnicode_FromString(self->ops->error) : Py_NewRef(Py_None);
}

static PyObject *gate_get_states(rs_gate *self, void *unused)
{
    Py_ssize_t n = 0;
    while (self->ops && self->ops->states && self->ops->states[n])
        n++;
    PyObject *states = PyTuple_New(n);
    for (Py_ssize_t i = 0; states && i < n; i++) {
        PyObject *state = PyUnicode_InternFromString(self->ops->states[i]);
        if (state == NULL)
            Py_CLEAR(states);
        else
            PyTuple_SET_ITEM(states, i, state);
    }
    return states;
}

static PyObject *gate_get_reasons(rs_gate *self, void *unused)
{
    const rs_kind *kind = self->ops ? rs_kind_of(self->ops) : NULL;
    return kind ? Py_NewRef(kind->reasons) : PyErr_Occurred() ? NULL : PyTuple_New(0);
}

static PyObject *gate_sizeof(rs_gate *self, PyObject *unused)
{
    return PyLong_FromSize_t((size_t)Py_TYPE(self)->tp_basicsize + rs_histogram_memory(&self->latency));
}

static PyObject *gate_deliver(rs_gate *self, PyObject *unused)
{
    rs_gate_deliver(self, NULL, 0);
    Py_RETURN_NONE;
}

static PyMethodDef gate_methods[] = {
    {"counters", (PyCFunction)gate_counters, METH_NOARGS,
     "counters($self, /)\n--\n\nAll counters of this gate, read at one moment, as a dict of int."},
    {"rejections", (PyCFunction)gate_rejections, METH_NOARGS,
     "rejections($self, /)\n--\n\n"
     "Number of rejections by reason: the closed set, a deadline too near, a wait that would block."},
    {"seconds", (PyCFunction)gate_seconds, METH_NOARGS,
     "seconds($self, /)\n--\n\nTime of the calls whose outermost stage this is, as a dict of seconds by segment."},
    {"drain_changes", (PyCFunction)gate_drain_changes, METH_NOARGS,
     "drain_changes($self, /)\n--\n\nTake the pending state changes, oldest first: (at_ns, from, to, reason)."},
    {"pass_changes", (PyCFunction)(void (*)(void))gate_pass_changes, METH_FASTCALL,
     "pass_changes($self, queue, context, /)\n--\n\n"
     "Append (gate, changes, context) to a deque if state changes are pending. "
     "Concurrent calls append in the order of the changes."},
    {"quantile", (PyCFunction)gate_quantile, METH_O,
     "quantile($self, q, /)\n--\n\nQuantile *q* (0 to 1) of the settled latencies, in seconds; NaN before the first."},
    {"deliver", (PyCFunction)gate_deliver, METH_NOARGS,
     "deliver($self, /)\n--\n\n"
     "Wake waiters and notify listeners that the gate has marked. For manual changes; call it without the lock."},
    {"__sizeof__", (PyCFunction)gate_sizeof, METH_NOARGS,
     "__sizeof__($self, /)\n--\n\nBytes held, histogram pages included."},
    {NULL},
};
static PyMemberDef gate_members[] = {
    {"listening", T_UINT, offsetof(rs_gate, listening), 0, "Wanted events, as bits: 1 rejected, 2 settled."},
    {"error_rule", T_UBYTE, offsetof(rs_gate, error_rule), 0,
     "Rule for errors in a client's pipeline; 0: the gate's own."},
    {"value_rule", T_UBYTE, offsetof(rs_gate, value_rule), 0,
     "Rule for answers in a client's pipeline; 0: the gate's own."},
    {"changes_lost", T_UINT, offsetof(rs_gate, changes_lost), READONLY,
     "State changes that were not recorded for lack of room."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(rs_gate, weakrefs), READONLY},
    {NULL},
};
#define OWN(field, doc) {#field, gate_get_object, gate_set_object, doc, (void *)offsetof(rs_gate, field)}
static PyGetSetDef gate_getset[] = {
    {"policy", (getter)gate_get_policy, gate_set_object, "The public policy, or None; it accepts a weak reference.",
     (void *)offsetof(rs_gate, policy)},
    OWN(name, "The policy's name, or None."),
    OWN(judge_error, "callable(exception) -> Outcome, or None for the default rule."),
    OWN(judge_value, "callable(result) -> Outcome, or None: success."),
    OWN(replay_error,
        "As judge_error, for a client's pipeline, which knows if a request may be repeated; None: by error_rule."),
    OWN(replay_value,
        "As judge_value, for a client's pipeline, which knows if a request may be repeated; None: by value_rule."),
    OWN(entry, "Key of a keyed policy that this gate serves, or None."),
    OWN(on_trip,
        "callable(gate, subject) after a failure that changed the state, callable(gate, subject, outcome) after a "
        "refusal; *subject* was raised or returned. Or None."),
    {"enforce", (getter)gate_get_enforce, (setter)gate_set_enforce,
     "Share of the calls to which rejections apply, 0 to 1."},
    {"waited", (getter)gate_waited, NULL, "Total seconds that calls have waited here."},
    {"error", (getter)gate_get_error, NULL, "Name in resilio.errors of the class of its rejections."},
    {"states", (getter)gate_get_states, NULL, "Closed set of states, possibly empty."},
    {"reasons", (getter)gate_get_reasons, NULL, "Closed set of reasons."},
    {"kind", (getter)gate_get_kind, NULL, "Kind of gate: circuit_breaker, bulkhead, ..."},
    {NULL},
};

PyTypeObject rs_GateType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Gate",
    .tp_basicsize = sizeof(rs_gate),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Base of native gates: counters, latency, judging, shadow share.",
    .tp_new = gate_new,
    .tp_dealloc = (destructor)gate_dealloc,
    .tp_traverse = (traverseproc)gate_traverse,
    .tp_clear = (inquiry)gate_clear,
    .tp_weaklistoffset = offsetof(rs_gate, weakrefs),
    .tp_methods = gate_methods,
    .tp_members = gate_members,
    .tp_getset = gate_getset,
};
