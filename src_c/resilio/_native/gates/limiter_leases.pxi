"""
A rate limit whose tokens are on lease from the store of a fleet: a part of limiter.pxi.

What calls take is in the cell (shared/lease.h); the queue is the gate's own, and its head asks when more is expected.
The courier's thread sees the cell through `Leases` (limiter_fleet.pxi); what it puts in serves the calls that wait.
"""

cdef inline bint _is_leased(rs_limiter *m) noexcept nogil:
    return m.buckets.host != NULL and m.buckets.host.courier != NULL


cdef void _want(rs_limiter *m, const int64_t *cost) noexcept nogil:
    """Report what calls wait for here; *cost*: of one that has just queued, or NULL."""
    cdef int64_t every[RS_MOST_RATES]
    cdef rs_waiter *waiter = m.queue.head
    cdef int i
    memset(every, 0, sizeof(every))
    while waiter != NULL:
        for i in range(m.buckets.n):
            every[i] += waiter.claim.cost[i]
        waiter = waiter.next
    rs_rates_want(m.buckets.host, cost, every)


cdef void _end_trips(rs_gate *gate, rs_limiter *m) noexcept nogil:
    """
    Let calls that waited for this answer alone wait no longer: the store has not had their tokens, or has not answered.

    They have been asked for if they queued before the question. Those that a pause holds up wait for its end.
    """
    cdef rs_waiter *waiter = m.queue.head
    cdef int64_t until_ns
    while waiter != NULL and waiter.claim.turn != m.turn:
        until_ns = waiter.enqueued_ns + m.max_wait_ns
        if until_ns < waiter.deadline_ns and m.paused_until_ns <= waiter.enqueued_ns:
            waiter.deadline_ns = until_ns
            rs_gate_wake(gate, waiter)
        waiter = waiter.next


cdef int _limiter_fleet_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                              rs_rejection *rejection) noexcept nogil:
    """Fast path: a call of default cost takes its tokens from the leases, if no call waits here."""
    cdef rs_limiter *m = _limiter_of(gate)
    rs_member_owner(m.buckets.host.member)
    _host_see(gate, m, now_ns)
    if (slot.limiter.version != 0 or m.queue.head != NULL or now_ns < m.paused_until_ns
            or not rs_rates_take(m.buckets.host, now_ns, m.cost)):
        return _limiter_decide(gate, slot, request, now_ns, rejection)
    slot.limiter.cost = m.cost[0]
    slot.limiter.version = m.version
    return RS_ADMITTED


cdef int _limiter_fleet_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Return True if no call waits, and nothing of note is on lease or owed."""
    cdef rs_limiter *m = _limiter_of(gate)
    return m.queue.head == NULL and rs_rates_rest(m.buckets.host)


cdef int _limiter_is_a_fleets(const rs_gate *gate) noexcept nogil:
    return RS_OF_FLEET


cdef int _limiter_fleet_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    """As of any limit; a call that waits on reports the queue."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int verdict = _limiter_poll(gate, slot, now_ns, rejection)
    if verdict == RS_WAIT and m.queue.head != NULL and rs_rates_is_new_turn(m.buckets.host):
        _want(m, NULL)
    return verdict
