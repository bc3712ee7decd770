/* The functions of core for strategies, which are separate modules. */
#include "call/call.h"

typedef int asking(rs_gate *, rs_slot *, void *);

static RS_APART int ask_from(const rs_frame *frame, const rs_gate_ops *kind, asking *ask, void *context, int *beyond)
{
    for (; frame; frame = frame->outer) {
        if (RS_UNLIKELY(frame->run->detached != rs_detached) && rs_detached_from(frame->run))
            break; /* those further out began even earlier */
        for (int i = frame->run->n - 1; i >= frame->run->base; i--) {
            rs_slot *slot = &frame->run->slots[i];
            if (beyond && slot->gate->span == RS_SEAT)
                *beyond = 1;
            int answer = slot->gate->ops == kind ? ask(slot->gate, slot, context) : 0;
            if (answer)
                return answer;
        }
    }
    return 0;
}

static int outer(const rs_gate_ops *kind, asking *ask, void *context, int *beyond)
{
    const rs_frame *frame = *rs_ambient();
    return frame ? ask_from(frame, kind, ask, context, beyond) : 0;
}

static rs_gate *outside(PyObject *call, int stage, const char *kind)
{
    const rs_run *run = &((CallObject *)call)->run;
    for (int i = stage - 1; i >= 0; i--) { /* below its base too: it may be inside another call */
        rs_gate *gate = i >= run->base && i < run->n ? run->slots[i].gate : run->pipe->gate[i];
        if (gate->ops->resolve == NULL && strcmp(gate->ops->kind, kind) == 0)
            return gate;
    }
    return NULL;
}

static void note_wait(rs_run *run, int64_t now_ns, int64_t until_ns)
{
    for (int i = run->n - 1; i >= run->base; i--) {
        rs_slot *slot = &run->slots[i];
        if (slot->gate->ops->strategy && slot->gate->ops->strategy->told)
            slot->gate->ops->strategy->told(slot, now_ns, until_ns);
    }
    rs_around_tell(run->around, until_ns);
}

static void told(PyObject *call, int64_t now_ns, int64_t until_ns)
{
    if (call) /* strategies run outside their own call */
        note_wait(&((CallObject *)call)->run, now_ns, until_ns);
    for (const rs_frame *frame = *rs_ambient(); frame && !rs_detached_from(frame->run); frame = frame->outer)
        note_wait(frame->run, now_ns, until_ns);
}

static int64_t deadline_ns(void) { return rs_deadline_ns(); }

static int64_t now_ns(void) { return rs_clock_now(rs_clk); }

/* Without threads that share a container it cannot change while it is read. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#endif
#define INSIDE 2   /* nesting depth of containers searched: `files={"name": (filename, file)}` */
#define ENTRIES 32 /* entries searched in each, at most */

static int is_one_shot(PyObject *value, int inside, int at_once);

/* Ask Python; an exception counts as no. */
static int says(const char *name, PyObject **cache, PyObject *one, PyObject *other)
{
    PyObject *hook = rs_hook(name, cache), *args[] = {one, other};
    PyObject *answer = hook ? PyObject_Vectorcall(hook, args, 2, NULL) : NULL;
    int yes = answer == Py_True;
    Py_XDECREF(answer);
    rs_drop_error();
    return yes;
}

static PyObject *is_lasting, *is_self;

/* User code called here may change the container. */
static int is_kept_one_shot(PyObject *item, int inside, int at_once)
{
    Py_INCREF(item);
    int found = is_one_shot(item, inside, at_once);
    Py_DECREF(item);
    return found;
}

static int holds_one_shot(PyObject *container, int inside, int at_once)
{
    PyObject *item = NULL;
    Py_ssize_t at = 0;
    int found = 0;
    Py_BEGIN_CRITICAL_SECTION(container);
    if (PyDict_CheckExact(container))
        for (int i = 0; !found && i < ENTRIES && PyDict_Next(container, &at, NULL, &item); i++)
            found = is_kept_one_shot(item, inside, at_once);
    else
        for (; !found && at < ENTRIES && at < PySequence_Fast_GET_SIZE(container); at++)
            found = is_kept_one_shot(PySequence_Fast_GET_ITEM(container, at), inside, at_once);
    Py_END_CRITICAL_SECTION();
    return found;
}

static int is_one_shot(PyObject *value, int inside, int at_once)
{
    PyAsyncMethods *async = Py_TYPE(value)->tp_as_async;
    if (PyCoro_CheckExact(value))
        return 1;
    if (PyIter_Check(value) || (async && async->am_anext))
        return !says("is_lasting", &is_lasting, value, at_once ? Py_True : Py_False);
    int container = PyDict_CheckExact(value) || PyList_CheckExact(value) || PyTuple_CheckExact(value);
    return inside && container && holds_one_shot(value, inside - 1, at_once);
}

/* is_one_shot(value) */
PyObject *rs_is_one_shot(PyObject *module, PyObject *value) { return PyBool_FromLong(is_one_shot(value, INSIDE, 0)); }

static int replayable(const rs_request *request, PyObject *func, int at_once)
{
    Py_ssize_t total = request->nargs + (request->kwnames ? PyTuple_GET_SIZE(request->kwnames) : 0);
    for (Py_ssize_t i = 0; i < total; i++)
        if (is_one_shot(request->args[i], INSIDE, at_once))
            if (i || request->nargs == 0 || func == NULL || !says("is_self", &is_self, func, request->args[0]))
                return 0;
    return 1;
}

const rs_core_api rs_api = {outer,
                            outside,
                            deadline_ns,
                            now_ns,
                            rs_may_block,
                            replayable,
                            rs_deadline_make,
                            rs_deadline_forget,
                            &rs_priority_count,
                            rs_priority_here,
                            told,
                            rs_gate_judge};
