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
    return b.host != NULL and not b.closed and rs_host_limit(b.host) > 0        # a process closes its own


cdef void _bulkhead_ask(rs_gate *gate, rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """Take what other workers have given back, for the calls that wait here."""
    cdef int64_t queued = b.queue.length
    _bulkhead_grant(gate, b, now_ns)
    rs_host_asked(b.host, b.queue.length < queued, now_ns)
    if b.slots != NULL:
        _want_slots(b, 0)


cdef int64_t _bulkhead_host_take "rs_bulkhead_host_take"(rs_gate *gate, int64_t amount, int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    cdef int64_t free = _take_shared(b, amount, now_ns)
    return free if free >= 0 else max(_capacity_alone(b) - b.used, 0)
