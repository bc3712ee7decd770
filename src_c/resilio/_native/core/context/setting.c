/* The values that one block has set in its context, and how they are restored.
 *
 * In Python a Ctrl-C may come between a context variable's `set` and the storing of its token, or at the first
 * instruction of the code that resets it. The value would stay set permanently. Here both are one step, for no bytecode
 * runs in between. The cutoff that interrupts an async block runs an event loop's code in Python. So it is owned before
 * it begins, and its `close` is repeated until it returns, wherever it was interrupted.
 */
#include "call/block.h"

#define RS_INLINE_VALUES 4
#define RS_CLOSES 8 /* attempts to close the cutoff if Ctrl-C interrupts each */

typedef struct {
    PyObject *variable, *value, *token; /* owned */
} ambient_value;

typedef struct {
    PyObject_HEAD
    PyObject *cutoff; /* interrupts the block, or NULL */
    int n, room;
    ambient_value *values; /* in the order in which they were set */
    ambient_value inline_values[RS_INLINE_VALUES];
} SettingObject;

static PyObject *name_begin, *name_close, *behind, *late;

/* ---- setting and restoring ---------------------------------------------------------------------------------- */

static int make_room(SettingObject *self)
{
    if (RS_LIKELY(self->n < self->room))
        return 0;
    ambient_value *more = PyMem_New(ambient_value, (size_t)self->room * 2);
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(more, self->values, sizeof(ambient_value) * (size_t)self->n);
    if (self->values != self->inline_values)
        PyMem_Free(self->values);
    self->values = more;
    self->room *= 2;
    return 0;
}

static int set_value(SettingObject *self, PyObject *variable, PyObject *value)
{
    PyObject *token = make_room(self) < 0 ? NULL : PyContextVar_Set(variable, value);
    if (token == NULL)
        return -1;
    self->values[self->n++] = (ambient_value){Py_NewRef(variable), Py_NewRef(value), token};
    return 0;
}

/* Mark a value set by a generator, so that look-ups skip it: its consumer may be in a block of its own. */
static int close_value(PyObject *value)
{
    if (Py_IS_TYPE(value, &rs_AmbientDeadlineType))
        return rs_deadline_close(value);
    return Py_IS_TYPE(value, &rs_AmbientPriorityType) && rs_priority_close(value);
}

/* The value to set instead of one that must not be found any more, borrowed; NULL: *value* is valid. */
static PyObject *instead_of(PyObject *value)
{
    if (Py_IS_TYPE(value, &rs_AmbientDeadlineType))
        return rs_deadline_instead(value);
    return Py_IS_TYPE(value, &rs_AmbientPriorityType) ? rs_priority_instead(value) : NULL;
}

static PyObject *value_of(PyObject *variable)
{
    PyObject *value = NULL;
    if (PyContextVar_Get(variable, Py_None, &value) < 0)
        rs_drop_error();
    return value;
}

static void put_back(const ambient_value *set)
{
    PyObject *here = value_of(set->variable);
    int is_elsewhere = close_value(set->value) && here != set->value;
    Py_XDECREF(here);
    if (is_elsewhere)
        return;
    if (PyContextVar_Reset(set->variable, set->token) < 0) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError) && Py_IS_TYPE(set->value, &rs_AmbientDeadlineType))
            rs_deadline_forget(set->value); /* it stays set: make it one that never passes */
        rs_drop_error(); /* or it was set in a copy of the context, which the caller no longer sees */
    }
    here = value_of(set->variable);
    PyObject *instead = here ? instead_of(here) : NULL,
             *token = instead ? PyContextVar_Set(set->variable, instead) : NULL;
    if (instead && token == NULL)
        rs_drop_error();
    Py_XDECREF(token);
    Py_XDECREF(here);
}

/* Restore all values, the last first. Return the value that was set first, a new reference, or NULL. */
static PyObject *put_all_back(SettingObject *self)
{
    PyObject *first = NULL;
    while (self->n) {
        ambient_value set = self->values[--self->n];
        put_back(&set);
        Py_XSETREF(first, set.value);
        Py_DECREF(set.variable);
        Py_DECREF(set.token);
    }
    return first;
}

/* ---- the end of a block ------------------------------------------------------------------------------------- */

/* The more severe of two errors from one end: the later one if it is a Ctrl-C, which must not get lost. Steals both. */
static PyObject *worse(PyObject *error, PyObject *later)
{
    if (error && PyErr_GivenExceptionMatches(later, PyExc_Exception))
        Py_SETREF(later, error);
    else
        Py_XDECREF(error);
    return later;
}

/* 1: the deadline has ended the block; -1 with the exception that leaves it. */
static int close_cutoff(PyObject *cutoff, PyObject *error)
{
    PyObject *raised = NULL;
    for (int tries = 0; tries < RS_CLOSES; tries++) {
        PyObject *answer = PyObject_CallMethodOneArg(cutoff, name_close, error ? error : Py_None);
        if (answer) {
            int is_late = answer == Py_True;
            Py_DECREF(answer);
            if (raised == NULL)
                return is_late;
            break;
        }
        raised = worse(raised, rs_take_error());
    }
    rs_raise_error(raised);
    return -1;
}

static int raise_late(PyObject *deadline, PyObject *error)
{
    PyObject *make = rs_hook("deadline_error", &late);
    PyObject *raised = make ? PyObject_CallFunctionObjArgs(make, deadline, error ? error : Py_None, NULL) : NULL;
    if (raised) {
        PyException_SetCause(raised, Py_XNewRef(error));
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
        Py_DECREF(raised);
    }
    return -1;
}

static int leave(PyObject *setting, PyObject *error)
{
    SettingObject *self = (SettingObject *)setting;
    PyObject *first = put_all_back(self), *cutoff = self->cutoff;
    self->cutoff = NULL;
    int ended = cutoff ? close_cutoff(cutoff, error) : 0;
    if (ended > 0 && first)
        ended = raise_late(first, error);
    Py_XDECREF(cutoff);
    Py_XDECREF(first);
    return ended < 0 ? -1 : 0;
}

static void drop(PyObject *setting)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (leave(setting, NULL) < 0)
        rs_drop_error();
    PyErr_Restore(type, error, traceback);
}

/* ---- the beginning ------------------------------------------------------------------------------------------ */

static PyObject *setting_new(void)
{
    SettingObject *self = PyObject_GC_New(SettingObject, &rs_SettingType);
    if (self == NULL)
        return NULL;
    self->cutoff = NULL;
    self->n = 0;
    self->room = RS_INLINE_VALUES;
    self->values = self->inline_values;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The generator whose consumer would see values set by a block in this frame, or None. New reference. */
static PyObject *generator_here(void)
{
    PyFrameObject *frame = PyEval_GetFrame();
    if (RS_UNLIKELY(frame == NULL))
        return Py_NewRef(Py_None);
    PyCodeObject *code = PyFrame_GetCode(frame);
    long flags = rs_code_flags((PyObject *)code);
    Py_DECREF(code);
    if (RS_LIKELY(!(flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))))
        return Py_NewRef(Py_None);
    PyObject *find = rs_hook("generator_behind", &behind);
    return find ? PyObject_CallOneArg(find, (PyObject *)frame) : NULL;
}

/* Begin a block and return its setting, a new reference. NULL with an exception: nothing is set. */
static PyObject *begin(PyObject *block, int enforced)
{
    PyObject *generator = generator_here(), *self = generator ? setting_new() : NULL, *begun = NULL;
    if (self) {
        PyObject *args[] = {block, self, generator, enforced ? Py_True : Py_False};
        begun = PyObject_VectorcallMethod(name_begin, args, 4, NULL);
        if (begun == NULL) {
            drop(self);
            Py_CLEAR(self);
        }
    }
    Py_XDECREF(begun);
    Py_XDECREF(generator);
    return self;
}

static PyObject *enter(PyObject *block, PyObject *exit, int is_async)
{
    PyObject *setting = begin(block, is_async);
    if (setting == NULL)
        return NULL;
    rs_block_own(exit, setting);
    return Py_NewRef(is_async ? rs_block_nothing : Py_None);
}

const rs_block_kind rs_setting_block = {enter, leave, drop};

/* ---- the type ----------------------------------------------------------------------------------------------- */

static PyObject *setting_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":AmbientSetting", names) ? setting_new() : NULL;
}

static PyObject *setting_set(SettingObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "set() takes 2 arguments, not %zd", nargs);
    return set_value(self, args[0], args[1]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *setting_leave(SettingObject *self, PyObject *error)
{
    return leave((PyObject *)self, error == Py_None ? NULL : error) < 0 ? NULL : Py_NewRef(Py_None);
}

static int setting_traverse(SettingObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->cutoff);
    for (int i = 0; i < self->n; i++) {
        Py_VISIT(self->values[i].variable);
        Py_VISIT(self->values[i].value);
        Py_VISIT(self->values[i].token);
    }
    return 0;
}

static void setting_dealloc(SettingObject *self)
{
    PyObject_GC_UnTrack(self);
    while (self->n) {
        ambient_value set = self->values[--self->n];
        Py_DECREF(set.variable);
        Py_DECREF(set.value);
        Py_DECREF(set.token);
    }
    Py_CLEAR(self->cutoff);
    if (self->values != self->inline_values)
        PyMem_Free(self->values);
    PyObject_GC_Del(self);
}

static PyMethodDef setting_methods[] = {
    {"set", (PyCFunction)(void (*)(void))setting_set, METH_FASTCALL,
     "set($self, variable, value, /)\n--\n\nSet a context variable until the block ends."},
    {"leave", (PyCFunction)setting_leave, METH_O,
     "leave($self, error, /)\n--\n\nRestore the context variables, and end the cutoff.\n\n"
     "Args:\n    error: Exception that leaves the block, or None.\n\n"
     "Raises:\n    DeadlineExceededError: The deadline has ended the block."},
    {NULL},
};
static PyMemberDef setting_members[] = {
    {"cutoff", T_OBJECT, offsetof(SettingObject, cutoff), 0,
     "Cutoff that interrupts the block, set before the block begins; or None."},
    {NULL},
};

PyTypeObject rs_SettingType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.AmbientSetting",
    .tp_basicsize = sizeof(SettingObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = setting_make,
    .tp_doc = "AmbientSetting()\n--\n\nContext variables that one block has set, and the cutoff that interrupts it.",
    .tp_traverse = (traverseproc)setting_traverse,
    .tp_dealloc = (destructor)setting_dealloc,
    .tp_methods = setting_methods,
    .tp_members = setting_members,
};

int rs_setting_add(PyObject *module)
{
    name_begin = PyUnicode_InternFromString("_begin_block");
    name_close = PyUnicode_InternFromString("close");
    if (name_begin == NULL || name_close == NULL)
        return -1;
    return PyModule_AddType(module, &rs_SettingType);
}
