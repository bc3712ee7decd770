"""
Admission by a rate limit, part of limiter.pxi: runs with the gate's lock held, C arithmetic only.
"""

cdef inline const int64_t *_asked(rs_limiter *m, rs_slot *slot) noexcept nogil:
    """The cost of the call: as found by `prepare`, or the default."""
    if slot.limiter.version == 0:
        return m.cost
    if m.buckets.n == 1:
        return rs_cost_of_slot(slot)
    if slot.limiter.claim != NULL and slot.limiter.claim.version == m.version:
        return &slot.limiter.claim.cost[0]
    return &m.cost[0]


cdef rs_claim *_claim_of(rs_limiter *m, rs_slot *slot, const int64_t *cost, int64_t at_ns) noexcept nogil:
    """The claim of a call of this cost: that which `prepare` left in the slot, or a new one; NULL without memory."""
    cdef rs_claim *claim = slot.limiter.claim
    if claim == NULL or cost != claim.cost:
        return _claim(m.version, cost, at_ns)
    slot.limiter.claim = NULL
    slot.flags &= ~RS_TO_UNDO
    claim.plan_ns = at_ns
    return claim


cdef int _limiter_reject(rs_limiter *m, int reason, const int64_t *cost, int64_t now_ns, int64_t wait_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef int culprit = 0
    if m.buckets.n == 0:
        rejection.limit = NAN
    elif reason == TOO_LARGE:
        culprit = max(rs_buckets_too_small(&m.buckets, cost), 0)
        rejection.limit = m.buckets.bucket[culprit].tokens.most / _TOKEN
    else:
        culprit = rs_buckets_tightest(&m.buckets, now_ns, cost)
        rejection.limit = rs_rate_available(&m.buckets, culprit, now_ns) / _TOKEN
    rejection.reason = reason
    rejection.measured = cost[culprit] / _TOKEN if m.buckets.n else NAN
    if reason == LIMITER_QUEUE_FULL:
        rejection.measured = m.queue.length
        rejection.limit = m.most_queued
    rejection.retry_after_ns = -1 if reason == TOO_LARGE else max(wait_ns, 1)
    return RS_REJECTED


cdef void _mark_shadow(const rs_request *request) noexcept nogil:
    """Mark the reservation, if there is one, as holding nothing."""
    if _is_reservation(request):
        (<rs_amounts_object *>request.args[0]).shadow = True


cdef inline int _taken(rs_limiter *m, rs_slot *slot, const int64_t *cost) noexcept nogil:
    """Remember the tokens that the call has taken, for its end."""
    cdef rs_claim *claim = NULL
    cdef int64_t first = cost[0]
    if m.buckets.n > 1 and cost != m.cost:
        claim = _claim_of(m, slot, cost, slot.admitted_ns)
    _drop_claim(slot)                       # of a former configuration
    slot.limiter.claim = claim
    slot.limiter.cost = first
    slot.limiter.version = m.version
    return RS_ADMITTED


cdef int64_t _owed(rs_limiter *m, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """The debt in calls like this one: in shadow mode the number of calls that would be waiting."""
    cdef int64_t debt, most = 0
    cdef int i
    for i in range(m.buckets.n):
        debt = -rs_rate_available(&m.buckets, i, now_ns)
        if debt > 0 and cost[i] > 0:
            most = max(most, (debt + cost[i] - 1) // cost[i])
    return most


cdef int _let_pass(rs_gate *gate, rs_limiter *m, rs_slot *slot, const rs_request *request, const int64_t *cost,
                   int64_t now_ns, int obstacle) noexcept nogil:
    """
    Admit in shadow mode, and count what enforcement would have done.

    A call that would have waited takes its tokens at once, as a debt: without the debt no wait would ever be too long.
    It takes none ahead of calls that do wait, where a share is enforced.
    """
    if obstacle == LIMITER_NONE and m.queue.length + _owed(m, cost, now_ns) >= m.most_queued:
        obstacle = LIMITER_QUEUE_FULL
    gate.counters.would_wait += obstacle == LIMITER_NONE
    gate.counters.would_reject += obstacle != LIMITER_NONE
    if obstacle == LIMITER_NONE and m.queue.head == NULL:
        rs_buckets_debit(&m.buckets, now_ns, cost)
        return _taken(m, slot, cost)
    slot.state = RS_SLOT_SHADOW
    _mark_shadow(request)
    return RS_ADMITTED


cdef int64_t _gives_up_ns(rs_limiter *m, bint in_time, int64_t now_ns) noexcept nogil:
    """
    The time at which a call gives up waiting. In a pause, `max_wait` counts from the end of the pause.

    A call with a deadline of its own, *in_time*, waits for the end of a pause and for its turn until that deadline.
    """
    if now_ns >= m.paused_until_ns:
        return now_ns + m.max_wait_ns
    return RS_NEVER if in_time else m.paused_until_ns + m.max_wait_ns


cdef int _reject_paused(rs_limiter *m, const rs_request *request, const int64_t *cost, int64_t now_ns, int64_t wait_ns,
                        rs_rejection *rejection) noexcept nogil:
    """Reject because of a pause: *measured* is the wait it would need, *limit* the longest allowed, in seconds."""
    _limiter_reject(m, PAUSED, cost, now_ns, wait_ns, rejection)
    rejection.measured = wait_ns / 1e9
    rejection.limit = (m.max_wait_ns if request.deadline_ns == 0 else request.deadline_ns - now_ns) / 1e9
    return RS_REJECTED


cdef int _enqueue(rs_gate *gate, rs_limiter *m, rs_slot *slot, const int64_t *cost, rs_waiter *waiter, int64_t now_ns,
                  int64_t wait_ns, int64_t gives_up_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_claim *claim = _claim_of(m, slot, cost, now_ns + wait_ns)
    if claim == NULL:                       # no memory: no place to wait
        return _limiter_reject(m, LIMITER_QUEUE_FULL, cost, now_ns, wait_ns, rejection)
    if _has_places(m):
        _take_place(gate, m, claim, now_ns)
    claim.turn = m.turn
    slot.wake_ns = claim.plan_ns
    if _is_planned(m):
        rs_plan_add(&m.plan, claim.plan_ns, cost)
    waiter.claim = claim
    waiter.amount = cost[0]
    waiter.deadline_ns = gives_up_ns
    rs_queue_push(&m.queue, waiter, now_ns)
    if _is_leased(m):
        _want(m, cost)
    return RS_WAIT


cdef inline bint _asks_each(rs_limiter *m) noexcept nogil:
    """True if each call is asked for: what one lacks that cannot wait is asked for too, and the next one finds it."""
    return m.trip_ns != 0 and m.asks_each


cdef void _note_short(rs_limiter *m, const int64_t *cost, bint is_missed, bint paused) noexcept nogil:
    """Report what a call misses; one that may wait will report that when it queues, and rings for it."""
    if is_missed:
        rs_rates_miss(m.buckets.host, cost)
    elif not paused:
        rs_courier_ring(m.buckets.host.courier, m.buckets.host.member)


cdef int _short(rs_gate *gate, rs_limiter *m, rs_slot *slot, const rs_request *request, const int64_t *cost,
                int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    """Queue or reject a call: its tokens are not available, or the queue is not empty."""
    cdef int obstacle = LIMITER_NONE
    cdef bint paused = now_ns < m.paused_until_ns
    cdef int64_t wait_ns = 0, gives_up_ns = 0
    if rs_buckets_too_small(&m.buckets, cost) >= 0:
        obstacle = TOO_LARGE
    else:
        wait_ns = _wait_behind(m, cost, now_ns)
        gives_up_ns = _gives_up_ns(m, request.deadline_ns != 0, now_ns)
        if wait_ns <= RS_LEASE_SOON_NS and not paused:
            gives_up_ns = max(gives_up_ns, now_ns + m.trip_ns)
        if wait_ns > gives_up_ns - now_ns or m.most_queued == 0:
            obstacle = PAUSED if paused else RATE
        elif m.queue.length >= m.most_queued:
            obstacle = LIMITER_QUEUE_FULL
        if _is_leased(m):
            _note_short(m, cost, obstacle != LIMITER_NONE or (request.waiter == NULL and _asks_each(m)), paused)
    if not rs_gate_enforced(gate):
        return _let_pass(gate, m, slot, request, cost, now_ns, obstacle)
    if paused and (obstacle == PAUSED or (obstacle == LIMITER_NONE and request.waiter == NULL)):
        return _reject_paused(m, request, cost, now_ns, wait_ns, rejection)
    if obstacle != LIMITER_NONE or request.waiter == NULL:
        return _limiter_reject(m, obstacle if obstacle != LIMITER_NONE else RATE, cost, now_ns, wait_ns, rejection)
    if rs_gate_cannot_finish(gate, request, now_ns, wait_ns, rejection):
        if _is_leased(m):
            rs_rates_miss(m.buckets.host, cost)
        return _reject_paused(m, request, cost, now_ns, wait_ns, rejection) if paused else RS_REJECTED
    return _enqueue(gate, m, slot, cost, request.waiter, now_ns, wait_ns, gives_up_ns, rejection)


cdef int _limiter_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                        rs_rejection *rejection) noexcept nogil:
    """Fast path: a call of default cost takes its tokens if they are available and no call waits."""
    cdef rs_limiter *m = _limiter_of(gate)
    if (slot.limiter.version != 0 or m.queue.head != NULL or now_ns < m.paused_until_ns
            or not rs_buckets_take_at_once(&m.buckets, now_ns, m.cost[0])):
        return _limiter_decide(gate, slot, request, now_ns, rejection)
    slot.limiter.cost = m.cost[0]
    slot.limiter.version = m.version
    return RS_ADMITTED


cdef int _limiter_decide "rs_limiter_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                                             rs_rejection *rejection) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    cdef const int64_t *cost = _asked(m, slot)
    if m.queue.head != NULL:
        _pump(gate, m, now_ns, NULL)
    if m.queue.head != NULL or not _take(m, now_ns, cost):
        return _short(gate, m, slot, request, cost, now_ns, rejection)
    return _taken(m, slot, cost)


cdef inline void _collect(rs_slot *slot, rs_waiter *waiter) noexcept nogil:
    waiter.state = RS_WAITER_IDLE
    _drop_claim(slot)
    slot.limiter.claim = waiter.claim
    slot.limiter.version = waiter.claim.version
    waiter.claim = NULL


cdef int _limiter_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    cdef const int64_t *cost
    cdef int64_t wait_ns
    if waiter.state == RS_WAITER_QUEUED:
        _pump(gate, m, now_ns, waiter)
    if waiter.state == RS_WAITER_GRANTED:
        _collect(slot, waiter)
        return RS_ADMITTED
    cost = _cost_of(waiter)
    if waiter.state == RS_WAITER_QUEUED and now_ns < waiter.deadline_ns:
        slot.wake_ns = waiter.deadline_ns
        if m.queue.head == waiter:
            wait_ns = max(_pause_left(m, now_ns), rs_buckets_wait(&m.buckets, now_ns, cost))
            if waiter.claim.place:
                wait_ns = max(wait_ns, waiter.claim.plan_ns - now_ns)
            slot.wake_ns = min(slot.wake_ns, now_ns + wait_ns)
        return RS_WAIT
    if waiter.state == RS_WAITER_QUEUED:
        _limiter_leave(gate, m, waiter, now_ns)
        waiter.reason = LIMITER_TOO_LATE
    if waiter.reason == LIMITER_TOO_LATE:
        _limiter_reject(m, LIMITER_TOO_LATE, cost, now_ns, rs_buckets_wait(&m.buckets, now_ns, cost), rejection)
        rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
        rejection.limit = (waiter.deadline_ns - waiter.enqueued_ns) / 1e9
    else:
        _limiter_reject(m, waiter.reason, cost, now_ns, 1, rejection)
    free(waiter.claim)
    waiter.claim = NULL
    return RS_REJECTED
