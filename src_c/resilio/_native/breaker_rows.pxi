"""
What a failure says where calls overlap, part of breaker.pyx: all that runs with the gate's lock held.

A failure may return at once and a success takes its time, so of calls that began together the failures end first. The
*row* is the failures of calls that began after every call that has succeeded: a success ends it only if its call began
in the row, and calls that began in it and are under way weigh against it, one for one, while they may still succeed. The
*wave* is the same for the rate: all calls from one that failed on, until hardly any of them is under way.
"""

cdef int64_t _patience_ns(rs_gate *gate) noexcept nogil:
    """How long a call may be under way before it is no hope any more; with little seen, as long as any."""
    if gate.counters.successes < ENOUGH:
        return LONGEST_LEASE_NS
    return min(max(<int64_t>SHORTEST_PATIENCE_NS, 2 * rs_histogram_quantile(&gate.latency, 0.99)), <int64_t>LONGEST_LEASE_NS)


cdef int64_t _run(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """How many failures in a row there are more than calls that may still prove them wrong."""
    cdef int64_t pending = rs_span_pending(&b.row, gate.counters.inflight)
    if pending == 0 or now_ns - b.row.since_ns > _patience_ns(gate):
        return b.in_a_row
    return b.in_a_row - pending


cdef bint _is_early(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Does the window hold the failures of calls whose successes are still under way, or have been pushed out of it?"""
    cdef uint64_t calls = rs_span_calls(&b.wave)
    if not b.wave.on or b.wave.failed / <double>calls >= b.options.failure_rate:
        return False
    if calls < b.window.total and FEW * rs_span_pending(&b.wave, gate.counters.inflight) <= <int64_t>b.window.total:
        return False
    return now_ns - b.wave.since_ns <= _patience_ns(gate)


cdef void _note_failure(rs_gate *gate, rs_breaker *b, uint32_t number, int64_t now_ns) noexcept nogil:
    if not b.wave.on or now_ns - b.wave.since_ns > SHORTEST_PATIENCE_NS and now_ns - b.wave.since_ns > _patience_ns(gate):
        rs_span_begin(&b.wave, number, now_ns)
    rs_span_add(&b.wave, number, True)
    if rs_span_before(number, b.good):
        return                              # a call that began later has succeeded: old news
    if not b.row.on:
        rs_span_begin(&b.row, number, now_ns)
    elif rs_span_pending(&b.row, gate.counters.inflight) == 0:
        b.row.since_ns = now_ns             # what will be under way in it began after a pause, and is young
    rs_span_add(&b.row, number, True)
    b.in_a_row += 1


cdef void _note_good(rs_gate *gate, rs_breaker *b, uint32_t number) noexcept nogil:
    """A success while there is a row or a wave: of a call that began before the row it says nothing."""
    if not (b.row.on and rs_span_before(number, b.row.first)):
        b.row.on = False
        b.in_a_row = 0
    rs_span_add(&b.wave, number, False)
    if FEW * rs_span_pending(&b.wave, gate.counters.inflight) <= <int64_t>rs_span_calls(&b.wave):
        b.wave.on = False


cdef void _note_other(rs_breaker *b, uint32_t number) noexcept nogil:
    """Ended without saying anything, or never called: it is not waited for any more."""
    if not rs_span_before(b.row.last, number):
        rs_span_add(&b.row, number, False)
    if not rs_span_before(b.wave.last, number):
        rs_span_add(&b.wave, number, False)
