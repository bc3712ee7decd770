"""What requests reads in place of urllib3's response: a part of body.pyx."""

cdef object _READERS = frozenset({"drain_conn", "read1", "readinto", "readline", "readlines"})


cdef class Parts:
    """The parts of a body, as an iterator gives them; their end, or an error, is that of the body."""

    cdef Held _held
    cdef object _iterator

    def __init__(self, Held held, iterator):
        self._held = held
        self._iterator = iterator

    def __iter__(self):
        return self

    def __next__(self):
        return (<object (*)(object)>_next_of_parts)(self)

    def close(self):
        """Close the iterator, as who breaks off `yield from` does."""
        self._iterator.close()


cdef bint _is_read(inner) except -1:
    """Has urllib3 read the last byte? It closes the response then, as far as reading is concerned."""
    is_closed = getattr(inner, "isclosed", None)
    return is_closed is not None and is_closed()


cdef class RawBody(Held):
    """
    What stands for urllib3's response, where requests or who uses it reads the body: by whatever method, the last byte
    ends the permits, and an error breaks the body off. All else is the response's own, and set there.
    """

    cdef readonly object _inner
    cdef readonly object _original_response     # what a session looks for each time
    cdef object _request
    cdef object _told

    def __init__(self, inner, str label, request, list permits, told):
        self._permits = permits
        (<Held>self).label = label
        self._inner = inner
        self._original_response = getattr(inner, "_original_response", None)
        self._request = request
        self._told = told

    def __bool__(self):
        return True

    @property
    def __class__(self):
        """What it is to `isinstance`: what it stands for."""
        return type(self._inner)

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        return partial(self._seen, found) if name in _READERS else found

    def __setattr__(self, name, value):
        setattr(self._inner, name, value)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __iter__(self):
        return Parts(self, iter(self._inner))

    def __next__(self):
        line = self._seen(self._inner.readline)  # as of any file
        if not line:
            self._over()
            raise StopIteration
        return line

    cdef _broke(self, error):
        self.failed(self._told(error))

    def _seen(self, read, *args, **options):
        """Return what `read` does, which reads the response."""
        try:
            found = read(*args, **options)
        except Exception as error:
            self._broke(error)
            raise
        if _is_read(self._inner):
            self._over()
        return found

    @property
    def data(self):
        """All of the body."""
        return self._seen(getattr, self._inner, "data")

    def json(self):
        """What the body says in JSON."""
        _ = self.data  # which is kept: that it is no JSON does not break the body off
        return self._inner.json()

    def read(self, amt=None, *args, **options):
        """Return so many bytes of the body, or all that is left, as urllib3 does."""
        part = self._seen(self._inner.read, amt, *args, **options)
        if amt is None or (not part and amt):
            self._over()
        return part

    def read_chunked(self, *args, **options):
        """Give the body in chunks, as the server has sent it."""
        return Parts(self, self._inner.read_chunked(*args, **options))

    def stream(self, amt=65536, decode_content=None):
        """Give the body in parts, as urllib3 does."""
        return Parts(self, self._inner.stream(amt, decode_content=decode_content))

    def close(self):
        """End the permits, then the connection's use."""
        if self._permits and self._request is not None:
            headers = getattr(self._inner, "headers", {})
            if self._request.method == "HEAD" or headers.get("content-length") == "0":
                self._over()
        self.aborted()
        self._inner.close()


cdef PyObject *_next_of_parts(PyObject *itself) noexcept:
    cdef Parts parts = <Parts>itself
    return _next_in(parts._held, parts._iterator)


cdef PyObject *_next_in(Held held, object iterator) noexcept:
    cdef PyObject *part = NULL
    if iterator is not None:
        part = Py_TYPE(iterator).tp_iternext(<PyObject *>iterator)
        if part == NULL:
            _stopped(held, <PyObject *>StopIteration)
    if part == NULL and PyErr_Occurred() == NULL:  # as an iterator may end
        PyErr_SetNone(StopIteration)
    return part


# What Cython puts there adds a line to the traceback of each error that passes, which takes longer than all else.
(<PyTypeObject *>Parts).tp_iternext = _next_of_parts
