# cython: auto_pickle=False, always_allow_keywords=False, binding=False
"""
What every request of an ASGI app passes, in its quick part; `resilio.integrations._asgi_exchange` is the rest.

A request that says nothing of itself and is admitted at once, as nearly all are, meets no Python of ours: a call of the
middleware gives a `Serving`, which drives the app's coroutine as an `await` of it would. All others go the long way, in
`resilio.integrations.asgi`.
"""

from sys import modules

from cython cimport always_allow_keywords, binding, freelist
from libc.string cimport memcmp
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

__all__ = ["Entrance", "Exchange", "Serving", "settle", "shorten"]

include "servers.pxi"

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    ctypedef struct PyAsyncMethods:
        void *am_send
    ctypedef struct Slots "PyTypeObject":
        PyAsyncMethods *tp_as_async
        void *tp_call
        void *tp_iternext
        object (*tp_new)(type, tuple, void *)
    PySendResult PyIter_Send(object, object, PyObject **) except PYGEN_ERROR
    bint PyCoro_CheckExact(object)
    bint PyGen_CheckExact(object)
    bint PyTuple_CheckExact(PyObject *)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *)
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t)
    PyObject *PyList_GET_ITEM(PyObject *, Py_ssize_t)
    bint PyBytes_CheckExact(PyObject *)
    Py_ssize_t PyBytes_GET_SIZE(PyObject *)
    bint PyUnicode_IS_COMPACT_ASCII(str)
    const void *PyUnicode_DATA(str)

ctypedef PyObject *(*call_slot)(PyObject *, PyObject *, PyObject *) except NULL

cdef enum:
    BUFFERED = 65536                        # a body that is no longer is taken by servers and kernels at once

cdef enum:
    FRESH                                   # nothing has been asked for yet
    RUNNING                                 # the app's coroutine is driven, and what comes out of it is ours to judge
    HANDED                                  # a coroutine in Python sees to all of it
    OVER


cdef tuple _nothing = ()


cdef inline bint _says(kind, const char *text, Py_ssize_t length):
    """Tell whether it is this text, in ASCII; Cython's comparison is a call."""
    if type(kind) is not str or len(<str>kind) != length or not PyUnicode_IS_COMPACT_ASCII(<str>kind):
        return False
    return memcmp(PyUnicode_DATA(<str>kind), text, <size_t>length) == 0


cdef class Exchange:
    """The permit of one request; what is sent for the app goes through `send`."""

    cdef public object _receive
    cdef public object _send
    cdef public object permit
    cdef public long started                # the response's status once it has begun
    cdef public bint _streams               # whether a part of the body has been sent

    def __init__(self, receive, send):
        self._receive = receive
        self._send = send
        self.permit = None

    def send(self, message):
        """
        Send for the app, and end the permit with the last byte of the body.

        A body that is short and all there is as good as taken; otherwise the end is when the server has taken it.
        """
        cdef dict said = message if type(message) is dict else dict(message)
        kind = said["type"]
        if _says(kind, b"http.response.start", 19):
            self.started = said["status"]
        elif _says(kind, b"http.response.body", 18):
            if said.get("more_body"):
                return self._send_part(message)
            if self.permit is not None:
                return self._last_part(message, said.get("body"))
        elif kind == "http.response.zerocopysend" or kind == "http.response.pathsend":
            return self._send_file(message)
        return self._send(message)

    cdef object _last_part(self, message, part):
        permit, self.permit = self.permit, None
        if self._streams or (part is not None and len(part) > BUFFERED):
            return self._send_last(message, permit, self.started)
        settle(permit, self.started)
        return self._send(message)


cdef class Entrance:
    """
    The base of the middleware: which requests go the short way.

    A subclass has `_go_on` and `_answer`, and calls `_open` before it serves.
    """

    cdef public object app
    cdef public object policy
    cdef object begin
    cdef vector quick                       # what that is in C; NULL: it is something else
    cdef type http                          # a class below Exchange
    cdef object receive                     # its methods, to be bound
    cdef object send
    cdef frozenset paths                    # that are exempt
    cdef dict headers                       # that are read
    cdef unsigned long long of_paths, of_headers    # how long they are
    cdef bint opened
    cdef tuple refusals

    def _open(self, app, policy, type http, *, frozenset paths, headers, tuple refusals, bint always_long):
        """
        Begin to serve.

        Args:
            app: The app.

            policy: What admits requests.

            http: Makes the exchange of an HTTP request.

            paths: That are served whatever the policy says.

            headers: Names, as bytes, of those that are read: who has one goes the long way.

            refusals: Exceptions that are answered.

            always_long: Whether no request goes the short way.
        """
        if not issubclass(http, Exchange):
            raise TypeError(f"http must be a class below Exchange, not {http!r}")
        self.app, self.policy, self.begin = app, policy, policy._begin
        self.http, self.paths, self.refusals = http, paths, refusals
        self.receive, self.send = http.receive, http.send
        self.headers = dict.fromkeys(headers)
        self.of_paths, self.of_headers = lengths_of(paths), lengths_of(self.headers)
        self.quick = in_c(self.begin)
        self.opened = not always_long

    cdef bint _is_plain(self, dict scope) except -1:
        """Tell whether the request may go the short way: on asyncio, not exempt, and without a header that is read."""
        cdef dict loaded = modules
        if not self.opened or not _says(scope["type"], b"http", 4) or "trio" in loaded:
            return False
        path, headers, mounted = scope["path"], scope["headers"], scope.get("root_path")
        if is_named(path, self.paths, self.of_paths):
            return False
        if mounted and is_named(path[len(mounted.rstrip("/")):], self.paths, self.of_paths):
            return False
        return type(headers) is list and not self._are_read(<list>headers)

    cdef bint _are_read(self, list headers) except -1:
        """Tell whether one of them is read, or may be."""
        cdef Py_ssize_t at, length
        cdef PyObject *pair
        for at in range(len(headers)):
            pair = PyList_GET_ITEM(<PyObject *>headers, at)
            if not PyTuple_CheckExact(pair) or PyTuple_GET_SIZE(pair) != 2:
                return True
            pair = PyTuple_GET_ITEM(pair, 0)
            if not PyBytes_CheckExact(pair):
                return True
            length = min(PyBytes_GET_SIZE(pair), LONGEST)
            if self.of_headers >> length & 1 and <object>pair in self.headers:
                return True
        return False

    cdef Serving _serve(self, dict scope, receive, send):
        cdef Serving serving = Serving.__new__(Serving)
        cdef Exchange exchange = (<Slots *>self.http).tp_new(self.http, _nothing, NULL)
        exchange._receive, exchange._send = receive, send
        serving.entrance, serving.scope, serving.exchange = self, scope, exchange
        return serving


@freelist(32)
cdef class Serving:
    """One request on its short way: a coroutine to all who drive it."""

    cdef object inner                       # what is driven
    cdef Exchange exchange
    cdef Entrance entrance
    cdef dict scope
    cdef int state

    def __await__(self):
        return self

    def __next__(self):                     # 3.12 and later ask for this one, and leave out values: see `_next`
        return self.send(None)

    def send(self, value):
        """Go on with *value*."""
        cdef PyObject *result = NULL
        cdef PySendResult sent = self._drive(value, &result)
        return self._given(sent, result)

    def throw(self, *error):
        """Go on with an exception."""
        cdef PyObject *result = NULL
        cdef PySendResult sent = self._thrown(error, &result)
        return self._given(sent, result)

    def close(self):
        """End it: the app is closed, and then the permit is given up."""
        inner, state = self.inner, self.state
        self.inner, self.state = None, OVER
        if state == HANDED:
            inner.close()
        elif state == RUNNING:
            try:
                if inner is not None:
                    inner.close()
            except BaseException as error:
                self.exchange.failed(error)
                raise
            self.exchange.failed(GeneratorExit())

    @property
    def cr_await(self):
        """What it awaits, for who looks from outside."""
        return self.inner

    def __dealloc__(self):                  # no __del__: what comes from a freelist has been finalised already
        if self.state == FRESH:
            _warn()
        elif self.state != OVER and self.exchange is not None:
            self.close()

    cdef object _given(self, PySendResult sent, PyObject *result):
        """Give what one step has had, as a method of a coroutine does."""
        value = <object>result
        Py_XDECREF(result)
        if sent == PYGEN_RETURN:
            raise StopIteration
        return value

    cdef PySendResult _drive(self, value, PyObject **result) except PYGEN_ERROR:
        if self.state == FRESH:
            self._begin()
        elif self.inner is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.state == HANDED:
            return self._ended(PyIter_Send(self.inner, value, result))
        try:
            return self._ended(PyIter_Send(self.inner, value, result))
        except BaseException as error:
            if not self._is_answered(error):
                raise
        return self._ended(PyIter_Send(self.inner, None, result))

    cdef int _begin(self) except -1:
        """Be admitted and call the app, or hand over to who waits, or answers."""
        cdef Entrance entrance = self.entrance
        cdef Exchange exchange = self.exchange
        self.state = RUNNING
        try:
            permit = call(entrance.begin, entrance.quick, self.scope)
            if type(permit) is tuple:
                self.state, self.inner = HANDED, entrance._go_on(*permit, self.scope, exchange)
                return 0
            exchange.permit = permit
            receive, send = bound(entrance.receive, exchange), bound(entrance.send, exchange)
            self.inner = _iterator(entrance.app(self.scope, receive, send))
        except BaseException as error:
            if not self._is_answered(error):
                raise
        return 0

    cdef PySendResult _thrown(self, tuple error, PyObject **result) except PYGEN_ERROR:
        if self.inner is None:
            return self._thrown_early(error)
        try:
            value = self.inner.throw(*error)
        except StopIteration:
            result[0] = _owned(None)
            return self._ended(PYGEN_RETURN)
        except BaseException as raised:
            if self.state == HANDED or not self._is_answered(raised):
                self.inner, self.state = None, OVER
                raise
            return self._ended(PyIter_Send(self.inner, None, result))
        result[0] = _owned(value)
        return PYGEN_NEXT

    cdef PySendResult _thrown_early(self, tuple error) except PYGEN_ERROR:
        if self.state != FRESH:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.state = OVER
        if isinstance(error[0], BaseException):
            raise error[0]
        raise error[0](*error[1:2])

    cdef PySendResult _ended(self, PySendResult sent) except PYGEN_ERROR:
        """Note the end of what is driven, if this was it."""
        if sent == PYGEN_RETURN:
            state, self.state, self.inner = self.state, OVER, None
            if state == RUNNING and self.exchange.permit is not None:
                self.exchange.ended()
        return sent

    cdef bint _is_answered(self, error) except -1:
        """End the permit as what was raised says, and begin the answer to it, if there is one to give."""
        self.inner, self.state = None, OVER
        self.exchange.failed(error)
        if self.exchange.started or not isinstance(error, self.entrance.refusals):
            return False
        self.state, self.inner = HANDED, self.entrance._answer(self.scope, self.exchange, error)
        return True


cdef object _iterator(awaitable):
    """Return what drives an awaitable."""
    if PyCoro_CheckExact(awaitable) or PyGen_CheckExact(awaitable):
        return awaitable
    return awaitable.__await__()


cdef inline PyObject *_owned(value) noexcept:
    Py_INCREF(value)
    return <PyObject *>value


cdef int _warn() except -1:
    PyErr_WarnEx(RuntimeWarning, "coroutine 'Middleware.__call__' was never awaited", 1)
    return 0


# ---- slots of types, which Cython leaves out -----------------------------------------------------------------------

cdef PySendResult _send(PyObject *self, PyObject *value, PyObject **result) except PYGEN_ERROR:
    return (<Serving>self)._drive(<object>value, result)


cdef PyObject *_next(PyObject *self) except? NULL:
    """An end without a value needs no StopIteration."""
    cdef PyObject *result = NULL
    if (<Serving>self)._drive(None, &result) == PYGEN_NEXT:
        return result
    Py_XDECREF(result)
    return NULL


(<Slots *>Serving).tp_as_async.am_send = <void *>_send
(<Slots *>Serving).tp_iternext = <void *>_next

cdef call_slot _long_way = NULL


cdef PyObject *_enter(PyObject *self, PyObject *args, PyObject *kwargs) except NULL:
    cdef tuple given = <tuple>args
    if kwargs == NULL and len(given) == 3 and type(given[0]) is dict and (<Entrance>self)._is_plain(<dict>given[0]):
        return _owned((<Entrance>self)._serve(<dict>given[0], given[1], given[2]))
    return _long_way(self, args, kwargs)


@binding(True)
@always_allow_keywords(True)
def shorten(type middleware):
    """
    Have calls of a class below `Entrance` go the short way where there is one; else they go to its `__call__`.

    That stays what it is to all who look at it, a coroutine function; a subclass that has another uses only that.
    """
    global _long_way
    if not issubclass(middleware, Entrance):
        raise TypeError(f"middleware must be a class below Entrance, not {middleware!r}")
    _long_way = <call_slot>(<Slots *>middleware).tp_call
    (<Slots *>middleware).tp_call = <void *>_enter
    return middleware
