"""
A bulkhead whose permits are a fleet's, part of bulkhead.pxi: it runs with the gate's lock held, C arithmetic only.

The store leases slots to this host, or process, and its workers take them from one table (shared/slots.h). `capacity`
is that of the fleet; the table's limit is the number that may be taken here now. Calls that find no slot ring for the
courier, which sees the cell through `Slots` (bulkhead_slots.pxi). Without a slot of the region the process counts for
itself, up to the share of one asker.
"""

cdef inline int64_t _take_shared(rs_bulkhead *b, int64_t amount, int64_t now_ns) noexcept nogil:
    """Take permits of the host or of a fleet; -1: this process has no slot, and counts for itself."""
    if b.slots == NULL:
        return rs_host_take(b.host, b.used, amount)
    return rs_host_take_slots(b.host, b.slots, now_ns - b.host.hold.member.epoch_ns, b.used, amount)


cdef inline int64_t _capacity_alone(rs_bulkhead *b) noexcept nogil:
    return b.capacity if b.slots == NULL else rs_slots_share(b.slots)


cdef int64_t _bound_of(rs_bulkhead *b, int64_t now_ns) noexcept nogil:
    """Return the permits that calls may have now: of a fleet those that are here on lease."""
    if b.slots == NULL:
        return b.capacity
    return rs_slots_bound(b.slots, b.slots.terms, now_ns - b.host.hold.member.epoch_ns)


cdef inline bint _waits_for_trip(rs_bulkhead *b, int64_t amount) noexcept nogil:
    """Return True if a call that may not queue waits for the next ask: the store had slots for it, and for all here."""
    return b.slots != NULL and b.trip_ns > 0 and rs_slots_are_left(b.slots, b.queue.amount + amount)


cdef void _set_fleets_capacity(rs_bulkhead *b, int64_t permits) noexcept nogil:
    """Take the number of the options, for all workers of the host. The store learns it with the next ask."""
    if permits != b.configured:
        b.slots.capacity = <uint32_t>permits
        rs_courier_ring(&b.slots.courier, b.host.hold.member)


cdef bint _report_queue(rs_bulkhead *b, uint64_t ask, int64_t more) noexcept nogil:
    """Count what calls wait for here, for the ask of this number; *more*: of one that has just queued."""
    cdef rs_waiter *waiter = b.queue.head
    cdef int64_t every = 0
    while waiter != NULL:
        every += waiter.amount
        waiter = waiter.next
    return rs_slots_wait_for(b.slots, &b.reported, ask, <uint64_t>more, <uint64_t>every)


cdef void _want_slots(rs_bulkhead *b, int64_t more) noexcept nogil:
    """Ring for the courier if calls wait here that the next ask does not have yet."""
    if b.queue.head != NULL and _report_queue(b, rs_slots_next(b.slots), more):
        rs_courier_ring(&b.slots.courier, b.host.hold.member)


cdef int _bulkhead_is_a_fleets(const rs_gate *gate) noexcept nogil:
    return 0 if _bulkhead_of(<rs_gate *>gate).closed else RS_OF_FLEET


cdef int _bulkhead_fleet_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                               rs_rejection *rejection) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    cdef int verdict
    _bulkhead_weigh(b, slot)
    if (b.queue.head == NULL and not b.closed
            and _bulkhead_take(gate, b, slot.bulkhead.weight, now_ns) == slot.bulkhead.weight):
        return RS_ADMITTED
    _bulkhead_follow(b)
    verdict = _bulkhead_queue(gate, b, slot, request, now_ns, rejection)
    if verdict == RS_WAIT:
        _want_slots(b, slot.bulkhead.weight)
    elif not b.closed and slot.bulkhead.weight <= b.capacity:
        rs_slots_miss(b.slots, b.host.hold.member, <uint32_t>slot.bulkhead.weight)
    return verdict


cdef inline void _bulkhead_fleet_end(rs_bulkhead *b) noexcept nogil:
    if b.queue.head == NULL:
        rs_slots_left(b.slots, b.host.hold.member)


cdef void _bulkhead_fleet_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    _bulkhead_cancel(gate, slot, now_ns)
    _bulkhead_fleet_end(_bulkhead_of(gate))


cdef void _bulkhead_fleet_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                 int64_t now_ns) noexcept nogil:
    _bulkhead_settle(gate, slot, outcome, latency_ns, now_ns)
    _bulkhead_fleet_end(_bulkhead_of(gate))
