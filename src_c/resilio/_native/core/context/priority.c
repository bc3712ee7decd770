/* The ambient priority: the value of one context variable, and its lookup by gates.
 *
 * It is counted and bound to generators like the deadline (deadline.c). While no AmbientPriority is alive the lookup is
 * skipped, and one set in a generator's own frame is in effect only while that generator runs. The innermost value in
 * effect counts. That is the latest one, unless it was set while a generator was suspended that runs now: then the
 * generator runs inside it.
 */
#include "call/block.h"
#include "try_hold.h"

int rs_priority_count;
static PyObject *context_priority;

typedef struct priority_object {
    PyObject_HEAD
    int level;                     /* 0 is the most important */
    uint64_t hash;                 /* of the task, 0: there is none */
    PyObject *task;                /* owned, or None */
    struct priority_object *outer; /* the value before, owned; NULL where it no longer matters */
    PyObject *generator;           /* weak reference, or NULL */
    uint8_t closed;                /* the generator has left the block */
    uint8_t over_suspended;        /* set while the generator of an earlier value was suspended */
} PriorityObject;

static int holds(const PriorityObject *self) { return rs_holds_in(self->generator, self->closed); }

/* The innermost of *self* and its outer values that is in effect; borrowed, or NULL. */
static PriorityObject *innermost(PriorityObject *self)
{
    PriorityObject *found = NULL;
    for (; self && (found == NULL || found->over_suspended); self = self->outer)
        if ((found == NULL || self->generator) && holds(self))
            found = self;
    return found;
}

/* The value in effect here, a new reference; NULL without an exception if there is none. */
static PriorityObject *here(void)
{
    PyObject *variable = rs_hook("priority", &context_priority), *value = NULL;
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0)
        rs_drop_error();
    PriorityObject *found = value && Py_IS_TYPE(value, &rs_AmbientPriorityType) ? innermost((PriorityObject *)value)
                                                                                : NULL;
    Py_XINCREF((PyObject *)found);
    Py_XDECREF(value);
    return found;
}

int rs_priority_here(uint64_t *task)
{
    PriorityObject *self = here();
    int level = self ? self->level : -1;
    *task = self ? self->hash : 0;
    Py_XDECREF((PyObject *)self);
    return level;
}

PyObject *rs_ambient_priority(PyObject *module, PyObject *unused)
{
    PriorityObject *self = __atomic_load_n(&rs_priority_count, __ATOMIC_RELAXED) ? here() : NULL;
    return self ? (PyObject *)self : Py_NewRef(Py_None);
}

/* The first outer value that can take effect again, a new reference; NULL: none. Values of blocks that did not
   end in order are skipped. */
static PriorityObject *worth_keeping(PriorityObject *outer, int in_generator)
{
    while (outer && rs_is_gone(outer->generator, outer->closed))
        outer = outer->outer;
    return (PriorityObject *)Py_XNewRef(in_generator || (outer && outer->generator) ? (PyObject *)outer : NULL);
}

/* Set the task, which must have a hash. -1 with an exception. */
static int take_task(PriorityObject *self, PyObject *task)
{
    Py_hash_t hash = task == Py_None ? 0 : PyObject_Hash(task);
    if (hash == -1 && PyErr_Occurred())
        return -1;
    self->task = Py_NewRef(task);
    self->hash = task == Py_None ? 0 : hash ? (uint64_t)hash : 1;
    return 0;
}

static PyObject *priority_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"level", "task", "outer", "generator", NULL};
    PyObject *task = Py_None, *outer = Py_None, *generator = Py_None;
    int level;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|OOO:AmbientPriority", names, &level, &task, &outer, &generator))
        return NULL;
    if (outer != Py_None && !Py_IS_TYPE(outer, &rs_AmbientPriorityType))
        return PyErr_Format(PyExc_TypeError, "outer must be an AmbientPriority or None, not %R", outer);
    PriorityObject *self = (PriorityObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    __atomic_add_fetch(&rs_priority_count, 1, __ATOMIC_ACQ_REL);
    self->level = level;
    self->outer = outer == Py_None ? NULL : worth_keeping((PriorityObject *)outer, generator != Py_None);
    for (const PriorityObject *before = self->outer; before && !self->over_suspended; before = before->outer)
        self->over_suspended = before->generator && !before->closed && !holds(before);
    if (take_task(self, task) < 0 || rs_refer_weakly(generator, &self->generator) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int priority_traverse(PriorityObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->task);
    Py_VISIT((PyObject *)self->outer);
    Py_VISIT(self->generator);
    return 0;
}

static int priority_clear(PriorityObject *self)
{
    Py_CLEAR(self->task);
    PriorityObject *outer = self->outer, *next;
    self->outer = NULL;
    for (; outer; outer = next) { /* one by one: recursion has no bound */
        next = rs_is_only_reference((PyObject *)outer) ? outer->outer : NULL;
        if (next)
            outer->outer = NULL;
        Py_DECREF((PyObject *)outer);
    }
    return 0;
}

static void priority_dealloc(PriorityObject *self)
{
    PyObject_GC_UnTrack(self);
    __atomic_sub_fetch(&rs_priority_count, 1, __ATOMIC_ACQ_REL);
    priority_clear(self);
    Py_CLEAR(self->generator);
    PyObject_GC_Del(self);
}

int rs_priority_close(PyObject *value)
{
    PriorityObject *self = (PriorityObject *)value;
    self->closed = self->generator != NULL;
    return self->closed;
}

PyObject *rs_priority_instead(PyObject *value)
{
    PriorityObject *self = (PriorityObject *)value;
    if (!self->closed)
        return NULL;
    while (self && self->closed)
        self = self->outer;
    return self ? (PyObject *)self : Py_None;
}

static PyMemberDef priority_members[] = {
    {"level", T_INT, offsetof(PriorityObject, level), READONLY, "Class, from 0, the most important."},
    {"task", T_OBJECT, offsetof(PriorityObject, task), READONLY, "Task of the calls, or None."},
    {"closed", T_BOOL, offsetof(PriorityObject, closed), READONLY,
     "True if it belonged to a generator's block that has ended."},
    {"outer", T_OBJECT, offsetof(PriorityObject, outer), READONLY, "Previous value, None if it no longer matters."},
    {NULL},
};

PyTypeObject rs_AmbientPriorityType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.AmbientPriority",
    .tp_basicsize = sizeof(PriorityObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = priority_new,
    .tp_doc = "AmbientPriority(level, task=None, outer=None, generator=None)\n--\n\nPriority as contexts hold it.",
    .tp_traverse = (traverseproc)priority_traverse,
    .tp_clear = (inquiry)priority_clear,
    .tp_dealloc = (destructor)priority_dealloc,
    .tp_members = priority_members,
};
