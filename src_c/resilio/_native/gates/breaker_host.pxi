"""
A circuit breaker that the workers of a host share, part of breaker.pxi: all that runs with the gate's lock held.

The state machine of breaker_machine.pxi goes on as it is, for this worker: it opens by its own rule, for itself. In
front of it stands the host's word (shared/breaker.h). While that word is "closed", the worker's own state counts; every
other state of the host is adopted at the worker's next call, and replaces its own. What it has seen, it writes to its
row of the cell. A worker without a slot has a word and a row of its own, and so is alone.
"""

cdef inline bint _is_hosts(rs_breaker *b) noexcept nogil:
    """Return True if the state is the host's, not this worker's own."""
    return b.host != NULL and rs_shared_state(b.host.seen) != BREAKER_CLOSED


cdef inline uint64_t _since_epoch(rs_breaker_of_host *h, int64_t ns) noexcept nogil:
    return <uint64_t>max(0, ns - h.member.epoch_ns)


# ---- taking part -----------------------------------------------------------------------------------------------------

cdef void _share_window(rs_breaker *b, uint32_t workers) noexcept nogil:
    """Take this worker's share of a window of calls."""
    cdef uint32_t calls = b.options.window_calls
    b.host.most = (calls + workers - 1) // workers if calls and workers else 0xFFFFFFFFu


cdef void _begin_row(rs_breaker *b) noexcept nogil:
    cdef rs_breaker_of_host *h = b.host
    h.run = h.left = 0
    h.good_ns = 0
    rs_shared_row_begin(h.row, h.seen)


cdef void _leave_host(rs_breaker *b) noexcept nogil:
    """Go on alone: a state of the host becomes this worker's own."""
    cdef rs_breaker_of_host *h = b.host
    if _is_hosts(b):
        b.generation += 1                       # the leases of its probes are the host's
        b.proven = 0
    if h.owner and h.owner == h.member.owner:   # not in the child of a fork: it is the parent's row
        rs_atomic_store(&h.row.generation, 0)
    h.owner = 0
    h.word = &h.own_word
    h.row = &h.own_row
    h.seen = 0
    h.opened = False
    _begin_row(b)


cdef void _join_host(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Take part in the host's state by the slot that this process has now, if it has one."""
    cdef rs_breaker_of_host *h = b.host
    cdef uint64_t fresh = 0, initial
    _leave_host(b)
    h.owner = rs_member_owner(h.member)
    if h.owner == 0:
        return
    h.word = &h.cell.word
    h.row = &h.cell.row[rs_owner_slot(h.owner)]    # not `member.slot`: the housekeeper may be changing it
    _share_window(b, rs_member_peers(h.member))
    if FORCED_OPEN <= b.state <= DISABLED:      # by the option `initial`: for the first worker of all
        initial = rs_shared_next(0, b.state, BY_MANUAL, 0, 0)
        rs_shared_change(h.cell, &fresh, initial)
    _adopt(gate, b, rs_atomic_load(h.word), now_ns)
    _begin_row(b)


# ---- the word --------------------------------------------------------------------------------------------------------

cdef int64_t _open_time_ns(rs_breaker *b, uint32_t reopened) noexcept nogil:
    """The open time before jitter: half as long again with every re-opening."""
    cdef int64_t open_ns = b.options.open_ns
    while reopened and open_ns < b.options.max_open_ns:
        open_ns += open_ns // 2
        reopened -= 1
    return min(open_ns, b.options.max_open_ns)


cdef uint32_t _tick_of(rs_breaker *b, int64_t ns) noexcept nogil:
    return rs_shared_tick_after(<int64_t>_since_epoch(b.host, ns))


cdef int64_t _time_of(rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    return now_ns + rs_shared_left(rs_shared_until(word), <int64_t>_since_epoch(b.host, now_ns))


cdef uint32_t _reopens_at(rs_breaker *b, int64_t now_ns) noexcept nogil:
    cdef int64_t open_ns = _open_time_ns(b, rs_shared_reopened(b.host.seen) + 1)
    return _tick_of(b, now_ns + open_ns - <int64_t>(open_ns * JITTER * _uniform(b)))


cdef void _read_time(rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    """Read the time, or the number, that the word holds in its state."""
    cdef uint32_t state = rs_shared_state(word), until = rs_shared_until(word)
    if state == OPEN:
        b.until_ns = _time_of(b, word, now_ns)
    elif state == HALF_OPEN:
        b.proven = until
    elif state == FORCED_OPEN:
        b.forced_ns = max(1, _time_of(b, word, now_ns)) if until else 0
    elif state == BREAKER_CLOSED and until and b.options.ramp_ns and _time_of(b, word, now_ns) > now_ns:
        b.ramp_end_ns = _time_of(b, word, now_ns)
        b.ramp_credit = WHOLE - FIRST_SHARE     # the first call passes
        b.passing = False


cdef double _limit_of(rs_breaker *b, uint32_t reason) noexcept nogil:
    if reason == BY_CONSECUTIVE:
        return b.options.consecutive
    if reason == BY_FAILURE_RATE:
        return b.options.failure_rate
    return b.options.slow_rate if reason == BY_SLOW_RATE else NAN


cdef void _adopt(rs_gate *gate, rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    """Take the host's state for this worker's own, and begin anew with what it sees."""
    cdef rs_breaker_of_host *h = b.host
    cdef uint32_t state = rs_shared_state(word), reason = rs_shared_reason(word)
    cdef bint fresh = word >> 32 != h.seen >> 32
    h.seen = word
    if fresh:
        h.opened = False
        if state == OPEN or state == HALF_OPEN:
            b.open_ns = _open_time_ns(b, rs_shared_reopened(word))
        if reason != BY_PROBE_FAILED and state == OPEN:
            b.trip_measured = rs_shared_tripped(word, rs_atomic_load(&h.cell.trip))
            b.trip_limit = _limit_of(b, reason)
        if state == BREAKER_CLOSED:
            _close(gate, b, reason, now_ns)
        else:
            _enter(gate, b, state, reason, now_ns)
        _begin_row(b)
    _read_time(b, word, now_ns)


cdef void _heed_host(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Act by the host's state as it is now."""
    cdef uint64_t word
    if rs_member_owner(b.host.member) != b.host.owner:
        _join_host(gate, b, now_ns)
    word = rs_atomic_load(b.host.word)
    if word != b.host.seen:
        _adopt(gate, b, word, now_ns)


cdef bint _change_host(rs_gate *gate, rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    """Change the host's state from the one seen. If another worker was first, adopt its change and return False."""
    cdef uint64_t seen = b.host.seen
    cdef bint changed = rs_shared_change(b.host.cell, &seen, word)
    _adopt(gate, b, seen, now_ns)
    return changed


cdef void _elapse(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Half-open: the open time, or the forced one, is over."""
    if _is_hosts(b):
        _change_host(gate, b, rs_shared_next(b.host.seen, HALF_OPEN, BY_ELAPSED, rs_shared_reopened(b.host.seen), 0),
                     now_ns)
    else:
        _half_open(gate, b, BY_ELAPSED, now_ns)


cdef void _force_host(rs_gate *gate, rs_breaker *b, uint8_t to, int64_t forced_ns, int64_t now_ns) noexcept nogil:
    """Change the state of all workers by hand; *forced_ns*: until then, 0: without limit."""
    cdef rs_breaker_of_host *h = b.host
    cdef uint32_t until = 0, reopened
    cdef uint64_t word
    if to == FORCED_OPEN and forced_ns:
        until = _tick_of(b, min(forced_ns, now_ns + RS_SHARED_AHEAD))
    while True:
        reopened = rs_shared_reopened(h.seen) if to == HALF_OPEN and rs_shared_state(h.seen) == OPEN else 0
        if to != rs_shared_state(h.seen) or to == BREAKER_CLOSED:
            word = rs_shared_next(h.seen, to, BY_MANUAL, reopened, until)
        elif to == FORCED_OPEN:
            word = h.seen >> 32 << 32 | until
        else:
            return
        if _change_host(gate, b, word, now_ns):
            return


cdef void _extend_host(rs_gate *gate, rs_breaker *b, int64_t until_ns, int64_t now_ns) noexcept nogil:
    """Stay open until then, if this worker has opened it: one failure that names a time is enough."""
    cdef rs_breaker_of_host *h = b.host
    cdef uint64_t longer
    while h.opened and rs_shared_state(h.seen) == OPEN and b.until_ns < until_ns:
        longer = h.seen >> 32 << 32 | _tick_of(b, min(until_ns, now_ns + RS_SHARED_AHEAD))
        if _change_host(gate, b, longer, now_ns):
            return


# ---- probes ----------------------------------------------------------------------------------------------------------

cdef int _host_probe(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns,
                     rs_rejection *rejection) noexcept nogil:
    """Admit one probe of the host until the first success of the round; then as many as complete `probes`."""
    cdef rs_breaker_of_host *h = b.host
    cdef int64_t wait_ns, shared_ns = <int64_t>_since_epoch(h, now_ns)
    cdef bint proven = 0 < b.proven < b.options.probes
    cdef uint32_t places = b.options.probes - b.proven if proven else 1
    cdef int place
    if now_ns < b.until_ns:
        return _reject_refused(gate, b, slot, now_ns, rejection)
    h.probes += 1
    cdef uint64_t lease = rs_shared_lease(rs_owner_slot(h.owner), h.probes, h.seen,
                                          _tick_of(b, now_ns + _lease_ns(gate, b)))
    place = rs_shared_lease_take(h.cell, lease, h.seen, shared_ns, places, b.options.probes if proven else 1, &wait_ns)
    if place < 0:
        return _breaker_reject(gate, slot, rejection, BY_PROBING, places, places, max(1, min(wait_ns, b.open_ns)))
    slot.breaker.number = place + 1
    slot.breaker.lease = lease
    return RS_ADMITTED


cdef bint _holds_host_lease(rs_breaker *b, rs_slot *slot) noexcept nogil:
    return (_is_hosts(b) and b.state == HALF_OPEN and slot.breaker.generation == b.generation
            and slot.breaker.number != 0)


cdef void _return_host_lease(rs_breaker *b, rs_slot *slot) noexcept nogil:
    rs_shared_lease_free(b.host.cell, slot.breaker.number - 1, slot.breaker.lease)
    slot.breaker.number = 0


cdef bint _extend_host_lease(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef uint64_t longer = rs_shared_lease_extend(b.host.cell, slot.breaker.number - 1, slot.breaker.lease,
                                                  _tick_of(b, now_ns + _lease_ns(gate, b)))
    if longer:
        slot.breaker.lease = longer
    return longer != 0


cdef void _host_verdict(rs_gate *gate, rs_breaker *b, bint good, int64_t now_ns) noexcept nogil:
    """Apply a probe's result to the state of all workers."""
    cdef uint64_t seen = b.host.seen
    cdef uint32_t closing = 1 if b.options.throttle else b.options.closing
    cdef uint32_t ramp = _tick_of(b, now_ns + b.options.ramp_ns) if b.options.ramp_ns else 0
    cdef bint changed = rs_shared_probed(b.host.cell, &seen, good, closing, _reopens_at(b, now_ns), ramp,
                                         BY_PROBES_SUCCEEDED if good else BY_PROBE_FAILED)
    if seen != b.host.seen:
        _adopt(gate, b, seen, now_ns)
    b.host.opened = changed and not good


# ---- what is shown -----------------------------------------------------------------------------------------------

cdef void _view_host(rs_breaker *copy, int64_t now_ns) noexcept nogil:
    """Make a copy of the state show the host's, which the worker itself adopts at its next call."""
    cdef rs_breaker_of_host *h = copy.host
    cdef bint may_join = h.owner == 0 and rs_shared_may_join(h.member)
    cdef uint64_t word = rs_atomic_load(&h.cell.word if may_join else h.word)
    cdef uint32_t i
    if word >> 32 != h.seen >> 32:
        copy.state = <uint8_t>rs_shared_state(word)
        copy.generation += 1
        copy.proven = copy.leases = 0
        copy.ramp_end_ns = copy.forced_ns = 0
        copy.open_ns = _open_time_ns(copy, rs_shared_reopened(word))
        copy.passing = _passes(copy)
    _read_time(copy, word, now_ns)
    if rs_shared_state(word) == HALF_OPEN:
        copy.leases = 0
        for i in range(<uint32_t>MOST_PROBES):
            copy.leases += rs_shared_lease_holds(rs_atomic_load(&h.cell.lease[i]), word,
                                                 <int64_t>_since_epoch(h, now_ns))


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
