from libc.stdint cimport int64_t


cdef extern from "clock.h":
    ctypedef struct rs_clock:
        pass
    int64_t rs_clock_now(rs_clock *clock) noexcept nogil
    rs_clock *rs_clock_import() except NULL
