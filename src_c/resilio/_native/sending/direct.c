/* Direct: calls of gRPC with one message each way, made where they are admitted; what needs more is made in Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct {                    /* a call as key, cost and weight functions see it */
    PyObject_HEAD
    PyObject *method, *request;
    PyObject *options;              /* a tuple of what it is made with, in the order of *names* */
    PyObject *names;
} AskedObject;

typedef struct {                    /* what ends the permit of a call that is over */
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *permit;
    PyObject *failed;
} EndingObject;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *method, *begin, *make, *otherwise, *failed, *news;
    PyObject *gates;                /* tuple */
    PyTypeObject *asked;
} DirectObject;

static PyTypeObject AskedType, DirectType, EndingType;
static PyObject *current_call, *ambient_deadline;       /* of resilio._native.core */
static PyTypeObject *permit_type;
static PyObject *name_add_done_callback, *name_cython_call, *name_ignore, *name_is_ok, *name_judge_value, *name_success;

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
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.sending.Asked",
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

/* Has a call ended well? By what grpcio's call has inside: its own status is asked of coroutines. 0: ask those. */
static int is_ok(PyObject *call)
{
    PyObject *inner = PyObject_GetAttr(call, name_cython_call);
    PyObject *ok = inner ? PyObject_CallMethodNoArgs(inner, name_is_ok) : NULL;
    if (UNLIKELY(ok == NULL))
        PyErr_Clear();
    Py_XDECREF(inner);
    Py_XDECREF(ok);
    return ok == Py_True;
}

static PyObject *ending_call(EndingObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames)
        return PyErr_Format(PyExc_TypeError, "takes the call");
    if (LIKELY(is_ok(args[0])))
        return PyObject_CallMethodNoArgs(self->permit, name_success);
    PyObject *both[3] = {NULL, self->permit, args[0]};
    return PyObject_Vectorcall(self->failed, both + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static int ending_traverse(EndingObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->permit);
    Py_VISIT(self->failed);
    return 0;
}

static void ending_dealloc(EndingObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF(self->permit);
    Py_DECREF(self->failed);
    PyObject_GC_Del(self);
}

static PyObject *ending_new(PyObject *permit, PyObject *failed)
{
    EndingObject *self = PyObject_GC_New(EndingObject, &EndingType);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)ending_call;
    self->permit = Py_NewRef(permit);
    self->failed = Py_NewRef(failed);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyTypeObject EndingType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.sending.Ending",
    .tp_basicsize = sizeof(EndingObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)ending_dealloc,
    .tp_traverse = (traverseproc)ending_traverse,
    .tp_vectorcall_offset = offsetof(EndingObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

/* ---- a call --------------------------------------------------------------------------------------------------- */

/* Is there none? -1 with an exception. */
static int gives_none(PyObject *asked)
{
    PyObject *answer = PyObject_CallNoArgs(asked);
    Py_XDECREF(answer);
    return answer ? answer == Py_None : -1;
}

static int has_no_news(DirectObject *self)
{
    PyObject *news = PyObject_CallNoArgs(self->news);
    int told = news ? PyObject_IsTrue(news) : -1;
    Py_XDECREF(news);
    return told < 0 ? -1 : !told;
}

/* Does no gate want to see the answer? What a call ends with does not show it. */
static int are_content(PyObject *gates)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(gates); i++) {
        PyObject *rule = PyObject_GetAttr(PyTuple_GET_ITEM(gates, i), name_judge_value);
        Py_XDECREF(rule);
        if (rule != Py_None)
            return rule ? 0 : -1;
    }
    return 1;
}

/* Nothing around the call has to be known or told, nothing ends it early, nobody looks at its answer. -1 with an exception. */
static int is_plain(DirectObject *self)
{
    int plain = gives_none(current_call);
    plain = plain == 1 ? gives_none(ambient_deadline) : plain;
    plain = plain == 1 ? has_no_news(self) : plain;
    return plain == 1 ? are_content(self->gates) : plain;
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
    if (LIKELY(got != NULL) || !PyErr_ExceptionMatches(PyExc_Exception))
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
    PyObject *ending = call ? ending_new(permit, self->failed) : NULL;
    PyObject *added = ending ? PyObject_CallMethodOneArg(call, name_add_done_callback, ending) : NULL;
    Py_XDECREF(ending);
    if (LIKELY(added != NULL)) {
        Py_DECREF(added);
        return call;
    }
    PyErr_Fetch(&type, &error, &traceback);     /* it could not be made */
    Py_XDECREF(PyObject_CallMethodNoArgs(permit, name_ignore));
    PyErr_Restore(type, error, traceback);
    Py_XDECREF(call);
    return NULL;
}

static PyObject *direct_call(DirectObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (UNLIKELY(self->begin == NULL))
        return PyErr_Format(PyExc_RuntimeError, "there are no gates: its __init__ has not run");
    int plain = PyVectorcall_NARGS(nargsf) == 1 ? is_plain(self) : 0;
    if (UNLIKELY(plain != 1))
        return plain < 0 ? NULL : make_otherwise(self, Py_None, args, nargsf, kwnames);
    PyObject *got = begin(self, args, kwnames);
    if (got == NULL)
        return NULL;
    PyObject *call = LIKELY(Py_TYPE(got) == permit_type) ? make(self, got, args, nargsf, kwnames)
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
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.sending.Direct",
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

/* ---- the module ----------------------------------------------------------------------------------------------- */

static int learn_names(void)
{
    const char *const texts[] = {"add_done_callback", "_cython_call", "ignore", "is_ok", "judge_value", "success"};
    PyObject **const names[] = {&name_add_done_callback, &name_cython_call, &name_ignore, &name_is_ok, &name_judge_value, &name_success};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if ((*names[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return -1;
    return 0;
}

/* What it needs of core, for the life of the process; and what is to be had here as well. */
static int learn_core(PyObject *module, PyObject *core)
{
    current_call = PyObject_GetAttrString(core, "current");
    ambient_deadline = PyObject_GetAttrString(core, "ambient_deadline");
    permit_type = (PyTypeObject *)PyObject_GetAttrString(core, "Permit");
    PyObject *admission = PyObject_GetAttrString(core, "Admission");
    int known = current_call && ambient_deadline && permit_type && admission;
    int added = known ? PyModule_AddObjectRef(module, "Admission", admission) : -1;
    Py_XDECREF(admission);
    return added;
}

static int exec_module(PyObject *module)
{
    PyObject *core = PyImport_ImportModule("resilio._native.core");
    int ready = core && learn_names() == 0 && learn_core(module, core) == 0 && PyType_Ready(&EndingType) == 0;
    Py_XDECREF(core);
    return !ready || PyModule_AddType(module, &AskedType) < 0 ? -1 : PyModule_AddType(module, &DirectType);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "resilio._native.sending", .m_doc = "Requests of clients that are admitted as they are made.",
    .m_slots = slots};

PyMODINIT_FUNC PyInit_sending(void) { return PyModuleDef_Init(&definition); }
