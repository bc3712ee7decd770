"""
The bulkhead's permits and queue, part of bulkhead.pxi: it runs with the gate's lock held, C arithmetic only.

A waiter gets its permits when its turn comes (`_bulkhead_grant`), before it is woken. They count as used until it polls
(takes them) or is cancelled (gives them back). So a newcomer cannot slip in between, and no permit is lost when a
cancellation meets a grant.

If the permits are the host's (bulkhead_host.pxi) or a fleet's (bulkhead_fleet.pxi), `used` counts what the calls of
this process have. Permits are taken in `_bulkhead_take` alone.
"""

cdef inline rs_bulkhead *_bulkhead_of(rs_gate *gate) noexcept nogil:
    return &(<rs_bulkhead_object *>gate).bulkhead


cdef inline bint _is_patient(const rs_request *request) noexcept nogil:
    return request.nargs > 0 and request.args[0] == _patient


# ---- the queue -------------------------------------------------------------------------------------------------------

cdef inline int64_t _bounded(rs_bulkhead *b) noexcept nogil:
    """Queued calls that `most_queued` bounds: all but the patient ones."""
    return b.queue.length - b.patient


cdef rs_waiter *_next_in_order(rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """
    Return the next waiter to serve.

    Adaptive order is first in, first out while the queue drains in time. It turns to last in, first out once the head
    has waited for more than half of the longest wait, or the queue is more than half full: most callers at the front
    will give up before their calls end, and the newest can still be in time.
    """
    cdef rs_waiter *head = b.queue.head
    if b.order == FIFO:
        return head
    if b.order == ADAPTIVE and 2 * (now_ns - head.enqueued_ns) <= b.max_wait_ns and 2 * _bounded(b) <= b.most_queued:
        return head
    return b.queue.tail


cdef inline void _bulkhead_leave(rs_gate *gate, rs_bulkhead *b, rs_waiter *waiter) noexcept nogil:
    rs_queue_remove(&b.queue, waiter)
    b.patient -= waiter.deadline_ns == RS_NEVER
    if b.chosen == waiter:
        b.chosen = NULL
    if b.host != NULL:
        rs_host_unqueued(gate, b.host, &b.queue, waiter, b.order == LIFO)


cdef inline int64_t _bulkhead_take(rs_gate *gate, rs_bulkhead *b, int64_t amount, int64_t now_ns) noexcept nogil:
    """Take *amount* permits, all or none; return how many were free, or *amount* if more were."""
    cdef int64_t free = b.capacity - b.used if b.host == NULL else _bulkhead_host_take(gate, amount, now_ns)
    if free < amount:
        return free
    b.used += amount
    return amount


cdef void _wake_idlers(rs_gate *gate, rs_bulkhead *b) noexcept nogil:
    cdef rs_waiter *waiter = b.idlers.head
    while waiter != NULL:
        rs_queue_remove(&b.idlers, waiter)
        rs_gate_wake(gate, waiter)
        waiter = b.idlers.head


cdef void _bulkhead_grant(rs_gate *gate, rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """Move free permits to waiters in order, and wake them. The order is decided when permits are free."""
    cdef rs_waiter *waiter
    cdef int64_t free
    while b.queue.head != NULL and (b.host != NULL or b.used < b.capacity):
        waiter = b.chosen if b.chosen != NULL else _next_in_order(b, now_ns)
        if rs_waiter_expired(waiter, now_ns):
            _bulkhead_leave(gate, b, waiter)
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = RS_EXPIRED
            rs_gate_wake(gate, waiter)
            continue
        free = _bulkhead_take(gate, b, waiter.amount, now_ns)
        if free < waiter.amount:
            if free > 0:
                b.chosen = waiter
            return
        _bulkhead_leave(gate, b, waiter)
        waiter.state = RS_WAITER_GRANTED
        rs_gate_wake(gate, waiter)
    if b.used == 0 and b.idlers.head != NULL:
        _wake_idlers(gate, b)


cdef void _reject_queued(rs_gate *gate, rs_bulkhead *b, int64_t heavier_than, uint8_t reason) noexcept nogil:
    cdef rs_waiter *waiter = b.queue.head
    cdef rs_waiter *following
    while waiter != NULL:
        following = waiter.next
        if waiter.amount > heavier_than:
            _bulkhead_leave(gate, b, waiter)
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = reason
            rs_gate_wake(gate, waiter)
        waiter = following


# ---- admission -------------------------------------------------------------------------------------------------------

cdef int _bulkhead_reject(rs_bulkhead *b, int reason, int64_t amount, rs_rejection *rejection) noexcept nogil:
    rejection.reason = reason
    rejection.measured = _used_by_all(b)
    rejection.limit = b.capacity if b.slots == NULL else rs_host_limit(b.host)
    rejection.retry_after_ns = -1
    if reason == BULKHEAD_QUEUE_FULL:
        rejection.measured = _bounded(b)
        rejection.limit = b.most_queued
    elif reason == TOO_HEAVY:
        rejection.measured = amount
        rejection.limit = b.capacity
    elif reason == BULKHEAD_CLOSED:
        rejection.measured = rejection.limit = NAN
    return RS_REJECTED


cdef inline bint _may_queue(rs_bulkhead *b) noexcept nogil:
    return b.most_queued != 0 and b.max_wait_ns != 0


cdef int _obstacle(rs_bulkhead *b, int64_t amount, bint patient) noexcept nogil:
    """The reason why the call may not even wait, or BULKHEAD_NONE."""
    if b.closed:
        return BULKHEAD_CLOSED
    if amount > b.capacity:
        return TOO_HEAVY
    if patient:
        return BULKHEAD_NONE
    if not _may_queue(b):
        return BULKHEAD_NONE if _waits_for_trip(b, amount) else BULKHEAD_FULL
    return BULKHEAD_QUEUE_FULL if _bounded(b) >= b.most_queued else BULKHEAD_NONE


cdef int _bulkhead_shadow(rs_gate *gate, rs_slot *slot, int obstacle) noexcept nogil:
    if obstacle == BULKHEAD_NONE:
        gate.counters.would_wait += 1
    else:
        gate.counters.would_reject += 1
    slot.state = RS_SLOT_SHADOW
    return RS_ADMITTED


cdef int _bulkhead_queue(rs_gate *gate, rs_bulkhead *b, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef bint patient = _is_patient(request)
    cdef int64_t amount = slot.bulkhead.weight
    cdef int obstacle = _obstacle(b, amount, patient)
    cdef rs_waiter *waiter = request.waiter
    if not rs_gate_enforced(gate):
        if obstacle == BULKHEAD_NONE and not patient and not _may_queue(b) and not rs_slots_were_left(b.slots, amount):
            obstacle = BULKHEAD_FULL            # the calls before it would have had what the store has left
        return _bulkhead_shadow(gate, slot, obstacle)
    if obstacle != BULKHEAD_NONE or waiter == NULL:
        return _bulkhead_reject(b, obstacle if obstacle != BULKHEAD_NONE else BULKHEAD_FULL, amount, rejection)
    if rs_gate_cannot_finish(gate, request, now_ns, 0, rejection):
        return RS_REJECTED
    waiter.amount = amount
    waiter.deadline_ns = RS_NEVER if patient else now_ns + (b.max_wait_ns if _may_queue(b) else b.trip_ns)
    b.patient += patient
    rs_queue_push(&b.queue, waiter, now_ns)
    if b.host != NULL:
        rs_host_queued(b.host, waiter, now_ns)
    return _wait_in_queue(b.host, slot, waiter)


cdef inline void _bulkhead_weigh(rs_bulkhead *b, rs_slot *slot) noexcept nogil:
    if b.weight != 0:
        slot.bulkhead.weight = b.weight
    elif not 1 <= slot.bulkhead.weight <= BULKHEAD_TOO_MUCH:
        slot.bulkhead.weight = 1                     # the weigher was set between `prepare` and here


cdef int _bulkhead_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    _bulkhead_weigh(b, slot)
    # Queued calls go first, even if a lighter call would fit.
    if (b.queue.head == NULL and not b.closed
            and _bulkhead_take(gate, b, slot.bulkhead.weight, now_ns) == slot.bulkhead.weight):
        return RS_ADMITTED
    _bulkhead_follow(b)
    return _bulkhead_queue(gate, b, slot, request, now_ns, rejection)


cdef int _give_up(rs_gate *gate, rs_bulkhead *b, rs_waiter *waiter, int64_t now_ns,
                  rs_rejection *rejection) noexcept nogil:
    cdef int64_t longest = waiter.deadline_ns - waiter.enqueued_ns
    _bulkhead_leave(gate, b, waiter)
    _bulkhead_grant(gate, b, now_ns)                 # the calls behind a heavy one may fit
    rejection.reason = BULKHEAD_TOO_LATE
    rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
    rejection.limit = longest / 1e9
    rejection.retry_after_ns = -1
    return RS_REJECTED


cdef int _bulkhead_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    if waiter.state == RS_WAITER_QUEUED:
        if now_ns >= waiter.deadline_ns:
            return _give_up(gate, b, waiter, now_ns, rejection)
        if b.host != NULL and rs_host_asks(b.host, waiter, now_ns):
            _bulkhead_ask(gate, b, now_ns)
    if waiter.state == RS_WAITER_QUEUED:
        return _wait_in_queue(b.host, slot, waiter)
    if waiter.state == RS_WAITER_GRANTED:
        waiter.state = RS_WAITER_IDLE
        return RS_ADMITTED
    return _bulkhead_reject(b, waiter.reason, waiter.amount, rejection)


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef void _bulkhead_end "rs_bulkhead_end"(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """A call has given up its permits: pass them to the queue, unless others have waited longer for their share."""
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    if b.host == NULL or ((b.queue.head != NULL or b.idlers.head != NULL) and not rs_host_yields(b.host, b.used)):
        _bulkhead_grant(gate, b, now_ns)
    elif b.used == 0 and b.queue.head == NULL and b.idlers.head != NULL:
        _wake_idlers(gate, b)
    if b.host != NULL:
        rs_host_give(b.host, b.used)


cdef void _bulkhead_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    if slot.state == RS_SLOT_HELD:
        b.used -= slot.bulkhead.weight
    elif slot.waiter == NULL:               # a pass in shadow mode
        return
    elif slot.waiter.state == RS_WAITER_GRANTED:
        slot.waiter.state = RS_WAITER_IDLE
        b.used -= slot.waiter.amount
    elif slot.waiter.state == RS_WAITER_QUEUED:
        _bulkhead_leave(gate, b, slot.waiter)
    _bulkhead_end(gate, now_ns)


cdef void _bulkhead_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                           int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    b.used -= slot.bulkhead.weight
    if b.host != NULL or b.queue.head != NULL or b.idlers.head != NULL:
        _bulkhead_end(gate, now_ns)


cdef void _bulkhead_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    b.used = 0
    b.chosen = NULL
    b.patient = 0
    memset(&b.queue, 0, sizeof(b.queue))
    memset(&b.idlers, 0, sizeof(b.idlers))
    if b.host != NULL:
        rs_host_forget(b.host)
