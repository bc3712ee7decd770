"""
The data structures of the gates as classes of their own: token bucket, latency histogram, outcome window.

The arithmetic is in own_bucket.h, loglinear.h and window.h; this module adds locks, checks of arguments, and Python's
units: seconds as float outside, int64 nanoseconds inside. Every method of every object may be called from any thread.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from libc.math cimport INFINITY, NAN, nextafter
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from binascii import crc32

from resilio._options import validators as _config
from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now

cdef extern from "loglinear_bytes.h":
    const size_t RS_HISTOGRAM_BYTES_MAX
    size_t rs_histogram_encode(const rs_histogram *histogram, uint8_t *out) noexcept nogil
    const char *rs_histogram_decode(rs_histogram *histogram, const uint8_t *data, size_t length) noexcept nogil

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef rs_clock *_clock = rs_clock_import()

cdef double NS = 1e9
cdef int64_t SECOND = 1_000_000_000
cdef int64_t MOST_TOKENS = 1_000_000_000_000
cdef int64_t MOST_CALLS = 10_000_000
cdef int64_t LATEST_NS = 1 << 61


cdef int64_t _integer(str name, object value, int64_t low, int64_t high) except -1:
    """An int in [low, high], low >= 0."""
    cdef int overflow = 0
    cdef int64_t number
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if low <= number <= high and not overflow:
            return number
    return _config.positive_int(name, value, zero_ok=low == 0, high=high)


cdef inline int64_t _now(object now_ns) except -1:
    """The caller's time, or the clock's."""
    if now_ns is None:
        return rs_clock_now(_clock)
    return _integer("now_ns", now_ns, 0, LATEST_NS)


cdef double _seconds_enough(int64_t ns) noexcept:
    """Seconds for *ns*, rounded so that they are not shorter."""
    cdef double seconds = <double> ns / NS
    return seconds if seconds * NS >= <double> ns else nextafter(seconds, seconds + 1)


cdef int64_t _nanoseconds(str name, object value) except -1:
    """Seconds >= 0 as ns, at most the end of the histogram's range."""
    cdef double seconds
    if PyFloat_CheckExact(value):
        seconds = PyFloat_AS_DOUBLE(value)
        if 0.0 <= seconds < 17592.0:
            return <int64_t> (seconds * NS + 0.5)
    seconds = _config.number(name, value, low=0.0) * NS + 0.5
    return <int64_t> seconds if seconds < RS_HISTOGRAM_MAX_NS else RS_HISTOGRAM_MAX_NS


cdef inline double _share(str name, object value) except? -1:
    """A number in [0, 1]."""
    if PyFloat_CheckExact(value) and 0.0 <= PyFloat_AS_DOUBLE(value) <= 1.0:
        return PyFloat_AS_DOUBLE(value)
    return _config.number(name, value, low=0.0, high=1.0)


include "primitives_bucket.pxi"
include "primitives_histogram.pxi"
include "primitives_window.pxi"
