# cython: auto_pickle=False
"""
What a response holds of policies until its body has ended, in the part that each passes; `resilio.integrations` has the rest.

A part of a body passes here without a frame, and an error without a line in its traceback: the slots of the types that
iterate are functions of C, which hand on what they are given.
"""

from collections import deque

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer

from resilio._native.gate cimport RS_ATTEMPT, RS_BODY
from resilio._native.strategy cimport RS_ABANDON, RS_ABORT, RS_COMPLETE, rs_core_api

from resilio._native import core

__all__ = ["AsyncBody", "Bodies", "Body", "Held", "Parts", "RawBody", "next_untold", "note_abandoned", "untold"]

cdef extern from "Python.h":
    ctypedef PyObject *(*iternextfunc)(PyObject *) noexcept
    ctypedef struct PyAsyncMethods:
        object (*am_aiter)(object)
        object (*am_anext)(object)
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *, object, PyObject *)
        iternextfunc tp_iternext
        void (*tp_finalize)(PyObject *) noexcept
        PyAsyncMethods *tp_as_async
    PyTypeObject *Py_TYPE(object) noexcept
    PyObject *PyErr_Occurred() noexcept
    int PyErr_GivenExceptionMatches(PyObject *, PyObject *) noexcept
    bint PyIter_Check(object) noexcept
    bint PyAsyncGen_CheckExact(object) noexcept
    void PyErr_SetNone(object) noexcept
    void PyErr_Fetch(PyObject **, PyObject **, PyObject **) noexcept
    void PyErr_NormalizeException(PyObject **, PyObject **, PyObject **) noexcept
    void PyErr_Restore(PyObject *, PyObject *, PyObject *) noexcept
    int PyException_SetTraceback(PyObject *, PyObject *) noexcept

cdef enum:
    MOST_LABELS = 1000

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")
cdef object _untold = deque(maxlen=MOST_LABELS)
cdef object _EMPTY = {"content-length": "0"}  # of what has no body to be read: an answer to HEAD, a connection that is upgraded
cdef object _NOTHING = iter(())
next(_NOTHING, None)
cdef object _NO_BODY = frozenset({204, 304})


cpdef bint untold():
    """Tell whether something was abandoned that is not in the log yet."""
    return bool(_untold)


cpdef note_abandoned(str label):
    """Remember what to log: a finaliser runs in the middle of anything, a handler's own lock included."""
    if label not in _untold:
        _untold.append(label)


def next_untold():
    """Return the label of something that was abandoned, and forget it; None: there is nothing to tell."""
    return _untold.popleft() if _untold else None


cdef class Held:
    """
    The permits of one response: what they end as is said once, by whoever is first; all later calls change nothing.

    Dropped with permits, it has been abandoned.
    """

    cdef object __weakref__
    cdef readonly list _permits
    cdef public str label

    def __init__(self, str label="a response"):
        self._permits = []
        self.label = label

    def __bool__(self):
        return bool(self._permits)

    def add(self, permit):
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""
        self._permits.append(permit)

    # A list's own atomicity decides: of a reader, a task that closes and a collector, one gets each permit. What was
    # ended by hand is left alone.

    cdef bint _end(self, int how):
        cdef bint found = False
        while self._permits:
            try:
                found |= api.end(self._permits.pop(), how)
            except IndexError:
                continue
        return found

    def ended(self):
        """The body is complete: each gate counts what it has thought of the headers."""
        self._end(RS_COMPLETE)

    def failed(self, error):
        """The body broke off with `error`: each gate judges it by its own rules, a cancellation is no outcome."""
        while self._permits:
            try:
                self._permits.pop().raised(error)
            except (IndexError, RuntimeError):
                continue

    def aborted(self):
        """The caller wants no more: no outcome, unless the headers already were a failure."""
        self._end(RS_ABORT)

    def abandoned(self):
        """Nobody closed it: as `aborted`, counted by each gate and logged now and then."""
        if self._end(RS_ABANDON):
            note_abandoned((<object>self).label)  # which classes of bodies have, for all of theirs

    cdef _over(self):
        """What it is the body of has come to its end."""
        self._end(RS_COMPLETE)

    cdef _broke(self, error):
        """It has broken off."""
        self.failed(error)

    def _next(self):
        """Take a permit that nobody else has taken, for those who end it in a way of their own."""
        try:
            return self._permits.pop()
        except IndexError:
            return None

    def __del__(self):
        if self._permits:
            self.abandoned()


cdef void _stopped(Held held, PyObject *end) noexcept:
    """The error that is set, and stays so, is the body's end if it is of the type *end*, or else breaks it off."""
    cdef PyObject *kind = NULL
    cdef PyObject *error = NULL
    cdef PyObject *traceback = NULL
    PyErr_Fetch(&kind, &error, &traceback)
    try:
        if kind == NULL or PyErr_GivenExceptionMatches(kind, end):
            held._over()
        else:
            PyErr_NormalizeException(&kind, &error, &traceback)
            if traceback != NULL:
                PyException_SetTraceback(error, traceback)
            held._broke(<object>error)
    except BaseException:  # nothing here raises; if it did, what is left of the permits ends with the body
        pass
    PyErr_Restore(kind, error, traceback)


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


cdef class RawBody(Held):
    """What stands for urllib3's response, where requests reads it."""

    cdef readonly object _inner
    cdef readonly object _original_response     # what a session looks for each time
    cdef readonly object _request

    def __init__(self, inner, str label, request, list permits):
        self._permits = permits
        self.label = label
        self._inner = inner
        self._original_response = getattr(inner, "_original_response", None)
        self._request = request

    def __getattr__(self, name):
        return getattr(self._inner, name)

    cdef _broke(self, error):
        self.failed((<object>self).as_told(error))

    def stream(self, amt=65536, decode_content=None):
        """Give the body in parts, as urllib3 does."""
        return Parts(self, self._inner.stream(amt, decode_content=decode_content))


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
(<PyTypeObject *>_Step).tp_iternext = _next_of_step
(<PyTypeObject *>Parts).tp_iternext = _next_of_parts


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
