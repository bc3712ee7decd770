# cython: auto_pickle=False
"""What every request of an ASGI app passes, in its quick part; `resilio.integrations._asgi_exchange` is the rest."""

__all__ = ["Exchange", "settle"]

cdef enum:
    BUFFERED = 65536                        # a body that is no longer is taken by servers and kernels at once


cpdef settle(permit, long status):
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""
    if status < 400:
        permit.success()
    elif status < 500:
        permit.ignore()
    else:
        permit.failure()


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
        kind = message["type"]
        if kind == "http.response.start":
            self.started = message["status"]
        elif kind == "http.response.body":
            if message.get("more_body"):
                return self._send_part(message)
            if self.permit is not None:
                return self._last_part(message)
        elif kind == "http.response.zerocopysend" or kind == "http.response.pathsend":
            return self._send_file(message)
        return self._send(message)

    cdef object _last_part(self, message):
        permit, self.permit = self.permit, None
        if self._streams or len(message.get("body", b"")) > BUFFERED:
            return self._send_last(message, permit, self.started)
        settle(permit, self.started)
        return self._send(message)
