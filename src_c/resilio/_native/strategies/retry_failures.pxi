"""
What a failed attempt's exception or result says about its repetition, and the release of such a result.

A part of retry.pxi. Objects of clients and of users are read and closed here: where that raises, the retry goes on.
"""

cdef bint unnamed(Options options, object error) except -1:
    """Return True for a rejection or a passed deadline that `on` does not list."""
    return isinstance(error, (RejectedError, DeadlineExceededError)) and not isinstance(error, options.named)


cdef bint is_forbidden(const rs_request *request) except -1:
    """
    Return True if a client's request must not be sent twice, however its attempt ended.

    The request is asked, since the error of a timeout knows nothing of it.
    """
    if request.nargs != 1:
        return False
    try:
        return getattr(<object>request.args[0], "_resilio_replay", None) is False
    except Exception:
        return False


cdef int64_t asked_ns(object subject) except -1:
    said = retry_after_of(subject)
    return 0 if said is None else RS_NEVER if said > 9e9 else <int64_t>(said * 1e9)


cdef bint says_something(object subject) except -1:
    """Return True if *subject* may hold advice; most exceptions have none of the attributes that do."""
    if isinstance(subject, (BaseExceptionGroup, dict)):
        return True
    for name in _hints:
        try:
            if hasattr(subject, name):
                return True
        except Exception:               # it may have one: the code that reads it handles the error
            return True
    return False


async def once_closed(closing, value):
    """Await the closing of a result and return that result: rules that look at it must not see another."""
    await closing
    return value


def release(value, bint may_await):
    """
    Close a failed result that will be discarded: a response holds its connection until then.

    Args:
        value: The result.

        may_await: Whether the caller can await.

    Returns:
        The awaitable that closes it, or None.
    """
    try:
        close = getattr(value, "aclose", None) if may_await else None
        if close is None:
            close = getattr(value, "close", None)
        closing = close() if callable(close) else None
        return closing if may_await and isawaitable(closing) else None
    except Exception as error:
        _log.say(_log.DEBUG, "a failed result could not be closed", error=error)
        return None
