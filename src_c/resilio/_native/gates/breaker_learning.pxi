"""
What a circuit breaker learns from the ends of calls, part of breaker.pxi: all that runs with the gate's lock held.

A failure may trip the breaker, a probe's end closes or opens it again, and results of an older generation are dropped.
"""

cdef bint _row_opens(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """
    Return True if the failures in a row open the breaker.

    Ten in a row mean little where every other call fails: the default law needs a row that chance cannot explain.
    """
    cdef int64_t run = _run(gate, b, now_ns)
    cdef int64_t recorded = b.in_a_row - b.left             # of the row, in the window: the other failures came before
    if run < b.options.consecutive or not b.options.sure:
        return run >= b.options.consecutive
    return rs_throttle_proof(run, run + max(0, <int64_t>b.window.failed - recorded),
                             run + max(0, <int64_t>b.window.total - recorded))


cdef bint _row_ejects(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Return True if the row opens the breaker, and the pool of its endpoint, if there is one, agrees."""
    return _row_opens(gate, b, now_ns) and rs_gate_may_eject(gate, _run(gate, b, now_ns))


cdef bint _rate_opens(rs_breaker *b) noexcept nogil:
    # A quotient, not a product: 7 / 100 is the same double as 0.07, but 0.07 * 100 is above 7.
    if b.window.failed / <double>b.window.total < b.options.failure_rate:
        return False
    return not b.options.sure or rs_throttle_sure(b.window.failed, b.window.total, SURE) >= b.options.failure_rate


cdef void _trip_if_needed(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Trip if the row or the window reaches a limit."""
    cdef double total = b.window.total
    if b.in_a_row >= b.options.consecutive and _row_ejects(gate, b, now_ns):
        _trip(gate, b, BY_CONSECUTIVE, b.in_a_row, b.options.consecutive, now_ns)
    elif b.window.total < b.options.min_calls:
        return
    elif _rate_opens(b) and not _is_early(gate, b, now_ns) and rs_gate_may_eject(gate, 0):
        _trip(gate, b, BY_FAILURE_RATE, b.window.failed / total, b.options.failure_rate, now_ns)
    elif (b.options.slow_ns != RS_NEVER and b.window.slow / total >= b.options.slow_rate
          and rs_gate_may_eject(gate, 0)):
        _trip(gate, b, BY_SLOW_RATE, b.window.slow / total, b.options.slow_rate, now_ns)


cdef void _verdict(rs_gate *gate, rs_breaker *b, rs_slot *slot, bint good, int64_t now_ns) noexcept nogil:
    """Apply a probe's result, even after its lease has lapsed: it is as fresh as any other of this round."""
    now_ns = _monotone(b, now_ns)
    if _is_hosts(b):
        _host_verdict(gate, b, good, now_ns)
        return
    if not good:
        _open(gate, b, BY_PROBE_FAILED, now_ns)
        return
    b.proven += 1
    if not b.options.throttle and b.proven < b.options.closing:
        return                              # a throttle opens on total failure: one success ends that
    _close(gate, b, BY_PROBES_SUCCEEDED, now_ns)
    if b.options.ramp_ns:
        b.passing = False
        b.ramp_end_ns = now_ns + b.options.ramp_ns
        b.ramp_credit = WHOLE - FIRST_SHARE  # the first call passes


cdef inline bint _is_well(rs_breaker *b, rs_slot *slot) noexcept nogil:
    """Return True if closed with nothing to weigh: neither in the window nor in this call, if it is a quick success."""
    return ((b.state | b.options.throttle | b.wave.on) | (b.window.failed | b.window.slow)
            | (b.in_a_row | slot.breaker.followed)) == 0


cdef inline void _note_latest(rs_breaker *b, uint32_t number) noexcept nogil:
    if rs_span_before(b.good, number):
        b.good = number


cdef void _breaker_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """Settle a call; while all is well a success is only counted."""
    cdef rs_breaker *b = _breaker_of(gate)
    if (outcome != RS_SUCCESS or slot.breaker.generation != b.generation or not _is_well(b, slot)
        or latency_ns > b.options.slow_ns
            or not rs_window_is_current(&b.window, now_ns)):
        _weigh(gate, slot, outcome, latency_ns, now_ns)
        return
    rs_window_add(&b.window, False, False)
    _note_latest(b, slot.breaker.number)


cdef void _weigh "rs_breaker_weigh"(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                    int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef bint failed = outcome == RS_FAILURE
    cdef bint slow = latency_ns > b.options.slow_ns
    cdef bint left = slot.flags & RS_LEFT and not rs_is_evidence(outcome)
    if slot.breaker.generation != b.generation:
        b.stale += slot.breaker.generation != NO_GENERATION
        return
    if b.state == HALF_OPEN:
        if rs_is_evidence(outcome):
            _verdict(gate, b, slot, not (failed or slow), now_ns)
        elif left and _breaker_is_hopeless(gate, b, slot, latency_ns, now_ns):
            _verdict(gate, b, slot, False, now_ns)
        _return_lease(b, slot)              # after the verdict: no other worker probes in between
        return
    if slot.breaker.followed:
        _no_longer_followed(b, slot)
        b.overdue.answered += not (failed or left)
    if not rs_is_evidence(outcome) or b.state == DISABLED:
        if left and b.state != DISABLED and _breaker_is_hopeless(gate, b, slot, latency_ns, now_ns):
            _note_left(gate, b, slot.breaker.number, now_ns)
        else:
            _note_other(b, slot.breaker.number)
        return
    rs_window_record(&b.window, now_ns, failed, slow)
    if failed:
        _note_failure(gate, b, slot.breaker.number, now_ns)
    else:
        _note_latest(b, slot.breaker.number)
        if b.in_a_row or b.wave.on:
            _note_good(gate, b, slot.breaker.number)
    if b.state == BREAKER_CLOSED and not b.options.throttle:
        if b.window.failed or b.window.slow:
            _trip_if_needed(gate, b, now_ns)
    elif b.state == BREAKER_CLOSED or b.state == THROTTLING:
        _breaker_learn(gate, b, failed, slow, now_ns)


cdef void _breaker_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """Note the first item of a stream: a probe's verdict does not wait for its end, which may be minutes away."""
    cdef rs_breaker *b = _breaker_of(gate)
    if slot.breaker.generation != b.generation:
        return
    if b.state != HALF_OPEN:
        if slot.breaker.followed:
            _no_longer_followed(b, slot)
            b.overdue.answered += 1
        return
    _verdict(gate, b, slot, latency_ns <= b.options.slow_ns, now_ns)
    _return_lease(b, slot)
    slot.breaker.generation = NO_GENERATION                     # ignore the end of the stream
