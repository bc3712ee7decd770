"""
The native part of retry budgets (the arithmetic of budget.h, under a lock) and of backoffs (that of backoff.h).

`resilio.RetryBudget` is its public face and checks every option; this module does not.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

import os

from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now
from resilio._native.options cimport ns_of
from resilio._native.shared cimport RS_CELL_BUDGET, RS_CELL_RESERVE, Cell

from resilio._support.after_fork import in_child

__all__ = ["Backoff", "RetryBudget", "spread_ns"]

cdef rs_clock *_clock = rs_clock_import()
cdef rs_lock _live_lock
cdef rs_budget_object *_live = NULL
cdef rs_random _random                      # of all backoffs

_KINDS = {
    "constant": RS_BACKOFF_CONSTANT,
    "exponential": RS_BACKOFF_EXPONENTIAL,
    "full_jitter": RS_BACKOFF_FULL,
    "equal_jitter": RS_BACKOFF_EQUAL,
    "decorrelated_jitter": RS_BACKOFF_DECORRELATED,
}


cdef enum:
    A_SECOND = 1_000_000_000
    A_TOKEN = 1_000_000             # in the unit of leases

cdef int64_t RARELY_NS = 1_000_000_000_000_000_000      # the gap of no reserve at all, where a rate is needed


cdef rs_host_rates *_reserve_of(const rs_budget *budget) except NULL:
    """The reserve as the rate of a fleet, without its cell: a token each gap."""
    cdef rs_host_rates *fleet = <rs_host_rates *>calloc(1, sizeof(rs_host_rates))
    if fleet == NULL:
        raise MemoryError("no memory for a fleet's retry budget")
    rs_rates_add_lease(fleet, A_TOKEN, _gap_ns(budget), _burst(budget) * A_TOKEN, A_TOKEN, RS_DOWN_LOCAL)
    return fleet


cdef int64_t _gap_ns(const rs_budget *budget) noexcept:
    return min(budget.reserve_gap_ns, RARELY_NS)


cdef int64_t _burst(const rs_budget *budget) noexcept:
    """The tokens of the fleet that may be taken at once: those of a second."""
    return max(1, A_SECOND // _gap_ns(budget))


cdef class RetryBudget:
    """
    Tokens that successes pay in and that retries and hedges take out; every method may be called from any thread.

    A new one holds nothing and has no options: :meth:`_configure` and :meth:`reset` it.
    """

    stays_in_front = True           # of a fleet's reserve: this one's savings, or those of the host

    def __cinit__(self, *args, **options):
        cdef rs_budget_object *seen = <rs_budget_object *><void *>self
        if <void *>&seen.budget != <void *>&self.budget or <void *>&seen.next != <void *>&self.next:
            raise SystemError("resilio._native.budget was built against another budget_object.h")
        rs_budget_configure(&self.budget, 0.0, 0.0, 0.0, RS_BUDGET_NEVER, 0.0, rs_clock_now(_clock))
        global _live
        rs_lock_acquire(&_live_lock)
        self.next = _live
        if _live != NULL:
            _live.prev = seen
        _live = seen
        rs_lock_release(&_live_lock)

    def __dealloc__(self):
        global _live
        cdef rs_budget_object *seen = <rs_budget_object *><void *>self
        rs_lock_acquire(&_live_lock)
        if self.prev != NULL:
            self.prev.next = self.next
        elif _live == seen:
            _live = self.next
        if self.next != NULL:
            self.next.prev = self.prev
        rs_lock_release(&_live_lock)
        free(self.budget.host)
        free(self.budget.fleet)
        Py_XDECREF(self.cell)
        Py_XDECREF(self.leased)

    def cell_wanted(self):
        """Return (kind, stock, size) of the cell to share: the stock is all but what a success pays in."""
        stock = f"{self.budget.cap} {self.budget.initial} {self.budget.tick_ns} {self.budget.reserve_gap_ns}"
        return RS_CELL_BUDGET, stock.encode(), rs_shared_budget_size()

    def share(self, Cell cell):
        """Share savings and reserve with the other workers of a region, from now on; None: with none any more."""
        cdef rs_budget_of_host *host = NULL
        cdef PyObject *new = NULL
        if cell is not None:
            host = <rs_budget_of_host *>calloc(1, sizeof(rs_budget_of_host))
            if host == NULL:
                raise MemoryError("no memory for a shared budget")
            host.member, host.cell = cell.member, <rs_shared_budget *>cell.body
            Py_INCREF(cell)
            new = <PyObject *>cell
        rs_lock_acquire(&self.lock)
        if host != NULL:
            host.rule = rs_savings_rule_of(self.budget.cap, self.budget.initial, self.budget.tick_ns,
                                           self.budget.reserve_gap_ns)
        elif self.budget.host != NULL and self.budget.host.on and self.budget.balance >= 0:
            self.budget.balance = self.budget.initial
        host, self.budget.host = self.budget.host, host
        rs_lock_release(&self.lock)
        new, self.cell = self.cell, new
        Py_XDECREF(new)
        free(host)

    def fleet_cell_wanted(self):
        """Return the same for the reserve of a fleet: one rate, of which each host has a lease."""
        cdef rs_host_rates *fleet = _reserve_of(&self.budget)
        cdef size_t size = rs_rates_leases_size(fleet)
        free(fleet)
        return RS_CELL_RESERVE, f"{_gap_ns(&self.budget)} {_burst(&self.budget)}".encode(), size

    def _reserve(self):
        """Return the fleet's reserve as a rate: tokens, the nanoseconds in which they come in, the most at once."""
        return 1, _gap_ns(&self.budget), _burst(&self.budget)

    def share_fleet(self, Cell cell):
        """Draw on the fleet's reserve in this cell from now on; None: the reserve is this one's, or the host's."""
        cdef rs_host_rates *fleet = NULL
        cdef PyObject *new = NULL
        if cell is not None:
            fleet = _reserve_of(&self.budget)
            rs_rates_begin_leases(fleet, cell.member, cell.body, 0)
            rs_draw_first(&fleet.rate[0].draw)
            Py_INCREF(cell)
            new = <PyObject *>cell
        rs_lock_acquire(&self.lock)
        fleet, self.budget.fleet = self.budget.fleet, fleet
        new, self.leased = self.leased, new
        rs_lock_release(&self.lock)
        Py_XDECREF(new)
        free(fleet)

    def _configure(self, config):
        """Take the options of *config*, a `RetryBudgetConfig`, all at once and keep the balance, up to the new cap."""
        cdef double ratio = config.ratio, cap = config.cap, initial = config.initial, reserve = config.reserve
        cdef int64_t decay = ns_of(config.decay, RS_BUDGET_NEVER)
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        rs_budget_configure(&self.budget, ratio, cap, initial, decay, reserve, now_ns)
        rs_lock_release(&self.lock)

    def deposit(self):
        """Pay in for a success: at most once for each logical call, however many attempts it took."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        rs_budget_deposit(&self.budget, now_ns)
        rs_lock_release(&self.lock)

    def withdraw(self):
        """
        Take the token of one retry or hedge; never waits.

        Returns:
            True if there was one; if not, the retry must not be made.
        """
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef bint taken = rs_budget_take(&self.budget, now_ns, RS_BUDGET_ONE, 0, False, False)
        rs_lock_release(&self.lock)
        return taken

    def refund(self):
        """Put a withdrawn token back: the retry or hedge was not made. A surplus refund changes nothing."""
        rs_lock_acquire(&self.lock)
        rs_budget_put_back(&self.budget, RS_BUDGET_ONE)
        rs_lock_release(&self.lock)

    def _attempt_failed(self, int64_t underway=1):
        """Note a failed attempt; *underway* is the number of calls in flight."""
        rs_lock_acquire(&self.lock)
        rs_budget_failed(&self.budget, underway)
        rs_lock_release(&self.lock)

    def _take(self, double share=1.0, int64_t asked_ns=0, int64_t underway=0):
        """
        Take the cost of a retry; `withdraw` takes 1.

        Args:
            share: The cost of the failed attempt as a share of that of a success, 0 to 1.

            asked_ns: The wait that the dependency has asked for; 0: none.

            underway: Calls in flight, which lend.

        Returns:
            The tokens taken; None if there are too few.
        """
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef int64_t price = rs_budget_price(&self.budget, <int64_t>(share * RS_BUDGET_ONE), asked_ns)
        cdef bint mute = rs_budget_is_mute(&self.budget, price, underway, 1)
        cdef bint taken = rs_budget_take(&self.budget, now_ns, price, underway, True, mute)
        rs_lock_release(&self.lock)
        return price / 1e9 if taken else None

    def _repay(self, double taken):
        """Give back part of the cost of the retries of a call that has succeeded."""
        rs_lock_acquire(&self.lock)
        rs_budget_repay(&self.budget, <int64_t>(taken * RS_BUDGET_ONE + 0.5))
        rs_lock_release(&self.lock)

    def _terms(self, bint quick):
        """
        Return the lowest cost of a retry now, and the multiple of it that comes back when its call succeeds.

        Args:
            quick: Whether successes take as long as usual.
        """
        rs_lock_acquire(&self.lock)
        cdef int64_t least = rs_budget_price(&self.budget, 0 if quick else RS_BUDGET_ONE, 0)
        cdef bint well = quick and rs_budget_is_well(&self.budget)
        rs_lock_release(&self.lock)
        return least / 1e9, RS_BUDGET_COMES_BACK if well else 0

    def reset(self):
        """Restore the initial balance; the counters stay."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        rs_budget_reset(&self.budget, now_ns)
        rs_lock_release(&self.lock)

    def _is_new(self):
        """Return True if it allows as much as a new budget does; the counters do not matter."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef bint new = rs_budget_is_new(&self.budget, now_ns)
        rs_lock_release(&self.lock)
        return new

    @property
    def balance(self):
        """Tokens available now, after decay; the reserve is not counted."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef double balance = rs_budget_balance(&self.budget, now_ns)
        rs_lock_release(&self.lock)
        return balance

    @property
    def deposits(self):
        """Successes paid in."""
        return self._status()["deposits"]

    @property
    def withdrawals(self):
        """Tokens taken, including refunded ones and those of the reserve."""
        return self._status()["withdrawals"]

    @property
    def rejected(self):
        """Withdrawals rejected."""
        return self._status()["rejected"]

    def _status(self):
        """Return the balance and all counters of one moment."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef double balance = rs_budget_balance(&self.budget, now_ns)
        cdef rs_budget copy = self.budget
        rs_lock_release(&self.lock)
        return {
            "balance": balance,
            "deposits": copy.deposits,
            "withdrawals": copy.withdrawals,
            "reserved": copy.reserved,
            "rejected": copy.rejected,
            "refunds": copy.refunds,
            "failing": copy.failing / 1e9,
            "failures": copy.failures,
            "repaid": copy.repaid,
        }


def _after_fork():
    """Reset in the child of a fork: no other thread holds a lock, and the jitter must differ from the parent's."""
    rs_lock_reset(&_live_lock)
    cdef rs_budget_object *budget = _live
    while budget != NULL:
        rs_lock_reset(&budget.lock)
        rs_budget_forget(&budget.budget)
        budget = budget.next
    _reseed(_entropy())


include "backoff.pxi"


in_child("native", _after_fork)


_reseed(_entropy())
