"""
The circuit breaker's state machine, part of breaker.pxi: all that runs with the gate's lock held, C arithmetic only.

The hot path is `_breaker_admit` and `_breaker_settle` while the breaker is closed; all else is rare. slot.h declares
the fields of a slot.
"""

cdef inline rs_breaker *_breaker_of(rs_gate *gate) noexcept nogil:
    return &(<rs_breaker_object *>gate).breaker


cdef int64_t _monotone(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Keep time from going back: clamp a small step; after a large one move all stored times to the new clock."""
    cdef int64_t step = now_ns - b.last_ns
    cdef uint32_t i
    if step < 0:
        if step > -CLOCK_JUMP_NS:
            return b.last_ns
        b.until_ns += step
        b.left_ns += step
        b.sent_ns += step
        b.overdue.end_ns += step
        b.row.since_ns += step
        b.wave.since_ns += step
        if b.ramp_end_ns:
            b.ramp_end_ns += step
        if b.forced_ns:
            b.forced_ns += step
        for i in range(b.leases):
            b.lease[i].until_ns += step
    b.last_ns = now_ns
    return now_ns


cdef double _uniform(rs_breaker *b) noexcept nogil:
    """
    A number in [0, 1), by xorshift64*.

    Source: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
    """
    b.random ^= b.random >> 12
    b.random ^= b.random << 25
    b.random ^= b.random >> 27
    return <double>((b.random * <uint64_t>0x2545F4914F6CDD1D) >> 11) * (1.0 / 9007199254740992.0)


# ---- changes of state ------------------------------------------------------------------------------------------------

cdef bint _passes(rs_breaker *b) noexcept nogil:
    """Return True if calls may be admitted without any check."""
    if b.state == BREAKER_CLOSED:
        return not b.options.throttle and not b.ramp_end_ns
    return b.state == FORCED_CLOSED or b.state == DISABLED


cdef void _enter(rs_gate *gate, rs_breaker *b, uint8_t state, uint8_t reason, int64_t now_ns) noexcept nogil:
    if state != b.state:                    # closing a closed breaker resets it without a change of state
        rs_gate_change(gate, b.state, state, reason, now_ns)
    b.state = state
    b.generation += 1
    b.leases = 0
    b.proven = 0
    if state == HALF_OPEN:
        b.until_ns = now_ns
    b.ramp_end_ns = 0
    b.forced_ns = 0
    b.good_in_a_row = 0
    b.row.on = b.wave.on = False
    rs_overdue_reset(&b.overdue)
    b.passing = _passes(b)


cdef void _open(rs_gate *gate, rs_breaker *b, uint8_t reason, int64_t now_ns) noexcept nogil:
    if b.state == HALF_OPEN:
        b.open_ns = min(b.open_ns + b.open_ns // 2, b.options.max_open_ns)  # doubling overshoots a short outage
    else:
        b.open_ns = b.options.open_ns
    b.until_ns = now_ns + b.open_ns - <int64_t>(b.open_ns * JITTER * _uniform(b))
    _enter(gate, b, OPEN, reason, now_ns)


cdef void _half_open(rs_gate *gate, rs_breaker *b, uint8_t reason, int64_t now_ns) noexcept nogil:
    """Let probes pass; if it was not open, a probe that fails opens it as if the first open time had just ended."""
    if b.state != OPEN:
        b.open_ns = b.options.open_ns
    _enter(gate, b, HALF_OPEN, reason, now_ns)


cdef void _trip(rs_gate *gate, rs_breaker *b, uint8_t reason, double measured, double limit,
                int64_t now_ns) noexcept nogil:
    b.trip_measured = measured
    b.trip_limit = limit
    _monotone(b, now_ns)
    _open(gate, b, reason, b.last_ns)


cdef void _close(rs_gate *gate, rs_breaker *b, uint8_t reason, int64_t now_ns) noexcept nogil:
    """Start afresh: earlier outcomes are no evidence about the dependency's present state."""
    rs_window_reset(&b.window)
    b.in_a_row = b.left = 0
    _enter(gate, b, BREAKER_CLOSED, reason, now_ns)


cdef void _force(rs_gate *gate, rs_breaker *b, uint8_t to, int64_t forced_ns, int64_t now_ns) noexcept nogil:
    """Change the state by hand, of the host if that shares it; *forced_ns*: until then, 0: without limit."""
    if b.host != NULL:
        _heed_host(gate, b, now_ns)
        if b.host.owner:
            _force_host(gate, b, to, forced_ns, now_ns)
            return
    if to == BREAKER_CLOSED:
        _close(gate, b, BY_MANUAL, now_ns)
    elif to == HALF_OPEN and b.state != HALF_OPEN:
        _half_open(gate, b, BY_MANUAL, now_ns)
    elif to != b.state:
        _enter(gate, b, to, BY_MANUAL, now_ns)
    if to == FORCED_OPEN:
        b.forced_ns = forced_ns


# ---- admission -------------------------------------------------------------------------------------------------------

cdef int _breaker_reject(rs_gate *gate, rs_slot *slot, rs_rejection *rejection, int reason, double measured,
                         double limit,
                         int64_t retry_after_ns) noexcept nogil:
    if not rs_gate_enforced(gate):
        gate.counters.would_reject += 1
        slot.state = RS_SLOT_SHADOW
        return RS_ADMITTED
    rejection.reason = reason
    rejection.measured = measured
    rejection.limit = limit
    rejection.retry_after_ns = retry_after_ns
    return RS_REJECTED


cdef int _reject_refused(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    """Reject while half-open: the server has refused a probe, and has said when to come back."""
    return _breaker_reject(gate, slot, rejection, BY_PROBING, NAN, NAN, b.until_ns - now_ns)


cdef int64_t _lease_ns(rs_gate *gate, rs_breaker *b) noexcept nogil:
    """The time that a probe may take before its place goes to another."""
    if b.options.lease_ns:
        return b.options.lease_ns
    return min(max(b.options.max_open_ns, 2 * rs_histogram_quantile(&gate.latency, 0.99)), <int64_t>LONGEST_LEASE_NS)


cdef int64_t _drop_lapsed(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Take back the leases that ran out; return the time at which the next one will."""
    cdef int64_t earliest = RS_NEVER
    cdef uint32_t i = 0
    while i < b.leases:
        if b.lease[i].until_ns <= now_ns:
            b.leases -= 1
            b.lease[i] = b.lease[b.leases]
            b.lapsed += 1
        else:
            earliest = min(earliest, b.lease[i].until_ns)
            i += 1
    return earliest


cdef int _probe(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    """Admit one probe until the first success of the round; then as many as complete `probes` with the successes."""
    cdef int64_t earliest = _drop_lapsed(b, now_ns)
    cdef uint32_t places = b.options.probes - b.proven if 0 < b.proven < b.options.probes else 1
    if now_ns < b.until_ns:
        return _reject_refused(gate, b, slot, now_ns, rejection)
    if b.leases >= places:
        return _breaker_reject(gate, slot, rejection, BY_PROBING, b.leases, places,
                               max(1, min(earliest - now_ns, b.open_ns)))
    b.last_lease += 1
    b.lease[b.leases].number = b.last_lease
    b.lease[b.leases].until_ns = now_ns + _lease_ns(gate, b)
    b.leases += 1
    slot.breaker.number = b.last_lease
    return RS_ADMITTED


cdef int64_t _ramp_parts(rs_breaker *b, int64_t left) noexcept nogil:
    return WHOLE - <int64_t>((WHOLE - FIRST_SHARE) * min(1.0, left / <double>b.options.ramp_ns))


cdef int _ramp(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    """Admit a share that rises from 10 % to all; by error diffusion, so that it is exact and even."""
    cdef int64_t left = b.ramp_end_ns - now_ns
    if left <= 0:                           # also if there is no ramp
        b.ramp_end_ns = 0
        b.passing = _passes(b)
        return RS_ADMITTED
    b.ramp_credit += _ramp_parts(b, left)
    if b.ramp_credit < WHOLE:
        return _breaker_reject(gate, slot, rejection, BY_RAMP, NAN, NAN, min(left, b.options.open_ns))
    b.ramp_credit -= WHOLE
    return RS_ADMITTED


cdef inline void _number(rs_breaker *b, rs_slot *slot) noexcept nogil:
    b.begun += 1
    slot.breaker.number = b.begun


cdef int _closed(rs_gate *gate, rs_breaker *b, rs_slot *slot, bint hedge, int64_t now_ns,
                 rs_rejection *rejection) noexcept nogil:
    """Admit while closed or throttling: apply the throttle, then the ramp."""
    cdef int verdict
    if b.state == THROTTLING and _draws_rejection(b, hedge, now_ns):
        return _reject_by_throttle(gate, b, slot, rejection)
    if hedge and b.ramp_end_ns > now_ns:                        # nor that of a call in a ramp
        return _breaker_reject(gate, slot, rejection, BY_RAMP, NAN, NAN, min(b.ramp_end_ns - now_ns, b.options.open_ns))
    verdict = _ramp(gate, b, slot, now_ns, rejection)
    if verdict == RS_ADMITTED and slot.state != RS_SLOT_SHADOW:
        _number(b, slot)
        if b.options.throttle:
            slot.breaker.followed = rs_overdue_begin(&b.overdue)
    return verdict


cdef int _breaker_decide "rs_breaker_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                                             rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef bint hedge = request != NULL and request.hedge
    now_ns = _monotone(b, now_ns)
    if b.options.throttle and now_ns >= b.overdue.end_ns and (b.state == BREAKER_CLOSED or b.state == THROTTLING):
        _rotate_half_period(gate, b, now_ns)
        slot.breaker.generation = b.generation
    if hedge and (b.state == OPEN or b.state == HALF_OPEN):     # a copy takes no probe's place
        return _breaker_reject(gate, slot, rejection, BY_OPEN, b.trip_measured, b.trip_limit,
                               max(b.until_ns - now_ns, b.options.open_ns))
    if b.state == OPEN:
        if now_ns < b.until_ns:
            return _breaker_reject(gate, slot, rejection, BY_OPEN, b.trip_measured, b.trip_limit, b.until_ns - now_ns)
        _elapse(gate, b, now_ns)
        return _breaker_admit(gate, slot, request, now_ns, rejection)
    if b.state == FORCED_OPEN:
        if hedge or b.forced_ns == 0 or now_ns < b.forced_ns:
            return _breaker_reject(gate, slot, rejection, BY_FORCED_OPEN, NAN, NAN,
                                   max(1, b.forced_ns - now_ns) if b.forced_ns else -1)
        _elapse(gate, b, now_ns)
        return _breaker_admit(gate, slot, request, now_ns, rejection)
    if b.state == HALF_OPEN:
        if _is_hosts(b):
            return _host_probe(gate, b, slot, now_ns, rejection)
        return _probe(gate, b, slot, now_ns, rejection)
    return _closed(gate, b, slot, hedge, now_ns, rejection)


cdef int _breaker_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                        rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    slot.breaker.generation = b.generation
    slot.breaker.followed = 0
    if b.passing:
        _number(b, slot)
        return RS_ADMITTED
    slot.breaker.number = 0
    return _breaker_decide(gate, slot, request, now_ns, rejection)


cdef rs_lease *_lease_of(rs_breaker *b, rs_slot *slot) noexcept nogil:
    cdef uint32_t i
    if b.state == HALF_OPEN and slot.breaker.generation == b.generation:
        for i in range(b.leases):
            if b.lease[i].number == slot.breaker.number:
                return &b.lease[i]
    return NULL


cdef void _return_lease(rs_breaker *b, rs_slot *slot) noexcept nogil:
    """Return a probe's lease; a lapsed one is gone already, so its place is never freed twice."""
    if _holds_host_lease(b, slot):
        _return_host_lease(b, slot)
        return
    cdef rs_lease *lease = _lease_of(b, slot)
    if lease != NULL:
        b.leases -= 1
        lease[0] = b.lease[b.leases]


cdef int _recheck(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_lease *lease = _lease_of(b, slot)
    slot.admitted_ns = now_ns               # the callee starts only now: exclude waits at other gates from its latency
    if _holds_host_lease(b, slot):
        return RS_ADMITTED if _extend_host_lease(gate, b, slot, now_ns) else _breaker_admit(gate, slot, NULL, now_ns,
                                                                                            rejection)
    if lease != NULL:
        lease.until_ns = _monotone(b, now_ns) + _lease_ns(gate, b)
        return RS_ADMITTED
    if slot.breaker.generation == b.generation and b.state != HALF_OPEN:
        return RS_ADMITTED
    return _breaker_admit(gate, slot, NULL, now_ns, rejection)


cdef void _no_longer_followed(rs_breaker *b, rs_slot *slot) noexcept nogil:
    """Stop following a call that has ended or begun to answer."""
    if slot.breaker.followed and slot.breaker.generation == b.generation and b.state != HALF_OPEN:
        rs_overdue_end(&b.overdue, slot.breaker.followed)
        slot.breaker.followed = 0


cdef void _breaker_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    _return_lease(b, slot)
    _no_longer_followed(b, slot)
    if slot.breaker.generation != b.generation or b.state == HALF_OPEN:
        return
    _note_other(b, slot.breaker.number)
    if b.ramp_end_ns and slot.breaker.number:
        b.ramp_credit = min(b.ramp_credit + WHOLE, <int64_t>WHOLE)


# ---- learning --------------------------------------------------------------------------------------------------------
# A failure may trip the breaker, a probe's end closes or opens it again, results of an older generation are dropped.

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


cdef void _breaker_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Reset in the child of a fork: no call is in flight here, and the jitter must differ from the parent's."""
    cdef rs_breaker *b = _breaker_of(gate)
    b.generation += 1
    b.leases = 0
    b.proven = 0
    b.row.on = b.wave.on = False
    rs_overdue_reset(&b.overdue)
    b.random ^= <uint64_t>rs_process_id() * <uint64_t>0x9E3779B97F4A7C15
    b.random |= b.random == 0


cdef int _breaker_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Return True if closed, with an empty window and no failures in a row; these count however old they are."""
    cdef rs_breaker *b = _breaker_of(gate)
    if b.state != BREAKER_CLOSED or b.ramp_end_ns or b.in_a_row:
        return False
    rs_window_advance(&b.window, now_ns)
    return b.window.total == 0
