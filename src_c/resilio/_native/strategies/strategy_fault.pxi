"""What a strategy says where it can raise nothing: a part of retry.pxi, hedge.pxi and fallback.pxi."""


cdef int say_failed(str what) noexcept:
    """Log the exception at hand, unless even that fails: too deep in calls for one that would say so."""
    try:
        _log.strategy_failed(what)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        pass
    return 0
