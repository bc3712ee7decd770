"""Logging of faults where a strategy cannot raise: a part of retry.pxi, hedge.pxi and fallback.pxi."""


cdef int say_failed(str what) noexcept:
    """Log the current exception; ignore a failure to log, since the stack may be exhausted."""
    try:
        _log.strategy_failed(what)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        pass
    return 0
