from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "rs_lock.h":
    ctypedef struct rs_lock:
        pass
    void rs_lock_acquire(rs_lock *lock) noexcept
    void rs_lock_release(rs_lock *lock) noexcept


cdef extern from "loglinear.h":
    ctypedef struct rs_histogram:
        uint64_t count, lost
        int64_t min, max
    const int64_t RS_HISTOGRAM_MAX_NS
    void rs_histogram_init(rs_histogram *histogram) noexcept nogil
    void rs_histogram_free(rs_histogram *histogram) noexcept nogil
    void rs_histogram_reset(rs_histogram *histogram) noexcept nogil
    void rs_histogram_record(rs_histogram *histogram, int64_t ns) noexcept nogil
    int64_t rs_histogram_quantile(const rs_histogram *histogram, double q) noexcept nogil
    uint64_t rs_histogram_at_or_below(const rs_histogram *histogram, int64_t ns) noexcept nogil
    int rs_histogram_merge(rs_histogram *into, const rs_histogram *from_) noexcept nogil
    int rs_histogram_since(rs_histogram *into, const rs_histogram *now, const rs_histogram *earlier) noexcept nogil
    int rs_histogram_copy(rs_histogram *into, const rs_histogram *from_) noexcept nogil
    double rs_histogram_sum(const rs_histogram *histogram) noexcept nogil
    size_t rs_histogram_memory(const rs_histogram *histogram) noexcept nogil


cdef extern from "own_bucket.h" nogil:
    ctypedef struct rs_own_tokens:
        int64_t most
    ctypedef struct rs_own_bucket:
        rs_own_tokens tokens
    int rs_own_set_rate(rs_own_tokens *, double amount, int64_t period_ns, int64_t burst)
    void rs_own_reconfigure(rs_own_bucket *, double amount, int64_t period_ns, int64_t burst, int64_t now_ns)
    void rs_own_fill(rs_own_bucket *, int64_t now_ns)
    int64_t rs_own_whole(rs_own_bucket *, int64_t now_ns)
    int64_t rs_bucket_wait(rs_own_bucket *, int64_t now_ns, int64_t n)
    int rs_bucket_take(rs_own_bucket *, int64_t now_ns, int64_t n)
    void rs_bucket_debit(rs_own_bucket *, int64_t now_ns, int64_t n)
    void rs_own_give_back(rs_own_bucket *, int64_t n)


cdef extern from "window.h":
    ctypedef struct rs_window:
        uint64_t total, failed, slow
    const int RS_WINDOW_BUCKETS
    int rs_window_init(rs_window *window, uint32_t count, int64_t span_ns) noexcept nogil
    void rs_window_free(rs_window *window) noexcept nogil
    void rs_window_reset(rs_window *window) noexcept nogil
    void rs_window_advance(rs_window *window, int64_t now_ns) noexcept nogil
    void rs_window_record(rs_window *window, int64_t now_ns, int failed, int slow) noexcept nogil
    size_t rs_window_memory(const rs_window *window) noexcept nogil


cdef class TokenBucket:
    cdef rs_own_bucket bucket
    cdef rs_lock lock
    cdef double tokens_per_second
    cdef int64_t _checked(self, object rate, object burst) except -1
    cdef int64_t _amount(self, object n) except -1
    cdef int64_t _wait(self, object n, object now_ns) except -1


cdef class LatencyHistogram:
    cdef rs_histogram histogram
    cdef rs_lock lock
    cdef object _at_or_below(self, object bound)
    cpdef LatencyHistogram copy(self)


cdef class OutcomeWindow:
    cdef rs_window window
    cdef rs_lock lock
    cdef object spec


# For other native modules: a LatencyHistogram that takes over the pages of *copy*, which is empty afterwards (also when
# this raises). Make the copy with rs_histogram_copy under the gate's lock, and call this when the lock is released.
# From C: the capsule of this name in resilio._native.primitives.__pyx_capi__.
cdef LatencyHistogram histogram_adopt(rs_histogram *copy)
