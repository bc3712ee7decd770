/* The ambient deadline: the value of one context variable, and its lookup by the engine.
 *
 * A context is copied into tasks and threads that outlive the block which set it. So each value counts itself: while no
 * AmbientDeadline is alive no context can hold one, and the lookup is skipped.
 *
 * A generator runs in the context of its consumer, so the consumer sees values that the generator sets. A value set in
 * a generator's own frame therefore refers to that generator, and is in effect only while it runs. Values set on top of
 * it, by its consumer between two items for instance, link to it: the earliest deadline in effect counts.
 *
 * A detached block is a value too, and values set inside it link to it. Its number shows which calls in flight in this
 * thread began before it: their deadlines and retries do not apply inside.
 */
#include "call/block.h"
#include "try_hold.h"

int rs_deadline_count;
uint32_t rs_detached;
static PyObject *context_deadline;

typedef struct deadline_object {
    PyObject_HEAD
    int64_t until_ns;              /* RS_NEVER: none, a detached part of a generator */
    int64_t allowed_ns;            /* the time given when it was set, for the error */
    struct deadline_object *outer; /* the value before, owned; NULL where it no longer matters */
    PyObject *generator;           /* weak reference, or NULL */
    PyObject *cutoff;              /* weak reference to the object that interrupts at until_ns, or NULL */
    uint8_t closed;                /* the generator has left the block */
} DeadlineObject;

/* A new reference to the referent; NULL without an exception if it is gone. */
static PyObject *alive(PyObject *reference)
{
    if (reference == NULL)
        return NULL;
    PyObject *object = PyObject_CallNoArgs(reference);
    if (object == NULL)
        rs_drop_error();
    if (object == Py_None)
        Py_CLEAR(object);
    return object;
}

static int is_running(PyObject *generator)
{
    PyObject *answer = PyObject_GetAttrString(generator, PyGen_CheckExact(generator) ? "gi_running" : "ag_running");
    int running = answer == Py_True;
    if (answer == NULL)
        rs_drop_error();
    Py_XDECREF(answer);
    return running;
}

int rs_holds_in(PyObject *reference, int closed)
{
    if (RS_LIKELY(reference == NULL))
        return 1;
    PyObject *generator = closed ? NULL : alive(reference);
    int running = generator && is_running(generator);
    Py_XDECREF(generator);
    return running;
}

static int holds(DeadlineObject *self) { return rs_holds_in(self->generator, self->closed); }

/* The values in effect in a context. */
typedef struct {
    DeadlineObject *deadline; /* in effect, owned; NULL: none */
    int detached;             /* in a detached block */
    uint32_t number;          /* the number of that block */
} Context;

/* Of *self* and the values outside it, the earliest deadline in effect, the outermost of equals; borrowed. */
static Context nearest(DeadlineObject *self)
{
    Context found = {NULL, 0, 0};
    for (; self; self = self->outer) {
        if (!holds(self))
            continue;
        if (self->until_ns == RS_NEVER) /* detached from all outer values */
            return (Context){found.deadline, 1, (uint32_t)self->allowed_ns};
        if (found.deadline == NULL || self->until_ns <= found.deadline->until_ns)
            found.deadline = self;
    }
    return found;
}

/* The values in effect here; without an exception. */
static Context in_context(void)
{
    PyObject *variable = rs_hook("deadline", &context_deadline), *value = NULL;
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0)
        rs_drop_error();
    Context found = {NULL, 0, 0};
    if (value && Py_IS_TYPE(value, &rs_AmbientDeadlineType))
        found = nearest((DeadlineObject *)value);
    Py_XINCREF((PyObject *)found.deadline);
    Py_XDECREF(value);
    return found;
}

/* A detached block is outside every call that began before it. */
static int is_outside(const rs_run *run, const Context *context)
{
    return context->detached && (int32_t)(run->detached - context->number) < 0;
}

int rs_detached_from(const rs_run *run)
{
    if (!__atomic_load_n(&rs_deadline_count, __ATOMIC_RELAXED))
        return 0;
    Context context = in_context();
    Py_XDECREF((PyObject *)context.deadline);
    return is_outside(run, &context);
}

/* The deadline of the calls in flight in this thread. */
static int64_t in_chain(const rs_frame *top, const Context *context)
{
    const rs_run *run = top ? top->run : NULL;
    if (run == NULL || run->deadline_ns == RS_NEVER)
        return RS_NEVER;
    return is_outside(run, context) ? RS_NEVER : run->deadline_ns;
}

int64_t rs_deadline_with_context(const rs_frame *top)
{
    Context context = in_context();
    int64_t until_ns = in_chain(top, &context);
    if (context.deadline && context.deadline->until_ns < until_ns)
        until_ns = context.deadline->until_ns;
    Py_XDECREF((PyObject *)context.deadline);
    return until_ns;
}

/* The deadline in effect here, a new reference: from the context, or made from that of a call. NULL: there is none. */
static DeadlineObject *here(void)
{
    const rs_frame *top = *rs_ambient();
    Context context = __atomic_load_n(&rs_deadline_count, __ATOMIC_RELAXED) ? in_context() : (Context){NULL, 0, 0};
    int64_t chain = in_chain(top, &context);
    if (context.deadline && context.deadline->until_ns <= chain)
        return context.deadline;
    Py_XDECREF((PyObject *)context.deadline);
    if (chain == RS_NEVER)
        return NULL;
    const rs_run *run = top->run;
    int64_t began = run->n > run->base ? run->slots[run->base].admitted_ns : rs_clock_now(rs_clk);
    return (DeadlineObject *)PyObject_CallFunction((PyObject *)&rs_AmbientDeadlineType, "LL", (long long)chain,
                                                   (long long)Py_MAX(chain - began, 0));
}

PyObject *rs_deadline_allowed(void)
{
    DeadlineObject *self = here();
    if (self == NULL && PyErr_Occurred())
        return NULL;
    PyObject *seconds = self ? PyFloat_FromDouble((double)self->allowed_ns / 1e9) : Py_NewRef(Py_None);
    Py_XDECREF((PyObject *)self);
    return seconds;
}

/* Return 1 if the deadline here has passed in a task that it interrupts. A cancellation then counts as its own. */
int rs_deadline_interrupts(int64_t now)
{
    DeadlineObject *self = __atomic_load_n(&rs_deadline_count, __ATOMIC_RELAXED) ? in_context().deadline : NULL;
    PyObject *cutoff = self && now >= self->until_ns ? alive(self->cutoff) : NULL;
    Py_XDECREF(cutoff);
    Py_XDECREF((PyObject *)self);
    return cutoff != NULL;
}

/* seconds_left() */
PyObject *rs_seconds_left(PyObject *module, PyObject *unused)
{
    int64_t until_ns = rs_deadline_ns();
    if (until_ns == RS_NEVER)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)Py_MAX(until_ns - rs_clock_now(rs_clk), 0) / 1e9);
}

PyObject *rs_ambient_deadline(PyObject *module, PyObject *unused)
{
    DeadlineObject *self = here();
    return self || PyErr_Occurred() ? (PyObject *)self : Py_NewRef(Py_None);
}

/* Begin a detached block and return its number, the `allowed_ns` of its context value. */
PyObject *rs_detach(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLong(__atomic_add_fetch(&rs_detached, 1, __ATOMIC_ACQ_REL));
}

PyObject *rs_generator_of(PyObject *module, PyObject *frame)
{
    if (!PyFrame_Check(frame))
        return PyErr_Format(PyExc_TypeError, "frame must be a frame, not %R", frame);
    PyObject *generator = PyFrame_GetGenerator((PyFrameObject *)frame);
    return generator ? generator : Py_NewRef(Py_None);
}

/* ---- the type ------------------------------------------------------------------------------------------------ */

int rs_refer_weakly(PyObject *object, PyObject **reference)
{
    if (object == NULL || object == Py_None)
        return 0;
    *reference = PyWeakref_NewRef(object, NULL);
    return *reference ? 0 : -1;
}

int rs_is_gone(PyObject *reference, int closed)
{
    if (RS_LIKELY(reference == NULL))
        return 0;
    PyObject *generator = closed ? NULL : alive(reference);
    Py_XDECREF(generator);
    return generator == NULL;
}

/* Return 1 if a value set at *until_ns*, in effect permanently and not only while a generator runs,
   hides *outer* permanently. */
static int hides(int64_t until_ns, const DeadlineObject *outer)
{
    return until_ns == RS_NEVER || (outer->until_ns != RS_NEVER && until_ns <= outer->until_ns);
}

/* The first outer value that can still matter, a new reference. Otherwise each task that starts its successor inside a
 * block would lengthen the chain. */
static DeadlineObject *worth_keeping(DeadlineObject *outer, int64_t until_ns, int in_generator)
{
    while (outer && ((!in_generator && hides(until_ns, outer)) || rs_is_gone(outer->generator, outer->closed)))
        outer = outer->outer;
    return (DeadlineObject *)Py_XNewRef((PyObject *)outer);
}

/* A deadline set on top of *outer*, the value before or None, outside any generator. New reference. */
PyObject *rs_deadline_make(int64_t until_ns, int64_t allowed_ns, PyObject *outer)
{
    DeadlineObject *self = (DeadlineObject *)rs_AmbientDeadlineType.tp_alloc(&rs_AmbientDeadlineType, 0);
    if (self == NULL)
        return NULL;
    __atomic_add_fetch(&rs_deadline_count, 1, __ATOMIC_ACQ_REL);
    self->until_ns = until_ns;
    self->allowed_ns = allowed_ns;
    self->outer = Py_IS_TYPE(outer, &rs_AmbientDeadlineType) ? worth_keeping((DeadlineObject *)outer, until_ns, 0)
                                                             : NULL;
    return (PyObject *)self;
}

void rs_deadline_forget(PyObject *deadline) { ((DeadlineObject *)deadline)->until_ns = RS_NEVER - 1; }

static PyObject *deadline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"until_ns", "allowed_ns", "outer", "generator", "cutoff", NULL};
    PyObject *outer = Py_None, *generator = Py_None, *cutoff = Py_None;
    long long until_ns, allowed_ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LL|OOO:AmbientDeadline", names, &until_ns, &allowed_ns, &outer,
                                     &generator, &cutoff))
        return NULL;
    if (outer != Py_None && !Py_IS_TYPE(outer, &rs_AmbientDeadlineType))
        return PyErr_Format(PyExc_TypeError, "outer must be an AmbientDeadline or None, not %R", outer);
    DeadlineObject *self = (DeadlineObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    __atomic_add_fetch(&rs_deadline_count, 1, __ATOMIC_ACQ_REL);
    self->until_ns = until_ns;
    self->allowed_ns = allowed_ns;
    self->outer = outer == Py_None ? NULL : worth_keeping((DeadlineObject *)outer, until_ns, generator != Py_None);
    if (rs_refer_weakly(generator, &self->generator) < 0 || rs_refer_weakly(cutoff, &self->cutoff) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void deadline_dealloc(DeadlineObject *self)
{
    __atomic_sub_fetch(&rs_deadline_count, 1, __ATOMIC_ACQ_REL);
    for (DeadlineObject *outer = self->outer, *next; outer; outer = next) { /* one by one: recursion has no bound */
        next = rs_is_only_reference((PyObject *)outer) ? outer->outer : NULL;
        if (next)
            outer->outer = NULL;
        Py_DECREF((PyObject *)outer);
    }
    Py_XDECREF(self->generator);
    Py_XDECREF(self->cutoff);
    PyObject_Free(self);
}

int rs_deadline_close(PyObject *value)
{
    DeadlineObject *self = (DeadlineObject *)value;
    self->closed = self->generator != NULL;
    return self->closed;
}

PyObject *rs_deadline_instead(PyObject *value)
{
    DeadlineObject *self = (DeadlineObject *)value;
    if (!self->closed)
        return NULL;
    while (self && self->closed)
        self = self->outer;
    return self ? (PyObject *)self : Py_None;
}

static PyObject *deadline_cutoff(DeadlineObject *self, void *unused)
{
    PyObject *cutoff = alive(self->cutoff);
    return cutoff ? cutoff : Py_NewRef(Py_None);
}

static PyMemberDef deadline_members[] = {
    {"until_ns", T_LONGLONG, offsetof(DeadlineObject, until_ns), READONLY,
     "Time at which it passes, in nanoseconds of the clock."},
    {"allowed_ns", T_LONGLONG, offsetof(DeadlineObject, allowed_ns), READONLY, "Nanoseconds allowed when it was set."},
    {"closed", T_BOOL, offsetof(DeadlineObject, closed), READONLY,
     "True if it belonged to a generator's block that has ended."},
    {"outer", T_OBJECT, offsetof(DeadlineObject, outer), READONLY, "Previous value, None if it no longer matters."},
    {NULL},
};
static PyGetSetDef deadline_getset[] = {
    {"cutoff", (getter)deadline_cutoff, NULL, "Cutoff that interrupts at that time, or None."},
    {NULL},
};

PyTypeObject rs_AmbientDeadlineType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.AmbientDeadline",
    .tp_basicsize = sizeof(DeadlineObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = deadline_new,
    .tp_doc = "AmbientDeadline(until_ns, allowed_ns, outer=None, generator=None, cutoff=None)\n--\n\n"
              "Deadline as contexts hold it.",
    .tp_dealloc = (destructor)deadline_dealloc,
    .tp_members = deadline_members,
    .tp_getset = deadline_getset,
};
