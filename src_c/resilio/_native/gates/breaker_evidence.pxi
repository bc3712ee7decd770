"""
Evidence of a worker for the others, and the sum of all, part of breaker.pxi: all that runs with the gate's lock held.

The operations of a breaker that the workers of a host share are at the end: those of a worker's own, with a look at the
host's state before and its row written after.
"""

# ---- evidence --------------------------------------------------------------------------------------------------------

cdef inline void _show_calls(rs_gate *gate, rs_breaker *b, int64_t begun) noexcept nogil:
    """Publish the calls under way; *begun*: 1 for a call that core has not counted yet."""
    rs_atomic_store(&b.host.row.calls, rs_shared_pair(b.begun, <uint32_t>(gate.counters.inflight + begun)))


cdef inline void _show_begun(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    rs_atomic_store(&b.host.row.begun_ns, _since_epoch(b.host, now_ns))
    _show_calls(gate, b, 1)


cdef inline void _show_good(rs_breaker *b, int64_t begun_ns) noexcept nogil:
    """Publish a success: it ends the failures in a row of calls that began before it, of all workers."""
    cdef uint64_t good_ns = _since_epoch(b.host, begun_ns)
    if good_ns > b.host.good_ns:
        b.host.good_ns = good_ns
        rs_atomic_store(&b.host.row.good_ns, good_ns)


cdef void _show_window(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Publish this worker's share of the window, unless its failures have come before their successes."""
    cdef rs_window_bucket recent
    if b.window.total >= b.options.min_calls and _is_early(gate, b, now_ns):
        rs_atomic_store(&b.host.row.counts, 0)
        return
    recent = rs_window_recent(&b.window, b.host.most)
    rs_atomic_store(&b.host.row.counts, rs_shared_counts(recent.total, recent.failed, recent.slow))


cdef void _show_failure(rs_gate *gate, rs_breaker *b, int64_t begun_ns, bint left, int64_t now_ns) noexcept nogil:
    """Publish one more failure in a row, if it began after every success of the host."""
    cdef rs_breaker_of_host *h = b.host
    cdef uint64_t begun = _since_epoch(h, begun_ns)
    cdef uint64_t good = rs_shared_latest_good(h.cell, rs_atomic_load(&h.member.roll.living), h.seen)
    cdef int64_t flying
    if begun <= good:
        return
    if h.run == 0 or h.first_ns <= good:
        h.run = h.left = 0
        h.first_ns = h.last_ns = begun
    h.first_ns = min(h.first_ns, begun)
    h.last_ns = max(h.last_ns, begun)
    h.run += 1
    h.left += left
    flying = 0 if b.state == OPEN else max(0, b.in_a_row - _run(gate, b, now_ns))
    rs_shared_row_fail(h.row, h.first_ns, h.last_ns, rs_shared_pair(h.run, h.left),
                       rs_shared_pair(b.row.last, <uint32_t>flying))


cdef void _judge_host(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Open for all workers if what they have seen together demands it."""
    cdef rs_breaker_of_host *h = b.host
    cdef rs_shared_sum sum
    cdef rs_shared_rule rule
    cdef bint known = gate.counters.successes >= ENOUGH
    cdef uint64_t late_ns = _since_epoch(h, now_ns - _unusually_long_ns(gate)) if known else 0
    cdef bint throttle = b.options.throttle
    rule.failure_rate = b.options.failure_rate
    rule.slow_rate = 2.0 if b.options.slow_ns == RS_NEVER else b.options.slow_rate
    rule.min_calls = b.options.min_calls
    rule.consecutive = b.options.consecutive
    rule.patience_ns = _patience_ns(gate)
    rule.by_rate = not throttle and not _is_early(gate, b, now_ns)
    rule.sure = b.options.sure != 0
    rule.proof = throttle or rule.sure
    sum = rs_shared_add_up(h.cell, rs_atomic_load(&h.member.roll.living), h.seen, _window_begin(b, now_ns), late_ns)
    _share_window(b, sum.workers)
    cdef int verdict = rs_shared_judge(&sum, &rule, _since_epoch(h, now_ns))
    if verdict == RS_SHARED_BY_RUN:
        _open_host(gate, b, BY_CONSECUTIVE, sum.run, now_ns)
    elif verdict == RS_SHARED_BY_RATE:
        _open_host(gate, b, BY_FAILURE_RATE, sum.failed / <double>sum.total, now_ns)
    elif verdict == RS_SHARED_BY_SLOWNESS:
        _open_host(gate, b, BY_SLOW_RATE, sum.slow / <double>sum.total, now_ns)


cdef uint64_t _window_begin(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """The time, since the epoch, before which the calls of a window by time are forgotten; 0: never."""
    cdef uint64_t shared_ns = _since_epoch(b.host, now_ns), span_ns = <uint64_t>b.options.window_ns
    return shared_ns - span_ns if 0 < span_ns < shared_ns else 0


cdef rs_breaker_view _seen_by_all(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Return what the host's workers have seen together, to be shown."""
    cdef rs_breaker_of_host *h = b.host
    cdef rs_breaker_view view
    cdef rs_shared_sum sum
    cdef uint64_t word = rs_atomic_load(&h.cell.word)
    view.is_shared = h.owner != 0 or rs_shared_may_join(h.member)
    view.state = <uint8_t>rs_shared_state(word)
    sum = rs_shared_add_up(h.cell, rs_atomic_load(&h.member.roll.living), word, _window_begin(b, now_ns), 0)
    view.calls, view.failures = sum.total, sum.failed
    return view


cdef void _open_host(rs_gate *gate, rs_breaker *b, uint8_t reason, double measured, int64_t now_ns) noexcept nogil:
    cdef rs_breaker_of_host *h = b.host
    cdef int64_t open_ns = b.options.open_ns
    cdef uint32_t until = _tick_of(b, now_ns + open_ns - <int64_t>(open_ns * JITTER * _uniform(b)))
    cdef uint64_t word = rs_shared_next(h.seen, OPEN, reason, 0, until)
    if _change_host(gate, b, word, now_ns):
        h.opened = True
        b.trip_measured = measured
        rs_atomic_store(&h.cell.trip, rs_shared_trip(word, measured))


# ---- operations ------------------------------------------------------------------------------------------------------

cdef int _host_decide "rs_breaker_host_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                                               rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef int verdict
    _heed_host(gate, b, _monotone(b, now_ns))
    verdict = _breaker_admit(gate, slot, request, now_ns, rejection)
    if verdict == RS_ADMITTED and slot.state != RS_SLOT_SHADOW:
        _show_begun(gate, b, now_ns)
    return verdict


cdef int _host_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                     rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_host *h = b.host
    if not b.passing or rs_atomic_load(h.word) != h.seen or rs_member_owner(h.member) != h.owner:
        return _host_decide(gate, slot, request, now_ns, rejection)
    slot.breaker.generation = b.generation
    slot.breaker.followed = 0
    _number(b, slot)
    _show_begun(gate, b, now_ns)
    return RS_ADMITTED


cdef int _host_recheck(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    _heed_host(gate, _breaker_of(gate), _monotone(_breaker_of(gate), now_ns))
    return _recheck(gate, slot, now_ns, rejection)


cdef void _host_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    _heed_host(gate, _breaker_of(gate), _monotone(_breaker_of(gate), now_ns))
    _breaker_cancel(gate, slot, now_ns)
    _show_calls(gate, _breaker_of(gate), 0)


cdef void _host_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """Settle a call; while all is well a success is only counted, and published."""
    cdef rs_breaker *b = _breaker_of(gate)
    if (outcome != RS_SUCCESS or slot.breaker.generation != b.generation or not _is_well(b, slot)
        or latency_ns > b.options.slow_ns
            or not rs_window_is_current(&b.window, now_ns)):
        _host_weigh(gate, slot, outcome, latency_ns, now_ns)
        return
    rs_window_add(&b.window, False, False)
    _note_latest(b, slot.breaker.number)
    _show_good(b, slot.admitted_ns)
    rs_atomic_store(&b.host.row.counts, min(b.window.total, <uint64_t>b.host.most))
    _show_calls(gate, b, 0)


cdef void _host_weigh "rs_breaker_host_weigh"(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                              int64_t now_ns) noexcept nogil:
    """Let the worker's own rule learn, publish what it has learned, and judge for the host what was not good."""
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_host *h = b.host
    cdef int64_t in_a_row, left
    cdef uint64_t generation
    _heed_host(gate, b, _monotone(b, now_ns))
    in_a_row, left, generation = b.in_a_row, b.left, b.generation
    cdef bint stale = slot.breaker.generation != generation
    cdef bint bad = outcome == RS_FAILURE or (outcome == RS_SUCCESS and latency_ns > b.options.slow_ns)
    _weigh(gate, slot, outcome, latency_ns, now_ns)
    _show_calls(gate, b, 0)
    if stale or h.owner == 0 or _is_hosts(b):
        return
    if outcome == RS_SUCCESS:
        _show_good(b, slot.admitted_ns)
    if b.in_a_row == 0 and h.run:
        h.run = 0
        rs_atomic_store(&h.row.run, 0)
    if b.in_a_row > in_a_row:
        bad = True
        _show_failure(gate, b, slot.admitted_ns, b.left > left, now_ns)
    if bad or b.generation != generation:
        _show_window(gate, b, now_ns)
    if bad:
        _judge_host(gate, b, now_ns)


cdef void _host_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    _heed_host(gate, _breaker_of(gate), _monotone(_breaker_of(gate), now_ns))
    _breaker_first_item(gate, slot, latency_ns, now_ns)


cdef void _host_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Reset in the child of a fork, which has no slot yet."""
    _leave_host(_breaker_of(gate))
    _breaker_forget(gate, now_ns)


cdef int _breaker_is_shared(const rs_gate *gate) noexcept nogil:
    return _is_hosts(_breaker_of(<rs_gate *>gate))


cdef int _host_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    return rs_atomic_load(b.host.word) == b.host.seen and not _is_hosts(b) and _breaker_pristine(gate, now_ns)


# ---- for a pool ------------------------------------------------------------------------------------------------------

cdef double _share_of_calls(rs_gate *gate, rs_breaker *b, int64_t now_ns, int64_t *until_ns) noexcept nogil:
    if b.passing:
        return 1.0
    if b.state == OPEN:
        until_ns[0] = b.until_ns
    elif b.state == FORCED_OPEN:
        until_ns[0] = b.forced_ns if b.forced_ns else RS_NEVER
    elif b.state == HALF_OPEN:
        until_ns[0] = now_ns
    else:
        return _passing_share(b, now_ns)
    return 0.0


cdef double _breaker_share(rs_gate *gate, int64_t now_ns, int64_t *until_ns) noexcept nogil:
    return _share_of_calls(gate, _breaker_of(gate), now_ns, until_ns)


cdef double _host_share(rs_gate *gate, int64_t now_ns, int64_t *until_ns) noexcept nogil:
    cdef rs_breaker b = _breaker_of(gate)[0]
    _view_host(&b, now_ns)
    return _share_of_calls(gate, &b, now_ns, until_ns)
