"""The bodies of httpx and httpx2, and what puts them under guard: a part of body.pyx."""

cdef object _EMPTY = {"content-length": "0"}  # of what has no body to be read: an answer to HEAD, a connection that is upgraded
cdef object _NOTHING = iter(())
next(_NOTHING, None)
cdef object _NO_BODY = frozenset({204, 304})


cdef class _HttpBody(Held):
    """What bodies of httpx and httpx2 of both kinds have; their classes there know the rest."""

    cdef public object _inner
    cdef public object _iterator
    cdef readonly object headers

    def __init__(self, inner, headers, list permits):
        self._permits = permits
        self._inner = inner
        self.headers = headers

    cdef _left(self):
        """Whoever closes it before its end wants no more, but where there is no more."""
        if self._iterator is None and self.headers.get("content-length") == "0":
            self._end(RS_COMPLETE)
        else:
            self._end(RS_ABORT)

    cdef _over(self):
        self._iterator = None
        self._end(RS_COMPLETE)
        api.phase(RS_ATTEMPT)

    def at_end(self):
        """Its last part has been read."""
        self._over()


cdef class AsyncBody(_HttpBody):
    """The body of a response under guard, as its own iterator: its permits end with it."""

    def __aiter__(self):
        if self._iterator is None and self._inner is not None:
            self._iterator = self._inner.__aiter__()
        return self

    def __anext__(self):
        return _anext(self)

    def asend(self, value):
        """Return the next part, awaited, as of an async generator."""
        return self.__anext__()

    def aclose(self):
        """End the permits, then, awaited, the connection's use."""
        if self._permits:
            self._left()
            api.phase(RS_ATTEMPT)
        inner, self._inner = self._inner, None
        if inner is None:
            return _DONE
        return inner.aclose() if self._iterator is None else self._close(inner)


cdef class Body(_HttpBody):
    """The same for threads."""

    def __iter__(self):
        if self._iterator is None and self._inner is not None:
            self._iterator = iter(self._inner)
        return self

    def __next__(self):
        return (<object (*)(object)>_next_part)(self)

    def close(self):
        """End the permits, then the connection's use."""
        if self._permits:
            self._left()
        inner, self._inner = self._inner, None
        if inner is None:
            return
        api.phase(RS_ATTEMPT)
        if self._iterator is None:
            inner.close()
        else:
            self._close(inner)


cdef class _Done:
    """What is awaited where there is nothing to do."""

    def __await__(self):
        return _NOTHING


cdef object _DONE = _Done()


cdef class _Step:
    """The next part of a body, to be awaited: what the iterator inside awaits, in no frame of its own."""

    cdef AsyncBody body
    cdef object awaited

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Go on with `value`."""
        try:
            return self.awaited.send(value)
        except StopIteration:
            raise
        except BaseException as error:
            self._raised(error)
            raise

    def throw(self, *error):
        """Raise an error where the iterator inside waits."""
        throw = getattr(self.awaited, "throw", None)
        try:
            if throw is None:
                raise error[0] if len(error) < 2 or error[1] is None else error[1]
            return throw(*error)
        except StopIteration:
            raise
        except BaseException as error:
            self._raised(error)
            raise

    def close(self):
        """Do not go on: who has waited is gone, which says nothing."""
        close = getattr(self.awaited, "close", None)
        if close is not None:
            close()
        self.body.failed(GeneratorExit())

    cdef _raised(self, error):
        if isinstance(error, StopAsyncIteration):
            self.body._over()
        elif not _is_read_elsewhere(self.body):
            self.body.failed(error)


cdef bint _is_read_elsewhere(AsyncBody body) noexcept:
    """Another task is reading: that this one may not says nothing of the body."""
    return PyAsyncGen_CheckExact(body._iterator) and (<object>body._iterator).ag_running


cdef object _anext(object itself):
    cdef PyAsyncMethods *methods
    cdef _Step step
    cdef AsyncBody body = <AsyncBody>itself
    iterator = body._iterator
    if iterator is None:
        raise StopAsyncIteration
    methods = Py_TYPE(iterator).tp_as_async
    if methods == NULL or methods.am_anext == NULL:
        raise TypeError(f"{type(iterator).__name__} has no __anext__: it is no async iterator")
    step = _Step.__new__(_Step)
    step.body = body
    step.awaited = methods.am_anext(iterator)
    if not PyIter_Check(step.awaited):  # a coroutine is awaited by something else
        step.awaited = step.awaited.__await__()
    return step


cdef PyObject *_next_of_step(PyObject *itself) noexcept:
    cdef _Step step = <_Step>itself
    cdef PyObject *part = Py_TYPE(step.awaited).tp_iternext(<PyObject *>step.awaited)
    cdef PyObject *error
    if part == NULL:
        error = PyErr_Occurred()  # none, or a StopIteration, returns the part
        if error != NULL and not PyErr_GivenExceptionMatches(error, <PyObject *>StopIteration):
            if not PyErr_GivenExceptionMatches(error, <PyObject *>RuntimeError) or not _is_read_elsewhere(step.body):
                _stopped(step.body, <PyObject *>StopAsyncIteration)
    return part


cdef PyObject *_next_part(PyObject *itself) noexcept:
    cdef Body body = <Body>itself
    return _next_in(body, body._iterator)


(<PyTypeObject *>_Step).tp_iternext = _next_of_step  # as of Parts


cdef _iterates_in_c(type kind):
    """Have a class derived from one of the two iterate by the functions above, without looking up a method each time."""
    cdef PyTypeObject *itself = <PyTypeObject *>kind
    itself.tp_finalize = (<PyTypeObject *>Held).tp_finalize
    if issubclass(kind, AsyncBody):
        itself.tp_as_async.am_aiter = (<PyTypeObject *>AsyncBody).tp_as_async.am_aiter
        if kind.__anext__ is AsyncBody.__anext__:
            itself.tp_as_async.am_anext = _anext
    elif kind.__next__ is Body.__next__:
        itself.tp_iternext = _next_part


cdef class Bodies:
    """Puts the bodies of one transport under guard: a class derived from one of the two above, which is its own."""

    cdef object _kind

    def __init__(self, kind):
        self._kind = kind
        _iterates_in_c(kind)

    def around(self, inner, headers, list permits):
        """
        Return the body of a response under guard.

        Args:
            inner: Its stream.

            headers: Those of the response; of an answer to HEAD, those of an empty one.

            permits: What ends with the body.
        """
        cdef PyTypeObject *kind = <PyTypeObject *>self._kind
        cdef _HttpBody body = <_HttpBody>kind.tp_new(kind, (), NULL)  # its __init__ would be looked up each time
        body._permits = permits
        body._inner = inner
        body.headers = headers
        return body

    def hold(self, permit, response):
        """Have gates judge a response by its headers, and put their permit with its body; with none it ends."""
        api.answered(permit, response)
        held = response.extensions.get("resilio_held")
        if response.is_closed or response.status_code in _NO_BODY:
            api.end(permit, RS_COMPLETE)
        elif held is None:  # a fallback's
            self.take(None, response, [permit])
        else:
            (<Held?>held)._permits.append(permit)

    def take(self, request, response, list permits):
        """
        Put the body of a response under guard, and its permits with it; they end now where nobody would read one.

        Args:
            request: Whose response it is; None: nobody knows.

            response: Its headers are here.

            permits: What ends with the body.
        """
        api.phase(RS_BODY)
        if response.is_closed or response.status_code in _NO_BODY:
            response.extensions["resilio_held"] = None
            for permit in permits:
                permit.complete()
            return None
        headers = response.headers
        if response.status_code == 101 or (request is not None and request.method == "HEAD"):
            headers = _EMPTY
        body = self.around(response.stream, headers, permits)
        response.extensions["resilio_held"] = body
        response.stream = body
        return body
