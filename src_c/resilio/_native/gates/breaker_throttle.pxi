"""
The probabilistic mode of the circuit breaker, part of breaker.pxi: all that runs with the gate's lock held.

No failure rate opens the breaker in this mode. In the state THROTTLING, reported as half open, it rejects a share of
the calls in proportion to the failures. Results stay valid when throttling begins or ends, so it is no new generation.
A total failure leaves no good calls to save: then the breaker opens and probes as in the other mode.
"""

cdef inline uint64_t _total(rs_breaker *b) noexcept nogil:
    return b.window.total + b.overdue.overdue


cdef inline uint64_t _failed(rs_breaker *b) noexcept nogil:
    return b.window.failed + b.overdue.overdue


cdef double _share(rs_breaker *b) noexcept nogil:
    """The share of calls that may pass, by failures and by slowness; 1 while there are too few samples."""
    cdef uint64_t total = _total(b)
    if total < b.options.min_calls:
        return 1.0
    cdef double share = rs_throttle_share(_failed(b), total, b.options.failure_rate)
    if b.options.slow_ns == RS_NEVER:
        return share
    return min(share, rs_throttle_share(b.window.slow, total, b.options.slow_rate))


cdef bint _is_relieved(rs_breaker *b) noexcept nogil:
    cdef double total = _total(b)
    if total < b.options.min_calls:
        return True
    if b.options.failure_rate < 1.0 and _failed(b) / total >= RS_THROTTLE_RELIEF * b.options.failure_rate:
        return False
    return (b.options.slow_ns == RS_NEVER or b.options.slow_rate >= 1.0
            or b.window.slow / total < RS_THROTTLE_RELIEF * b.options.slow_rate)


cdef bint _is_by_slowness(rs_breaker *b) noexcept nogil:
    """Return True if slow calls throttle more than failures do."""
    return _failed(b) * b.options.slow_rate < b.window.slow * b.options.failure_rate


cdef void _move(rs_gate *gate, rs_breaker *b, uint8_t state, uint8_t reason, int64_t now_ns) noexcept nogil:
    """Begin or stop throttling: calls in flight count as before."""
    rs_gate_change(gate, b.state, state, reason, max(now_ns, b.last_ns))
    b.state = state
    b.good_in_a_row = 0


cdef void _throttle_if_failing(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    if b.state == BREAKER_CLOSED and _share(b) < 1.0:
        _move(gate, b, THROTTLING, BY_SLOW_RATE if _is_by_slowness(b) else BY_FAILURE_RATE, now_ns)
        b.sent_ns = now_ns
    elif b.state == THROTTLING and _is_relieved(b):
        _move(gate, b, BREAKER_CLOSED, BY_RECOVERED, now_ns)


cdef bint _trip_if_all_fails(rs_gate *gate, rs_breaker *b, int64_t run, int64_t now_ns) noexcept nogil:
    """Trip on a row of failures that chance cannot explain: ten mean little where every other call fails."""
    if run < b.options.consecutive or not rs_throttle_proof(run, _failed(b), _total(b)):
        return False
    _trip(gate, b, BY_CONSECUTIVE, run, b.options.consecutive, now_ns)
    return True


cdef void _rotate_half_period(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Count calls as failures that have been in flight for more than a second and more than twice the p99."""
    cdef int64_t after_ns = max(<int64_t>SHORTEST_OVERDUE_NS, 2 * rs_histogram_quantile(&gate.latency, 0.99))
    if b.options.slow_ns != RS_NEVER:
        after_ns = max(after_ns, b.options.slow_ns)
    rs_overdue_turn(&b.overdue, now_ns, min(after_ns, <int64_t>LONGEST_LEASE_NS))
    rs_window_advance(&b.window, now_ns)
    if b.overdue.overdue == 0 or not rs_overdue_silent(&b.overdue):
        return
    if not _trip_if_all_fails(gate, b, b.in_a_row + b.overdue.overdue, now_ns):
        _throttle_if_failing(gate, b, now_ns)


cdef int _reject_by_throttle(rs_gate *gate, rs_breaker *b, rs_slot *slot, rs_rejection *rejection) noexcept nogil:
    cdef double total = _total(b)
    if _is_by_slowness(b):
        return _breaker_reject(gate, slot, rejection, BY_THROTTLE, b.window.slow / total, b.options.slow_rate,
                               b.options.open_ns)
    return _breaker_reject(gate, slot, rejection, BY_THROTTLE, _failed(b) / total, b.options.failure_rate,
                           b.options.open_ns)


cdef bint _draws_rejection(rs_breaker *b, bint hedge, int64_t now_ns) noexcept nogil:
    """
    Draw whether to reject this call.

    Copies are always rejected. No call is rejected once nothing was sent for the longest open time.
    """
    rs_window_advance(&b.window, now_ns)
    cdef double share = _share(b)
    if share < 1.0 and (hedge or (_uniform(b) >= share and now_ns - b.sent_ns < b.options.max_open_ns)):
        return True
    b.sent_ns = now_ns
    return False


cdef void _breaker_learn(rs_gate *gate, rs_breaker *b, bint failed, bint slow, int64_t now_ns) noexcept nogil:
    """Learn after the window has recorded one more call of this generation."""
    b.good_in_a_row = 0 if failed or slow else b.good_in_a_row + 1
    if failed and b.in_a_row >= b.options.consecutive and _trip_if_all_fails(gate, b, _run(gate, b, now_ns), now_ns):
        return
    if (b.state == THROTTLING and b.good_in_a_row >= b.options.consecutive
            and rs_throttle_proof(b.good_in_a_row, b.window.total - max(b.window.failed, b.window.slow),
                                  b.window.total)):
        rs_window_reset(&b.window)
    if b.state == THROTTLING or failed or slow:
        _throttle_if_failing(gate, b, now_ns)
