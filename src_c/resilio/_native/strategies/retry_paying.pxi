"""
The cost of a retry, its repayment, and its wait: a part of retry.pxi.

The retry compares the duration of a failed attempt with those of successful ones: the ratio is the failed attempt's
cost to the dependency.
"""

cdef RetryBudget payer(Options options, Tries tries, rs_slot *slot):
    """The budget that pays for a retry: the outermost, to which the success of nested retries pays in."""
    found = _payer(slot, tries.scope)
    return options.budget if found is None else found


cdef int64_t underway(RetryGate self) noexcept:
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    cdef int64_t found = gate.counters.inflight
    rs_lock_release(&gate.lock)
    return found


cdef int trouble(RetryGate self, int more) noexcept:
    """Count calls in flight with a failed attempt: one more, or one less."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    self.troubled += more
    rs_lock_release(&gate.lock)
    return 0


cdef int note_failure(RetryGate self, Tries tries, RetryBudget budget, object error) except -1:
    """Note a failed attempt in the budget, unless it was a rejection inside, which never reached the dependency."""
    if budget is None or isinstance(error, RejectedError):
        return 0
    cdef int64_t calls = underway(self)
    budget_acquire(&budget.lock)
    rs_budget_failed(&budget.budget, calls)
    budget_release(&budget.lock)
    return 0


cdef int plan(
    RetryGate self, Tries tries, Options options, RetryBudget budget, object subject, int64_t asked,
    int64_t deadline, int64_t now,
) except -1:
    """Choose tries.delay_ns; return GO if there is time for it and for an attempt, else the reason."""
    if asked > options.max_retry_after_ns:
        tries.delay_ns = asked
        return RETRY_AFTER
    cdef int64_t delay = max(options.wait_ns(tries.attempt, tries.delay_ns, subject), asked)
    if tries.untried and tries.attempt == 1:    # another endpoint need not recover; callers that failed together spread
        delay = spread_ns(delay // (2 * SHORTER), delay)
    cdef int64_t room = options.max_retry_after_ns - asked
    cdef int64_t left
    if deadline != RS_NEVER:
        left = deadline - now - median_ns(self)
        if not asked and tries.attempt > 1 and is_silent(self, tries, budget):
            delay = max(delay, options.reach_ns(left))
        if left < delay:
            tries.delay_ns = asked
            return RETRY_AFTER if deadline - now < asked else RETRY_DEADLINE
        room = (left - asked) // 2      # the attempt needs time too
    tries.delay_ns = max(delay, spread_ns(asked, room)) if asked else delay
    return GO


cdef bint is_silent(RetryGate self, Tries tries, RetryBudget budget) except -1:
    """Return True if no call has succeeded since this one began, and most calls in flight have failed attempts too."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    cdef bint answered
    if budget is None:
        return False
    budget_acquire(&budget.lock)
    answered = budget.budget.success_ns >= tries.began_ns
    budget_release(&budget.lock)
    if answered:
        return False
    rs_lock_acquire(&gate.lock)
    cdef bint most = 2 * self.troubled >= gate.counters.inflight
    rs_lock_release(&gate.lock)
    return most


cdef bint pay(RetryGate self, Tries tries, RetryBudget budget, int64_t asked, int64_t now) except -1:
    """Take the cost of the retry, to which calls in flight here lend; return False if the budget is short."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    cdef int64_t lenders, share, price = 0
    cdef bint quick, mute, taken
    if budget is not None:
        rs_lock_acquire(&gate.lock)
        lenders = gate.counters.inflight
        share = rs_pace_share(&self.pace_, now - tries.attempt_ns)
        quick = not rs_pace_is_slow(&self.pace_)
        rs_lock_release(&gate.lock)
        budget_acquire(&budget.lock)
        price = rs_budget_price(&budget.budget, share, asked)
        mute = rs_budget_is_mute(&budget.budget, price, lenders, tries.attempt)
        taken = rs_budget_take(&budget.budget, now, price, lenders, quick, mute)
        budget_release(&budget.lock)
        if not taken:
            return False
    if budget is not tries.paid_by:
        tries.taken = 0
    tries.paid_by = budget
    tries.price = price
    tries.taken += price
    return True


cdef int64_t median_ns(RetryGate self) noexcept:
    cdef int64_t median = 0
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    if gate.counters.successes >= ENOUGH:
        median = rs_histogram_quantile(&gate.latency, 0.5)
    rs_lock_release(&gate.lock)
    return median
