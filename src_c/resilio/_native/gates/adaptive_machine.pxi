"""
The permits, the queue and the samples of an adaptive limit, part of adaptive.pxi: it runs with the gate's lock held.

Where permits are the host's, adaptive_host.pxi has the functions that take and end them.
"""

cdef inline rs_adaptive *_adaptive_of(rs_gate *gate) noexcept nogil:
    return &(<rs_adaptive_object *>gate).adaptive


cdef inline bint _is_free(rs_adaptive *a) noexcept nogil:
    return <double>(a.used + 1) <= a.law.limit


cdef inline uint64_t _generation(rs_adaptive *a) noexcept nogil:
    """Of the learned state: calls that began in an earlier one teach nothing."""
    return a.generation if a.host == NULL else a.generation + a.learning.resets


cdef inline bint _adaptive_take(rs_adaptive *a) noexcept nogil:
    """Take a permit if there is one."""
    cdef int64_t free = -1 if a.host == NULL else rs_host_take(a.host, a.used, 1)
    if free < 0:
        free = _is_free(a)
    a.used += free
    return free


cdef inline int64_t _adaptive_enter(rs_gate *gate, rs_adaptive *a, uint32_t *flags) noexcept nogil:
    """Return the number of calls in flight, with the one that has just taken a permit."""
    flags[0] = PLAIN_CALL
    return a.used + a.passing if a.host == NULL else _host_enter(gate, a, flags)


# ---- the queue -------------------------------------------------------------------------------------------------------

cdef inline void _adaptive_unqueue(rs_gate *gate, rs_adaptive *a, rs_waiter *waiter) noexcept nogil:
    rs_queue_remove(&a.queue, waiter)
    if a.host != NULL:
        rs_host_unqueued(gate, a.host, &a.queue, waiter, False)


cdef void _adaptive_grant(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Move free permits to the longest waiting calls, and wake them."""
    cdef rs_waiter *waiter = a.queue.head
    cdef uint32_t flags
    while waiter != NULL and (a.host != NULL or _is_free(a)):
        if rs_waiter_expired(waiter, now_ns):
            _adaptive_unqueue(gate, a, waiter)
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = RS_EXPIRED
        elif _adaptive_take(a):
            _adaptive_unqueue(gate, a, waiter)
            waiter.state = RS_WAITER_GRANTED
            waiter.amount = _adaptive_enter(gate, a, &flags) << FLAGS | flags
        else:
            return
        rs_gate_wake(gate, waiter)
        waiter = a.queue.head


# ---- learning --------------------------------------------------------------------------------------------------------

cdef void _note(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Record a notable move of the limit, if there are listeners."""
    if fabs(a.law.learned - a.reported) <= NOTABLE * a.reported:
        return
    if gate.listening & RS_LISTEN_LIMIT:
        if a.moved[1] == 0:                 # an undelivered move keeps its origin
            a.moved[0] = a.reported
            rs_gate_change(gate, 0, 0, MOVED, now_ns)
        a.moved[1] = a.law.learned
    a.reported = a.law.learned


cdef inline void _adaptive_learn(rs_gate *gate, rs_adaptive *a, rs_slot *slot, int64_t latency_ns, bint dropped,
                                 int64_t now_ns) noexcept nogil:
    if slot.adaptive.generation != a.generation or slot.adaptive.flags & TAUGHT:
        return
    slot.adaptive.flags |= TAUGHT
    rs_law_learn(&a.law, latency_ns, slot.adaptive.inflight, a.used + a.passing + 1, dropped, now_ns)
    _note(gate, a, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef inline int64_t _turn_ns(rs_adaptive *a) noexcept nogil:
    """Expected wait of the last call in the queue, in ns; -1: no measurement yet."""
    cdef double wait_ns = a.law.mean * (a.queue.length + 1) / a.law.limit
    return <int64_t>wait_ns + 1 if 0 < wait_ns < 4e18 else -1


cdef int _adaptive_reject(rs_adaptive *a, int reason, rs_rejection *rejection) noexcept nogil:
    rejection.reason = reason
    rejection.measured = _adaptive_used_by_all(a)
    rejection.limit = <double><int64_t>a.law.limit
    rejection.retry_after_ns = -1 if a.law.mean == 0 else <int64_t>a.law.mean + _turn_ns(a)
    if reason == ADAPTIVE_QUEUE_FULL:
        rejection.measured = a.queue.length
        rejection.limit = a.most_queued
    return RS_REJECTED


cdef int _pass(rs_gate *gate, rs_adaptive *a, rs_slot *slot, int obstacle) noexcept nogil:
    if obstacle == ADAPTIVE_NONE:
        gate.counters.would_wait += 1
    else:
        gate.counters.would_reject += 1
    gate.counters.inflight -= 1             # core counts it as a holder of a permit
    a.passing += 1
    slot.adaptive.flags = PASSING
    slot.adaptive.inflight = a.used + a.passing if a.host == NULL else _host_pass(a)
    return RS_ADMITTED


cdef int _adaptive_queue(rs_gate *gate, rs_adaptive *a, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef int obstacle = ADAPTIVE_NONE
    cdef rs_waiter *waiter = request.waiter
    if a.most_queued == 0 or a.max_wait_ns == 0:
        obstacle = LIMIT
    elif a.queue.length >= a.most_queued:
        obstacle = ADAPTIVE_QUEUE_FULL
    if not rs_gate_enforced(gate):
        return _pass(gate, a, slot, obstacle)
    if obstacle != ADAPTIVE_NONE or waiter == NULL:
        return _adaptive_reject(a, obstacle if obstacle != ADAPTIVE_NONE else LIMIT, rejection)
    if rs_gate_cannot_finish(gate, request, now_ns, max(_turn_ns(a), 0), rejection):
        return RS_REJECTED
    waiter.amount = 0
    waiter.deadline_ns = now_ns + a.max_wait_ns
    rs_queue_push(&a.queue, waiter, now_ns)
    if a.host != NULL:
        rs_host_queued(a.host, waiter, now_ns)
    return _wait_in_queue(a.host, slot, waiter)


cdef int _adaptive_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    slot.adaptive.generation = a.generation
    slot.adaptive.flags = PLAIN_CALL
    if a.queue.head == NULL and _is_free(a):
        a.used += 1
        slot.adaptive.inflight = a.used + a.passing
        return RS_ADMITTED
    return _adaptive_queue(gate, a, slot, request, now_ns, rejection)


cdef int _adaptive_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    if a.host != NULL and waiter.state == RS_WAITER_QUEUED and rs_host_asks(a.host, waiter, now_ns):
        _adaptive_ask(gate, a, now_ns)
    if waiter.state == RS_WAITER_QUEUED:
        if now_ns < waiter.deadline_ns:
            return _wait_in_queue(a.host, slot, waiter)
        _adaptive_unqueue(gate, a, waiter)
        _adaptive_reject(a, ADAPTIVE_TOO_LATE, rejection)
        rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
        rejection.limit = (waiter.deadline_ns - waiter.enqueued_ns) / 1e9
        return RS_REJECTED
    if waiter.state == RS_WAITER_GRANTED:
        waiter.state = RS_WAITER_IDLE
        slot.adaptive.inflight = waiter.amount >> FLAGS
        slot.adaptive.flags = <uint32_t>waiter.amount & ((1 << FLAGS) - 1)
        slot.adaptive.generation = _generation(a)
        return RS_ADMITTED
    return _adaptive_reject(a, waiter.reason, rejection)


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef inline void _give_back(rs_gate *gate, rs_adaptive *a, rs_slot *slot) noexcept nogil:
    if slot.adaptive.flags & PASSING:
        a.passing -= 1
        gate.counters.inflight += 1         # core has taken it off
    else:
        a.used -= 1


cdef void _adaptive_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    if slot.state == RS_SLOT_HELD:
        if a.host != NULL:
            _host_leave(a, slot.adaptive.flags)
        _give_back(gate, a, slot)
    elif slot.waiter.state == RS_WAITER_GRANTED:
        slot.waiter.state = RS_WAITER_IDLE
        if a.host != NULL:
            _host_leave(a, <uint32_t>slot.waiter.amount & ((1 << FLAGS) - 1))
        a.used -= 1
    elif slot.waiter.state == RS_WAITER_QUEUED:
        _adaptive_unqueue(gate, a, slot.waiter)
    if a.host != NULL:
        _adaptive_host_end(gate, a, now_ns)
    else:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                           int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    _give_back(gate, a, slot)
    if outcome == RS_FAILURE or outcome == RS_REFUSED:
        slot.adaptive.flags &= ~<uint32_t>TAUGHT      # a stream may break off after its first item was a sample
        _adaptive_learn(gate, a, slot, latency_ns, True, now_ns)
    elif outcome == RS_SUCCESS:
        _adaptive_learn(gate, a, slot, latency_ns, False, now_ns)
    if a.queue.head != NULL:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    _adaptive_learn(gate, a, slot, latency_ns, False, now_ns)
    if a.queue.head != NULL:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    a.used = a.passing = 0
    memset(&a.queue, 0, sizeof(a.queue))
    if a.host != NULL:
        rs_host_forget(a.host)


cdef int _adaptive_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    return (a.host == NULL and a.used == 0 and a.passing == 0 and a.queue.head == NULL
            and rs_law_untouched(&a.law))
