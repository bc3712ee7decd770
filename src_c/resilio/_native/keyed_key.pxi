"""
The key of a call: what a function of its arguments returns, or one of its arguments. A part of keyed.pyx.
"""


cdef class Where:
    """The place of a function's parameter in a call."""

    cdef Py_ssize_t position            # -1: by keyword only
    cdef bint has_default
    cdef object default

    def __init__(self, Py_ssize_t position, bint has_default, object default):
        self.position = position
        self.has_default = has_default
        self.default = default


cdef class CallKey:
    """
    Finder of the key of a call.

    Args:
        key: A function of a call's arguments, or the name of a parameter.

        where: A function that returns the arguments of `Where` for a function that is called.
    """

    def __init__(self, object key, object where):
        self.function = None if isinstance(key, str) else key
        self.parameter = key if isinstance(key, str) else ""
        self.where = where
        self.places = {}

    cdef object of(self, const rs_request *request):
        """The key of a call; raises what the key function raises, KeyError without one."""
        cdef PyObject *found = NULL
        cdef Where where
        if self.function is not None:
            return PyObject_Vectorcall(self.function, request.args, request.nargs, request.kwnames)
        if request.func == NULL:        # a permit by hand
            if request.nargs == 1 and request.kwnames == NULL:
                return <object>request.args[0]
            return self.by_keyword(request, None)
        rs_dict_find(self.places, <object>request.func, &found)
        if found == NULL:
            where = self.look(<object>request.func)
        else:
            where = <Where>found
            Py_DECREF(where)
        if 0 <= where.position < request.nargs:
            return <object>request.args[where.position]
        return self.by_keyword(request, where)

    cdef object by_keyword(self, const rs_request *request, object found):
        cdef Where where = found
        cdef Py_ssize_t i
        if request.kwnames != NULL:
            for i, name in enumerate(<tuple>request.kwnames):
                if name == self.parameter:
                    return <object>request.args[request.nargs + i]
        if where is not None and where.has_default:
            return where.default
        raise KeyError(f"the call has no {self.parameter!r}")

    cdef object look(self, object function):
        cdef Where where = Where(*self.where(function))
        if len(self.places) >= MOST_FUNCTIONS:
            self.places.clear()
        self.places[function] = where
        return where

    def learn(self, object function):
        """Find the key's parameter in a function that is about to be guarded; raise TypeError without one."""
        if self.function is None:
            self.look(function)
