/* Guard: a decorated function. A callable that behaves like the function it guards. */
#include "core.h"

static PyObject *guard_vectorcall(GuardObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_LIKELY(self->shape == RS_KIND_COROUTINE))
        return rs_call_new(self->pipe, self->func, args, nargsf, kwnames, RS_MODE_RAISE, self);
    if (RS_LIKELY(self->shape == RS_KIND_SYNC))
        return rs_invoke(self->pipe, self->func, args, nargsf, kwnames, RS_MODE_RAISE, self);
    return PyObject_Vectorcall(self->stream, args, nargsf, kwnames);
}

static int shape_of(const char *kind)
{
    static const char *const kinds[] = {"sync", "coroutine", "generator", "async_generator"};
    for (int i = 0; i < 4; i++)
        if (strcmp(kind, kinds[i]) == 0)
            return i;
    PyErr_Format(PyExc_ValueError, "kind: must be sync, coroutine, generator or async_generator, not '%s'", kind);
    return -1;
}

static PyObject *guard_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pipeline", "fn", "kind", "stream", NULL};
    PyObject *pipe, *func, *stream = Py_None;
    const char *kind;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!Os|O:Guard", names, &rs_PipelineType, &pipe, &func, &kind,
                                     &stream))
        return NULL;
    int shape = shape_of(kind);
    if (shape < 0)
        return NULL;
    if (!PyCallable_Check(func))
        return PyErr_Format(PyExc_TypeError, "fn: must be callable, not %R", func);
    if (shape >= RS_KIND_GENERATOR && !PyCallable_Check(stream))
        return PyErr_Format(PyExc_TypeError, "stream: a guard of a generator needs what drives it");
    GuardObject *self = (GuardObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)guard_vectorcall;
    self->pipe = (rs_pipeline *)Py_NewRef(pipe);
    self->func = Py_NewRef(func);
    self->stream = Py_NewRef(stream);
    self->shape = shape;
    self->dict = PyDict_New();
    if (self->dict == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int guard_traverse(GuardObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    Py_VISIT(self->func);
    Py_VISIT(self->stream);
    Py_VISIT(self->dict);
    return 0;
}

static int guard_clear(GuardObject *self)
{
    Py_CLEAR(self->stream);
    Py_CLEAR(self->dict);
    return 0;
}

static void guard_dealloc(GuardObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, guard_dealloc) /* guards of guards of guards */
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    guard_clear(self);
    Py_CLEAR(self->func);
    Py_CLEAR(self->pipe);
    Py_TYPE(self)->tp_free((PyObject *)self);
    Py_TRASHCAN_END
}

static PyObject *guard_descr_get(PyObject *self, PyObject *instance, PyObject *owner)
{
    return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

/* Function attributes that functools.update_wrapper does not copy: from our own dict if set there,
   otherwise from the function. */
static PyObject *guard_forward(GuardObject *self, void *attribute)
{
    PyObject *own = rs_item(self->dict, attribute);
    if (own)
        return own;
    PyObject *value = PyObject_GetAttrString(self->func, attribute);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_AttributeError, "guarded %R has no attribute '%s'", self->func, attribute);
    }
    return value;
}

static int guard_set_forward(GuardObject *self, PyObject *value, void *attribute)
{
    return value ? PyDict_SetItemString(self->dict, attribute, value) : PyDict_DelItemString(self->dict, attribute);
}

static PyObject *guard_get_class(GuardObject *self, void *unused) { return Py_NewRef((PyObject *)&PyFunction_Type); }

static PyObject *guard_kind(GuardObject *self, void *unused)
{
    static const char *const kinds[] = {"sync", "coroutine", "generator", "async_generator"};
    return PyUnicode_FromString(kinds[self->shape]);
}

/* Pickled by reference, as functions are. */
static PyObject *guard_reduce(GuardObject *self, PyObject *unused)
{
    PyObject *name = rs_item(self->dict, "__qualname__");
    return name ? name : PyObject_GetAttrString(self->func, "__qualname__");
}

static int has_one_result(const GuardObject *self, const char *method)
{
    if (self->shape == RS_KIND_COROUTINE || self->shape == RS_KIND_SYNC)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s: a stream has no single result; iterate %R", method, self->func);
    return 0;
}

static PyObject *guard_try_call(GuardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_one_result(self, "try_call"))
        return NULL;
    if (self->shape == RS_KIND_COROUTINE)
        return PyErr_Format(PyExc_TypeError, "try_call: %R is a coroutine function, use `await try_acall(...)`",
                            self->func);
    return rs_invoke(self->pipe, self->func, args, (size_t)nargs, kwnames, RS_MODE_RESULT, self);
}

static PyObject *guard_try_acall(GuardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_one_result(self, "try_acall"))
        return NULL;
    return rs_call_new(self->pipe, self->func, args, (size_t)nargs, kwnames, RS_MODE_RESULT, self);
}

static PyObject *guard_repr(GuardObject *self)
{
    return PyUnicode_FromFormat("<guarded %R by %R>", self->func, self->pipe);
}

static PyMethodDef guard_methods[] = {
    {"try_call", (PyCFunction)(void (*)(void))guard_try_call, METH_FASTCALL | METH_KEYWORDS,
     "try_call($self, /, *args, **kwargs)\n--\n\nCall the function, and return a Result instead of raising."},
    {"try_acall", (PyCFunction)(void (*)(void))guard_try_acall, METH_FASTCALL | METH_KEYWORDS,
     "try_acall($self, /, *args, **kwargs)\n--\n\nAwait the function, and return a Result instead of raising."},
    {"__reduce__", (PyCFunction)guard_reduce, METH_NOARGS, NULL},
    {NULL},
};
static PyMemberDef guard_members[] = {
    {"pipeline", T_OBJECT, offsetof(GuardObject, pipe), READONLY, "The policy that guards."},
    {"__wrapped__", T_OBJECT, offsetof(GuardObject, func), READONLY, "The function that is guarded."},
    {"__dictoffset__", T_PYSSIZET, offsetof(GuardObject, dict), READONLY},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(GuardObject, vectorcall), READONLY},
    {NULL},
};
#define FORWARD(name) {name, (getter)guard_forward, (setter)guard_set_forward, NULL, name}
static PyGetSetDef guard_getset[] = {
    {"kind", (getter)guard_kind, NULL, "sync, coroutine, generator or async_generator."},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL},
    {"__class__", (getter)guard_get_class, NULL,
     "types.FunctionType, for isinstance checks of frameworks; type() returns the real type."},
    // clang-format off
    FORWARD("__code__"), FORWARD("__defaults__"), FORWARD("__kwdefaults__"), FORWARD("__annotations__"),
    FORWARD("__globals__"), FORWARD("__closure__"), FORWARD("__builtins__"), FORWARD("__type_params__"),
    FORWARD("__name__"), FORWARD("__qualname__"), FORWARD("__module__"), FORWARD("__doc__"),
    // clang-format on
    {NULL},
};

PyTypeObject rs_GuardType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Guard",
    .tp_basicsize = sizeof(GuardObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_new = guard_new,
    .tp_dealloc = (destructor)guard_dealloc,
    .tp_traverse = (traverseproc)guard_traverse,
    .tp_clear = (inquiry)guard_clear,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(GuardObject, vectorcall),
    .tp_descr_get = guard_descr_get,
    .tp_dictoffset = offsetof(GuardObject, dict),
    .tp_weaklistoffset = offsetof(GuardObject, weakrefs),
    .tp_repr = (reprfunc)guard_repr,
    .tp_methods = guard_methods,
    .tp_members = guard_members,
    .tp_getset = guard_getset,
};
