"""
An adaptive limit that the workers of a host have together, part of adaptive.pxi: it runs with the gate's lock held.

Permits are those of a bulkhead (host_permits.h), and their limit is what the host has learned (host_law.h). Without a
slot the process goes on alone, with the law as it has last seen it.
"""

from libc.stdint cimport UINT32_MAX


cdef inline bint _host_is_ahead(rs_adaptive *a) noexcept nogil:
    """This worker is alone, and its law is what the host has learned."""
    cdef rs_host *host = a.host
    return host != NULL and rs_host_law_is_ahead(a.learning, host.hold.member, host.hold.owner, &a.ahead)


cdef void _adaptive_follow(rs_adaptive *a) noexcept nogil:
    """Take over the numbers of the host that a rejection needs."""
    cdef int64_t limit = 0 if a.host == NULL else rs_host_limit(a.host)
    if limit > 0 and not _host_is_ahead(a):
        a.ahead.owner = 0
        a.law.limit = <double>limit
        a.law.mean = <double>a.learning.mean_ns


cdef void _adaptive_look(rs_adaptive *a) noexcept nogil:
    """Take over all that the host has learned."""
    cdef rs_law_words words
    if _host_is_ahead(a):
        return
    a.ahead.owner = 0
    if a.host != NULL and rs_host_limit(a.host) > 0 and rs_host_law_look(a.learning, &words):
        a.law = words.law
    _adaptive_follow(a)


cdef double _adaptive_used_by_all(rs_adaptive *a) noexcept nogil:
    """Permits held in the host, or in this process if they are its own."""
    return a.used if a.host == NULL or rs_host_limit(a.host) == 0 else rs_permits_used(a.host.hold.permits)


cdef int _adaptive_is_shared(const rs_gate *gate) noexcept nogil:
    return rs_host_limit(_adaptive_of(<rs_gate *>gate).host) > 0


cdef void _set_rules(rs_adaptive *a, rs_rules rules, int64_t now_ns) noexcept nogil:
    """Take the options. A worker that gets the same again does not undo what another has changed."""
    cdef uint64_t before = a.rules
    a.rules = rs_rules_word(rules)
    if a.host != NULL and a.rules != before:
        rs_host_law_settle(a.learning, a.host.hold.member, a.host.hold.owner, &a.ahead, &a.law, now_ns)
        rules.ceiling = min(rules.ceiling, a.host.hold.room)
        rules.floor = min(rules.floor, rules.ceiling)
        rs_host_law_set_rules(a.learning, rules)
        _host_turn(a, rs_hold_owner(&a.host.hold), now_ns)
    a.ahead.owner = 0


# ---- calls in flight -------------------------------------------------------------------------------------------------

cdef inline bint _host_is_alone(rs_adaptive *a) noexcept nogil:
    """No other worker lives, or this one has no slot: its own calls are all, and need no count of the host's."""
    return rs_hold_owner(&a.host.hold) == 0 or rs_member_is_alone(a.host.hold.member)


cdef int64_t _host_enter(rs_gate *gate, rs_adaptive *a, uint32_t *flags) noexcept nogil:
    cdef int64_t inflight
    if _host_is_alone(a):
        return a.used + a.passing
    flags[0] = COUNTED
    inflight = rs_host_law_enter(a.learning)
    if gate.enforce_share == UINT32_MAX:
        return inflight
    return inflight + rs_host_law_passing(a.learning, a.host.hold.member)


cdef int64_t _host_level(rs_adaptive *a) noexcept nogil:
    """Calls in flight in the host."""
    if _host_is_alone(a):
        return a.used + a.passing
    return rs_host_law_inflight(a.learning) + (rs_host_law_passing(a.learning, a.host.hold.member) if a.passing else 0)


cdef void _host_set_passing(rs_adaptive *a, int64_t passing) noexcept nogil:
    """Show to all workers how many calls of this one hold no permit: the law needs to know."""
    cdef uint32_t owner = rs_hold_owner(&a.host.hold)
    if owner != 0:
        rs_host_law_set_passing(a.learning, owner, <uint32_t>passing)


cdef int64_t _host_pass(rs_adaptive *a) noexcept nogil:
    _host_set_passing(a, a.passing)
    return _host_level(a)


cdef int64_t _host_leave(rs_adaptive *a, uint32_t flags) noexcept nogil:
    """A call with these flags ends. Return the number in flight, with this one."""
    cdef int64_t level = _host_level(a)
    if flags & COUNTED:
        rs_host_law_leave(a.learning)
    elif flags & PASSING:
        _host_set_passing(a, a.passing - 1)
    return level


# ---- learning --------------------------------------------------------------------------------------------------------

cdef void _host_turn(rs_adaptive *a, uint32_t owner, int64_t now_ns) noexcept nogil:
    cdef rs_law_words words
    cdef int64_t over = max(<int64_t>a.host.hold.held - a.used, 0)
    if owner != 0 and rs_host_law_catch_up(a.learning, a.host.hold.member, owner, over, now_ns, &words, &a.ahead):
        a.law = words.law


cdef void _host_reset(rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Forget what the host has learned, for all of its workers."""
    rs_host_law_settle(a.learning, a.host.hold.member, a.host.hold.owner, &a.ahead, &a.law, now_ns)
    rs_host_law_reset(a.learning)
    _host_turn(a, rs_hold_owner(&a.host.hold), now_ns)


cdef void _host_notice(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """The limit has moved, in whichever worker's turn: report it here if there are listeners."""
    cdef int64_t limit = rs_host_limit(a.host)
    if limit == a.limit:
        return
    a.limit = limit
    if gate.listening & RS_LISTEN_LIMIT:
        _adaptive_look(a)
        _note(gate, a, now_ns)


cdef void _host_learn(rs_gate *gate, rs_adaptive *a, rs_slot *slot, int64_t latency_ns, int64_t present, bint dropped,
                      int64_t now_ns) noexcept nogil:
    cdef uint32_t owner = rs_hold_owner(&a.host.hold)
    cdef rs_sample sample
    if slot.adaptive.flags & TAUGHT or slot.adaptive.generation != _generation(a):
        return
    slot.adaptive.flags |= TAUGHT
    if owner == 0:
        a.ahead.owner = 0
        rs_law_learn(&a.law, latency_ns, slot.adaptive.inflight, present, dropped, now_ns - a.host.hold.member.epoch_ns)
        _note(gate, a, now_ns)
        return
    sample.end_ns, sample.latency_ns, sample.dropped = now_ns, latency_ns, dropped
    sample.inflight, sample.present = <uint32_t>slot.adaptive.inflight, <uint32_t>max(present, 1)
    if not rs_host_law_learn_ahead(a.learning, a.host.hold.member, owner, &a.ahead, &a.law, &sample):
        rs_host_law_note(a.learning, a.host.hold.member, owner, &sample)
        if rs_host_law_is_due(a.learning, a.host.hold.member, owner, now_ns):
            _host_turn(a, owner, now_ns)
    _host_notice(gate, a, now_ns)


# ---- the operations --------------------------------------------------------------------------------------------------

cdef void _adaptive_ask(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Take what other workers have given back, for the calls that wait here."""
    cdef int64_t queued = a.queue.length
    _adaptive_grant(gate, a, now_ns)
    rs_host_asked(a.host, a.queue.length < queued, now_ns)


cdef void _adaptive_host_end(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """A call has given up its permit: pass it to the queue, unless calls of other workers wait for their share."""
    if a.queue.head != NULL and not rs_host_yields(a.host, a.used):
        _adaptive_grant(gate, a, now_ns)
    rs_host_give(a.host, a.used)


cdef int _adaptive_host_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                              rs_rejection *rejection) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    cdef uint32_t flags = PLAIN_CALL
    slot.adaptive.generation = _generation(a)
    if a.queue.head == NULL and _adaptive_take(a):
        slot.adaptive.inflight = _host_enter(gate, a, &flags)
        slot.adaptive.flags = flags
        return RS_ADMITTED
    slot.adaptive.flags = flags
    _adaptive_follow(a)
    return _adaptive_queue(gate, a, slot, request, now_ns, rejection)


cdef void _adaptive_host_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    cdef int64_t present = _host_leave(a, slot.adaptive.flags)
    _give_back(gate, a, slot)
    if outcome == RS_FAILURE or outcome == RS_REFUSED:
        slot.adaptive.flags &= ~<uint32_t>TAUGHT      # a stream may break off after its first item was a sample
        _host_learn(gate, a, slot, latency_ns, present, True, now_ns)
    elif outcome == RS_SUCCESS:
        _host_learn(gate, a, slot, latency_ns, present, False, now_ns)
    _adaptive_host_end(gate, a, now_ns)


cdef void _adaptive_host_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    _host_learn(gate, a, slot, latency_ns, _host_level(a), False, now_ns)
    if a.queue.head != NULL:
        _adaptive_grant(gate, a, now_ns)
