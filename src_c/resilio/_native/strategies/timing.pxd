"""The state of a timeout and of a deadline."""

from libc.stdint cimport int64_t
from resilio._native.gate cimport Gate, rs_gate

cdef extern from "loglinear.h" nogil:
    ctypedef struct rs_samples "rs_histogram":
        unsigned long long count
    void rs_samples_init "rs_histogram_init"(rs_samples *)
    void rs_samples_free "rs_histogram_free"(rs_samples *)
    void rs_samples_record "rs_histogram_record"(rs_samples *, int64_t)
    int rs_samples_copy "rs_histogram_copy"(rs_samples *, const rs_samples *)
    int rs_samples_merge "rs_histogram_merge"(rs_samples *, const rs_samples *)
    int64_t rs_samples_quantile "rs_histogram_quantile"(const rs_samples *, double)

ctypedef struct rs_timeout:
    int64_t total_ns        # the time of a call now; RS_NEVER: no limit
    int64_t first_ns        # of a stream until its first item; RS_NEVER: no limit
    int64_t idle_ns
    double q                # of the latencies, for a timeout that learns
    double factor
    int64_t floor_ns
    int64_t ceiling_ns
    int64_t enough          # samples that the quantile needs
    int64_t unlearned       # samples since total_ns was computed
    int64_t learned_at_ns   # when total_ns was computed
    int64_t turned_at_ns    # when `recent` began
    int64_t sampled_ns      # when the last sample came
    rs_samples recent       # it learns from these two: the older is dropped when the newer has enough
    rs_samples before

# The memory of a TimeoutGate seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_timeout_object:
    rs_gate gate
    rs_timeout timeout

cdef class TimeoutGate(Gate):
    cdef rs_timeout timeout
    cdef bint in_threads
    cdef object threads     # the thread pool, from its first use on
    cdef unsigned long long ended[4]    # calls that ran out of time, by CLOCKS
    cdef object time_of     # the function of a call's arguments that returns its time, or None
    cdef unsigned long long bad_times   # calls for which it raised or returned no time

ctypedef struct rs_deadline_object:
    rs_gate gate
    int64_t allowed_ns

cdef class DeadlineGate(Gate):
    cdef int64_t allowed_ns
