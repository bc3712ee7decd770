"""
The state machine of a rate limit, part of limiter.pxi: all that runs with the gate's lock held, C arithmetic only.

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
    cdef int64_t at_ns = rs_plan_next(&m.plan, &m.buckets, now_ns, cost)
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
        rs_plan_add(&m.plan, &m.buckets, claim.plan_ns, claim.cost)
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
    if _is_leased(m):
        _line_up_again(m)
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


cdef void _returned(rs_gate *gate, rs_limiter *m, int64_t now_ns) noexcept nogil:
    """Serve the queue after tokens came back: it moves up, and its head may pass now."""
    if m.queue.head != NULL and _has_places(m):
        _hand_down(m.queue.head, now_ns)
    m.planned = False
    _sooner(gate, m, now_ns)


cdef void _limiter_leave(rs_gate *gate, rs_limiter *m, rs_waiter *waiter, int64_t now_ns) noexcept nogil:
    cdef bint first = m.queue.head == waiter
    _drop_place(m, waiter)
    rs_queue_remove(&m.queue, waiter)
    m.planned = False
    if first:
        _sooner(gate, m, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

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
        rs_buckets_wait(&m.buckets, now_ns, cost, &culprit)
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
    cdef int i
    if obstacle == LIMITER_NONE and m.queue.length + _owed(m, cost, now_ns) >= m.most_queued:
        obstacle = LIMITER_QUEUE_FULL
    gate.counters.would_wait += obstacle == LIMITER_NONE
    gate.counters.would_reject += obstacle != LIMITER_NONE
    if obstacle == LIMITER_NONE and m.queue.head == NULL:
        for i in range(m.buckets.n):
            rs_rate_debit(&m.buckets, i, now_ns, cost[i])
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
        rs_plan_add(&m.plan, &m.buckets, claim.plan_ns, cost)
    if _is_leased(m):
        _line_up_again(m)
    waiter.claim = claim
    waiter.amount = cost[0]
    waiter.deadline_ns = gives_up_ns
    rs_queue_push(&m.queue, waiter, now_ns)
    if _is_leased(m):
        rs_rates_line_up(m.buckets.host, cost, claim.line)
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
    cdef int tightest
    if waiter.state == RS_WAITER_QUEUED:
        _pump(gate, m, now_ns, waiter)
    if waiter.state == RS_WAITER_GRANTED:
        _collect(slot, waiter)
        return RS_ADMITTED
    cost = _cost_of(waiter)
    if waiter.state == RS_WAITER_QUEUED and now_ns < waiter.deadline_ns:
        slot.wake_ns = waiter.deadline_ns
        if m.queue.head == waiter:
            wait_ns = max(_pause_left(m, now_ns),
                          rs_rates_wait_at(m.buckets.host, now_ns, cost, waiter.claim.line) if _is_leased(m)
                          else rs_buckets_wait(&m.buckets, now_ns, cost, &tightest))
            if waiter.claim.place:
                wait_ns = max(wait_ns, waiter.claim.plan_ns - now_ns)
            slot.wake_ns = min(slot.wake_ns, now_ns + wait_ns)
        return RS_WAIT
    if waiter.state == RS_WAITER_QUEUED:
        _limiter_leave(gate, m, waiter, now_ns)
        waiter.reason = LIMITER_TOO_LATE
    if waiter.reason == LIMITER_TOO_LATE:
        wait_ns = rs_buckets_wait(&m.buckets, now_ns, cost, &tightest)
        _limiter_reject(m, LIMITER_TOO_LATE, cost, now_ns, wait_ns, rejection)
        rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
        rejection.limit = (waiter.deadline_ns - waiter.enqueued_ns) / 1e9
    else:
        _limiter_reject(m, waiter.reason, cost, now_ns, 1, rejection)
    free(waiter.claim)
    waiter.claim = NULL
    return RS_REJECTED


# ---- a limit without rates -------------------------------------------------------------------------------------------

# A door, which a pause alone shuts. While it is open it costs next to nothing. Queue, waits and rejections in a pause
# are those of any limit.

cdef int _door_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                     rs_rejection *rejection) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    slot.limiter.version = 0                # no tokens taken: nothing to give back
    slot.limiter.claim = NULL
    if m.paused_until_ns != 0 or m.queue.head != NULL:
        return _door_decide(gate, slot, request, now_ns, rejection)
    return RS_ADMITTED


cdef int _door_decide "rs_door_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                                       rs_rejection *rejection) noexcept nogil:
    """Admit after the pause, behind the calls that have waited for its end."""
    cdef rs_limiter *m = _limiter_of(gate)
    if now_ns >= m.paused_until_ns:
        m.paused_until_ns = 0
    return _limiter_decide(gate, slot, request, now_ns, rejection)


# ---- returns and corrections -----------------------------------------------------------------------------------------

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
    cdef int i
    if version == m.version:
        for i in range(m.buckets.n):
            rs_rate_give_back(&m.buckets, i, taken_ns, cost[i])
        _returned(gate, m, now_ns)


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
    """
    Return True if all buckets are full, no call waits, and there is no pause.

    The tokens of a host are kept by the host; of a fleet's nothing of note may be on lease or owed.
    """
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    if m.buckets.host != NULL:
        return m.queue.head == NULL and (not _is_leased(m) or rs_rates_rest(m.buckets.host))
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
        _returned(gate, m, now_ns)


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
    _returned(gate, m, now_ns)


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
    cdef int i
    if m.buckets.host != NULL:
        rs_rates_hold(m.buckets.host, until_ns)
        _host_see(gate, m, now_ns)
        return
    if until_ns > max(now_ns, m.paused_until_ns):
        m.paused_until_ns = until_ns
        _delay(m, now_ns)
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


cdef void _new_rate(rs_limiter *m, int i, rs_setting *setting, int64_t now_ns) noexcept nogil:
    """Use the rate, which is full; in a pause it is empty at the end of the pause."""
    rs_log_free(m.buckets.log[i])
    m.buckets.log[i] = setting.log
    m.buckets.bucket[i] = setting.bucket
    setting.log = NULL
    if now_ns < m.paused_until_ns:
        rs_rate_hold(&m.buckets, i, m.paused_until_ns)


cdef void _change_rate(rs_limiter *m, int i, rs_setting *setting, int64_t now_ns) noexcept nogil:
    """Change the rate: a window keeps what was taken, a bucket its tokens up to the new burst, in a pause its debt."""
    cdef bint paused = now_ns < m.paused_until_ns
    cdef int64_t full = 0 if paused else setting.bucket.tokens.most
    cdef int64_t tokens
    cdef rs_log *log = m.buckets.log[i]
    if log != NULL and setting.log != NULL:
        rs_log_set(log, setting.log.limit, setting.log.period_ns, setting.log.most)
        m.buckets.bucket[i] = setting.bucket
    elif log == NULL and setting.log == NULL and not paused:
        rs_own_reconfigure(&m.buckets.bucket[i], setting.amount, setting.period_ns, full, now_ns)
    else:
        tokens = rs_rate_available(&m.buckets, i, max(now_ns, m.paused_until_ns))
        _new_rate(m, i, setting, now_ns)
        rs_rate_debit(&m.buckets, i, now_ns, max(full - tokens, 0))


cdef void _install(rs_gate *gate, rs_setting *setting, int rates, bint other_units, bint variable,
                   int64_t most_queued, int64_t max_wait_ns, int64_t now_ns) noexcept nogil:
    """A shared limit keeps its rates: others are another cell, and the gate has left this one before."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef int i
    for i in range(rates):
        m.cost[i] = setting[i].cost
        if m.buckets.host != NULL:
            continue
        if setting[i].kept:
            _change_rate(m, i, &setting[i], now_ns)
        else:
            _new_rate(m, i, &setting[i], now_ns)
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


cdef void _become_door_or_limit(LimiterGate self) noexcept nogil:
    """Take the operations for the number of rates; those of a shared limit stay."""
    cdef bint door = self.limiter.buckets.n == 0
    if self.limiter.buckets.host == NULL:
        self.ops = &DOOR_OPS if door else &LIMITER_OPS
        self.timeless = RS_NO_LATENCY if door else 0
