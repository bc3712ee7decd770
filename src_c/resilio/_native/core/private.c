/* The proofs of private APIs, and their public alternatives: see private.h. */
#include "core.h"

uint8_t rs_private_is[RS_PRIVATES];

static const char *const names[] = {
#define X(name) #name,
    RS_PRIVATE_NAMES(X)
#undef X
};

/* ---- the public alternatives ------------------------------------------------------------------------------------- */

PyObject *rs_stop_value(PyObject *stop)
{
#ifndef RS_PUBLIC_ONLY
    if (RS_USES(stop_iteration)) {
        PyObject *value = ((PyStopIterationObject *)stop)->value;
        return Py_NewRef(value ? value : Py_None); /* made without __init__, it has none */
    }
#endif
    return PyObject_GetAttrString(stop, "value");
}

PyObject *rs_group_leaves(PyObject *group)
{
#ifndef RS_PUBLIC_ONLY
    if (RS_USES(exception_group))
        return Py_XNewRef(((PyBaseExceptionGroupObject *)group)->excs);
#endif
    PyObject *member = PyObject_GetAttrString(PyExc_BaseExceptionGroup, "exceptions");
    PyObject *leaves = member ? Py_TYPE(member)->tp_descr_get(member, group, (PyObject *)Py_TYPE(group)) : NULL;
    Py_XDECREF(member);
    return leaves;
}

int rs_type_has(PyTypeObject *type, PyObject *name)
{
#ifndef RS_PUBLIC_ONLY
    if (RS_USES(type_lookup))
        return _PyType_Lookup(type, name) != NULL;
#endif
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    if (found == NULL)
        PyErr_Clear();
    Py_XDECREF(found);
    return found != NULL;
}

static long number_of(PyObject *number) /* stolen; 0 for none */
{
    long value = number ? PyLong_AsLong(number) : 0;
    Py_XDECREF(number);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return value;
}

long rs_flags_asked(PyObject *code) { return number_of(PyObject_GetAttrString(code, "co_flags")); }

int rs_depth_asked(void)
{
    static PyObject *ask;
    PyObject *function = rs_python("sys", "get_coroutine_origin_tracking_depth", &ask);
    return (int)number_of(function ? PyObject_CallNoArgs(function) : NULL);
}

/* ---- the proofs -------------------------------------------------------------------------------------------------- */

#ifndef RS_PUBLIC_ONLY
static int has_depth(void)
{
    PyObject *set = PySys_GetObject("set_coroutine_origin_tracking_depth"); /* borrowed */
    int before = rs_depth_asked(), other = before ? before + 1 : 7;
    PyObject *done = set ? PyObject_CallFunction(set, "i", other) : NULL;
    int holds = done && PyThreadState_Get()->coroutine_origin_tracking_depth == other;
    Py_XDECREF(done);
    done = holds ? PyObject_CallFunction(set, "i", before) : NULL;
    holds = done && PyThreadState_Get()->coroutine_origin_tracking_depth == before;
    Py_XDECREF(done);
    return holds;
}

/* Check what reuse relies on: the value field, and the fields that show other attributes. */
static int has_stop(void)
{
    PyObject *value = PyTuple_New(0), *note = PyUnicode_FromString("note"), *notes = NULL;
    PyObject *stop = value ? PyObject_CallFunctionObjArgs(PyExc_StopIteration, value, NULL) : NULL;
    PyBaseExceptionObject *base = (PyBaseExceptionObject *)stop;
    int holds = stop && note && ((PyTypeObject *)PyExc_StopIteration)->tp_basicsize == sizeof(PyStopIterationObject)
                && ((PyStopIterationObject *)stop)->value == value && Py_REFCNT(stop) == 1 && !base->context
                && !base->cause && !base->traceback && !base->notes;
    if (holds) {
        PyException_SetContext(stop, PyObject_CallNoArgs(PyExc_ValueError)); /* it steals */
        notes = PyObject_CallMethod(stop, "add_note", "O", note);
        holds = notes && base->context && (base->notes || base->dict);
    }
    Py_XDECREF(notes);
    Py_XDECREF(stop);
    Py_XDECREF(note);
    Py_XDECREF(value);
    return holds;
}

static int has_group(void)
{
    PyObject *leaf = PyObject_CallNoArgs(PyExc_ValueError);
    PyObject *group = leaf ? PyObject_CallFunction(PyExc_BaseExceptionGroup, "s[O]", "leaves", leaf) : NULL;
    PyObject *leaves = group
                               && ((PyTypeObject *)PyExc_BaseExceptionGroup)->tp_basicsize
                                      == sizeof(PyBaseExceptionGroupObject)
                           ? ((PyBaseExceptionGroupObject *)group)->excs
                           : NULL;
    int holds = leaves && PyTuple_CheckExact(leaves) && PyTuple_GET_SIZE(leaves) == 1
                && PyTuple_GET_ITEM(leaves, 0) == leaf;
    Py_XDECREF(group);
    Py_XDECREF(leaf);
    return holds;
}

static int has_function(PyObject *function)
{
    return PyFunction_Check(function) && ((PyFunctionObject *)function)->vectorcall == PyVectorcall_Function(function);
}

static int has_flags(PyObject *function)
{
    PyObject *code = PyFunction_Check(function) ? PyFunction_GetCode(function) : NULL;
    return code && PyCode_Check(code) && ((PyCodeObject *)code)->co_flags == rs_flags_asked(code)
           && rs_flags_asked(code) != 0;
}

static int has_lookup(void)
{
    PyObject *there = PyUnicode_InternFromString("__getitem__"), *missing = PyUnicode_InternFromString("__aenter__");
    int holds = there && missing && _PyType_Lookup(&PyList_Type, there) && !_PyType_Lookup(&PyList_Type, missing)
                && !PyErr_Occurred();
    Py_XDECREF(there);
    Py_XDECREF(missing);
    return holds;
}

#ifndef Py_GIL_DISABLED
static int nothing_inside(PyObject *self, visitproc visit, void *arg) { return 0; }

/* A type that keeps its freed objects for reuse, as those of calls and block steps do. */
static PyObject *spared;
static void spare(PyObject *self)
{
    Py_SET_REFCNT(self, 1);
    spared = self;
}
static void keep_spare(PyObject *self) { spared = self; }
static PyTypeObject spare_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Spare", .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)nothing_inside};

static int has_spare(destructor dealloc, int renewed)
{
    spare_type.tp_dealloc = dealloc;
    PyObject *made = PyType_Ready(&spare_type) == 0 ? PyObject_GC_New(PyObject, &spare_type) : NULL, *kept = made;
    if (made == NULL)
        return 0;
    PyObject_GC_Track(made);
    spared = NULL;
    Py_DECREF(made);
    if (renewed && spared)
        _Py_NewReference(spared);
    int holds = spared == kept && Py_REFCNT(kept) == 1 && Py_TYPE(kept) == &spare_type && PyObject_GC_IsTracked(kept);
    if (spared == kept) {
        PyObject_GC_UnTrack(kept);
        PyObject_GC_Del(kept);
    }
    return holds;
}
#endif

static int prove_all(void)
{
    static PyObject *plain;
    PyObject *function = rs_python("resilio._native.proofs", "plain", &plain);
    if (function == NULL)
        return -1;
    rs_private_proved(RS_PRIVATE_origin_depth, has_depth());
    rs_private_proved(RS_PRIVATE_stop_iteration, has_stop());
    rs_private_proved(RS_PRIVATE_exception_group, has_group());
    rs_private_proved(RS_PRIVATE_function, has_function(function));
    rs_private_proved(RS_PRIVATE_code_flags, has_flags(function));
    rs_private_proved(RS_PRIVATE_type_lookup, has_lookup());
#ifndef Py_GIL_DISABLED
    rs_private_proved(RS_PRIVATE_spare_calls, has_spare(spare, 0));
    rs_private_proved(RS_PRIVATE_spare_steps, has_spare(keep_spare, 1));
#endif
    rs_drop_error();
    return 0;
}
#endif

static int public_wished(void)
{
    const char *wish = getenv("RESILIO_PUBLIC_ONLY");
    return wish && *wish && strcmp(wish, "0") != 0;
}

/* Of what a newer Python may do otherwise, `with_order` alone is no layout: its proof watches two blocks. */
static int may_prove(rs_private which)
{
    if (rs_private_is[which] == RS_NOT_HERE || public_wished())
        return 0;
#ifdef RS_PUBLIC_ONLY
    return which == RS_PRIVATE_with_order;
#else
    return 1;
#endif
}

int rs_private_init(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    rs_private_is[RS_PRIVATE_running_loop_holder] = rs_private_is[RS_PRIVATE_current_tasks] = RS_NOT_HERE;
#endif
#ifdef Py_GIL_DISABLED
    rs_private_is[RS_PRIVATE_spare_steps] = rs_private_is[RS_PRIVATE_spare_calls] = RS_NOT_HERE;
#endif
    for (int i = 0; i < RS_PRIVATES; i++)
        if (rs_private_is[i] != RS_NOT_HERE && !may_prove(i))
            rs_private_is[i] = RS_PRIVATE_FAILED;
#ifdef RS_PUBLIC_ONLY
    return 0;
#else
    return public_wished() ? 0 : prove_all();
#endif
}

PyObject *rs_private_report(PyObject *module, PyObject *unused)
{
    static const char *const states[] = {"unused", "in use", "failed", "not applicable"};
    PyObject *report = PyDict_New();
    for (int i = 0; report && i < RS_PRIVATES; i++) {
        PyObject *state = PyUnicode_FromString(states[rs_private_is[i]]);
        if (state == NULL || PyDict_SetItemString(report, names[i], state) < 0)
            Py_CLEAR(report);
        Py_XDECREF(state);
    }
    return report;
}
