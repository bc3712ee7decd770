/* The Python interface of a permit: methods that end it or describe it. */
#include "call/permit.h"

static int permit_traverse(PermitObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    return rs_run_visit(&self->run, visit, arg);
}

/* Warn a caller whose permit is dropped by the statement that took it. A warning turned into an error
   cannot be raised here. While an exception propagates, the permit dies with its frame: no Python runs
   then, since an interrupt could hit it. */
static void warn_if_at_once(PermitObject *self)
{
    static PyObject *hook;
    if (rs_finalizing() || PyErr_Occurred())
        return;
    PyObject *warn = rs_hook("warn_if_at_once", &hook);
    PyObject *done = warn ? PyObject_CallOneArg(warn, (PyObject *)self->pipe) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)self->pipe);
    Py_XDECREF(done);
}

static void permit_dealloc(PermitObject *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (RS_UNLIKELY(self->by_hand && !self->ended))
        warn_if_at_once(self);
    if (self->run.n > self->run.base)
        rs_permit_drop((PyObject *)self);
    rs_run_leave(&self->run);
    Py_XDECREF(self->noted);
    Py_XDECREF(self->inside);
    Py_XDECREF((PyObject *)self->seat);
    Py_DECREF((PyObject *)self->pipe);
    PyObject_GC_Del(self);
}

static PyObject *permit_success(PermitObject *self, PyObject *unused) { return rs_permit_settle(self, RS_SUCCESS); }
static PyObject *permit_ignore(PermitObject *self, PyObject *unused) { return rs_permit_settle(self, RS_IGNORED); }
static PyObject *permit_raised(PermitObject *self, PyObject *error) { return rs_permit_raised(self, error); }

static void end_out_of_time(PermitObject *self, PyObject *error)
{
    int64_t now = rs_clock_now(rs_clk);
    int outcome = RS_IGNORED;
    for (int i = self->run.base; i < self->run.n; i++)
        if (self->run.slots[i].admitted_ns && rs_judge_out_of_time(&self->run.slots[i], now) == RS_FAILURE)
            outcome = RS_FAILURE;
    PyObject *calls = rs_run_spends(&self->run);
    rs_run_settle(&self->run, outcome, error, 0, now);
    rs_ledger_attach(&self->run, error, calls, now);
    Py_XDECREF(calls);
}

static PyObject *permit_out_of_time(PermitObject *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error))
        return PyErr_Format(PyExc_TypeError, "out_of_time: takes an exception, not %R", error);
    return rs_permit_close(self, end_out_of_time, error) ? Py_NewRef(Py_None) : NULL;
}

static void end_with(PermitObject *self, int outcome, PyObject *error)
{
    int64_t now = rs_clock_now(rs_clk);
    PyObject *calls = error ? rs_run_spends(&self->run) : NULL;
    rs_run_settle(&self->run, outcome, error, 0, now);
    if (error)
        rs_ledger_attach(&self->run, error, calls, now);
    Py_XDECREF(calls);
}

static void fail(PermitObject *self, PyObject *error) { end_with(self, RS_FAILURE, error); }
static void refuse(PermitObject *self, PyObject *error) { end_with(self, RS_REFUSED, error); }
static void answer(PermitObject *self, PyObject *error) { end_with(self, RS_UNSERVED, error); }

static PyObject *end_by(PermitObject *self, rs_permit_step end, const char *name, PyObject *const *args,
                        Py_ssize_t nargs)
{
    PyObject *error = nargs > 0 && args[0] != Py_None ? args[0] : NULL;
    if (nargs > 1 || (error && !PyExceptionInstance_Check(error)))
        return PyErr_Format(PyExc_TypeError, "%s: takes an exception or nothing", name);
    return rs_permit_close(self, end, error) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *permit_failure(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return end_by(self, fail, "failure", args, nargs);
}

static PyObject *permit_refused(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return end_by(self, refuse, "refused", args, nargs);
}

static PyObject *permit_unserved(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return end_by(self, answer, "unserved", args, nargs);
}

static void cancel(PermitObject *self, PyObject *unused) { rs_run_cancel(&self->run, 0, 0, rs_clock_now(rs_clk)); }

static PyObject *permit_cancel(PermitObject *self, PyObject *unused)
{
    return rs_permit_close(self, cancel, NULL) ? Py_NewRef(Py_None) : NULL;
}

static void end_uncalled(PermitObject *self, PyObject *error)
{
    int64_t now = rs_clock_now(rs_clk);
    PyObject *calls = rs_run_spends(&self->run);
    rs_run_cancel(&self->run, 0, 0, now);
    rs_ledger_attach(&self->run, error, calls, now);
    Py_XDECREF(calls);
}

static PyObject *permit_uncalled(PermitObject *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error))
        return PyErr_Format(PyExc_TypeError, "_uncalled: takes an exception, not %R", error);
    return rs_permit_close(self, end_uncalled, error) ? Py_NewRef(Py_None) : NULL;
}

static void judge_by(PermitObject *self, PyObject *value) { rs_run_returned(&self->run, value, rs_clock_now(rs_clk)); }

static PyObject *permit_returned(PermitObject *self, PyObject *value)
{
    return rs_permit_close(self, judge_by, value) ? Py_NewRef(Py_None) : NULL;
}

static void first_item(PermitObject *self, PyObject *unused) { rs_run_first_item(&self->run, rs_clock_now(rs_clk)); }

static PyObject *permit_first_item(PermitObject *self, PyObject *unused)
{
    rs_permit_do(self, first_item, NULL);
    Py_RETURN_NONE;
}

static PyObject *permit_answered(PermitObject *self, PyObject *value)
{
    rs_permit_judge(self, value);
    Py_RETURN_NONE;
}

static PyObject *end_as(PermitObject *self, rs_permit_end how)
{
    if (!rs_permit_end_as(self, how))
        return rs_permit_has_ended();
    Py_RETURN_NONE;
}

static PyObject *permit_complete(PermitObject *self, PyObject *unused) { return end_as(self, RS_COMPLETE); }
static PyObject *permit_abort(PermitObject *self, PyObject *unused) { return end_as(self, RS_ABORT); }
static PyObject *permit_abandon(PermitObject *self, PyObject *unused) { return end_as(self, RS_ABANDON); }

/* phase() does not reach a permit without an open block: its holder sets the phase here. */
static PyObject *permit_phase(PermitObject *self, PyObject *name)
{
    int segment = name == Py_None ? RS_ATTEMPT : rs_segment_of(name);
    if (segment < 0)
        return NULL;
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        rs_ledger_phase(&self->run, segment, rs_clock_now(rs_clk));
    RS_NOT_ALONE();
    Py_RETURN_NONE;
}

/* For strategies that run a stream: count time as *segment* from now on, in this attempt; 0: in the current one. */
static PyObject *permit_at(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int segment = nargs == 2 ? rs_any_segment_of(args[0]) : -1;
    unsigned long attempt = segment < 0 ? 0 : PyLong_AsUnsignedLong(args[1]);
    if (segment < 0 || PyErr_Occurred())
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "_at: takes a segment and an attempt");
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE)) {
        if (attempt)
            self->run.attempt = (uint32_t)attempt - 1;
        rs_ledger_begin(&self->run);
        rs_ledger_go(&self->run, segment, rs_clock_now(rs_clk));
    }
    RS_NOT_ALONE();
    Py_RETURN_NONE;
}

/* Note what the Python gates of *inner*, a permit of an inner stage of this stream, keep of it, and its endpoint. */
static PyObject *permit_keep_calls(PermitObject *self, PyObject *inner)
{
    if (!Py_IS_TYPE(inner, &rs_PermitType))
        return PyErr_Format(PyExc_TypeError, "_keep_calls: takes a permit");
    PyObject *calls = PyList_New(0), *failed = NULL;
    if (calls == NULL || rs_run_gate_calls(&((PermitObject *)inner)->run, calls) < 0) {
        Py_XDECREF(calls);
        return NULL;
    }
    rs_gate *seat = rs_run_seat(&((PermitObject *)inner)->run), *before = NULL;
    RS_ALONE(self);
    if (seat) {
        before = self->seat;
        self->seat = (rs_gate *)Py_NewRef((PyObject *)seat);
    }
    if (PyList_GET_SIZE(calls) && self->inside == NULL)
        self->inside = Py_NewRef(calls);
    else if (PyList_GET_SIZE(calls) && PyList_SetSlice(self->inside, 0, 0, calls) < 0)
        failed = calls;
    RS_NOT_ALONE();
    Py_XDECREF((PyObject *)before);
    Py_DECREF(calls);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *permit_gate_calls(PermitObject *self, PyObject *unused)
{
    PyObject *calls = PyList_New(0);
    if (calls && rs_run_gate_calls(&self->run, calls) < 0)
        Py_CLEAR(calls);
    return calls;
}

static PyObject *permit_has_untried(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(rs_permit_has_untried(self));
}

/* Call a function that makes the first item, or continues with it. Phases reported meanwhile
   count for this permit too. */
static PyObject *permit_within(PermitObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1)
        return PyErr_Format(PyExc_TypeError, "_within: the first argument is what to call");
    rs_run *none = NULL;
    /* Already inside. */
    if (!__atomic_compare_exchange_n(&self->frame.run, &none, &self->run, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL);
    rs_shares_stack(); /* from here on the chains may have to be kept apart */
    rs_frame **streams = rs_ambient_streams();
    self->frame.outer = *streams;
    *streams = &self->frame;
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL);
    streams = rs_ambient_streams(); /* another greenlet may have run meanwhile */
    *streams = self->frame.outer;
    __atomic_store_n(&self->frame.run, NULL, __ATOMIC_RELEASE);
    return result;
}

static void end_as_future(PermitObject *self, PyObject *future)
{
    PyObject *cancelled = PyObject_CallMethod(future, "cancelled", NULL), *error = NULL;
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
    Py_XDECREF(cancelled);
    Py_XDECREF(error);
}

/* The done callback of a future: the future's end is the call's end. */
static PyObject *permit_future_done(PermitObject *self, PyObject *future)
{
    rs_permit_close(self, end_as_future, future);
    rs_drop_error();
    Py_RETURN_NONE;
}

static PyObject *permit_get(PermitObject *self, void *which) { return PyBool_FromLong(which ? self->ended : 1); }

static PyObject *permit_segments(PermitObject *self, void *unused)
{
    PyObject *segments = NULL;
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        segments = rs_ledger_segments(&self->run, rs_clock_now(rs_clk));
    else
        PyErr_SetString(PyExc_RuntimeError, "this permit has ended already: read its segments before");
    RS_NOT_ALONE();
    return segments;
}

static PyObject *permit_endpoint(PermitObject *self, void *unused)
{
    rs_gate *seat = NULL;
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        seat = (rs_gate *)Py_XNewRef((PyObject *)rs_run_seat(&self->run));
    RS_NOT_ALONE();
    PyObject *endpoint = rs_endpoint_of(seat);
    Py_XDECREF((PyObject *)seat);
    return endpoint;
}

static PyObject *permit_repr(PermitObject *self)
{
    return PyUnicode_FromFormat("<Permit of %R: %s>", self->pipe, self->ended ? "ended" : "held");
}

static PyMethodDef permit_methods[] = {
    {"success", (PyCFunction)permit_success, METH_NOARGS,
     "success($self, /)\n--\n\nEnd the permit: the call succeeded."},
    {"refused", (PyCFunction)(void (*)(void))permit_refused, METH_FASTCALL,
     "refused($self, error=None, /)\n--\n\nEnd the call as refused: the server is up and did nothing, perhaps because "
     "of "
     "*error*."},
    {"unserved", (PyCFunction)(void (*)(void))permit_unserved, METH_FASTCALL,
     "unserved($self, error=None, /)\n--\n\nEnd the permit: the server has answered and served nothing, as by a 404. "
     "That is a success, but no evidence about an endpoint of a pool."},
    {"failure", (PyCFunction)(void (*)(void))permit_failure, METH_FASTCALL,
     "failure($self, error=None, /)\n--\n\nEnd the permit: the call failed. A breaker reads Retry-After from *error*."},
    {"ignore", (PyCFunction)permit_ignore, METH_NOARGS,
     "ignore($self, /)\n--\n\nEnd the permit: the call is no evidence about the callee."},
    {"cancel", (PyCFunction)permit_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nRelease everything, tokens included: the callee was never called."},
    {"raised", (PyCFunction)permit_raised, METH_O,
     "raised($self, error, /)\n--\n\nEnd the permit as each gate's own rules judge *error*."},
    {"out_of_time", (PyCFunction)permit_out_of_time, METH_O,
     "out_of_time($self, error, /)\n--\n\n"
     "End the permit: a deadline has ended the call. A failure if it had as much time as "
     "99 % of its successes took, else ignored."},
    {"_uncalled", (PyCFunction)permit_uncalled, METH_O,
     "_uncalled($self, error, /)\n--\n\nAs `cancel`, for a stage of a stream whose inner part has raised *error*."},
    {"returned", (PyCFunction)permit_returned, METH_O,
     "returned($self, value, /)\n--\n\nEnd the permit as each gate's own rules judge *value*."},
    {"first_item", (PyCFunction)permit_first_item, METH_NOARGS,
     "first_item($self, /)\n--\n\nNote the first item of a stream: latency is measured up to now."},
    {"answered", (PyCFunction)permit_answered, METH_O,
     "answered($self, value, /)\n--\n\n"
     "Note the answer, whose body may follow: each gate judges *value*, latency is measured up to now."},
    {"complete", (PyCFunction)permit_complete, METH_NOARGS,
     "complete($self, /)\n--\n\nEnd the permit as the answer was judged."},
    {"abort", (PyCFunction)permit_abort, METH_NOARGS,
     "abort($self, /)\n--\n\n"
     "End the permit: its holder stops early. A failure if the answer was judged so, else ignored."},
    {"abandon", (PyCFunction)permit_abandon, METH_NOARGS,
     "abandon($self, /)\n--\n\nEnd the permit as `abort`, in a finaliser, and count it as abandoned."},
    {"phase", (PyCFunction)permit_phase, METH_O,
     "phase($self, name, /)\n--\n\n"
     "Count time as this phase from now on: connect, first_byte, body, or None for the attempt itself."},
    {"_at", (PyCFunction)(void (*)(void))permit_at, METH_FASTCALL,
     "_at($self, segment, attempt, /)\n--\n\n"
     "Count time as this segment of this attempt from now on: for strategies that run a stream."},
    {"_within", (PyCFunction)(void (*)(void))permit_within, METH_FASTCALL,
     "_within($self, function, /, *args)\n--\n\n"
     "Call *function*, which makes a stream's first item; phases reported meanwhile count for this permit."},
    {"_keep_calls", (PyCFunction)permit_keep_calls, METH_O,
     "_keep_calls($self, inner, /)\n--\n\n"
     "Note what the Python gates of a permit of an inner stage of this stream keep of it, for gate_calls()."},
    {"_gate_calls", (PyCFunction)permit_gate_calls, METH_NOARGS,
     "_gate_calls($self, /)\n--\n\nReturn what gates written in Python keep of the call, innermost first."},
    {"_has_untried", (PyCFunction)permit_has_untried, METH_NOARGS,
     "_has_untried($self, /)\n--\n\n"
     "Return True if a further attempt of a stream goes to an endpoint of a pool that none has been to."},
    {"_future_done", (PyCFunction)permit_future_done, METH_O, NULL},
    {NULL},
};
static PyGetSetDef permit_getset[] = {
    {"segments", (getter)permit_segments, NULL,
     "Time since the permit was requested, by segment, up to now. "
     "Read it before the permit ends, else RuntimeError."},
    {"endpoint", (getter)permit_endpoint, NULL, "Endpoint of its pool that it is for, None without one."},
    {"admitted", (getter)permit_get, NULL, "True.", (void *)0},
    {"ended", (getter)permit_get, NULL, "True once the permit has ended.", (void *)1},
    {NULL},
};

PyTypeObject rs_PermitType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Permit",
    .tp_basicsize = sizeof(PermitObject),
    .tp_itemsize = sizeof(rs_slot),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A permit granted by a policy. End it once by success, failure or ignore; if dropped it is ignored.",
    .tp_dealloc = (destructor)permit_dealloc,
    .tp_traverse = (traverseproc)permit_traverse,
    .tp_repr = (reprfunc)permit_repr,
    .tp_weaklistoffset = offsetof(PermitObject, weakrefs),
    .tp_methods = permit_methods,
    .tp_getset = permit_getset,
};
