"""
Returns, corrections and reconfiguration of a rate limit: a part of limiter.pxi.

All of it runs with the gate's lock held: C arithmetic only.
"""

cdef inline const int64_t *_held(rs_limiter *m, rs_slot *slot) noexcept nogil:
    """The tokens taken for the slot, rate by rate."""
    if slot.limiter.claim != NULL:
        return &slot.limiter.claim.cost[0]
    return rs_cost_of_slot(slot) if m.buckets.n == 1 else &m.cost[0]


cdef inline int64_t _taken_ns(rs_slot *slot) noexcept nogil:
    """The time at which they were taken."""
    return slot.limiter.claim.plan_ns if slot.limiter.claim != NULL else slot.admitted_ns


cdef inline void _refund(rs_gate *gate, rs_limiter *m, uint32_t version, const int64_t *cost, int64_t taken_ns,
                         int64_t now_ns) noexcept nogil:
    """Give back the tokens taken, unless the configuration has changed since: then they no longer exist."""
    if version == m.version:
        rs_buckets_give_back(&m.buckets, taken_ns, cost)
        _move_up(m, now_ns)
        m.planned = False
        _sooner(gate, m, now_ns)


cdef void _limiter_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    cdef rs_claim *claim
    if slot.state == RS_SLOT_HELD:
        _refund(gate, m, slot.limiter.version, _held(m, slot), _taken_ns(slot), now_ns)
        free(slot.limiter.claim)
        slot.limiter.claim = NULL
    elif waiter != NULL:
        claim = waiter.claim
        if waiter.state == RS_WAITER_GRANTED:
            _refund(gate, m, claim.version, claim.cost, claim.plan_ns, now_ns)
        elif waiter.state == RS_WAITER_QUEUED:
            _limiter_leave(gate, m, waiter, now_ns)
        waiter.state = RS_WAITER_IDLE
        waiter.claim = NULL
        free(claim)


cdef void _limiter_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    if slot.limiter.claim != NULL:          # the callee was called: its tokens are spent
        free(slot.limiter.claim)
        slot.limiter.claim = NULL


cdef int _limiter_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Return True if all buckets are full, no call waits, and there is no pause."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    if m.queue.head != NULL or now_ns < m.paused_until_ns:
        return False
    for i in range(m.buckets.n):
        if rs_rate_available(&m.buckets, i, now_ns) < m.buckets.bucket[i].tokens.most:
            return False
    return True


cdef void _limiter_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    memset(&m.queue, 0, sizeof(m.queue))
    m.planned = False
    if m.buckets.host != NULL:
        m.buckets.host.purse.end = 0        # the parent's


cdef void _adjust(rs_gate *gate, uint32_t mask, int64_t amount, bint back, int64_t taken_ns,
                  int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    for i in range(m.buckets.n):
        if mask >> i & 1:
            if back:
                rs_rate_give_back(&m.buckets, i, min(taken_ns, now_ns) if _is_leased(m) else taken_ns, amount)
            else:
                rs_rate_debit(&m.buckets, i, now_ns, amount)
    m.planned = False
    if back:
        _move_up(m, now_ns)
        _sooner(gate, m, now_ns)


cdef void _correct(rs_gate *gate, rs_slot *slot, uint32_t mask, const int64_t *actual, int64_t now_ns) noexcept nogil:
    """Correct the tokens taken for *slot* to the *actual* cost, in the rates of *mask*."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int64_t *held = rs_cost_of_slot(slot)
    cdef int i
    if slot.state != RS_SLOT_HELD or slot.limiter.version != m.version:
        return
    if m.buckets.n > 1:
        if slot.limiter.claim == NULL:
            slot.limiter.claim = _claim(m.version, m.cost, slot.admitted_ns)
        if slot.limiter.claim == NULL:      # no memory to remember it: the estimate stays
            return
        held = &slot.limiter.claim.cost[0]
    for i in range(m.buckets.n):
        if mask >> i & 1:
            rs_rate_debit(&m.buckets, i, now_ns, actual[i] - held[i])
            rs_rate_give_back(&m.buckets, i, _taken_ns(slot), held[i] - actual[i])
            held[i] = actual[i]
    _move_up(m, now_ns)
    m.planned = False
    _sooner(gate, m, now_ns)


cdef void _lower(rs_gate *gate, uint32_t mask, const int64_t *remaining, int64_t now_ns) noexcept nogil:
    """Lower the rates of *mask* to at most *remaining* tokens."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    for i in range(m.buckets.n):
        if mask >> i & 1:
            rs_rate_lower(&m.buckets, i, now_ns, remaining[i])
    m.planned = False


cdef void _hold(rs_gate *gate, int64_t until_ns, int64_t now_ns) noexcept nogil:
    """Pause until *until_ns*; all rates are empty then. A shorter pause does not end a longer one."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef rs_waiter *waiter = m.queue.head
    cdef int i
    if m.buckets.host != NULL:
        rs_rates_hold(m.buckets.host, until_ns)
        _host_see(gate, m, now_ns)
        return
    if until_ns > max(now_ns, m.paused_until_ns):
        m.paused_until_ns = until_ns
        while waiter != NULL:
            waiter.deadline_ns = max(waiter.deadline_ns, _gives_up_ns(m, waiter.expires_ns != 0, now_ns))
            waiter = waiter.next
    for i in range(m.buckets.n):
        rs_rate_hold(&m.buckets, i, until_ns)
    m.planned = False


cdef void _fill(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    if m.buckets.host != NULL:
        _host_fill(m, now_ns)
    for i in range(m.buckets.n):
        rs_rate_fill(&m.buckets, i, now_ns)
    m.paused_until_ns = 0
    m.planned = False
    _sooner(gate, m, now_ns)


# ---- configuration ---------------------------------------------------------------------------------------------------

ctypedef struct rs_setting:
    bint kept                   # the rate has the same unit as before
    double amount
    int64_t period_ns
    int64_t cost
    rs_own_bucket bucket              # full
    rs_log *log                 # of a sliding window, empty; NULL: a token bucket. Owned until it is installed


cdef void _reassess(rs_gate *gate, rs_limiter *m, bint other_units) noexcept nogil:
    """Reject queued calls whose cost is too large now; after a change of units all have the default cost."""
    cdef rs_waiter *waiter = m.queue.head
    cdef rs_waiter *following
    cdef rs_claim *claim
    while waiter != NULL:
        following = waiter.next
        claim = waiter.claim
        if other_units:
            memcpy(claim.cost, m.cost, sizeof(claim.cost))
        m.queue.amount += claim.cost[0] - waiter.amount
        waiter.amount = claim.cost[0]
        if rs_buckets_too_small(&m.buckets, claim.cost) >= 0:
            _drop_place(m, waiter)
            rs_queue_remove(&m.queue, waiter)
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = TOO_LARGE
            rs_gate_wake(gate, waiter)
        waiter = following


cdef void _new_rate(rs_buckets *buckets, int i, rs_setting *setting) noexcept nogil:
    rs_log_free(buckets.log[i])
    buckets.log[i] = setting.log
    buckets.bucket[i] = setting.bucket
    setting.log = NULL


cdef void _change_rate(rs_buckets *buckets, int i, rs_setting *setting, int64_t now_ns) noexcept nogil:
    """Change the rate: a window keeps the tokens taken, a bucket its tokens up to the new burst."""
    cdef int64_t tokens
    if buckets.log[i] != NULL and setting.log != NULL:
        rs_log_set(buckets.log[i], setting.log.limit, setting.log.period_ns, setting.log.most)
        buckets.bucket[i] = setting.bucket
    elif buckets.log[i] == NULL and setting.log == NULL:
        rs_own_reconfigure(&buckets.bucket[i], setting.amount, setting.period_ns, setting.bucket.tokens.most, now_ns)
    else:
        tokens = rs_rate_available(buckets, i, now_ns)
        _new_rate(buckets, i, setting)
        rs_rate_set(buckets, i, now_ns, tokens)


cdef void _change_paused(rs_limiter *m, int i, rs_setting *setting, int64_t now_ns) noexcept nogil:
    """Change the rate in a pause: it is empty at the end of the pause, and debt beyond that stays."""
    cdef rs_log *log = m.buckets.log[i]
    cdef rs_own_bucket bucket = m.buckets.bucket[i]
    cdef int64_t owed = log.used - log.limit if log != NULL else -rs_own_whole(&bucket, m.paused_until_ns)
    _new_rate(&m.buckets, i, setting)
    rs_rate_hold(&m.buckets, i, m.paused_until_ns)
    rs_rate_debit(&m.buckets, i, now_ns, max(owed, 0))


cdef void _install(rs_gate *gate, rs_setting *setting, int rates, bint other_units, bint variable,
                   int64_t most_queued, int64_t max_wait_ns, int64_t now_ns) noexcept nogil:
    """A shared limit keeps its rates: others are another cell, and the gate has left this one before."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    for i in range(rates):
        m.cost[i] = setting[i].cost
        if m.buckets.host != NULL:
            continue
        if setting[i].kept and now_ns < m.paused_until_ns and (m.buckets.log[i] == NULL or setting[i].log == NULL):
            _change_paused(m, i, &setting[i], now_ns)
        elif setting[i].kept:
            _change_rate(&m.buckets, i, &setting[i], now_ns)
        else:
            _new_rate(&m.buckets, i, &setting[i])
            if now_ns < m.paused_until_ns:
                rs_rate_hold(&m.buckets, i, m.paused_until_ns)
    for i in range(rates, m.buckets.n):
        rs_log_free(m.buckets.log[i])
        m.buckets.log[i] = NULL
    m.buckets.logs = 0
    for i in range(rates):
        m.buckets.logs += m.buckets.log[i] != NULL
    m.buckets.n = rates
    m.variable = variable
    m.most_queued = most_queued
    m.max_wait_ns = max_wait_ns
    m.version += 1
    m.planned = False
    _reassess(gate, m, other_units)
    _sooner(gate, m, now_ns)
