/* The ambient chain: which guarded calls are under way in this thread. Swapped around each send, it costs two stores. */
#include "core.h"

RS_THREAD_LOCAL rs_frame *rs_innermost, *rs_streams;

typedef struct {
    PyObject_HEAD
    rs_run *run;                    /* NULL once the call has ended */
} CurrentCallObject;

void rs_frame_end(rs_frame *frame)
{
    if (frame->view) {
        ((CurrentCallObject *)frame->view)->run = NULL;
        Py_CLEAR(frame->view);
    }
}

void rs_frame_move(rs_frame *from, rs_frame *to)
{
    to->view = from->view;
    from->view = NULL;
    if (to->view)
        ((CurrentCallObject *)to->view)->run = to->run;
}

PyObject *rs_current(PyObject *module, PyObject *unused)
{
    rs_frame *frame = rs_innermost;
    if (frame == NULL)
        Py_RETURN_NONE;
    if (frame->view == NULL) {
        CurrentCallObject *view = PyObject_New(CurrentCallObject, &rs_CurrentCallType);
        if (view == NULL)
            return NULL;
        view->run = frame->run;
        frame->view = (PyObject *)view;
    }
    return Py_NewRef(frame->view);
}

static rs_run *view_run(CurrentCallObject *self)
{
    if (self->run == NULL)
        PyErr_SetString(PyExc_RuntimeError, "this call has ended already");
    return self->run;
}

static PyObject *view_verdict(CurrentCallObject *self, int verdict)
{
    rs_run *run = view_run(self);
    if (run == NULL)
        return NULL;
    run->verdict = (int8_t)verdict;
    Py_RETURN_NONE;
}

static PyObject *view_fail(CurrentCallObject *self, PyObject *unused) { return view_verdict(self, RS_FAILURE); }
static PyObject *view_ignore(CurrentCallObject *self, PyObject *unused) { return view_verdict(self, RS_IGNORED); }

static PyObject *view_first_item(CurrentCallObject *self, PyObject *unused)
{
    rs_run *run = view_run(self);
    if (run == NULL)
        return NULL;
    rs_run_first_item(run, rs_clock_now(rs_clk));
    Py_RETURN_NONE;
}

/* Hand the call's slot at *gate* to it. Reading the numbers may run anything, the end of this call included: so that
   comes first, and the slot is looked up after it. */
static PyObject *settle_at(CurrentCallObject *self, PyObject *gate, int at, PyObject *given)
{
    PyObject *actual = PyObject_CallMethod(gate, "actual", "O", given), *done = NULL;
    rs_run *run = actual ? view_run(self) : NULL;
    if (run && at < run->n)
        done = PyObject_CallMethod(gate, "settle_slot", "nO", (Py_ssize_t)&run->slots[at], actual);
    else if (run)
        PyErr_SetString(PyExc_RuntimeError, "this call has ended already");
    Py_XDECREF(actual);
    return done;
}

/* settle(limit, tokens=812) */
static PyObject *view_settle(CurrentCallObject *self, PyObject *args, PyObject *actual)
{
    PyObject *policy, *given = actual ? Py_NewRef(actual) : PyDict_New(), *done = NULL;
    rs_run *run = view_run(self);
    if (run == NULL || given == NULL || !PyArg_ParseTuple(args, "O:settle", &policy))
        goto out;
    for (int i = run->base; i < run->n; i++)
        if (run->slots[i].gate->policy == policy && strcmp(run->slots[i].gate->ops->kind, "rate_limit") == 0) {
            PyObject *gate = Py_NewRef((PyObject *)run->slots[i].gate);
            done = settle_at(self, gate, i, given);
            Py_DECREF(gate);
            goto out;
        }
    PyErr_Format(PyExc_LookupError, "this call went through no rate limit that is %R", policy);
out:
    Py_XDECREF(given);
    return done;
}

static PyObject *view_gates(CurrentCallObject *self, void *unused)
{
    rs_run *run = view_run(self);
    return run ? Py_NewRef(run->pipe->gates) : NULL;
}

static PyObject *view_attempt(CurrentCallObject *self, void *unused)
{
    rs_run *run = view_run(self);
    return run ? PyLong_FromUnsignedLong(run->attempt + 1) : NULL;
}

static PyObject *view_hedge(CurrentCallObject *self, void *unused)
{
    rs_run *run = view_run(self);
    return run ? PyLong_FromLong(run->hedge) : NULL;
}

static PyObject *view_segments(CurrentCallObject *self, void *unused)
{
    rs_run *run = view_run(self);
    return run ? rs_ledger_segments(run, rs_clock_now(rs_clk)) : NULL;
}

/* Of all calls under way in this thread, for one reading of the clock. */
void rs_phase_all(int segment)
{
    if (RS_LIKELY(!rs_innermost && !rs_streams))
        return;
    int64_t now = rs_clock_now(rs_clk);
    for (rs_frame *frame = rs_innermost; frame; frame = frame->outer)
        rs_ledger_phase(frame->run, segment, now);
    for (rs_frame *frame = rs_streams; frame; frame = frame->outer)
        rs_ledger_phase(frame->run, segment, now);
}

/* phase(name) */
PyObject *rs_phase(PyObject *module, PyObject *name)
{
    int segment = name == Py_None ? RS_ATTEMPT : rs_segment_of(name);
    if (segment < 0)
        return NULL;
    rs_phase_all(segment);
    Py_RETURN_NONE;
}

static void view_dealloc(CurrentCallObject *self) { PyObject_Free(self); }

static PyMethodDef view_methods[] = {
    {"fail", (PyCFunction)view_fail, METH_NOARGS, "fail($self, /)\n--\n\nWhatever the callee returns, this call counts as a failure."},
    {"ignore", (PyCFunction)view_ignore, METH_NOARGS, "ignore($self, /)\n--\n\nWhatever the callee returns, this call teaches nothing."},
    {"settle", (PyCFunction)(void (*)(void))view_settle, METH_VARARGS | METH_KEYWORDS,
     "settle($self, limit, /, **actual)\n--\n\nWhat this call cost the rate limit in truth, by unit: the difference to what was taken "
     "goes back, or becomes a debt."},
    {"first_item", (PyCFunction)view_first_item, METH_NOARGS,
     "first_item($self, /)\n--\n\nThe first item of a stream is here: latency is measured up to now."},
    {NULL}};
static PyGetSetDef view_getset[] = {
    {"attempt", (getter)view_attempt, NULL, "Which attempt this is, from 1: how often a strategy has run this call, once more."},
    {"hedge", (getter)view_hedge, NULL, "Which copy of the call this is: 0, or from 1 the hedge."},
    {"segments", (getter)view_segments, NULL, "What its time was spent on, up to now."},
    {"gates", (getter)view_gates, NULL, "The gates that this call went through, outermost first."},
    {NULL}};

PyTypeObject rs_CurrentCallType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.CurrentCall",
    .tp_basicsize = sizeof(CurrentCallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The guarded call that is under way.",
    .tp_dealloc = (destructor)view_dealloc,
    .tp_methods = view_methods,
    .tp_getset = view_getset,
};
