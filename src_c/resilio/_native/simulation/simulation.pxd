# The event loop of simulations, for modules that schedule native work in it: see workers.pxi.

from libc.stdint cimport int64_t, uint64_t

cdef int64_t BEGIN


cdef class Due:
    cdef int fire(self) except -1


cdef class Timer:
    cdef int64_t when_ns
    cdef uint64_t number
    cdef object call
    cdef tuple args
    cdef object context
    cdef object __weakref__
    cdef int fire(self) except -1


cdef class EventLoop:
    cdef readonly int64_t now
    cdef dict __dict__
    cdef object __weakref__
    cdef object _failed
    cdef object _ready
    cdef list _heap
    cdef uint64_t _number
    cdef int64_t _still
    cdef int64_t _most_still
    cdef bint _is_running
    cdef Timer push(self, int64_t when_ns, call, tuple args, context)
    cdef Timer _pop(self)
    cdef int _move_to(self, int64_t when_ns) except -1
    cdef bint _run_timers(self, int64_t until_ns, int steps) except -1
    cdef int _run_ready(self) except -1
    cdef int _count_still(self) except -1
