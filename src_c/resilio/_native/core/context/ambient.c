/* The ambient chain: the guarded calls in flight in this thread. It is swapped around each
   send, at the cost of two stores. */
#include "call/permit.h"

RS_THREAD_LOCAL rs_frame *rs_innermost, *rs_streams;

typedef struct {
    PyObject_HEAD
    rs_run *run;  /* NULL once the call has ended */
    rs_lock lock; /* another thread may use the view while the call ends: before that, or not at all */
} CurrentCallObject;

void rs_frame_end(rs_frame *frame)
{
    CurrentCallObject *view = (CurrentCallObject *)frame->view;
    if (view == NULL)
        return;
    rs_lock_acquire(&view->lock);
    view->run = NULL;
    rs_lock_release(&view->lock);
    rs_run_unviewed(frame->run);
    Py_CLEAR(frame->view);
}

PyObject *rs_current(PyObject *module, PyObject *unused)
{
    rs_frame *frame = *rs_ambient();
    if (frame == NULL)
        Py_RETURN_NONE;
    if (frame->view == NULL) {
        CurrentCallObject *view = PyObject_New(CurrentCallObject, &rs_CurrentCallType);
        if (view == NULL)
            return NULL;
        memset(&view->lock, 0, sizeof view->lock);
        view->run = frame->run;
        frame->view = (PyObject *)view;
#ifdef Py_GIL_DISABLED
        frame->run->viewed = &view->lock;
#endif
    }
    return Py_NewRef(frame->view);
}

/* The run, which lets go of no stage before `let_go`: no user code runs until then. NULL with an exception, and no
   `let_go`. */
static rs_run *take(CurrentCallObject *self)
{
    rs_lock_acquire(&self->lock);
    if (RS_LIKELY(self->run != NULL))
        return self->run;
    rs_lock_release(&self->lock);
    PyErr_SetString(PyExc_RuntimeError, "this call has ended already");
    return NULL;
}

static void let_go(CurrentCallObject *self) { rs_lock_release(&self->lock); }

static PyObject *view_verdict(CurrentCallObject *self, int verdict)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    run->verdict = (int8_t)verdict;
    let_go(self);
    Py_RETURN_NONE;
}

/* Without a reason: a text of the user's would be a label without bounds. */
static PyObject *view_fail(CurrentCallObject *self, PyObject *unused) { return view_verdict(self, RS_FAILURE); }
static PyObject *view_ignore(CurrentCallObject *self, PyObject *unused) { return view_verdict(self, RS_IGNORED); }

static PyObject *view_first_item(CurrentCallObject *self, PyObject *unused)
{
    rs_gate *changed[RS_MAX_GATES];
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    int n = rs_run_note_first_item(run, rs_clock_now(rs_clk), changed);
    let_go(self);
    rs_gates_deliver(changed, n);
    Py_RETURN_NONE;
}

/* The rate limit that the call passed, a new reference. NULL with an exception. */
static PyObject *limit_of(CurrentCallObject *self, PyObject *policy, int *at)
{
    PyObject *gate = NULL;
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    for (int i = run->base; i < run->n && gate == NULL; i++) {
        PyObject *own = rs_gate_policy(run->slots[i].gate); /* the slot keeps the gate alive */
        Py_XDECREF(own);
        if (own == policy && strcmp(run->slots[i].gate->ops->kind, "rate_limit") == 0) {
            gate = Py_NewRef((PyObject *)run->slots[i].gate);
            *at = i;
        }
    }
    int over = run->n == run->base; /* ended, but not reported yet */
    let_go(self);
    if (gate == NULL && over)
        return PyErr_Format(PyExc_RuntimeError, "this call has ended already");
    return gate ? gate : PyErr_Format(PyExc_LookupError, "this call went through no rate limit that is %R", policy);
}

/* Pass the call's slot at *gate* to it. Reading the numbers may run any code, the end of this call included: so that
   comes first, and the slot is looked up after it. */
static PyObject *settle_at(CurrentCallObject *self, PyObject *gate, int at, PyObject *given)
{
    PyObject *actual = PyObject_CallMethod(gate, "actual", "O", given), *settle = NULL, *slot = NULL, *done = NULL;
    rs_run *run = NULL;
    if (actual && (settle = PyObject_GetAttrString(gate, "settle_slot")) != NULL)
        run = take(self);
    int held = run && at < run->n && (PyObject *)run->slots[at].gate == gate;
    if (held && (slot = PyLong_FromVoidPtr(&run->slots[at])) != NULL)
        done = PyObject_CallFunctionObjArgs(settle, slot, actual, NULL);
    if (run)
        let_go(self);
    if (run && done == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "this call has ended already");
    if (done)
        rs_gate_deliver((rs_gate *)gate, NULL, 0);
    Py_XDECREF(actual);
    Py_XDECREF(settle);
    Py_XDECREF(slot);
    return done;
}

/* settle(limit, tokens=812) */
static PyObject *view_settle(CurrentCallObject *self, PyObject *args, PyObject *actual)
{
    int at = 0;
    PyObject *policy, *given, *done = NULL;
    if (!PyArg_ParseTuple(args, "O:settle", &policy))
        return NULL;
    PyObject *gate = limit_of(self, policy, &at);
    if (gate && (given = actual ? Py_NewRef(actual) : PyDict_New()) != NULL) {
        done = settle_at(self, gate, at, given);
        Py_DECREF(given);
    }
    Py_XDECREF(gate);
    return done;
}

static PyObject *view_gates(CurrentCallObject *self, void *unused)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    PyObject *gates = Py_NewRef(run->pipe->gates);
    let_go(self);
    return gates;
}

/* The permit of a stream's frame, with what its inner stages keep. */
static const PermitObject *permit_of(const rs_frame *frame)
{
    return (const PermitObject *)((const char *)frame - offsetof(PermitObject, frame));
}

/* What gates written in Python keep of all calls of a chain. */
static int add_gate_calls(PyObject *into, const rs_frame *frame, int streams)
{
    for (; frame; frame = frame->outer) {
        PyObject *inside = streams ? permit_of(frame)->inside : NULL;
        if (inside && PyList_SetSlice(into, PyList_GET_SIZE(into), PyList_GET_SIZE(into), inside) < 0)
            return -1;
        if (rs_run_gate_calls(frame->run, into) < 0)
            return -1;
    }
    return 0;
}

/* gate_calls() */
PyObject *rs_gate_calls(PyObject *module, PyObject *unused)
{
    PyObject *calls = PyList_New(0);
    if (calls && (add_gate_calls(calls, *rs_ambient(), 0) < 0 || add_gate_calls(calls, *rs_ambient_streams(), 1) < 0))
        Py_CLEAR(calls);
    return calls;
}

/* The endpoint of a seat: its own attribute, a new reference. None without a seat. */
PyObject *rs_endpoint_of(rs_gate *seat)
{
    static PyObject *name;
    if (seat == NULL)
        Py_RETURN_NONE;
    if (name == NULL && (name = PyUnicode_InternFromString("endpoint")) == NULL)
        return NULL;
    return PyObject_GetAttr((PyObject *)seat, name);
}

/* The seat of this pipeline's pool, NULL: of any pool, for the innermost call in flight that has one; a new reference. */
static rs_gate *ambient_seat(const rs_pipeline *pipe)
{
    rs_frame *chains[] = {*rs_ambient(), *rs_ambient_streams()};
    for (int i = 0; i < 2; i++)
        for (rs_frame *frame = chains[i]; frame; frame = frame->outer) {
            rs_gate *seat = pipe && frame->run->pipe != pipe ? NULL : rs_run_seat(frame->run);
            if (seat == NULL && pipe == NULL && i == 1)
                seat = permit_of(frame)->seat;
            if (seat)
                return (rs_gate *)Py_NewRef((PyObject *)seat);
        }
    return NULL;
}

/* endpoint(pipeline=None) */
PyObject *rs_endpoint(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1 || (nargs && args[0] != Py_None && !PyObject_TypeCheck(args[0], &rs_PipelineType)))
        return PyErr_Format(PyExc_TypeError, "endpoint: takes a policy, or nothing");
    rs_gate *seat = ambient_seat(nargs && args[0] != Py_None ? (rs_pipeline *)args[0] : NULL);
    PyObject *endpoint = rs_endpoint_of(seat);
    Py_XDECREF((PyObject *)seat);
    return endpoint;
}

static PyObject *view_endpoint(CurrentCallObject *self, void *unused)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    rs_gate *seat = (rs_gate *)Py_XNewRef((PyObject *)rs_run_seat(run));
    let_go(self);
    PyObject *endpoint = seat ? rs_endpoint_of(seat) : rs_endpoint(NULL, NULL, 0);
    Py_XDECREF((PyObject *)seat);
    return endpoint;
}

static PyObject *view_attempt(CurrentCallObject *self, void *unused)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    uint32_t attempt = run->attempt;
    let_go(self);
    return PyLong_FromUnsignedLong((unsigned long)attempt + 1);
}

static PyObject *view_hedge(CurrentCallObject *self, void *unused)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    long hedge = run->hedge;
    let_go(self);
    return PyLong_FromLong(hedge);
}

static PyObject *view_segments(CurrentCallObject *self, void *unused)
{
    rs_run *run = take(self);
    if (run == NULL)
        return NULL;
    PyObject *segments = rs_ledger_segments(run, rs_clock_now(rs_clk));
    let_go(self);
    return segments;
}

/* What the call has cost so far, by currency. */
static PyObject *view_cost(CurrentCallObject *self, void *unused)
{
    static PyObject *hook;
    PyObject *calls = PyList_New(0), *cost = NULL, *sums;
    rs_run *run = calls ? take(self) : NULL;
    int failed = run == NULL || rs_run_gate_calls(run, calls) < 0;
    if (run)
        let_go(self);
    if (!failed && (sums = rs_hook("cost_of", &hook)) != NULL)
        cost = PyObject_CallOneArg(sums, calls);
    Py_XDECREF(calls);
    return cost;
}

/* For all calls in flight in this thread, with one reading of the clock. */
static void phase_all(int segment)
{
    rs_frame *calls = *rs_ambient(), *streams = *rs_ambient_streams();
    if (RS_LIKELY(!calls && !streams))
        return;
    int64_t now = rs_clock_now(rs_clk);
    for (rs_frame *frame = calls; frame; frame = frame->outer)
        rs_ledger_phase(frame->run, segment, now);
    for (rs_frame *frame = streams; frame; frame = frame->outer)
        rs_ledger_phase(frame->run, segment, now);
}

/* phase(name). A function and no block: phases follow each other, and the attempt's end ends the last one. */
PyObject *rs_phase(PyObject *module, PyObject *name)
{
    int segment = name == Py_None ? RS_ATTEMPT : rs_segment_of(name);
    if (segment < 0)
        return NULL;
    phase_all(segment);
    Py_RETURN_NONE;
}

static void view_dealloc(CurrentCallObject *self) { PyObject_Free(self); }

static PyMethodDef view_methods[] = {
    {"fail", (PyCFunction)view_fail, METH_NOARGS,
     "fail($self, /)\n--\n\nCount this call as a failure, whatever value the callee returns."},
    {"ignore", (PyCFunction)view_ignore, METH_NOARGS,
     "ignore($self, /)\n--\n\nCount this call as ignored, whatever value the callee returns."},
    {"settle", (PyCFunction)(void (*)(void))view_settle, METH_VARARGS | METH_KEYWORDS,
     "settle($self, limit, /, **actual)\n--\n\n"
     "Report the actual cost of this call to the rate limit, by unit: the difference to the tokens taken "
     "is refunded, or becomes a debt."},
    {"first_item", (PyCFunction)view_first_item, METH_NOARGS,
     "first_item($self, /)\n--\n\nNote the first item of a stream: latency is measured up to now."},
    {NULL},
};
static PyGetSetDef view_getset[] = {
    {"attempt", (getter)view_attempt, NULL,
     "Number of this attempt, from 1: previous runs of this call by a strategy, plus 1."},
    {"cost", (getter)view_cost, NULL, "What the call has cost so far, by currency, as its spend limits were told."},
    {"endpoint", (getter)view_endpoint, NULL, "Endpoint of its pool that the call goes to, or None."},
    {"hedge", (getter)view_hedge, NULL, "Number of this copy: 0 for the primary, from 1 for hedges."},
    {"segments", (getter)view_segments, NULL, "Time of the call by segment, up to now."},
    {"gates", (getter)view_gates, NULL, "Gates that this call went through, outermost first."},
    {NULL},
};

PyTypeObject rs_CurrentCallType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.CurrentCall",
    .tp_basicsize = sizeof(CurrentCallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The guarded call in flight.",
    .tp_dealloc = (destructor)view_dealloc,
    .tp_methods = view_methods,
    .tp_getset = view_getset,
};
