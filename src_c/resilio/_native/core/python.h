/* The leaf of the core: pending exceptions, imports, and hooks that upper layers register. It calls no other file. */
#ifndef RS_PYTHON_H
#define RS_PYTHON_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A module, whatever code is running; a new reference. */
PyObject *rs_import(const char *module);

/* module.attribute, imported once and kept for the life of the process. Borrowed; NULL with an
   exception if it is missing. */
PyObject *rs_python(const char *module, const char *attribute, PyObject **cache);

/* The hook that an upper layer registered by that name, looked up once and kept. Borrowed; NULL with an
   exception if it is missing. */
PyObject *rs_hook(const char *name, PyObject **cache);
int rs_python_add(PyObject *module);

/* Call a hook, or do nothing if it is NULL. An exception is reported as unraisable; a Ctrl-C is raised again at the
   next safe point. */
void rs_call_hook(PyObject *hook, PyObject *const *args, Py_ssize_t nargs);

/* dict[key], a new reference, since another thread may remove it. NULL without an exception if it is missing. */
PyObject *rs_item(PyObject *dict, const char *key);

/* Forget the pending exception, if any; a Ctrl-C is raised again at the next safe point. */
void rs_drop_error(void);

/* The pending exception, normalised, with its traceback. Owned. */
PyObject *rs_take_error(void);

/* Make *error* (stolen) the pending exception. */
void rs_raise_error(PyObject *error);

/* A failed call may leave no exception: without memory, calls and 3.13's coroutines may end so. */
static inline void rs_ensure_error(void)
{
    if (__builtin_expect(!PyErr_Occurred(), 0))
        PyErr_SetString(PyExc_SystemError, "error return without exception set");
}
#endif
