/* Pipeline: gates in order, outermost first, and the ways to run a call through them. The base of every policy. */
#include "call/call.h"

static int pipeline_traverse(rs_pipeline *self, visitproc visit, void *arg)
{
    Py_VISIT(self->gates);
    Py_VISIT(self->judges);
    Py_VISIT(self->hand_over);
    return 0;
}

static void pipeline_dealloc(rs_pipeline *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    PyMem_Free(self->gate);
    Py_CLEAR(self->gates);
    Py_CLEAR(self->judges);
    Py_CLEAR(self->hand_over);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return 1 if calling it returns a coroutine that has not run. Functions, methods, partials, guards,
   objects with async __call__. */
int rs_is_coroutine_function(PyObject *callable)
{
    if (RS_LIKELY(PyFunction_Check(callable)))
        return (rs_code_flags(PyFunction_GetCode(callable)) & CO_COROUTINE) != 0;
    if (Py_TYPE(callable) == &rs_GuardType)
        return ((GuardObject *)callable)->shape == RS_KIND_COROUTINE;
    if (PyMethod_Check(callable))
        return rs_is_coroutine_function(PyMethod_GET_FUNCTION(callable));
    if (PyCFunction_Check(callable) || PyType_Check(callable))
        return 0;
    static PyObject *is_coroutine_function;
    PyObject *hook = rs_hook("is_coroutine_function", &is_coroutine_function);
    PyObject *answer = hook ? PyObject_CallOneArg(hook, callable) : NULL;
    int yes = answer == Py_True;
    Py_XDECREF(answer);
    rs_drop_error();
    return yes;
}

static int need_function(const rs_pipeline *self, const char *method, Py_ssize_t nargs, PyObject *const *args)
{
    if (RS_LIKELY(nargs >= 1 && PyCallable_Check(args[0])))
        return 1;
    if (nargs < 1)
        PyErr_Format(PyExc_TypeError, "%s: the first argument is the function to call", method);
    else if (PyCoro_CheckExact(args[0])) /* it was called too early, outside its guard */
        PyErr_Format(PyExc_TypeError, "%s: must be given the function and its arguments, %s(fn, ...), not %R", method,
                     method, args[0]);
    else
        PyErr_Format(PyExc_TypeError, "%s: must be given a function, not %R", method, args[0]);
    return 0;
}

static int need_plain_function(const rs_pipeline *self, const char *method, const char *async, Py_ssize_t nargs,
                               PyObject *const *args)
{
    if (!need_function(self, method, nargs, args))
        return 0;
    if (RS_LIKELY(!rs_is_coroutine_function(args[0])))
        return 1;
    PyErr_Format(PyExc_TypeError, "%s: %R is a coroutine function, use `await %s(...)`", method, args[0], async);
    return 0;
}

/* The function to call, a new reference: with a pool, one that gives the endpoint to a function that wants it. */
static PyObject *function_for(rs_pipeline *self, PyObject *func)
{
    static PyObject *with_endpoint;
    if (RS_LIKELY(self->pool < 0))
        return Py_NewRef(func);
    PyObject *hook = rs_hook("with_endpoint", &with_endpoint);
    return hook ? PyObject_CallFunctionObjArgs(hook, (PyObject *)self, func, NULL) : NULL;
}

static PyObject *invoke(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int mode)
{
    PyObject *func = function_for(self, args[0]);
    PyObject *result = func ? rs_invoke(self, func, args + 1, (size_t)(nargs - 1), kwnames, mode, NULL) : NULL;
    Py_XDECREF(func);
    return result;
}

static PyObject *call_later(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int mode)
{
    PyObject *func = function_for(self, args[0]);
    PyObject *call = func ? rs_call_new(self, func, args + 1, (size_t)(nargs - 1), kwnames, mode, NULL) : NULL;
    Py_XDECREF(func);
    return call;
}

static PyObject *pipeline_call(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!need_plain_function(self, "call", "acall", nargs, args))
        return NULL;
    return invoke(self, args, nargs, kwnames, RS_MODE_RAISE);
}

static PyObject *pipeline_acall(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!need_function(self, "acall", nargs, args))
        return NULL;
    return call_later(self, args, nargs, kwnames, RS_MODE_RAISE);
}

static PyObject *pipeline_try_call(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!need_plain_function(self, "try_call", "try_acall", nargs, args))
        return NULL;
    return invoke(self, args, nargs, kwnames, RS_MODE_RESULT);
}

static PyObject *pipeline_try_acall(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!need_function(self, "try_acall", nargs, args))
        return NULL;
    return call_later(self, args, nargs, kwnames, RS_MODE_RESULT);
}

#define RS_NO_BLOCK                                                                                                    \
    "runs a function, and cannot guard a block or give a permit: decorate a function, or use retrying(...) for a "     \
    "block that is run again, "                                                                                        \
    "deadline(...) for one with a time limit"

/* Raise for a pipeline with strategies: they run a function, and cannot run a block. */
static int only_gates(const rs_pipeline *self)
{
    if (RS_LIKELY(!self->strategies))
        return 1;
    int i = 0;
    while (!self->gate[i]->ops->strategy)
        i++;
    const char *kind = self->gate[i]->ops->kind;
    if (self->n == 1)
        PyErr_Format(PyExc_TypeError, "a %s " RS_NO_BLOCK, kind);
    else
        PyErr_Format(PyExc_TypeError, "%R has a %s, which " RS_NO_BLOCK, self, kind);
    return 0;
}

/* The result of a run without a permit: a Rejection, or NULL with the rejection or another exception raised. */
static PyObject *rejected(rs_run *run, int verdict, const rs_rejection *why, int raise)
{
    PyObject *result = NULL;
    /* Raised: the deadline has passed, or a signal has come; the stage is still held. */
    if (RS_UNLIKELY(verdict != RS_REJECTED)) {
        rs_run_cancel(run, run->base, 0, rs_clock_now(rs_clk));
        rs_ledger_attach_pending(run);
        return NULL;
    }
    rs_gate *gate = run->slots[run->cursor].gate;
    if (raise) {
        rs_rejection_raise(gate, why);
        rs_ledger_attach_pending(run);
    }
    else
        result = rs_rejection_new(gate, why);
    rs_run_forget_rejected(run);
    return result;
}

/* *around*: for a stream, the permit of the stage around it, or NULL. */
static PyObject *acquire_now(rs_pipeline *self, PyObject *around, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, int may_wait, int raise)
{
    rs_slot slots[RS_INLINE_GATES];
    rs_run run = rs_run_of(self, rs_slots_for(self, slots), 0, rs_epoch);
    rs_request request = {args, nargs, kwnames, NULL, 0};
    rs_rejection why = {-1, NAN, NAN, -1};
    PyObject *result = NULL;
    if (run.slots == NULL)
        return NULL;
    if (around)
        rs_permit_lend(around, &run);
    int verdict = rs_admit_sync(&run, &request, may_wait, &why);
    if (RS_LIKELY(verdict == RS_ADMITTED))
        result = rs_permit_new(&run);
    else
        result = rejected(&run, verdict, &why, raise);
    rs_run_leave(&run);
    if (run.slots && run.slots != slots)
        PyMem_Free(run.slots);
    return result;
}

static PyObject *pipeline_try_acquire(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return only_gates(self) ? rs_permit_by_hand(acquire_now(self, NULL, args, nargs, kwnames, 0, 0)) : NULL;
}

static PyObject *pipeline_acquire(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return only_gates(self) ? rs_permit_by_hand(acquire_now(self, NULL, args, nargs, kwnames, 1, 1)) : NULL;
}

/* For a stage that runs a block or a stream itself. */
static PyObject *pipeline_hold(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1)
        return PyErr_Format(PyExc_TypeError, "_hold: takes the permit of the stage around, or nothing");
    PyObject *around = nargs && args[0] != Py_None ? args[0] : NULL;
    if (around && !rs_is_permit(around))
        return NULL;
    PyObject *permit = acquire_now(self, around, NULL, 0, NULL, 0, 1);
    if (permit)
        rs_permit_clock(permit);
    return permit;
}

static PyObject *pipeline_acquire_within(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs < 1)
        return PyErr_Format(PyExc_TypeError, "_acquire_within: the first argument is the permit of the stage around");
    return rs_is_permit(args[0]) && only_gates(self) ? acquire_now(self, args[0], args + 1, nargs - 1, kwnames, 1, 1)
                                                     : NULL;
}

static PyObject *pipeline_aacquire(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return only_gates(self) ? rs_call_new(self, NULL, args, (size_t)nargs, kwnames, RS_MODE_PERMIT, NULL) : NULL;
}

static PyObject *pipeline_aacquire_within(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs < 1)
        return PyErr_Format(PyExc_TypeError, "_aacquire_within: the first argument is the permit of the stage around");
    if (!rs_is_permit(args[0]))
        return NULL;
    PyObject *call = pipeline_aacquire(self, args + 1, nargs - 1, kwnames);
    if (call)
        rs_permit_lend(args[0], &((CallObject *)call)->run);
    return call;
}

static PyObject *queued(CallObject *call, PySendResult sent, PyObject *given)
{
    if (sent == PYGEN_NEXT)
        return Py_BuildValue("(NN)", call, given);
    Py_XDECREF((PyObject *)call);
    return given;
}

static PyObject *begin_slowly(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *call = pipeline_aacquire(self, args, nargs, kwnames), *given = NULL;
    if (call == NULL)
        return NULL;
    PySendResult sent = PyIter_Send(call, Py_None, &given);
    return queued((CallObject *)call, sent, given);
}

/* Begin `aacquire`. For callers that manage queued calls: an await would not show whether the call waits. A call is
   created only if it waits. */
static PyObject *pipeline_begin(rs_pipeline *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (RS_UNLIKELY((unsigned)self->n > RS_INLINE_GATES || self->strategies || rs_bypass_count))
        return begin_slowly(self, args, nargs, kwnames);
    rs_slot slots[RS_INLINE_GATES];
    rs_run run = rs_run_of(self, slots, 0, rs_epoch);
    rs_request request = {args, nargs, kwnames, NULL, 0};
    rs_rejection why = {-1, NAN, NAN, -1};
    PyObject *given = NULL;
    int verdict = rs_run_admit(&run, &request, 0, 1, 0, &why);
    if (RS_LIKELY(verdict == RS_ADMITTED))
        return rs_permit_new(&run);
    if (verdict == RS_WAIT) {
        CallObject *call = rs_call_waiting(&run, &request);
        if (call == NULL)
            return NULL;
        PySendResult sent = rs_call_wait(call, &given);
        return queued(call, sent, given);
    }
    return rejected(&run, verdict, &why, 1);
}

static PyMethodDef pipeline_methods[] = {
    {"call", (PyCFunction)(void (*)(void))pipeline_call, METH_FASTCALL | METH_KEYWORDS,
     "call($self, fn, /, *args, **kwargs)\n--\n\n"
     "Call `fn(*args, **kwargs)` if all gates admit, else raise the rejection. May block."},
    {"acall", (PyCFunction)(void (*)(void))pipeline_acall, METH_FASTCALL | METH_KEYWORDS,
     "acall($self, fn, /, *args, **kwargs)\n--\n\nAwait `fn(*args, **kwargs)` if all gates admit, else raise the "
     "rejection."},
    {"try_call", (PyCFunction)(void (*)(void))pipeline_try_call, METH_FASTCALL | METH_KEYWORDS,
     "try_call($self, fn, /, *args, **kwargs)\n--\n\nCall `fn(*args, **kwargs)`, and return a Result instead of "
     "raising."},
    {"try_acall", (PyCFunction)(void (*)(void))pipeline_try_acall, METH_FASTCALL | METH_KEYWORDS,
     "try_acall($self, fn, /, *args, **kwargs)\n--\n\n"
     "Await `fn(*args, **kwargs)`, and return a Result instead of raising."},
    {"try_acquire", (PyCFunction)(void (*)(void))pipeline_try_acquire, METH_FASTCALL | METH_KEYWORDS,
     "try_acquire($self, /, *args, **kwargs)\n--\n\n"
     "Return a Permit if all gates admit at once, else a Rejection. Neither waits nor raises a rejection."},
    {"acquire", (PyCFunction)(void (*)(void))pipeline_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, *args, **kwargs)\n--\n\nReturn a Permit, or raise the rejection. May block."},
    {"aacquire", (PyCFunction)(void (*)(void))pipeline_aacquire, METH_FASTCALL | METH_KEYWORDS,
     "aacquire($self, /, *args, **kwargs)\n--\n\nAwait a Permit, or raise the rejection."},
    {"_begin", (PyCFunction)(void (*)(void))pipeline_begin, METH_FASTCALL | METH_KEYWORDS,
     "_begin($self, /, *args, **kwargs)\n--\n\n"
     "Begin `aacquire(*args, **kwargs)`: return a Permit, or if it waits the call and its first yield."},
    {"_hold", (PyCFunction)(void (*)(void))pipeline_hold, METH_FASTCALL,
     "_hold($self, around=None, /)\n--\n\n"
     "Return a Permit, also with strategies: for a strategy that runs a block or a stream itself."},
    {"_acquire_within", (PyCFunction)(void (*)(void))pipeline_acquire_within, METH_FASTCALL | METH_KEYWORDS,
     "_acquire_within($self, around, /, *args, **kwargs)\n--\n\n"
     "As acquire, for a stage of a stream inside of the one that holds *around*, whose ledger covers both."},
    {"_aacquire_within", (PyCFunction)(void (*)(void))pipeline_aacquire_within, METH_FASTCALL | METH_KEYWORDS,
     "_aacquire_within($self, around, /, *args, **kwargs)\n--\n\n"
     "As aacquire, for a stage of a stream inside of the one that holds *around*, whose ledger covers both."},
    {NULL},
};
static PyMemberDef pipeline_members[] = {
    {"gates", T_OBJECT, offsetof(rs_pipeline, gates), READONLY, "Gates, outermost first."},
    {"judges", T_OBJECT, offsetof(rs_pipeline, judges), READONLY, "Judges of a client's pipeline, by rule; else None."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(rs_pipeline, weakrefs), READONLY},
    {NULL},
};

PyTypeObject rs_PipelineType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Pipeline",
    .tp_basicsize = sizeof(rs_pipeline),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Pipeline(gates, judges=None, hand_over=None)\n--\n\nGates in order, outermost first: admit all or "
              "nothing, settle exactly once.",
    .tp_new = rs_pipeline_new,
    .tp_init = (initproc)rs_pipeline_init,
    .tp_dealloc = (destructor)pipeline_dealloc,
    .tp_traverse = (traverseproc)pipeline_traverse,
    .tp_weaklistoffset = offsetof(rs_pipeline, weakrefs),
    .tp_methods = pipeline_methods,
    .tp_members = pipeline_members,
};
