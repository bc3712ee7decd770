# cython: auto_pickle=False, always_allow_keywords=False, binding=False
"""
What every request of a WSGI app passes, in its quick part; `resilio.integrations.wsgi` is the rest.

A request that says nothing of itself and whose app returns a list, as most do, meets no Python of ours.
"""

from cpython.object cimport PyObject

__all__ = ["Body", "Exchange", "Gateway", "settle", "sized"]

include "servers.pxi"

cdef extern from "Python.h":
    ctypedef struct Slots "PyTypeObject":
        void *tp_iternext
        object (*tp_new)(type, tuple, void *)
    PyObject *PyIter_Next(object) except? NULL
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)
    PyObject *PyTuple_GET_ITEM(tuple, Py_ssize_t)

cdef tuple _nothing = ()


cdef class Exchange:
    """
    The permit of one request, ended once, by whatever comes first.

    It is what `start_response` gives the app to write with, and if the parts of the response are all there, the body as
    well, of known length, of which servers make a Content-Length: what is not made costs nothing.

    Attributes:
        permit: The permit, None before it is there and once it has ended.

        status: The response's, 0 before it has begun.

        head: Whether nobody asks for the body.

        whole: Whether the body has been given to its end.
    """

    cdef public object permit
    cdef readonly object environ
    cdef Gateway gateway
    cdef object _start_response
    cdef object _write
    cdef object parts                       # in a list or tuple; None: they come from elsewhere
    cdef Py_ssize_t at                      # how many of them have been given
    cdef bint streams                       # no part of a body of unknown length has been there yet
    cdef readonly bint head
    cdef public long status
    cdef public bint whole

    def start_response(self, status, headers, exc_info=None):
        """Begin the response for the app; again, as the server allows, with `exc_info`."""
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            self._write = self._start_response(status, headers, exc_info)
        self.status = _code(status)
        return self

    def __call__(self, data):
        """Write a part of the body at once, as apps do that have no iterable."""
        try:
            self._write(data)
        except OSError:                     # the client has left
            self.left()
            raise
        self.first_byte()

    cpdef first_byte(self):
        """Note that the first part of the body is there: that is the latency of a stream."""
        if self.streams:
            self.streams = False
            if self.permit is not None:
                self.permit.first_item()

    cpdef failed(self, error):
        """End the permit as its gates judge what the app has raised."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.raised(error)

    cpdef answer(self, error):
        """Answer a refusal if the response has not begun, and return the answer's body; else raise the error."""
        self.failed(error)
        if self.status or not isinstance(error, self.gateway.refusals):
            raise error
        return self.gateway._answer(self.environ, self, error)

    cpdef left(self):
        """End the permit because the client has left: that says nothing about the app."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.ignore()

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t at = self.at
        self.at += 1
        if type(self.parts) is list:
            if at < len(<list>self.parts):
                return <object>PyList_GET_ITEM(<list>self.parts, at)
        elif self.parts is not None and at < len(<tuple>self.parts):
            return <object>PyTuple_GET_ITEM(<tuple>self.parts, at)
        self.whole = True
        raise StopIteration

    def __bool__(self):                     # what is no body is something to write with
        return self.parts is None or len(self.parts) > 0

    def __len__(self):
        return len(self.parts)

    cpdef close(self):
        """End the permit because the body is closed, at its end or before."""
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole or self.head:
            settle(permit, self.status or 500)
        else:
            permit.ignore()

    def __del__(self):
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole:                      # and not closed, as some servers do where there is nothing to close
            settle(permit, self.status or 500)
        else:
            self.gateway.untold = True
            self.gateway._abandoned(permit)


cdef long _code(status) except -1:
    """The number that a status begins with; what begins with none is a fault of the server."""
    cdef int at
    cdef long code = 0
    cdef str said = status if type(status) is str else str(status)  # what it is of is for the server to judge
    if len(said) < 3:
        return 500
    for at in range(3):
        if not u"0" <= said[at] <= u"9":
            return 500
        code = 10 * code + <long>said[at] - <long>u"0"
    return code


cdef class Body:
    """What the server iterates over and closes in place of the app's iterable."""

    cdef Exchange exchange
    cdef object parts
    cdef object _close

    def __init__(self, Exchange exchange, parts, close):
        """
        Begin at the beginning.

        Args:
            exchange: The request.

            parts: Iterates over them.

            close: The iterable's own; None: it has none.
        """
        self.exchange, self.parts, self._close = exchange, parts, close

    def __iter__(self):
        return self

    def __next__(self):                     # for who calls it by name, as some servers do; see `_next`
        cdef PyObject *part = _next(<PyObject *>self)
        if part == NULL:
            raise StopIteration
        value = <object>part
        Py_DECREF(part)
        return value

    def close(self):
        """Close the app's iterable, then end the permit."""
        close, self._close = self._close, None
        try:
            if close is not None:
                close()
        except BaseException as error:
            self.exchange.failed(error)
            raise
        self.exchange.close()

    cdef PyObject *following(self) except? NULL:
        try:
            return PyIter_Next(self.parts)
        except BaseException as error:
            part = self.exchange.answer(error)  # of a generator that was refused before it had begun to answer
            self.parts = iter((part,))
        return PyIter_Next(self.parts)


cdef PyObject *_next(PyObject *self) except? NULL:
    """An end needs no StopIteration."""
    cdef Exchange exchange = (<Body>self).exchange
    cdef PyObject *part = (<Body>self).following()
    if part == NULL:
        exchange.whole = True
    elif exchange.streams and <object>part:
        exchange.first_byte()
    return part


(<Slots *>Body).tp_iternext = <void *>_next


cdef class Gateway:
    """
    The base of the middleware: which requests go the short way.

    A subclass has `_serve`, `_around`, `_answer`, `_abandoned` and `_tell`, and calls `_open` before it serves.
    """

    cdef public object app
    cdef public object policy
    cdef object acquire
    cdef vector quick                       # what that is in C; NULL: it is something else
    cdef type exchange                      # a class below Exchange
    cdef object begun                       # its start_response, to be bound
    cdef frozenset paths                    # that are exempt
    cdef unsigned long long of_paths        # how long they are
    cdef tuple variables                    # that are read
    cdef tuple refusals
    cdef bint opened
    cdef bint untold                        # whether a body was dropped that is not in the log yet

    def _open(self, app, policy, type exchange, *, frozenset paths, variables, tuple refusals, bint always_long):
        """
        Begin to serve.

        Args:
            app: The app.

            policy: What admits requests.

            exchange: What a request is to the middleware, a class below `Exchange`.

            paths: That are served whatever the policy says.

            variables: Of the environ, that are read: a request that has one goes the long way.

            refusals: Exceptions that are answered.

            always_long: Whether no request goes the short way.
        """
        if not issubclass(exchange, Exchange):
            raise TypeError(f"exchange must be a class below Exchange, not {exchange!r}")
        self.app, self.policy, self.acquire = app, policy, policy.acquire
        self.quick = in_c(self.acquire)
        self.exchange, self.begun, self.variables = exchange, exchange.start_response, tuple(variables)
        self.paths, self.of_paths = paths, lengths_of(paths)
        self.refusals, self.opened = refusals, not always_long

    def __call__(self, environ, start_response):
        """Serve a request."""
        if self.untold:
            self.untold = False
            self._tell()
        if type(environ) is not dict or not self._is_plain(<dict>environ):
            return self._serve(environ, start_response)
        exchange = self._exchange_of(environ, start_response)
        try:
            exchange.permit = call(self.acquire, self.quick, environ)
            result = self.app(environ, bound(self.begun, exchange))
            if type(result) is list or type(result) is tuple:
                return _sized(exchange, result)
            return self._around(result, exchange, None)
        except BaseException as error:
            return [exchange.answer(error)]

    cdef bint _is_plain(self, dict environ) except -1:
        """Tell whether the request may go the short way: not exempt, and without a header that is read."""
        if not self.opened:
            return False
        path, mounted = environ.get("PATH_INFO"), environ.get("SCRIPT_NAME")
        if type(path) is not str or is_named(path, self.paths, self.of_paths):
            return False
        if mounted and is_named(mounted + path, self.paths, self.of_paths):
            return False
        for variable in self.variables:
            if variable in environ:
                return False
        return True

    def exchange_of(self, environ, start_response):
        """Return what holds the permit of a request, none yet."""
        return self._exchange_of(environ, start_response)

    cdef Exchange _exchange_of(self, environ, start_response):
        cdef Exchange exchange = (<Slots *>self.exchange).tp_new(self.exchange, _nothing, NULL)
        exchange.environ, exchange.gateway, exchange._start_response = environ, self, start_response
        exchange.streams = True
        exchange.head = environ.get("REQUEST_METHOD") == "HEAD"
        return exchange


cdef Exchange _sized(Exchange exchange, parts):
    exchange.streams, exchange.parts = False, parts
    return exchange


def sized(Exchange exchange, parts):
    """Return the body of a response whose parts are in a list or tuple."""
    return _sized(exchange, parts if type(parts) is list else tuple(parts))
