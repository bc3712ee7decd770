"""The state of a retry budget, and its operations for native modules: under the object's lock, at a given time."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "rs_lock.h":
    ctypedef struct rs_lock:
        pass
    void rs_lock_acquire(rs_lock *lock) noexcept nogil
    void rs_lock_release(rs_lock *lock) noexcept nogil
    void rs_lock_reset(rs_lock *lock) noexcept nogil


from resilio._native.shared cimport rs_member

cdef extern from "budget.h":
    enum:
        RS_HOST_RATES
    ctypedef enum rs_down:
        RS_DOWN_LOCAL
    ctypedef struct rs_draw:
        pass
    ctypedef struct rs_host_rate:
        rs_draw draw
    ctypedef struct rs_host_rates:
        rs_member *member
        rs_host_rate rate[RS_HOST_RATES]
    int rs_rates_add_lease(rs_host_rates *, double, int64_t, int64_t, int64_t, rs_down) noexcept nogil
    size_t rs_rates_leases_size(const rs_host_rates *) noexcept nogil
    void rs_rates_begin_leases(rs_host_rates *, rs_member *, void *, uint64_t) noexcept nogil
    void rs_draw_first(rs_draw *) noexcept nogil
    ctypedef struct rs_shared_budget:
        pass
    ctypedef struct rs_savings_rule:
        pass
    ctypedef struct rs_budget_of_host:
        rs_shared_budget *cell
        rs_member *member
        rs_savings_rule rule
        int on
    rs_savings_rule rs_savings_rule_of(int64_t, int64_t, int64_t, int64_t) noexcept nogil
    size_t rs_shared_budget_size() noexcept nogil
    const int64_t RS_BUDGET_NEVER
    const int64_t RS_BUDGET_ONE
    const int RS_BUDGET_COMES_BACK
    ctypedef struct rs_budget:
        rs_budget_of_host *host
        rs_host_rates *fleet
        int64_t balance, ratio, cap, initial
        int64_t tick_ns, reserve_gap_ns
        int64_t failing, success_ns
        uint64_t deposits, withdrawals, reserved, rejected, refunds, failures, repaid
        uint8_t armed
    void rs_budget_deposit(rs_budget *budget, int64_t now_ns) noexcept nogil
    bint rs_budget_is_mute(const rs_budget *budget, int64_t price, int64_t underway, int64_t own) noexcept nogil
    int rs_budget_take(
        rs_budget *budget, int64_t now_ns, int64_t price, int64_t lenders, bint quick, bint mute
    ) noexcept nogil
    void rs_budget_failed(rs_budget *budget, int64_t underway) noexcept nogil
    int rs_budget_is_well(const rs_budget *budget) noexcept nogil
    int64_t rs_budget_price(const rs_budget *budget, int64_t share, int64_t asked_ns) noexcept nogil
    void rs_budget_repay(rs_budget *budget, int64_t taken) noexcept nogil
    void rs_budget_put_back(rs_budget *budget, int64_t price) noexcept nogil
    double rs_budget_balance(rs_budget *budget, int64_t now_ns) noexcept nogil
    void rs_budget_reset(rs_budget *budget, int64_t now_ns) noexcept nogil
    bint rs_budget_is_new(rs_budget *budget, int64_t now_ns) noexcept nogil
    void rs_budget_forget(rs_budget *budget) noexcept nogil
    void rs_budget_configure(
        rs_budget *budget, double ratio, double cap, double initial, int64_t decay_ns, double reserve, int64_t now_ns
    ) noexcept nogil


cdef extern from "budget_object.h":
    # The memory of a RetryBudget seen from C, where nothing may touch a reference count.
    ctypedef struct rs_budget_object:
        rs_budget budget
        rs_lock lock
        rs_budget_object *prev
        rs_budget_object *next


cdef extern from "backoff.h":
    ctypedef struct rs_random:
        pass
    enum:
        RS_BACKOFF_CONSTANT, RS_BACKOFF_EXPONENTIAL, RS_BACKOFF_FULL, RS_BACKOFF_EQUAL, RS_BACKOFF_DECORRELATED
    ctypedef struct rs_backoff:
        uint8_t kind
        int64_t base_ns, cap_ns
        double factor, reach
        rs_random *random
    uint64_t rs_random_reseed(rs_random *random, uint64_t state) noexcept nogil
    int64_t rs_backoff_drawn(const rs_backoff *backoff, uint64_t attempt, int64_t previous_ns,
                             double draw) noexcept nogil
    int64_t rs_backoff_delay(const rs_backoff *backoff, uint64_t attempt, int64_t previous_ns) noexcept nogil
    int64_t rs_backoff_reach(const rs_backoff *backoff, int64_t left_ns) noexcept nogil
    int64_t rs_backoff_spread(rs_random *random, int64_t asked_ns, int64_t room_ns) noexcept nogil


cpdef int64_t spread_ns(int64_t asked_ns, int64_t room_ns) noexcept


cdef class Backoff:
    cdef rs_backoff backoff


cdef class RetryBudget:
    cdef rs_budget budget
    cdef rs_lock lock
    cdef rs_budget_object *prev
    cdef rs_budget_object *next
    cdef PyObject *cell             # owned, as by gates/host.pxi; whose body and member `budget.host` uses; NULL: none
    cdef PyObject *leased           # the same of `budget.fleet`
