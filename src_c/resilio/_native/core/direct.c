/* Direct: calls of gRPC with one message each way, made where they are admitted; what needs more is made in Python. */
#include "core.h"

typedef struct {                    /* a call as key, cost and weight functions see it */
    PyObject_HEAD
    PyObject *method, *request;
    PyObject *options;              /* a tuple of what it is made with, in the order of *names* */
    PyObject *names;
} AskedObject;

typedef struct {                    /* what ends the permit of a call that is over */
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *permit, *failed, *call;
    PyObject *inner;                /* what grpcio's call has inside, or NULL */
} EndingObject;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *method;
    PyObject *begin;                /* None: `otherwise` gets what is asked, and does all */
    PyObject *make, *otherwise, *failed, *news;
    PyObject *gates;                /* tuple */
    PyTypeObject *asked;
    unsigned abandoned;             /* how much was when *news* was asked */
} DirectObject;

static PyTypeObject AskedType, DirectType, EndingType;
static PyObject *name_add_done_callback, *name_cython_call, *name_is_ok;

/* ---- what is asked -------------------------------------------------------------------------------------------- */

static int asked_traverse(AskedObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->method);
    Py_VISIT(self->request);
    Py_VISIT(self->options);
    return 0;
}

static int asked_clear(AskedObject *self)
{
    Py_CLEAR(self->method);
    Py_CLEAR(self->request);
    Py_CLEAR(self->options);
    Py_CLEAR(self->names);
    return 0;
}

static void asked_dealloc(AskedObject *self)
{
    PyObject_GC_UnTrack(self);
    asked_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *asked_options(AskedObject *self, void *unused)
{
    PyObject *options = PyDict_New();
    for (Py_ssize_t i = 0; options && self->names && i < PyTuple_GET_SIZE(self->names); i++)
        if (PyDict_SetItem(options, PyTuple_GET_ITEM(self->names, i), PyTuple_GET_ITEM(self->options, i)) < 0)
            Py_CLEAR(options);
    return options;
}

static PyMemberDef asked_members[] = {
    {"method", T_OBJECT_EX, offsetof(AskedObject, method), 0, "Its full name."},
    {"request", T_OBJECT_EX, offsetof(AskedObject, request), 0, "The message; the iterator of messages where they are streamed."},
    {NULL}};
static PyGetSetDef asked_getset[] = {{"options", (getter)asked_options, NULL, "What it is made with, by name."}, {NULL}};

static PyTypeObject AskedType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Asked",
    .tp_basicsize = sizeof(AskedObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A call as it is asked for.",
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)asked_dealloc,
    .tp_traverse = (traverseproc)asked_traverse,
    .tp_clear = (inquiry)asked_clear,
    .tp_members = asked_members,
    .tp_getset = asked_getset,
};

/* ---- how it ends ---------------------------------------------------------------------------------------------- */

/* Has it ended well? Asked of what grpcio's call has inside: the call's own status is asked of coroutines. 0: ask those. */
int rs_is_ok(PyObject *inner)
{
    PyObject *ok = inner ? PyObject_CallMethodNoArgs(inner, name_is_ok) : NULL;
    if (RS_UNLIKELY(ok == NULL))
        PyErr_Clear();
    Py_XDECREF(ok);
    return ok == Py_True;
}

static int ending_clear(EndingObject *self)
{
    Py_CLEAR(self->permit);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->call);
    Py_CLEAR(self->inner);
    return 0;
}

/* Once: then it keeps nothing any more, the call above all, which keeps it. */
static PyObject *ending_call(EndingObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *permit = self->permit, *both[3] = {NULL, permit, self->call}, *done;
    if (permit == NULL)
        Py_RETURN_NONE;
    self->permit = NULL;
    if (RS_LIKELY(rs_is_ok(self->inner)))
        done = rs_permit_succeed(permit);
    else
        done = PyObject_Vectorcall(self->failed, both + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(permit);
    ending_clear(self);
    return done;
}

static int ending_traverse(EndingObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->permit);
    Py_VISIT(self->failed);
    Py_VISIT(self->call);
    Py_VISIT(self->inner);
    return 0;
}

static void ending_dealloc(EndingObject *self)
{
    PyObject_GC_UnTrack(self);
    ending_clear(self);
    PyObject_GC_Del(self);
}

/* What grpcio's call has inside, a new reference; NULL: none. */
PyObject *rs_inside(PyObject *call)
{
    PyObject *inner = PyObject_GetAttr(call, name_cython_call);
    if (inner == NULL)
        PyErr_Clear();
    return inner;
}

/* Said to what it has inside, where there is no frame for it. NULL with an exception. */
PyObject *rs_tell_when_done(PyObject *call, PyObject *inner, PyObject *callback)
{
    return PyObject_CallMethodOneArg(inner ? inner : call, name_add_done_callback, callback);
}

/* Have the permit of a call end with it. NULL with an exception. */
static PyObject *end_with(PyObject *call, PyObject *permit, PyObject *failed)
{
    EndingObject *self = PyObject_GC_New(EndingObject, &EndingType);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)ending_call;
    self->permit = Py_NewRef(permit);
    self->failed = Py_NewRef(failed);
    self->call = Py_NewRef(call);
    self->inner = rs_inside(call);
    PyObject_GC_Track(self);
    PyObject *added = rs_tell_when_done(call, self->inner, (PyObject *)self);
    Py_DECREF(self);
    return added;
}

static PyTypeObject EndingType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Ending",
    .tp_basicsize = sizeof(EndingObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)ending_dealloc,
    .tp_traverse = (traverseproc)ending_traverse,
    .tp_clear = (inquiry)ending_clear,
    .tp_vectorcall_offset = offsetof(EndingObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

/* ---- a call --------------------------------------------------------------------------------------------------- */

/* Does a gate want to see the answer? What a call ends with does not show it. */
static int is_asked_for(PyObject *gates)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(gates); i++)
        if (((rs_gate *)PyTuple_GET_ITEM(gates, i))->judge_value)
            return 1;
    return 0;
}

/* Nothing around the call has to be known or told, nothing ends it early, nobody looks at its answer. -1 with an exception. */
static int is_plain(DirectObject *self)
{
    if (*rs_ambient() || rs_deadline_ns() != RS_NEVER || is_asked_for(self->gates))
        return 0;
    int told = rs_has_news(&self->abandoned, self->news);
    return told < 0 ? -1 : !told;
}

static PyObject *asked_new(DirectObject *self, PyObject *const *args, PyObject *kwnames)
{
    AskedObject *asked = (AskedObject *)self->asked->tp_alloc(self->asked, 0);
    if (asked == NULL)
        return NULL;
    asked->method = Py_NewRef(self->method);
    asked->request = Py_NewRef(args[0]);
    if (kwnames) {
        Py_ssize_t n = PyTuple_GET_SIZE(kwnames);
        asked->names = Py_NewRef(kwnames);
        if ((asked->options = PyTuple_New(n)) == NULL) {
            Py_DECREF(asked);
            return NULL;
        }
        for (Py_ssize_t i = 0; i < n; i++)
            PyTuple_SET_ITEM(asked->options, i, Py_NewRef(args[i + 1]));
    }
    return (PyObject *)asked;
}

/* Begin to admit: a permit, what waits for one, or the refusal; NULL if the exception is something else. */
static PyObject *begin(DirectObject *self, PyObject *const *args, PyObject *kwnames)
{
    PyObject *asked = asked_new(self, args, kwnames), *type, *error, *traceback;
    PyObject *got = asked ? PyObject_CallOneArg(self->begin, asked) : NULL;
    Py_XDECREF(asked);
    if (RS_LIKELY(got != NULL) || !PyErr_ExceptionMatches(PyExc_Exception))
        return got;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/* otherwise(got, *args, **options) */
static PyObject *make_otherwise(DirectObject *self, PyObject *got, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf), total = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject **all = PyMem_Malloc((size_t)(total + 1) * sizeof(PyObject *)), *call = NULL;
    if (all == NULL)
        return PyErr_NoMemory();
    all[0] = got;
    for (Py_ssize_t i = 0; i < total; i++)
        all[i + 1] = args[i];
    call = PyObject_Vectorcall(self->otherwise, all, (size_t)nargs + 1, kwnames);
    PyMem_Free(all);
    return call;
}

/* As grpcio makes it; its permit ends when it is over. */
static PyObject *make(DirectObject *self, PyObject *permit, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *call = PyObject_Vectorcall(self->make, args, PyVectorcall_NARGS(nargsf), kwnames), *type, *error, *traceback;
    PyObject *added = call ? end_with(call, permit, self->failed) : NULL;
    if (RS_LIKELY(added != NULL)) {
        Py_DECREF(added);
        return call;
    }
    PyErr_Fetch(&type, &error, &traceback);     /* it could not be made */
    rs_permit_drop_unused(permit);
    PyErr_Restore(type, error, traceback);
    Py_XDECREF(call);
    return NULL;
}

static PyObject *direct_call(DirectObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_UNLIKELY(self->begin == NULL))
        return PyErr_Format(PyExc_RuntimeError, "there are no gates: its __init__ has not run");
    int plain = PyVectorcall_NARGS(nargsf) == 1 ? is_plain(self) : 0;
    if (RS_UNLIKELY(plain != 1))
        return plain < 0 ? NULL : make_otherwise(self, Py_None, args, nargsf, kwnames);
    PyObject *got = self->begin == Py_None ? asked_new(self, args, kwnames) : begin(self, args, kwnames);
    if (got == NULL)
        return NULL;
    PyObject *call = RS_LIKELY(Py_IS_TYPE(got, &rs_PermitType)) ? make(self, got, args, nargsf, kwnames)
                                                         : make_otherwise(self, got, args, nargsf, kwnames);
    Py_DECREF(got);
    return call;
}

static PyObject *direct_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    DirectObject *self = (DirectObject *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = (vectorcallfunc)direct_call;
    return (PyObject *)self;
}

static int direct_init(DirectObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"method", "begin", "make", "otherwise", "failed", "news", "gates", "asked", NULL};
    PyObject *method, *begin, *make, *otherwise, *failed, *news, *gates;
    PyTypeObject *asked;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOO!O!:Direct", names, &method, &begin, &make, &otherwise, &failed, &news,
                                     &PyTuple_Type, &gates, &PyType_Type, &asked))
        return -1;
    if (!PyType_IsSubtype(asked, &AskedType)) {
        PyErr_SetString(PyExc_TypeError, "asked: must be a class derived from Asked");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(gates); i++)
        if (!PyObject_TypeCheck(PyTuple_GET_ITEM(gates, i), &rs_GateType)) {
            PyErr_Format(PyExc_TypeError, "gates: item %zd must be a gate, not %R", i, PyTuple_GET_ITEM(gates, i));
            return -1;
        }
    Py_XSETREF(self->method, Py_NewRef(method));
    Py_XSETREF(self->make, Py_NewRef(make));
    Py_XSETREF(self->otherwise, Py_NewRef(otherwise));
    Py_XSETREF(self->failed, Py_NewRef(failed));
    Py_XSETREF(self->news, Py_NewRef(news));
    Py_XSETREF(self->gates, Py_NewRef(gates));
    Py_XSETREF(self->asked, (PyTypeObject *)Py_NewRef((PyObject *)asked));
    Py_XSETREF(self->begin, Py_NewRef(begin));
    return 0;
}

static int direct_traverse(DirectObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->begin);
    Py_VISIT(self->make);
    Py_VISIT(self->otherwise);
    Py_VISIT(self->failed);
    Py_VISIT(self->news);
    Py_VISIT(self->gates);
    Py_VISIT(self->asked);
    return 0;
}

static int direct_clear(DirectObject *self)
{
    Py_CLEAR(self->begin);
    Py_CLEAR(self->make);
    Py_CLEAR(self->otherwise);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->news);
    Py_CLEAR(self->gates);
    return 0;
}

static void direct_dealloc(DirectObject *self)
{
    PyObject_GC_UnTrack(self);
    direct_clear(self);
    Py_CLEAR(self->method);
    Py_XDECREF((PyObject *)self->asked);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject DirectType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Direct",
    .tp_basicsize = sizeof(DirectObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Direct(method, begin, make, otherwise, failed, news, gates, asked)\n--\n\nMakes calls of a method that are admitted at once.",
    .tp_new = direct_new,
    .tp_init = (initproc)direct_init,
    .tp_dealloc = (destructor)direct_dealloc,
    .tp_traverse = (traverseproc)direct_traverse,
    .tp_clear = (inquiry)direct_clear,
    .tp_vectorcall_offset = offsetof(DirectObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

int rs_direct_add(PyObject *module)
{
    name_add_done_callback = PyUnicode_InternFromString("add_done_callback");
    name_cython_call = PyUnicode_InternFromString("_cython_call");
    name_is_ok = PyUnicode_InternFromString("is_ok");
    if (!name_add_done_callback || !name_cython_call || !name_is_ok || PyType_Ready(&EndingType) < 0)
        return -1;
    return PyModule_AddType(module, &AskedType) < 0 ? -1 : PyModule_AddType(module, &DirectType);
}
