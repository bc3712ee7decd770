/* Permits that outlive their call: Held, and the hook that receives it.
 *
 * A client's call returns with the headers of an answer; its permits must last until the body has ended. So a pipeline
 * may have a hook, `hand_over(held)`. It is called once for each series of neighbouring gates, innermost first, when
 * their inner part has returned or raised. `held.take()` returns a permit for all of them, which the hook must end.
 * Gates not taken are settled by their own rules, as in any call.
 *
 * Held is valid only while the hook runs.
 */
#include "call/call.h"

typedef struct {
    PyObject_HEAD
    rs_run *run; /* NULL: the hook has returned */
    rs_end *end;
    PyObject *slow; /* see rs_run_count; taken with the gates */
    int first;      /* its stages: from here to run->n */
} HeldObject;

static PyTypeObject HeldType;

/* End the call for these gates. If the answer continues, the permit takes over the call's time. */
static PyObject *take(rs_run *run, int first, const rs_end *end, PyObject **slow)
{
    int goes_on = end->value && first == 0 && !run->inside;
    if (first == run->base && !goes_on)
        *slow = rs_run_count(run, end->now_ns);
    return rs_permit_of_part(run, first, goes_on, end->now_ns);
}

static PyObject *call_hook(rs_run *run, HeldObject *held, CallObject *call)
{
    if (call) /* one of its stages may have sent the cancellation that is to be judged */
        rs_call_enter(call);
    PyObject *done = PyObject_CallOneArg(run->pipe->hand_over, (PyObject *)held);
    if (call) {
        rs_call_leave(call);
        call->running = 1;
    }
    return done;
}

/* Call the hook for the gates from *first* on. 1: they hold nothing more. An exception of the hook
   becomes that of the call. */
int rs_hand_over(rs_run *run, int first, rs_end *end, PyObject **slow)
{
    HeldObject *held = PyObject_New(HeldObject, &HeldType);
    PyObject *done = NULL;
    if (held) {
        held->run = run;
        held->end = end;
        held->first = first;
        held->slow = NULL;
        done = call_hook(run, held, (CallObject *)end->call);
        RS_ALONE(held);
        held->run = NULL;
        RS_NOT_ALONE();
        *slow = held->slow;
        Py_DECREF(held);
    }
    if (RS_UNLIKELY(done == NULL)) {
        PyObject *error = rs_take_error();
        if (run->n > first)
            Py_XDECREF(take(run, first, end, slow)); /* no verdict: a failing hook does not concern the callee */
        Py_CLEAR(end->value);
        Py_XSETREF(end->error, error);
    }
    Py_XDECREF(done);
    return run->n == first;
}

/* ---- the Python interface --------------------------------------------------------------------------------------- */

static PyObject *over(void)
{
    return PyErr_Format(PyExc_RuntimeError, "what a call has held is known to its hook only while that runs");
}

static PyObject *held_take(HeldObject *self, PyObject *unused)
{
    PyObject *permit = NULL;
    RS_ALONE(self);
    if (self->run == NULL)
        over();
    else if (self->run->n == self->first)
        PyErr_SetString(PyExc_RuntimeError, "its permit has been taken");
    else
        permit = take(self->run, self->first, self->end, &self->slow);
    RS_NOT_ALONE();
    return permit;
}

static PyObject *or_none(PyObject *value) { return Py_NewRef(value ? value : Py_None); }

static PyObject *held_get(HeldObject *self, void *which)
{
    const rs_end *end = self->run ? self->end : NULL;
    if (end == NULL)
        return over();
    switch ((uintptr_t)which) {
    case 0: return or_none(end->value);
    case 1: return or_none(end->error);
    case 2: return or_none(end->func);
    default: return or_none(end->request->nargs ? end->request->args[0] : NULL);
    }
}

static PyMethodDef held_methods[] = {
    {"take", (PyCFunction)held_take, METH_NOARGS,
     "take($self, /)\n--\n\n"
     "Take the permit of these gates, which outlives the call. Take it once, and end it as any permit."},
    {NULL},
};
static PyGetSetDef held_getset[] = {
    {"answer", (getter)held_get, NULL, "Value returned to these gates; None if the call raised.", (void *)0},
    {"error", (getter)held_get, NULL, "Exception raised; None if the call returned.", (void *)1},
    {"function", (getter)held_get, NULL, "Function that the call began with.", (void *)2},
    {"request", (getter)held_get, NULL, "First positional argument of the call; None without one.", (void *)3},
    {NULL},
};

static PyTypeObject HeldType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Held",
    .tp_basicsize = sizeof(HeldObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Permits of neighbouring gates for an ended call, as passed to the pipeline's hook `hand_over(held)`.",
    .tp_methods = held_methods,
    .tp_getset = held_getset,
};

int rs_hand_over_add(PyObject *module) { return PyModule_AddType(module, &HeldType); }
