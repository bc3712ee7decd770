"""
The rate limit's state machine, part of limiter.pxi: all that runs with the gate's lock held, C arithmetic only.

While calls wait, no new call is admitted ahead of them. Only the head has a timer for its tokens. Any call that visits
the gate serves all waiters that are due, in order (`_pump`): a head whose event loop is busy does not hold up the rest.
A waiter's tokens are taken when it is granted: a waiter that leaves has taken none, and the waiters behind it move up.

slot.h declares what a slot keeps. A claim is owned by the slot or by its waiter, never by both.
"""

cdef inline rs_limiter *_limiter_of(rs_gate *gate) noexcept nogil:
    return &(<rs_limiter_object *>gate).limiter


cdef inline bint _is_reservation(const rs_request *request) noexcept nogil:
    return request.nargs == 1 and <void *>request.args[0].ob_type == _amounts_type


cdef rs_claim *_claim(uint32_t version, const int64_t *cost, int64_t at_ns) noexcept nogil:
    cdef rs_claim *claim = <rs_claim *>malloc(sizeof(rs_claim))
    if claim != NULL:
        claim.version = version
        claim.plan_ns = at_ns
        claim.place = 0
        memcpy(claim.cost, cost, sizeof(claim.cost))
    return claim


cdef inline void _drop_claim(rs_slot *slot) noexcept nogil:
    free(slot.limiter.claim)
    slot.limiter.claim = NULL
    slot.flags &= ~RS_TO_UNDO


# ---- the queue -------------------------------------------------------------------------------------------------------

cdef inline const int64_t *_cost_of(rs_waiter *waiter) noexcept nogil:
    return waiter.claim.cost


cdef inline bint _is_planned(rs_limiter *m) noexcept nogil:
    """True if waits are found by simulating the queue: with several rates or a window, of the process alone."""
    return (m.buckets.n > 1 or m.buckets.logs != 0) and m.buckets.host == NULL


cdef int64_t _last_ns(rs_limiter *m, int i, rs_waiter *last) noexcept nogil:
    """The time at which the last call up to *last* that takes tokens from window *i* passes."""
    while last != NULL and last.claim.cost[i] == 0:
        last = last.prev
    return last.claim.plan_ns if last != NULL else m.buckets.log[i].last_ns


cdef int64_t _window_fits_at(rs_limiter *m, int i, rs_waiter *last, int64_t amount, int64_t now_ns) noexcept nogil:
    """The time at which *amount* fits into window *i* behind the queue up to *last*: enough calls have left it."""
    cdef rs_log *log = m.buckets.log[i]
    cdef int64_t paced_ns = rs_log_paced_at(log, _last_ns(m, i, last), amount)
    cdef rs_claim *claim
    while last != NULL:
        claim = last.claim
        if amount + claim.cost[i] > log.limit:
            return max(paced_ns, claim.plan_ns + log.period_ns)
        amount += claim.cost[i]
        last = last.prev
    return max(paced_ns, rs_log_fits_at(log, now_ns, amount))


cdef int64_t _plan_next(rs_limiter *m, rs_waiter *last, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """The time at which a call will be served behind *last*, the last waiter in the plan."""
    cdef int64_t at_ns = rs_plan_next(&m.plan, now_ns, cost)
    cdef int i
    for i in range(m.buckets.n if m.buckets.logs else 0):
        if m.buckets.log[i] != NULL:
            at_ns = max(at_ns, _window_fits_at(m, i, last, cost[i], now_ns))
    return at_ns


cdef void _replan(rs_limiter *m, int64_t now_ns) noexcept nogil:
    cdef rs_waiter *waiter = m.queue.head
    cdef rs_claim *claim
    rs_plan_begin(&m.plan, &m.buckets, now_ns)
    while waiter != NULL:
        claim = waiter.claim
        claim.plan_ns = _plan_next(m, waiter.prev, claim.cost, now_ns)
        rs_plan_add(&m.plan, claim.plan_ns, claim.cost)
        waiter = waiter.next
    m.planned = True
    m.late_ns = 0


cdef inline int64_t _pause_left(rs_limiter *m, int64_t now_ns) noexcept nogil:
    return max(0, m.paused_until_ns - now_ns)


cdef inline bint _take(rs_limiter *m, int64_t now_ns, const int64_t *cost) noexcept nogil:
    """Take the tokens if they are available and there is no pause: tokens returned in a pause are for its end."""
    return now_ns >= m.paused_until_ns and rs_buckets_take(&m.buckets, now_ns, cost)


cdef int64_t _wait_behind(rs_limiter *m, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """
    The exact wait of a call behind the queue; at least until the end of a pause.

    With one token bucket the tokens ahead are a sum. Otherwise the queue is simulated, and the plan kept until a call
    leaves the queue, gives back tokens or is admitted late. In a very long queue the delays must add up to TOLERANCE_NS
    before it is simulated again.
    """
    if m.buckets.host != NULL:
        return max(_pause_left(m, now_ns), _host_wait_behind(m, cost, now_ns))
    if m.buckets.n == 0:
        return _pause_left(m, now_ns)
    if not _is_planned(m):
        return max(_pause_left(m, now_ns), rs_bucket_wait(&m.buckets.bucket[0], now_ns, m.queue.amount + cost[0]))
    if not m.planned or m.queue.head == NULL or m.late_ns > (0 if m.queue.length <= LONG_QUEUE else TOLERANCE_NS):
        _replan(m, now_ns)
    return max(_pause_left(m, now_ns), _plan_next(m, m.queue.tail, cost, now_ns) - now_ns)


cdef inline void _granted(rs_limiter *m, rs_claim *claim, int64_t now_ns) noexcept nogil:
    claim.version = m.version
    if now_ns > claim.plan_ns:
        m.late_ns += now_ns - claim.plan_ns
    claim.plan_ns = now_ns


cdef void _pump(rs_gate *gate, rs_limiter *m, int64_t now_ns, rs_waiter *here) noexcept nogil:
    """
    Grant all waiters that are due, in order, and wake the next one to set its timer; *here* is awake already.

    A head that has waited too long and still cannot be served is rejected first, whichever call runs this: the waiters
    behind it must not depend on which of two simultaneous timers fires first.
    """
    cdef rs_waiter *waiter = m.queue.head
    cdef bint moved = False, due, expired
    if m.buckets.host != NULL:
        _host_see(gate, m, now_ns)
    while waiter != NULL:
        expired = rs_waiter_expired(waiter, now_ns)
        due = not expired and _take_turn(m, now_ns, waiter.claim)
        if not due and not expired and now_ns < waiter.deadline_ns:
            break
        if not due:
            _drop_place(m, waiter)
        rs_queue_remove(&m.queue, waiter)
        if due:
            waiter.state = RS_WAITER_GRANTED
            _granted(m, waiter.claim, now_ns)
        else:
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = RS_EXPIRED if expired else LIMITER_TOO_LATE
            m.planned = False
        if waiter != here:
            rs_gate_wake(gate, waiter)
        waiter = m.queue.head
        moved = True
    if moved and waiter != NULL and waiter != here:
        rs_gate_wake(gate, waiter)


cdef void _sooner(rs_gate *gate, rs_limiter *m, int64_t now_ns) noexcept nogil:
    """Serve the queue after tokens came back or the head left; wake the head, which may be due before its timer."""
    _pump(gate, m, now_ns, NULL)
    if m.queue.head != NULL:
        rs_gate_wake(gate, m.queue.head)


cdef void _limiter_leave(rs_gate *gate, rs_limiter *m, rs_waiter *waiter, int64_t now_ns) noexcept nogil:
    cdef bint first = m.queue.head == waiter
    _drop_place(m, waiter)
    rs_queue_remove(&m.queue, waiter)
    m.planned = False
    if first:
        _sooner(gate, m, now_ns)
