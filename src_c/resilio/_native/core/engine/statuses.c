/* Statuses: a judge of answers by their status alone, like those of the HTTP presets. Each
   answer passes several of them. */
#include "core.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *failing;   /* frozenset of int */
    PyObject *otherwise; /* the judge of answers without a status attribute */
    PyObject *success, *failure;
    long least; /* the least failing status */
} StatusesObject;

static PyObject *name_status, *name_status_code;

/* The attribute, or None if it is missing; NULL with an exception. */
static PyObject *attribute(PyObject *value, PyObject *name)
{
    PyObject *found;
#if PY_VERSION_HEX >= 0x030D0000
    int there = PyObject_GetOptionalAttr(value, name, &found);
#else
    int there = _PyObject_LookupAttr(value, name, &found);
#endif
    return there == 0 ? Py_NewRef(Py_None) : found;
}

/* The status, a new reference, if it is a plain int; otherwise NULL. */
static PyObject *status_of(PyObject *value)
{
    PyObject *status = attribute(value, name_status_code);
    if (status && (status == Py_None || (PyLong_CheckExact(status) && PyLong_AsLong(status) == 0)))
        Py_SETREF(status, attribute(value, name_status));
    if (RS_UNLIKELY(status == NULL || !PyLong_CheckExact(status))) {
        PyErr_Clear(); /* the other judge meets the same error, and reports it */
        Py_CLEAR(status);
    }
    return status;
}

static PyObject *statuses_call(StatusesObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames)
        return PyErr_Format(PyExc_TypeError, "takes the answer");
    PyObject *status = status_of(args[0]);
    if (RS_UNLIKELY(status == NULL))
        return PyObject_CallOneArg(self->otherwise, args[0]);
    long said = PyLong_AsLong(status);
    int fails = 0;
    if (RS_UNLIKELY(said >= self->least || said < 0))
        fails = PySet_Contains(self->failing, status);
    PyErr_Clear();
    Py_DECREF(status);
    return Py_NewRef(fails > 0 ? self->failure : self->success);
}

static PyObject *statuses_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"failing", "otherwise", "success", "failure", NULL};
    PyObject *failing, *otherwise, *success, *failure, *least;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOO:Statuses", names, &PyFrozenSet_Type, &failing, &otherwise,
                                     &success, &failure))
        return NULL;
    PyObject *sorted = PySequence_List(failing);
    if (sorted == NULL || PyList_Sort(sorted) < 0 || (least = PySequence_GetItem(sorted, 0)) == NULL) {
        Py_XDECREF(sorted);
        return NULL;
    }
    long lowest = PyLong_AsLong(least);
    Py_DECREF(sorted);
    Py_DECREF(least);
    StatusesObject *self = PyErr_Occurred() ? NULL : (StatusesObject *)type->tp_alloc(type, 0);
    if (self) {
        self->vectorcall = (vectorcallfunc)statuses_call;
        self->failing = Py_NewRef(failing);
        self->otherwise = Py_NewRef(otherwise);
        self->success = Py_NewRef(success);
        self->failure = Py_NewRef(failure);
        self->least = lowest;
    }
    return (PyObject *)self;
}

static int statuses_traverse(StatusesObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->otherwise);
    return 0;
}

static void statuses_dealloc(StatusesObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_DECREF(self->failing);
    Py_DECREF(self->otherwise);
    Py_DECREF(self->success);
    Py_DECREF(self->failure);
    PyObject_GC_Del(self);
}

static PyTypeObject StatusesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Statuses",
    .tp_basicsize = sizeof(StatusesObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Statuses(failing, otherwise, success, failure)\n--\n\n"
              "Judge by status: *failure* for these statuses, *success* for others, *otherwise(answer)* if none.",
    .tp_new = statuses_new,
    .tp_dealloc = (destructor)statuses_dealloc,
    .tp_traverse = (traverseproc)statuses_traverse,
    .tp_vectorcall_offset = offsetof(StatusesObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

int rs_statuses_add(PyObject *module)
{
    name_status = PyUnicode_InternFromString("status");
    name_status_code = PyUnicode_InternFromString("status_code");
    return name_status && name_status_code ? PyModule_AddType(module, &StatusesType) : -1;
}
