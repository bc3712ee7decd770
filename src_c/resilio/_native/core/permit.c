/* Permit: a run held by hand. Ends exactly once; dropped, it is ignored. */
#include "core.h"

typedef struct {
    PyObject_VAR_HEAD
    rs_run run;
    rs_pipeline *pipe;
    PyObject *weakrefs;
    int ended;
    rs_frame frame;                 /* while the first item is made */
    uint64_t failed, ignored;       /* by slot: how its gate has judged the answer; 0: as a success, or there is none yet */
    rs_slot slots[];                /* as many as are held, and one at least: with more it is too large for the quick allocator */
} PermitObject;
#define JUDGED 64                   /* slots that a mask has room for; a pipeline has at most 17 */

/* Takes the run over from an owner that keeps its own reference to the pipeline. */
PyObject *rs_permit_new(rs_run *run)
{
    PermitObject *self = PyObject_GC_NewVar(PermitObject, &rs_PermitType, Py_MAX(run->n, 1));
    if (self == NULL) {
        rs_run_cancel(run, run->base, 0, rs_clock_now(rs_clk));
        return NULL;
    }
    self->weakrefs = NULL;
    self->ended = 0;
    self->failed = self->ignored = 0;
    self->frame = (rs_frame){NULL, NULL, NULL};
    self->run = *run;
    self->pipe = (rs_pipeline *)Py_NewRef((PyObject *)run->pipe);
    for (int i = 0; i < run->n; i++)
        self->slots[i] = run->slots[i];
    self->run.slots = self->slots;
    run->n = 0;
    run->ledger = NULL;
    run->lent = 0;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* What the stages from *first* on hold, which the run holds no more. *counts*: its time is the run's, which was answered *now*. */
PyObject *rs_permit_of_part(rs_run *run, int first, int counts, int64_t now)
{
    rs_run part = *run;
    part.slots = run->slots + first;
    part.base = 0;
    part.n = (int16_t)(run->n - first);
    run->n = (int16_t)first;
    if (counts) {
        run->ledger = NULL;
        rs_ledger_go(&part, RS_BODY, now);
    }
    else {
        part.ledger = NULL;
        part.inside = part.lent = 1;        /* it is told with the run's */
    }
    PyObject *permit = rs_permit_new(&part);
    if (permit == NULL)
        rs_ledger_drop(&part.ledger);
    return permit;
}

static int permit_traverse(PermitObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    return 0;
}

static unsigned abandoned;          /* permits so far: there may be something to be told of them */

/* The holder has dropped it: count that at its gates. */
static void count_abandoned(const rs_run *run)
{
    __atomic_fetch_add(&abandoned, 1, __ATOMIC_RELAXED);
    for (int i = run->base; i < run->n && run->epoch == rs_epoch; i++) {
        rs_gate_lock(run->slots[i].gate);
        run->slots[i].gate->counters.abandoned++;
        rs_gate_unlock(run->slots[i].gate);
    }
}

static inline int fails(const PermitObject *self, int i) { return i < JUDGED && self->failed >> i & 1; }

static inline int is_ignored(const PermitObject *self, int i) { return i < JUDGED && self->ignored >> i & 1; }

/* Settle each slot by how its answer was judged; *cut*: the rest was never read, so what is no failure says nothing. Innermost
   first, one by one. */
static void settle_as_judged(PermitObject *self, int cut, int in_finaliser)
{
    rs_run *run = &self->run;
    int base = run->base;
    int64_t now = rs_clock_now(rs_clk);
    for (int i = run->n - 1; i >= base; i--) {
        run->base = (int16_t)i;
        int outcome = fails(self, i) ? RS_FAILURE : cut || is_ignored(self, i) ? RS_IGNORED : RS_SUCCESS;
        rs_run_settle(run, outcome, NULL, in_finaliser, now);
    }
}

static void permit_dealloc(PermitObject *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (self->run.n > self->run.base) {
        count_abandoned(&self->run);
        settle_as_judged(self, 1, 1);
    }
    if (RS_UNLIKELY(self->run.ledger != NULL))
        rs_ledger_drop(&self->run.ledger);
    Py_DECREF((PyObject *)self->pipe);
    PyObject_GC_Del(self);
}

/* End it now, or RuntimeError if it has ended. On free-threaded builds too, one of two threads wins. */
static int permit_end(PermitObject *self)
{
    if (!__atomic_exchange_n(&self->ended, 1, __ATOMIC_ACQ_REL))
        return 1;
    PyErr_SetString(PyExc_RuntimeError, "this permit has ended already: a permit ends exactly once");
    return 0;
}

static PyObject *permit_success(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    rs_run_settle(&self->run, RS_SUCCESS, NULL, 0, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

static PyObject *permit_failure(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *error = nargs > 0 && args[0] != Py_None ? args[0] : NULL;
    if (nargs > 1 || (error && !PyExceptionInstance_Check(error)))
        return PyErr_Format(PyExc_TypeError, "failure: takes an exception or nothing");
    if (!permit_end(self))
        return NULL;
    int64_t now = rs_clock_now(rs_clk);
    rs_run_settle(&self->run, RS_FAILURE, error, 0, now);
    if (error)
        rs_ledger_attach(&self->run, error, now);
    Py_RETURN_NONE;
}

static PyObject *permit_ignore(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    rs_run_settle(&self->run, RS_IGNORED, NULL, 0, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

static PyObject *permit_cancel(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    rs_run_cancel(&self->run, 0, 0, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

static PyObject *permit_raised(PermitObject *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error))
        return PyErr_Format(PyExc_TypeError, "raised: takes an exception, not %R", error);
    if (!permit_end(self))
        return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    rs_run_raised(&self->run, rs_clock_now(rs_clk));
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyObject *permit_returned(PermitObject *self, PyObject *value)
{
    if (!permit_end(self))
        return NULL;
    rs_run_returned(&self->run, value, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

static PyObject *permit_first_item(PermitObject *self, PyObject *unused)
{
    if (self->ended)
        Py_RETURN_NONE;
    rs_run_first_item(&self->run, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

/* What the gate's own rule says about the answer. */
static int judge(rs_gate *gate, PyObject *value)
{
    PyObject *rule = rs_gate_own(gate, &gate->judge_value);
    if (rule == NULL)
        return RS_SUCCESS;
    PyObject *answer = PyObject_CallOneArg(rule, value);
    long outcome = answer ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    Py_DECREF(rule);
    if (outcome >= RS_SUCCESS && outcome <= RS_IGNORED)
        return (int)outcome;
    rs_drop_error();
    return RS_IGNORED;              /* a raising predicate teaches nothing */
}

static PyObject *permit_answered(PermitObject *self, PyObject *value)
{
    if (__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        Py_RETURN_NONE;
    int64_t now = rs_clock_now(rs_clk);
    for (int i = self->run.base; i < Py_MIN(self->run.n, JUDGED); i++) {
        rs_slot *slot = &self->run.slots[i];
        int outcome = RS_LIKELY(slot->gate->judge_value == NULL) ? RS_SUCCESS : judge(slot->gate, value);
        self->failed |= (uint64_t)(outcome == RS_FAILURE) << i;
        self->ignored |= (uint64_t)(outcome == RS_IGNORED) << i;
        if (outcome != RS_SUCCESS && slot->first_ns == 0)
            slot->first_ns = now;   /* not by first_item, at which a gate may take it for a success */
    }
    rs_run_first_item(&self->run, now);
    Py_RETURN_NONE;
}

static PyObject *permit_complete(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    settle_as_judged(self, 0, 0);
    Py_RETURN_NONE;
}

static PyObject *permit_abort(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    settle_as_judged(self, 1, 0);
    Py_RETURN_NONE;
}

static PyObject *permit_abandon(PermitObject *self, PyObject *unused)
{
    if (!permit_end(self))
        return NULL;
    count_abandoned(&self->run);
    settle_as_judged(self, 1, 1);
    Py_RETURN_NONE;
}

/* Nobody is in its block to be told by phase(): whoever holds the permit says it here. */
static PyObject *permit_phase(PermitObject *self, PyObject *name)
{
    int segment = name == Py_None ? RS_ATTEMPT : rs_segment_of(name);
    if (segment < 0)
        return NULL;
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        rs_ledger_phase(&self->run, segment, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

/* For strategies that run a stream: the call is at *segment* from now on, in this attempt; 0: in the one under way. */
static PyObject *permit_at(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int segment = nargs == 2 ? rs_any_segment_of(args[0]) : -1;
    unsigned long attempt = segment < 0 ? 0 : PyLong_AsUnsignedLong(args[1]);
    if (segment < 0 || PyErr_Occurred())
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "_at: takes a segment and an attempt");
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE)) {
        if (attempt)
            self->run.attempt = (uint32_t)attempt - 1;
        rs_ledger_begin(&self->run);
        rs_ledger_go(&self->run, segment, rs_clock_now(rs_clk));
    }
    Py_RETURN_NONE;
}

/* Call something that makes the first item, or goes on with that: phases that are told meanwhile are this permit's too. */
static PyObject *permit_within(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1)
        return PyErr_Format(PyExc_TypeError, "_within: the first argument is what to call");
    if (self->frame.run)                /* it is at it */
        return PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL);
    self->frame = (rs_frame){&self->run, rs_streams, NULL};
    rs_streams = &self->frame;
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL);
    rs_streams = self->frame.outer;
    self->frame.run = NULL;
    return result;
}

/* The done callback of a future: its end is the call's end. */
static PyObject *permit_future_done(PermitObject *self, PyObject *future)
{
    PyObject *cancelled = PyObject_CallMethod(future, "cancelled", NULL), *error = NULL;
    if (!permit_end(self))
        goto out;
    if (cancelled == Py_False)
        error = PyObject_CallMethod(future, "exception", NULL);
    if (error == NULL)
        rs_run_settle(&self->run, RS_IGNORED, NULL, 0, rs_clock_now(rs_clk));
    else if (error == Py_None) {
        PyObject *value = PyObject_CallMethod(future, "result", NULL);
        rs_run_returned(&self->run, value ? value : Py_None, rs_clock_now(rs_clk));
        Py_XDECREF(value);
    }
    else {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        rs_run_raised(&self->run, rs_clock_now(rs_clk));
    }
out:
    rs_drop_error();
    Py_XDECREF(cancelled);
    Py_XDECREF(error);
    Py_RETURN_NONE;
}

static PyObject *permit_get(PermitObject *self, void *which)
{
    return PyBool_FromLong(which ? self->ended : 1);
}

static PyObject *permit_segments(PermitObject *self, void *unused)
{
    if (__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        return PyErr_Format(PyExc_RuntimeError, "this permit has ended already: read its segments before");
    return rs_ledger_segments(&self->run, rs_clock_now(rs_clk));
}

static PyObject *permit_repr(PermitObject *self)
{
    return PyUnicode_FromFormat("<Permit of %R: %s>", self->pipe, self->ended ? "ended" : "held");
}

static PyMethodDef permit_methods[] = {
    {"success", (PyCFunction)permit_success, METH_NOARGS, "success($self, /)\n--\n\nEnd the permit: the call succeeded."},
    {"failure", (PyCFunction)(void (*)(void))permit_failure, METH_FASTCALL,
     "failure($self, error=None, /)\n--\n\nEnd the permit: the call failed. A breaker reads Retry-After from *error*."},
    {"ignore", (PyCFunction)permit_ignore, METH_NOARGS, "ignore($self, /)\n--\n\nEnd the permit: the call says nothing about the callee."},
    {"cancel", (PyCFunction)permit_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nGive everything back, tokens included: the callee was never called."},
    {"raised", (PyCFunction)permit_raised, METH_O, "raised($self, error, /)\n--\n\nEnd the permit as each gate's own rules judge *error*."},
    {"returned", (PyCFunction)permit_returned, METH_O, "returned($self, value, /)\n--\n\nEnd the permit as each gate's own rules judge *value*."},
    {"first_item", (PyCFunction)permit_first_item, METH_NOARGS,
     "first_item($self, /)\n--\n\nThe first item of a stream is here: latency is measured up to now."},
    {"answered", (PyCFunction)permit_answered, METH_O,
     "answered($self, value, /)\n--\n\nThe answer is here, and its body may follow: each gate judges *value* now, latency is measured up to now."},
    {"complete", (PyCFunction)permit_complete, METH_NOARGS, "complete($self, /)\n--\n\nEnd the permit as the answer was judged."},
    {"abort", (PyCFunction)permit_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nEnd the permit: its holder wants no more. A failure if the answer was judged so, else ignored."},
    {"abandon", (PyCFunction)permit_abandon, METH_NOARGS,
     "abandon($self, /)\n--\n\nEnd the permit as `abort`, in a finaliser, and count it as abandoned."},
    {"phase", (PyCFunction)permit_phase, METH_O,
     "phase($self, name, /)\n--\n\nTime counts as that from now on: connect, first_byte, body, or None for the attempt itself."},
    {"_at", (PyCFunction)(void (*)(void))permit_at, METH_FASTCALL,
     "_at($self, segment, attempt, /)\n--\n\nTime counts as that segment from now on, of that attempt: for strategies that run a stream."},
    {"_within", (PyCFunction)(void (*)(void))permit_within, METH_FASTCALL,
     "_within($self, function, /, *args)\n--\n\nCall it, which makes a stream's first item: `phase` tells this permit meanwhile."},
    {"_future_done", (PyCFunction)permit_future_done, METH_O, NULL},
    {NULL}};
static PyGetSetDef permit_getset[] = {
    {"segments", (getter)permit_segments, NULL, "What the time since it was asked for was spent on, up to now; not to be read once it has ended."},
    {"admitted", (getter)permit_get, NULL, "True.", (void *)0},
    {"ended", (getter)permit_get, NULL, "Has it been ended?", (void *)1},
    {NULL}};

PyTypeObject rs_PermitType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Permit",
    .tp_basicsize = sizeof(PermitObject),
    .tp_itemsize = sizeof(rs_slot),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "What a policy granted. End it once by success, failure or ignore; dropped, it is ignored.",
    .tp_dealloc = (destructor)permit_dealloc,
    .tp_traverse = (traverseproc)permit_traverse,
    .tp_repr = (reprfunc)permit_repr,
    .tp_weaklistoffset = offsetof(PermitObject, weakrefs),
    .tp_methods = permit_methods,
    .tp_getset = permit_getset,
};

/* ---- for streams -------------------------------------------------------------------------------------------- */

/* Of stages that do without a clock nobody has read one: a stream's time is told nevertheless. */
void rs_permit_clock(PyObject *permit)
{
    rs_run *run = &((PermitObject *)permit)->run;
    for (int i = run->base; i < run->n; i++)
        if (run->slots[i].admitted_ns == 0)
            run->slots[i].admitted_ns = rs_clock_now(rs_clk);
}

/* 0 with an exception. */
int rs_is_permit(PyObject *around)
{
    if (Py_IS_TYPE(around, &rs_PermitType))
        return 1;
    PyErr_Format(PyExc_TypeError, "around: must be the permit of the stage around, not %R", around);
    return 0;
}

/* A stage inside of the one that holds *permit* writes into its ledger, if that is held still. */
void rs_permit_lend(PyObject *permit, rs_run *to)
{
    PermitObject *self = (PermitObject *)permit;
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        rs_ledger_lend(&self->run, to);
}

/* ---- for blocks --------------------------------------------------------------------------------------------- */

/* End it as its block ends, unless that was done by hand. -1 with an exception. */
int rs_permit_leave(PyObject *permit, PyObject *error)
{
    PermitObject *self = (PermitObject *)permit;
    if (__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        return 0;
    PyObject *done = error ? permit_raised(self, error) : permit_success(self, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Its block will never be left: end it as a permit ends that nobody has any more. */
void rs_permit_drop(PyObject *permit)
{
    rs_permit_end_as(permit, RS_ABANDON);
}

/* ---- for clients -------------------------------------------------------------------------------------------- */

/* Is there something to be told first? Only what was abandoned is, and *seen* knows how much was when *news* was asked. -1 with
   an exception. */
int rs_has_news(unsigned *seen, PyObject *news)
{
    unsigned now = __atomic_load_n(&abandoned, __ATOMIC_RELAXED);
    if (RS_LIKELY(*seen == now))
        return 0;
    *seen = now;
    PyObject *answer = PyObject_CallNoArgs(news);
    int told = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return told;
}

PyObject *rs_permit_succeed(PyObject *permit) { return permit_success((PermitObject *)permit, NULL); }

/* What it was for could not be begun. Keeps no exception of its own. */
void rs_permit_drop_unused(PyObject *permit)
{
    PyObject *done = permit_ignore((PermitObject *)permit, NULL);
    if (done == NULL)
        PyErr_Clear();
    Py_XDECREF(done);
}

int rs_permit_answered(PyObject *permit, PyObject *answer)
{
    if (!Py_IS_TYPE(permit, &rs_PermitType)) {
        PyErr_Format(PyExc_TypeError, "must be a permit, not %R", permit);
        return -1;
    }
    Py_DECREF(permit_answered((PermitObject *)permit, answer));
    return 0;
}

int rs_permit_end_as(PyObject *permit, int how)
{
    PermitObject *self = (PermitObject *)permit;
    if (!Py_IS_TYPE(permit, &rs_PermitType) || __atomic_exchange_n(&self->ended, 1, __ATOMIC_ACQ_REL))
        return 0;
    if (how == RS_ABANDON)
        count_abandoned(&self->run);
    settle_as_judged(self, how != RS_COMPLETE, how == RS_ABANDON);
    return 1;
}
