/* Segments: the time of one call by segment, as a value. Numbers and text are created when they are read. It is native
   since each exception that leaves a call gets one: record and attribute add about 90 ns to a call that fails. */
#include "core.h"

static const char *const names[RS_SPENT] = {"own",  "queue",       "rate_limit", "attempt",  "connect", "first_byte",
                                            "body", "retry_sleep", "hedge",      "fallback", "wasted"};

typedef struct {
    PyObject_VAR_HEAD
    PyObject *cost; /* amounts by currency, a dict of our own; NULL: none */
    int64_t ns[RS_SPENT];
    rs_entry entry[1]; /* ob_size of them */
} SegmentsObject;

static SegmentsObject *segments_alloc(int n)
{
    SegmentsObject *self = PyObject_NewVar(SegmentsObject, &rs_SegmentsType, n);
    if (self) {
        memset(self->ns, 0, sizeof(self->ns));
        self->cost = NULL;
    }
    return self;
}

static void segments_dealloc(SegmentsObject *self)
{
    Py_XDECREF(self->cost);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Let them have the cost of these gate calls, a list; NULL: of none. Without an exception: what fails is left out. */
void rs_segments_add_cost(PyObject *segments, PyObject *calls)
{
    static PyObject *hook;
    if (calls == NULL || PyList_GET_SIZE(calls) == 0)
        return;
    PyObject *sums = rs_hook("cost_of", &hook), *cost = sums ? PyObject_CallOneArg(sums, calls) : NULL;
    if (cost != NULL && PyDict_Check(cost) && PyDict_GET_SIZE(cost))
        ((SegmentsObject *)segments)->cost = Py_NewRef(cost);
    if (cost == NULL)
        rs_drop_error();
    Py_XDECREF(cost);
}

PyObject *rs_segments_new(const rs_spent *spent)
{
    SegmentsObject *self = segments_alloc(spent->n);
    if (self) {
        memcpy(self->ns, spent->ns, sizeof(self->ns));
        memcpy(self->entry, spent->entry, (size_t)spent->n * sizeof(rs_entry));
    }
    return (PyObject *)self;
}

static PyObject *seconds(int64_t ns) { return PyFloat_FromDouble((double)ns / 1e9); }

/* Keep a copy of a dict of amounts by currency. -1 with an exception. */
static int keep_cost(SegmentsObject *self, PyObject *given)
{
    if (given == NULL || given == Py_None)
        return 0;
    if (!PyDict_Check(given)) {
        PyErr_Format(PyExc_TypeError, "cost: must be a dict of amounts by currency, not %R", given);
        return -1;
    }
    if (PyDict_GET_SIZE(given))
        self->cost = PyDict_Copy(given);
    return PyErr_Occurred() ? -1 : 0;
}

/* Segments(*, queue=0.0, ...): of numbers, without a trail. */
static PyObject *segments_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *known[RS_SPENT + 2];
    double given[RS_SPENT] = {0};
    PyObject *cost = NULL;
    for (int i = 0; i < RS_SPENT; i++)
        known[i] = (char *)names[i];
    known[RS_SPENT] = "cost";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$dddddddddddO:Segments", known, &given[0], &given[1], &given[2],
                                     &given[3], &given[4], &given[5], &given[6], &given[7], &given[8], &given[9],
                                     &given[10], &cost))
        return NULL;
    for (int i = 0; i < RS_SPENT; i++)
        if (!(given[i] >= 0.0 && given[i] < 9e9)) {
            PyObject *value = PyFloat_FromDouble(given[i]);
            PyErr_Format(PyExc_ValueError, "%s: must be seconds from 0 on, not %R", names[i], value);
            Py_XDECREF(value);
            return NULL;
        }
    SegmentsObject *self = segments_alloc(0);
    for (int i = 0; self && i < RS_SPENT; i++)
        self->ns[i] = (int64_t)(given[i] * 1e9 + 0.5);
    if (self && keep_cost(self, cost) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *segments_get(SegmentsObject *self, void *segment) { return seconds(self->ns[(intptr_t)segment]); }

/* A copy: the record is a value. */
static PyObject *segments_cost(SegmentsObject *self, void *unused)
{
    return self->cost ? PyDict_Copy(self->cost) : PyDict_New();
}

static PyObject *segments_total(SegmentsObject *self, void *unused)
{
    int64_t sum = 0;
    for (int i = 0; i < RS_SEGMENTS; i++)
        sum += self->ns[i];
    return seconds(sum);
}

static PyObject *segments_trail(SegmentsObject *self, void *unused)
{
    PyObject *trail = PyTuple_New(Py_SIZE(self));
    for (Py_ssize_t i = 0; trail && i < Py_SIZE(self); i++) {
        const rs_entry *entry = &self->entry[i];
        PyObject *item = Py_BuildValue("(sId)", entry->segment == RS_SEGMENTS ? "more" : names[entry->segment],
                                       (unsigned)entry->attempt, (double)entry->ns / 1e9);
        if (item == NULL) {
            Py_CLEAR(trail);
            break;
        }
        PyTuple_SET_ITEM(trail, i, item);
    }
    return trail;
}

PyObject *rs_segments_dict(const int64_t *ns)
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict && i < RS_SPENT; i++) {
        PyObject *value = seconds(ns[i]);
        if (value == NULL || PyDict_SetItemString(dict, names[i], value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *segments_asdict(SegmentsObject *self, PyObject *unused) { return rs_segments_dict(self->ns); }

static PyObject *from_python(SegmentsObject *self, const char *function, PyObject **cache)
{
    PyObject *hook = rs_hook(function, cache);
    return hook ? PyObject_CallOneArg(hook, (PyObject *)self) : NULL;
}

static PyObject *segments_str(SegmentsObject *self)
{
    static PyObject *line;
    return from_python(self, "segments_line", &line);
}

static PyObject *segments_repr(SegmentsObject *self)
{
    static PyObject *text;
    return from_python(self, "segments_text", &text);
}

static PyObject *segments_server_timing(SegmentsObject *self, PyObject *unused)
{
    static PyObject *header;
    return from_python(self, "segments_header", &header);
}

/* Values with equal numbers are equal, regardless of their origin. */
static PyObject *segments_compare(SegmentsObject *self, PyObject *other, int op)
{
    if (Py_TYPE(other) != &rs_SegmentsType || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    const SegmentsObject *two = (SegmentsObject *)other;
    int same = memcmp(self->ns, two->ns, sizeof(self->ns)) == 0;
    if (same && (self->cost || two->cost))
        same = self->cost && two->cost ? PyObject_RichCompareBool(self->cost, two->cost, Py_EQ) : 0;
    return same < 0 ? NULL : PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t segments_hash(SegmentsObject *self)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a, of words: Python's hash of bytes is private */
    for (size_t i = 0; i < sizeof(self->ns) / sizeof(self->ns[0]); i++)
        hash = (hash ^ (uint64_t)self->ns[i]) * UINT64_C(1099511628211);
    return (Py_hash_t)hash == -1 ? -2 : (Py_hash_t)hash;
}

/* Pickled as bytes: seconds would be rounded. */
static PyObject *segments_reduce(SegmentsObject *self, PyObject *unused)
{
    PyObject *restore = PyObject_GetAttrString((PyObject *)&rs_SegmentsType, "_restore");
    PyObject *state = PyBytes_FromStringAndSize(
        (const char *)self->ns, (Py_ssize_t)(sizeof(self->ns) + (size_t)Py_SIZE(self) * sizeof(rs_entry)));
    PyObject *cost = self->cost ? self->cost : Py_None;
    PyObject *reduced = restore && state ? Py_BuildValue("(O(OO))", restore, state, cost) : NULL;
    Py_XDECREF(restore);
    Py_XDECREF(state);
    return reduced;
}

static PyObject *segments_restore(PyObject *class, PyObject *args)
{
    PyObject *state, *cost = NULL;
    if (!PyArg_ParseTuple(args, "O|O:_restore", &state, &cost))
        return NULL;
    Py_ssize_t bytes = PyBytes_Check(state) ? PyBytes_GET_SIZE(state) - (Py_ssize_t)sizeof(((SegmentsObject *)0)->ns)
                                            : -1;
    if (bytes < 0 || bytes % (Py_ssize_t)sizeof(rs_entry) || bytes > RS_ENTRIES * (Py_ssize_t)sizeof(rs_entry))
        return PyErr_Format(PyExc_ValueError, "state: this is not what Segments are pickled as");
    SegmentsObject *self = segments_alloc((int)(bytes / (Py_ssize_t)sizeof(rs_entry)));
    if (self == NULL)
        return NULL;
    memcpy(self->ns, PyBytes_AS_STRING(state), sizeof(self->ns));
    memcpy(self->entry, PyBytes_AS_STRING(state) + sizeof(self->ns), (size_t)bytes);
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++)
        if (self->entry[i].segment > RS_SEGMENTS)
            self->entry[i].segment = RS_SEGMENTS;
    if (keep_cost(self, cost) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

int rs_segment_of(PyObject *name)
{
    static PyObject *known[RS_BODY + 1];
    if (known[RS_BODY] == NULL)
        for (int i = RS_CONNECT; i <= RS_BODY; i++)
            known[i] = PyUnicode_InternFromString(names[i]);
    for (int i = RS_CONNECT; i <= RS_BODY; i++) /* literals in programs are interned: compare addresses first */
        if (known[i] == name)
            return i;
    for (int i = RS_CONNECT; PyUnicode_Check(name) && i <= RS_BODY; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return i;
    PyErr_Format(PyUnicode_Check(name) ? PyExc_ValueError : PyExc_TypeError,
                 "name: must be connect, first_byte, body or None, not %R", name);
    return -1;
}

/* Any segment. -1 with an exception. */
int rs_any_segment_of(PyObject *name)
{
    for (int i = 0; PyUnicode_Check(name) && i < RS_SEGMENTS; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return i;
    PyErr_Format(PyExc_ValueError, "name: must be one of SEGMENTS, not %R", name);
    return -1;
}

int rs_segments_add(PyObject *module)
{
    PyObject *all = PyTuple_New(RS_SEGMENTS);
    for (int i = 0; all && i < RS_SEGMENTS; i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        if (name == NULL)
            Py_CLEAR(all);
        else
            PyTuple_SET_ITEM(all, i, name);
    }
    int added = all ? PyModule_AddObjectRef(module, "SEGMENTS", all) : -1;
    Py_XDECREF(all);
    return added;
}

static PyMethodDef segments_methods[] = {
    {"asdict", (PyCFunction)segments_asdict, METH_NOARGS,
     "asdict($self, /)\n--\n\nAll segments and the wasted time, as a dict of seconds by name."},
    {"server_timing", (PyCFunction)segments_server_timing, METH_NOARGS,
     "server_timing($self, /)\n--\n\n"
     "Value of a Server-Timing header: milliseconds by segment; empty if no time was spent."},
    {"__reduce__", (PyCFunction)segments_reduce, METH_NOARGS, NULL},
    {"_restore", (PyCFunction)segments_restore, METH_VARARGS | METH_CLASS, NULL},
    {NULL},
};
#define SEGMENT(name, segment, doc) {name, (getter)segments_get, NULL, doc, (void *)segment}
static PyGetSetDef segments_getset[] = {
    SEGMENT("own", RS_OWN, "resilio itself: decisions of strategies, repeated admissions."),
    SEGMENT("queue", RS_QUEUE,
            "Waiting for a permit of a bulkhead, a load shedder, an adaptive limit or a custom gate."),
    SEGMENT("rate_limit", RS_RATE_LIMIT, "Waiting for a rate limit's tokens."),
    SEGMENT("attempt", RS_ATTEMPT, "The function, without the phases that were reported."),
    SEGMENT("connect", RS_CONNECT, "Within the attempt: until there was a connection."),
    SEGMENT("first_byte", RS_FIRST_BYTE, "Within the attempt: until the answer, or the first item of a stream."),
    SEGMENT("body", RS_BODY, "Within the attempt: the rest of the answer, or of the stream."),
    SEGMENT("retry_sleep", RS_RETRY_SLEEP, "Between two attempts."),
    SEGMENT("hedge", RS_HEDGE, "Until the copy that won was started, and waiting for copies."),
    SEGMENT("fallback", RS_FALLBACK, "A fallback's target or handler."),
    SEGMENT("wasted", RS_WASTED,
            "Not part of the total: time of a primary that a copy has beaten, and of losing copies."),
    {"cost", (getter)segments_cost, NULL,
     "Cost of the call by currency, as its spend limits were charged; empty if it has none."},
    {"total", (getter)segments_total, NULL, "Wall time: the sum of all segments."},
    {"trail", (getter)segments_trail, NULL,
     "The segments in order of time: (segment, attempt, seconds), without own; "
     "the last may be (\"more\", 0, ...)."},
    {NULL},
};

PyTypeObject rs_SegmentsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Segments",
    .tp_basicsize = offsetof(SegmentsObject, entry),
    .tp_itemsize = sizeof(rs_entry),
    .tp_dealloc = (destructor)segments_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = "Segments(*, own=0.0, queue=0.0, rate_limit=0.0, attempt=0.0, connect=0.0, first_byte=0.0, body=0.0, "
              "retry_sleep=0.0, "
              "hedge=0.0, fallback=0.0, wasted=0.0, cost=None)\n--\n\n"
              "Time of one call by segment, in seconds; all but `wasted` add up to its wall time; and its cost.",
    .tp_new = segments_make,
    .tp_repr = (reprfunc)segments_repr,
    .tp_str = (reprfunc)segments_str,
    .tp_hash = (hashfunc)segments_hash,
    .tp_richcompare = (richcmpfunc)segments_compare,
    .tp_methods = segments_methods,
    .tp_getset = segments_getset,
};
