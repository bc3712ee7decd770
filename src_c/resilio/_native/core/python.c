/* Pending exceptions, imports and hooks; python.h documents each function. */
#include "core.h"

#define MOST_INTERRUPTS 8 /* of one import */

/* PyImport_ImportModule uses the globals of the running Python code, which may have no __builtins__. */
PyObject *rs_import(const char *module)
{
    PyObject *name = PyUnicode_FromString(module);
    PyObject *top = name ? PyImport_ImportModuleLevelObject(name, NULL, NULL, NULL, 0) : NULL;
    PyObject *imported = top ? PyImport_GetModule(name) : NULL;
    if (top && imported == NULL && !PyErr_Occurred())
        PyErr_Format(PyExc_ImportError, "%s is not there", module);
    Py_XDECREF(top);
    Py_XDECREF(name);
    return imported;
}

PyObject *rs_python(const char *module, const char *attribute, PyObject **cache)
{
    PyObject *value = __atomic_load_n(cache, __ATOMIC_ACQUIRE);
    if (RS_LIKELY(value != NULL))
        return value;
    PyObject *imported = rs_import(module);
    value = imported ? PyObject_GetAttrString(imported, attribute) : NULL;
    Py_XDECREF(imported);
    if (value)
        __atomic_store_n(cache, value, __ATOMIC_RELEASE); /* kept for the life of the process */
    return value;
}

static PyObject *hooks; /* by name: a callable that returns the module with the hook; after its first use the module */

/* Upper layers register their functions: the core imports none of them by name. */
static PyObject *set_hooks(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || !PyCallable_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "set_hooks() takes a function that returns a module, then the names of hooks in it");
        return NULL;
    }
    for (Py_ssize_t i = 1; i < nargs; i++)
        if (PyObject_SetItem(hooks, args[i], args[0]) < 0)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *hook(PyObject *module, PyObject *name)
{
    PyObject *known = PyObject_GetItem(hooks, name), *owner = NULL;
    if (known == NULL && PyErr_ExceptionMatches(PyExc_KeyError))
        PyErr_Format(PyExc_LookupError, "nothing has registered the hook %R: core.set_hooks(load, %R) does", name,
                     name);
    if (known)
        owner = PyModule_Check(known) ? Py_NewRef(known) : PyObject_CallNoArgs(known);
    if (owner && owner != known && PyModule_Check(owner) && PyObject_SetItem(hooks, name, owner) < 0)
        Py_CLEAR(owner);
    PyObject *value = owner ? PyObject_GetAttr(owner, name) : NULL;
    Py_XDECREF(known);
    Py_XDECREF(owner);
    return value;
}

/* The first use imports. A Ctrl-C that interrupts this is raised at the next safe point: for most callers an exception
   means that there is no such hook, and they go on without it. */
static RS_APART PyObject *load_hook(const char *name)
{
    PyObject *key = PyUnicode_FromString(name), *value = key ? hook(NULL, key) : NULL;
    int interrupts = 0;
    while (key && value == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) && interrupts++ < MOST_INTERRUPTS) {
        PyErr_Clear();
        value = hook(NULL, key);
    }
    if (interrupts)
        PyErr_SetInterrupt();
    Py_XDECREF(key);
    return value;
}

PyObject *rs_hook(const char *name, PyObject **cache)
{
    PyObject *value = __atomic_load_n(cache, __ATOMIC_ACQUIRE);
    if (RS_LIKELY(value != NULL))
        return value;
    value = load_hook(name);
    if (value)
        __atomic_store_n(cache, value, __ATOMIC_RELEASE); /* kept for the life of the process */
    return value;
}

static PyMethodDef functions[] = {
    {"set_hooks", (PyCFunction)(void (*)(void))set_hooks, METH_FASTCALL,
     "set_hooks(load, /, *names)\n--\n\nRegister functions of upper layers that the core and its strategies call.\n\n"
     "Args:\n    load: Function that returns the module with the functions; called at the first use of one.\n"
     "    names: Names of the functions, which are those of the hooks."},
    {"hook", hook, METH_O,
     "hook(name, /)\n--\n\nReturn the function that an upper layer has registered under that name.\n\n"
     "Raises:\n    LookupError: No function has that name."},
    {NULL},
};

int rs_python_add(PyObject *module)
{
    if (hooks == NULL && (hooks = PyDict_New()) == NULL)
        return -1;
    return PyModule_AddFunctions(module, functions);
}

void rs_call_hook(PyObject *hook, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = hook ? PyObject_Vectorcall(hook, args, (size_t)nargs, NULL) : NULL;
    if (result == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear();
        PyErr_SetInterrupt();
    }
    if (result == NULL && PyErr_Occurred())
        PyErr_WriteUnraisable(hook);
    Py_XDECREF(result);
}

void rs_drop_error(void)
{
    if (RS_LIKELY(!PyErr_Occurred()))
        return;
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_SetInterrupt();
    PyErr_Clear();
}

PyObject *rs_item(PyObject *dict, const char *key)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *item;
    if (PyDict_GetItemStringRef(dict, key, &item) < 0)
        PyErr_Clear();
    return item;
#else
    return Py_XNewRef(PyDict_GetItemString(dict, key));
#endif
}

PyObject *rs_take_error(void)
{
    PyObject *type, *error, *traceback;
    rs_ensure_error();
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

void rs_raise_error(PyObject *error)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}
