"""Conversion of the options in a gate's record."""

from libc.math cimport llrint
from libc.stdint cimport int64_t

cdef inline int64_t ns_of(object seconds, int64_t none=0) except? -1:
    """Nanoseconds of an option in seconds, at least one if it is positive; `none` in place of None."""
    if seconds is None:
        return none
    cdef double time = seconds
    return 0 if time == 0.0 else max(<int64_t>1, <int64_t>llrint(time * 1e9))
