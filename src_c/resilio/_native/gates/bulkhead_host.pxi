"""
A bulkhead whose permits are the host's, part of bulkhead.pxi: it runs with the gate's lock held, C arithmetic only.

All workers take permits from one table, and each has its own queue. `capacity` follows the host's limit, which any of
them may move. Without a slot the process counts for itself, as if it were alone.
"""

cdef enum:
    SPARE_ROOM = 4                                   # times the capacity: it may be raised so far while it is shared


cdef void _bulkhead_follow(rs_bulkhead *b) noexcept nogil:
    """Take the host's limit, or that of the fleet, for the capacity."""
    cdef int64_t limit = 0
    if b.slots != NULL:
        limit = b.slots.capacity
    elif b.host != NULL:
        limit = rs_host_limit(b.host)
    if limit > 0:
        b.capacity = limit


cdef void _set_capacity(rs_bulkhead *b, int64_t permits) noexcept nogil:
    """Take the number of the options. A worker that gets the same again does not undo what another has moved."""
    if b.host == NULL:
        b.capacity = permits
    elif b.slots != NULL:
        _set_fleets_capacity(b, permits)
    elif permits != b.configured:
        b.capacity = min(permits, <int64_t>b.host.hold.room)
        rs_permits_set_limit(b.host.hold.permits, <uint32_t>b.capacity)
    b.configured = permits
    _bulkhead_follow(b)


cdef double _used_by_all(rs_bulkhead *b) noexcept nogil:
    """Permits held in the host, or in this process if they are its own."""
    if b.slots != NULL:
        return rs_slots_used(b.slots, b.host.hold.room)
    return b.used if b.host == NULL or rs_host_limit(b.host) == 0 else rs_permits_used(b.host.hold.permits)


cdef int _bulkhead_is_shared(const rs_gate *gate) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(<rs_gate *>gate)
    return not b.closed and rs_host_limit(b.host) > 0       # a process closes its own


cdef int _bulkhead_wait(rs_bulkhead *b, rs_slot *slot, rs_waiter *waiter) noexcept nogil:
    if b.host != NULL:
        rs_host_wait(b.host, slot, waiter)
    else:
        slot.wake_ns = waiter.deadline_ns
    return RS_WAIT


cdef void _bulkhead_ask(rs_gate *gate, rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """Take what other workers have given back, for the calls that wait here."""
    cdef int64_t queued = b.queue.length
    _bulkhead_grant(gate, b, now_ns)
    rs_host_asked(b.host, b.queue.length < queued, now_ns)
    if b.slots != NULL:
        _want_slots(b, 0)


cdef void _bulkhead_host_end(rs_gate *gate, rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """A call has given up its permits: pass them to the queue, unless others have waited longer for their share."""
    if (b.queue.head != NULL or b.idlers.head != NULL) and not rs_host_yields(b.host, b.used):
        _bulkhead_grant(gate, b, now_ns)
    elif b.used == 0 and b.queue.head == NULL and b.idlers.head != NULL:
        _wake_idlers(gate, b)
    rs_host_give(b.host, b.used)


cdef int _bulkhead_host_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                              rs_rejection *rejection) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    _bulkhead_weigh(b, slot)
    if (b.queue.head == NULL and not b.closed
            and _bulkhead_take(b, slot.bulkhead.weight, now_ns) == slot.bulkhead.weight):
        return RS_ADMITTED
    _bulkhead_follow(b)
    return _bulkhead_queue(gate, b, slot, request, now_ns, rejection)


cdef void _bulkhead_host_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    b.used -= slot.bulkhead.weight
    if b.queue.head != NULL or b.idlers.head != NULL:
        _bulkhead_host_end(gate, b, now_ns)
    else:
        rs_host_give(b.host, b.used)
