/* Which of a few headers a request has: asked of every request, and hardly any has one. */
#include "core.h"

/* A name of *wanted* that is this one: what it says, borrowed; NULL if there is none. */
static PyObject *says(PyObject *wanted, PyObject *name)
{
    PyObject *key, *what;
    Py_ssize_t at = 0;
    while (PyDict_Next(wanted, &at, &key, &what))
        if (PyBytes_GET_SIZE(key) == PyBytes_GET_SIZE(name)
            && memcmp(PyBytes_AS_STRING(key), PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name)) == 0)
            return what;
    return NULL;
}

/* Add the value to those that say so; -1 with an exception. */
static int add(PyObject **found, PyObject *what, PyObject *value)
{
    if (*found == NULL && (*found = PyDict_New()) == NULL)
        return -1;
    PyObject *values = PyDict_GetItemWithError(*found, what);
    if (values)
        return PyList_Append(values, value);
    if (PyErr_Occurred())
        return -1;
    values = PyList_New(1);
    if (values == NULL)
        return -1;
    PyList_SET_ITEM(values, 0, Py_NewRef(value));
    int failed = PyDict_SetItem(*found, what, values);
    Py_DECREF(values);
    return failed;
}

static int all_bytes(PyObject *wanted)
{
    PyObject *key, *what;
    Py_ssize_t at = 0;
    while (PyDict_Next(wanted, &at, &key, &what))
        if (!PyBytes_Check(key))
            return 0;
    return 1;
}

PyObject *rs_find_headers(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyDict_Check(args[1]) || !all_bytes(args[1]))
        return PyErr_Format(PyExc_TypeError, "find_headers: takes headers, and a dict of the names wanted as bytes");
    PyObject *pairs = PySequence_Fast(args[0], "find_headers: headers must be pairs of name and value"), *found = NULL;
    if (pairs == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pairs); i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(pairs, i);
        if (!(PyTuple_Check(pair) || PyList_Check(pair)) || PySequence_Fast_GET_SIZE(pair) != 2)
            continue;
        PyObject *name = PySequence_Fast_GET_ITEM(pair, 0), *what = PyBytes_Check(name) ? says(args[1], name) : NULL;
        if (what && add(&found, what, PySequence_Fast_GET_ITEM(pair, 1)) < 0) {
            Py_CLEAR(found);
            Py_DECREF(pairs);
            return NULL;
        }
    }
    Py_DECREF(pairs);
    return found ? found : Py_NewRef(Py_None);
}
