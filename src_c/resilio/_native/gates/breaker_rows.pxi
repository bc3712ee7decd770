"""
The evidence of failures among overlapping calls, part of breaker.pxi: all that runs with the gate's lock held.

A failure may return at once while a success takes its time. So among calls that began together, failures end first.
The *row* is the failures of calls that began after every successful call. Only the success of a call that began in the
row ends it. Calls in flight that began in the row weigh against it, one for one, while they may still succeed. The
*wave* is the same for the rate: all calls from one that failed on, until hardly any of them is in flight.
"""

cdef int64_t _patience_ns(rs_gate *gate) noexcept nogil:
    """The time in flight after which a call is no longer expected to succeed; the maximum while samples are few."""
    if gate.counters.successes < ENOUGH:
        return LONGEST_LEASE_NS
    return min(max(<int64_t>SHORTEST_PATIENCE_NS, 2 * rs_histogram_quantile(&gate.latency, 0.99)),
               <int64_t>LONGEST_LEASE_NS)


cdef int64_t _run(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """The failures in a row, less the calls in flight that may still succeed and end the row."""
    cdef int64_t pending = rs_span_pending(&b.row, gate.counters.inflight)
    if pending == 0 or not b.left and now_ns - b.row.since_ns > _patience_ns(gate):
        return b.in_a_row
    return b.in_a_row - pending             # at any age if callers have left: others may be more patient


cdef bint _is_early(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Return True if the window holds the failures of a wave, but its successes are in flight or were pushed out."""
    cdef uint64_t calls = rs_span_calls(&b.wave)
    if not b.wave.on or b.wave.failed / <double>calls >= b.options.failure_rate:
        return False
    if calls < b.window.total and FEW * rs_span_pending(&b.wave, gate.counters.inflight) <= <int64_t>b.window.total:
        return False
    return now_ns - b.wave.since_ns <= _patience_ns(gate)


cdef void _note_failure(rs_gate *gate, rs_breaker *b, uint32_t number, int64_t now_ns) noexcept nogil:
    cdef int64_t since = now_ns - b.wave.since_ns
    if not b.wave.on or (since > SHORTEST_PATIENCE_NS and since > _patience_ns(gate)):
        rs_span_begin(&b.wave, number, now_ns)
    rs_span_add(&b.wave, number, True)
    _extend_row(gate, b, number, now_ns)


cdef bint _extend_row(rs_gate *gate, rs_breaker *b, uint32_t number, int64_t now_ns) noexcept nogil:
    if rs_span_before(number, b.good):
        return False                        # outdated: a call that began later has succeeded
    if not b.row.on:
        rs_span_begin(&b.row, number, now_ns)
    elif rs_span_pending(&b.row, gate.counters.inflight) == 0:
        b.row.since_ns = now_ns             # its calls in flight will be young: they begin after a pause
    rs_span_add(&b.row, number, True)
    b.in_a_row += 1
    return True


cdef int64_t _unusually_long_ns(rs_gate *gate) noexcept nogil:
    return max(<int64_t>SHORTEST_PATIENCE_NS, BREAKER_HOPELESS * rs_histogram_quantile(&gate.latency, 0.5))


cdef bint _breaker_is_hopeless(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t latency_ns,
                               int64_t now_ns) noexcept nogil:
    """Return True if its caller left after an unusually long time, and not together with the caller before."""
    if slot.first_ns or gate.counters.successes < ENOUGH or now_ns - b.left_ns < TOGETHER_NS:
        return False
    return latency_ns > _unusually_long_ns(gate)


cdef void _note_left(rs_gate *gate, rs_breaker *b, uint32_t number, int64_t now_ns) noexcept nogil:
    """
    Note that a caller has left.

    That is no outcome by itself; but if all callers leave and no call succeeds, it is an outage without failures.
    """
    rs_span_add(&b.wave, number, False)
    if not _extend_row(gate, b, number, now_ns):
        return
    b.left += 1
    b.left_ns = now_ns
    rs_window_advance(&b.window, now_ns)
    if b.state == BREAKER_CLOSED and not b.options.throttle:
        if b.in_a_row >= b.options.consecutive and _row_ejects(gate, b, now_ns):
            _trip(gate, b, BY_CONSECUTIVE, b.in_a_row, b.options.consecutive, now_ns)
    elif b.in_a_row >= b.options.consecutive and (b.state == BREAKER_CLOSED or b.state == THROTTLING):
        _trip_if_all_fails(gate, b, _run(gate, b, now_ns), now_ns)


cdef void _note_good(rs_gate *gate, rs_breaker *b, uint32_t number) noexcept nogil:
    """Note a success during a row or a wave; that of a call from before the row does not end the row."""
    if not (b.row.on and rs_span_before(number, b.row.first)):
        b.row.on = False
        b.in_a_row = b.left = 0
    rs_span_add(&b.wave, number, False)
    if FEW * rs_span_pending(&b.wave, gate.counters.inflight) <= <int64_t>rs_span_calls(&b.wave):
        b.wave.on = False


cdef void _note_other(rs_breaker *b, uint32_t number) noexcept nogil:
    """Note a call that ended without evidence or was never made: stop waiting for it."""
    rs_span_pass(&b.row, number)
    rs_span_pass(&b.wave, number)
