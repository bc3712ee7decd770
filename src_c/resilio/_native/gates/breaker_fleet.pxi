"""
A circuit breaker of a fleet, part of breaker.pxi: all that runs with the gate's lock held.

The process's own breaker, or that of its host, goes on as it is and stays in front. Before it stands the fleet's word
(shared/verdict.h), which the courier brings from the store: while it is "closed", calls go on to the breaker below, and
what they show is counted for the courier's next report. While it is open, calls are rejected here; while it is half
open, one may probe, if the store has given a lease. What the store gave ends after a time: then the breaker below is
alone. So the fleet can open a breaker that is closed here, and never keeps one closed that is open.
"""

# ---- the word --------------------------------------------------------------------------------------------------------

cdef inline bint _is_by_hand(rs_breaker *b) noexcept nogil:
    """Return True if the state here was set by hand: that counts more than what others have seen."""
    return FORCED_OPEN <= b.state <= DISABLED


cdef inline int64_t _since_fleets_epoch(rs_breaker_of_fleet *f, int64_t ns) noexcept nogil:
    return max(0, ns - f.member.epoch_ns)


cdef inline bint _is_fleets(rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    """Return True if the fleet's state counts: it is not closed, not out of date, and there is none by hand."""
    return not _is_by_hand(b) and rs_verdict_stands(b.fleet.cell, word, _since_fleets_epoch(b.fleet, now_ns))


cdef void _join_fleet(rs_breaker *b) noexcept nogil:
    """Count by the slot that this process has now; without one, for nothing."""
    cdef rs_breaker_of_fleet *f = b.fleet
    f.owner = rs_member_owner(f.member)
    f.tally = &f.cell.tally[rs_owner_slot(f.owner)] if f.owner else &f.own_tally
    rs_tally_begin(f.tally, f.seen)


cdef void _wake(rs_breaker_of_fleet *f) noexcept nogil:
    """End the rest: a call has come, or one that was under way has ended. The courier asks for the fleet's state."""
    f.rests = False
    f.passing = rs_shared_state(f.seen) == BREAKER_CLOSED
    rs_courier_ring(&f.cell.courier, f.member)


cdef bint _rest(rs_breaker_of_fleet *f) noexcept nogil:
    """Let the breaker rest, and return True, unless there is something to report, or a call probes."""
    if not rs_verdict_is_told(f.cell, f.tally) or rs_atomic_load(&f.cell.wanted):
        return False
    f.rests = True
    f.passing = f.rejects = False
    return True


cdef void _adopt_fleet(rs_gate *gate, rs_breaker *b, uint64_t word, int64_t now_ns) noexcept nogil:
    """Act by another word of the fleet: results of calls that were admitted before are no evidence any more."""
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef uint8_t state = <uint8_t>rs_shared_state(word)
    cdef uint8_t before = b.state if f.passing else <uint8_t>rs_shared_state(f.seen)
    cdef bint fresh = word >> 32 != f.seen >> 32, first = f.seen == 0 and state == BREAKER_CLOSED
    f.seen = word
    f.passing = state == BREAKER_CLOSED
    if first:
        rs_tally_begin(f.tally, word)               # calls under way began a moment ago: they are of this generation
    if first or not fresh:
        return
    b.generation += 1
    b.leases = 0
    b.row.on = b.wave.on = False
    rs_overdue_reset(&b.overdue)
    rs_tally_begin(f.tally, word)
    if f.passing:
        state = b.state
        _start_afresh(b, now_ns)
    if before != state:
        rs_gate_change(gate, before, state, rs_shared_reason(word), now_ns)


cdef void _start_afresh(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """The fleet has closed: what was seen here before is no evidence either, unless it has opened the breaker here."""
    if b.state != BREAKER_CLOSED:
        return
    rs_window_reset(&b.window)
    b.in_a_row = b.left = 0
    if b.host != NULL and not _is_hosts(b):
        _begin_row(b)
    if b.options.ramp_ns:
        b.passing = False
        b.ramp_end_ns = now_ns + b.options.ramp_ns
        b.ramp_credit = WHOLE - FIRST_SHARE     # the first call passes


cdef void _heed_fleet(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    cdef uint64_t word = rs_atomic_load(&b.fleet.cell.word)
    if rs_member_owner(b.fleet.member) != b.fleet.owner:
        _join_fleet(b)
    if word != b.fleet.seen:
        _adopt_fleet(gate, b, word, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef int _fleet_reject(rs_gate *gate, rs_breaker *b, rs_slot *slot, rs_rejection *rejection,
                       int64_t now_ns) noexcept nogil:
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef uint32_t reason = rs_shared_reason(f.seen)
    cdef int64_t left_ns
    f.rejects = True
    if not rs_atomic_load(&f.cell.wanted):
        rs_atomic_store(&f.cell.wanted, 1)
    if rs_shared_state(f.seen) == HALF_OPEN:
        return _breaker_reject(gate, slot, rejection, BY_PROBING, 1, 1, b.options.open_ns)
    left_ns = rs_shared_left(rs_shared_until(f.seen), _since_fleets_epoch(f, now_ns))
    return _breaker_reject(gate, slot, rejection, BY_OPEN, rs_shared_tripped(f.seen, rs_atomic_load(&f.cell.trip)),
                           _limit_of(b, reason), max(1, left_ns))


cdef void _end_probe(rs_breaker *b, rs_slot *slot, uint32_t phase) noexcept nogil:
    """End the fleet's probe; its result goes to the store at once."""
    cdef rs_breaker_of_fleet *f = b.fleet
    slot.flags &= <uint8_t>~RS_PROBES
    if slot.breaker.generation == f.probed and rs_probe_end(f.cell, f.probe, phase):
        rs_courier_ring(&f.cell.courier, f.member)


cdef int _fleet_probe(rs_gate *gate, rs_breaker *b, rs_slot *slot, const rs_request *request, int64_t now_ns,
                      rs_rejection *rejection) noexcept nogil:
    """Probe for the fleet, if the breaker below admits the call."""
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef int verdict = f.below.admit(gate, slot, request, now_ns, rejection)
    f.rejects = False
    if verdict == RS_ADMITTED and slot.state != RS_SLOT_SHADOW:
        slot.flags |= RS_PROBES
        f.probed = slot.breaker.generation
    elif rs_probe_end(f.cell, f.probe, RS_PROBE_UNUSED):
        rs_courier_ring(&f.cell.courier, f.member)
    return verdict


cdef int _fleet_decide "rs_breaker_fleet_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request,
                                                 int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef uint64_t number
    now_ns = _monotone(b, now_ns)
    if f.rests:
        _wake(f)
    _heed_fleet(gate, b, now_ns)
    f.rejects = False
    if not _is_fleets(b, f.seen, now_ns):
        f.begun_ns = now_ns
        return f.below.admit(gate, slot, request, now_ns, rejection)
    if rs_shared_state(f.seen) == HALF_OPEN and not (request != NULL and request.hedge):
        number = rs_probe_take(f.cell)
        if number:
            f.probe = number
            return _fleet_probe(gate, b, slot, request, now_ns, rejection)
    slot.breaker.generation = b.generation
    slot.breaker.number = 0
    slot.breaker.followed = 0
    return _fleet_reject(gate, b, slot, rejection, now_ns)


cdef int _fleet_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                      rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker_of_fleet *f = _breaker_of(gate).fleet
    if not f.passing or rs_atomic_load(&f.cell.word) != f.seen or rs_member_owner(f.member) != f.owner:
        return _fleet_decide(gate, slot, request, now_ns, rejection)
    f.begun_ns = now_ns
    return f.below.admit(gate, slot, request, now_ns, rejection)


cdef int _fleet_recheck(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    _heed_fleet(gate, b, _monotone(b, now_ns))
    if slot.flags & RS_PROBES:
        if slot.breaker.generation == b.generation:
            return b.fleet.below.recheck(gate, slot, now_ns, rejection)
        _end_probe(b, slot, RS_PROBE_UNUSED)
    if not _is_fleets(b, b.fleet.seen, now_ns):
        return b.fleet.below.recheck(gate, slot, now_ns, rejection)
    b.fleet.below.cancel(gate, slot, now_ns)    # the fleet has opened while the call waited at another gate
    return _fleet_decide(gate, slot, NULL, now_ns, rejection)


cdef void _fleet_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    if slot.flags & RS_PROBES:
        _end_probe(b, slot, RS_PROBE_UNUSED)
    b.fleet.below.cancel(gate, slot, now_ns)


# ---- evidence --------------------------------------------------------------------------------------------------------

cdef void _fleet_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """Settle a call with the breaker below; while all is well a success is only counted."""
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_fleet *f = b.fleet
    if (outcome != RS_SUCCESS or slot.breaker.generation != b.generation or b.in_a_row or not f.passing
        or b.state != BREAKER_CLOSED
            or slot.flags & RS_PROBES):
        _fleet_weigh(gate, slot, outcome, latency_ns, now_ns)
        return
    rs_tally_call(f.tally, False, latency_ns > b.options.slow_ns, _since_fleets_epoch(f, now_ns))
    f.below.settle(gate, slot, outcome, latency_ns, now_ns)


cdef void _fleet_weigh "rs_breaker_fleet_weigh"(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                                                int64_t now_ns) noexcept nogil:
    """Let the breaker below learn, and count what the call has shown if it is of the fleet's generation."""
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef int64_t in_a_row = b.in_a_row, left = b.left, flying
    cdef bint failed = outcome == RS_FAILURE, slow = rs_is_evidence(outcome) and latency_ns > b.options.slow_ns
    cdef bint counts
    if f.rests:
        _wake(f)
    if f.seen == 0:
        _heed_fleet(gate, b, now_ns)
    counts = slot.breaker.generation == b.generation and f.passing and not _is_by_hand(b)
    if slot.flags & RS_PROBES:
        _end_probe(b, slot, RS_PROBE_UNUSED if not rs_is_evidence(outcome)
                   else RS_PROBE_BAD if failed or slow else RS_PROBE_GOOD)
    f.below.settle(gate, slot, outcome, latency_ns, now_ns)
    if not counts:
        return
    if rs_is_evidence(outcome):
        rs_tally_call(f.tally, failed, slow, _since_fleets_epoch(f, now_ns))
    if b.in_a_row != in_a_row:
        flying = 0 if b.state == OPEN else max(0, b.in_a_row - _run(gate, b, now_ns))
        rs_tally_row(f.tally, <uint32_t>flying, b.left > left)
    if failed or slow or b.left > left:
        rs_courier_ring(&f.cell.courier, f.member)      # the report is due early


cdef int64_t _late(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """
    Calls here, or on this host, that hang: none has succeeded since the latest of them began, unusually long ago.

    Where calls begin all the time there are none: what fails is soon seen there by itself.
    """
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef rs_breaker_of_host *h = b.host
    cdef int64_t late_ns
    if gate.counters.successes < ENOUGH:
        return 0
    late_ns = now_ns - _unusually_long_ns(gate)
    if h != NULL:
        return rs_shared_late(h.cell, rs_atomic_load(&h.member.roll.living), rs_atomic_load(&h.cell.word),
                              _since_epoch(h, late_ns))
    if b.state == BREAKER_CLOSED and f.begun_ns < late_ns:
        if _since_fleets_epoch(f, f.begun_ns) > <int64_t>rs_atomic_load(&f.tally.good_ns):
            return gate.counters.inflight
    return 0


cdef void _fleet_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _breaker_of(gate)
    if slot.flags & RS_PROBES:
        _end_probe(b, slot, RS_PROBE_BAD if latency_ns > b.options.slow_ns else RS_PROBE_GOOD)
    b.fleet.below.first_item(gate, slot, latency_ns, now_ns)


# ---- the rest --------------------------------------------------------------------------------------------------------

cdef void _fleet_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Reset in the child of a fork, which has no slot yet."""
    cdef rs_breaker *b = _breaker_of(gate)
    b.fleet.owner = 0
    b.fleet.tally = &b.fleet.own_tally
    b.fleet.below.forget(gate, now_ns)


cdef int _fleet_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_breaker_of_fleet *f = _breaker_of(gate).fleet
    return (f.rests or (f.passing and rs_atomic_load(&f.cell.word) == f.seen)) and f.below.pristine(gate, now_ns)


cdef int _rejecting_scope(const rs_gate *gate) noexcept nogil:
    cdef rs_breaker_of_fleet *f = _breaker_of(<rs_gate *>gate).fleet
    if not f.passing and f.rejects:
        return RS_OF_FLEET
    return f.below.is_shared(gate) if f.below.is_shared != NULL else 0      # the process's own


cdef double _fleet_share(rs_gate *gate, int64_t now_ns, int64_t *until_ns) noexcept nogil:
    """Of a pool: the share of calls that pass now."""
    cdef rs_breaker *b = _breaker_of(gate)
    cdef rs_breaker_of_fleet *f = b.fleet
    cdef uint64_t word = rs_atomic_load(&f.cell.word)
    cdef int64_t left_ns
    if not _is_fleets(b, word, now_ns):
        return f.below.share(gate, now_ns, until_ns)
    left_ns = rs_shared_left(rs_shared_until(word), _since_fleets_epoch(f, now_ns))
    until_ns[0] = now_ns + max(0, left_ns) if rs_shared_state(word) == OPEN else now_ns
    return 0.0


cdef void _view_fleet(rs_breaker *copy, int64_t now_ns) noexcept nogil:
    """Make a copy of the state show the fleet's, where that counts."""
    cdef rs_breaker_of_fleet *f = copy.fleet
    cdef uint64_t word = rs_atomic_load(&f.cell.word)
    if not _is_fleets(copy, word, now_ns):
        return
    copy.state = <uint8_t>rs_shared_state(word)
    copy.passing = False
    copy.ramp_end_ns = 0
    copy.leases = rs_probe_phase_of(rs_atomic_load(&f.cell.lease)) == RS_PROBE_FLIES
    if copy.state == OPEN:
        copy.until_ns = now_ns + rs_shared_left(rs_shared_until(word), _since_fleets_epoch(f, now_ns))
        copy.open_ns = _open_time_ns(copy, rs_shared_reopened(word))


cdef bint _may_probe(rs_gate *gate, rs_breaker *copy, int64_t now_ns) noexcept nogil:
    """Return True if the breaker below would admit a call now; *copy* shows its state."""
    if copy.state == OPEN:
        return copy.until_ns <= now_ns
    if copy.state == HALF_OPEN:
        _drop_lapsed(copy, now_ns)
        return copy.leases == 0
    return copy.state != FORCED_OPEN


# ---- what the class hands on to the link and the tie of its policy ---------------------------------------------------

cdef _share_fleet(BreakerGate self, Cell cell):
    cdef rs_breaker_of_fleet *fleet = NULL
    cdef PyObject *before
    if cell is not None:
        fleet = <rs_breaker_of_fleet *>rs_aligned_alloc(64, sizeof(rs_breaker_of_fleet))
        if fleet == NULL:
            raise MemoryError("no memory for a breaker of a fleet")
        memset(fleet, 0, sizeof(rs_breaker_of_fleet))
        fleet.member, fleet.cell = cell.member, <rs_fleet_verdict *>cell.body
        fleet.tally, fleet.passing = &fleet.own_tally, True
    rs_lock_acquire(&self.lock)
    fleet, self.breaker.fleet = self.breaker.fleet, fleet
    self.breaker.generation += 1            # no call under way is of the other fleet's generation
    self.ops = _ops_of(&self.breaker)
    rs_lock_release(&self.lock)
    before, self.fleets_cell = self.fleets_cell, _owned(cell)
    Py_XDECREF(before)
    rs_aligned_free(fleet)


cdef rs_breaker_of_fleet *_fleet_in(BreakerGate self, Cell cell) noexcept nogil:
    """The fleet's part of the breaker, if it is in this cell; NULL: it has moved. With the gate's lock held."""
    cdef rs_breaker_of_fleet *f = self.breaker.fleet
    return f if f != NULL and <void *>f.cell == cell.body else NULL


cdef tuple _fleet_report(BreakerGate self, Cell cell, bint give_back):
    cdef rs_breaker b
    cdef rs_report seen
    cdef rs_breaker_of_fleet *f
    cdef int64_t now_ns = rs_clock_now(_clock), lease_ns
    cdef uint64_t lease, generation, wanted
    cdef int64_t late
    cdef double draw
    rs_lock_acquire(&self.lock)
    f = _fleet_in(self, cell)
    if f == NULL:
        rs_lock_release(&self.lock)
        return None
    b = self.breaker
    late = _late(<rs_gate *><void *>self, &b, now_ns)
    if b.host != NULL:
        _view_host(&b, now_ns)
    ready = _may_probe(<rs_gate *><void *>self, &b, now_ns)
    draw = _uniform(&self.breaker)
    lease_ns = _lease_ns(<rs_gate *><void *>self, &self.breaker)
    generation = rs_atomic_load(&f.cell.generation)
    seen = rs_verdict_report(f.cell, rs_atomic_load(&f.member.roll.living))
    lease = rs_probe_take(f.cell) if give_back else 0
    if lease:
        rs_probe_end(f.cell, lease, RS_PROBE_UNUSED)
    lease, wanted = rs_atomic_load(&f.cell.lease), rs_atomic_load(&f.cell.wanted)
    if wanted:
        rs_atomic_store(&f.cell.wanted, 0)
    now_ns = _since_fleets_epoch(f, now_ns)
    rs_lock_release(&self.lock)
    return (generation, max(0, <int64_t>(seen.total - seen.failed)), seen.failed, seen.slow, seen.gone, seen.flying,
            late, seen.tail, max(0, now_ns - <int64_t>seen.good_ns) if seen.good_ns else 0,
            max(0, now_ns - <int64_t>seen.tail_ns) if seen.tail_ns else 0, lease, wanted, ready, lease_ns, draw)


cdef _fleet_take(BreakerGate self, Cell cell, uint32_t state, uint32_t reason, uint32_t reopened,
                 uint64_t generation, int64_t left_ns, double measured, uint64_t lease, uint64_t reported):
    cdef rs_breaker_of_fleet *f
    cdef int64_t now_ns = rs_clock_now(_clock)
    cdef uint64_t word
    cdef uint32_t until = 0
    rs_lock_acquire(&self.lock)
    f = _fleet_in(self, cell)
    if f != NULL:
        if state == OPEN:
            until = rs_shared_tick_after(_since_fleets_epoch(f, now_ns) + min(left_ns, RS_SHARED_AHEAD))
            word = rs_atomic_load(&f.cell.word)
            if rs_atomic_load(&f.cell.generation) == generation and rs_shared_state(word) == OPEN:
                until = rs_shared_until(word)       # as it was answered first
        word = rs_shared_word(state, reason, reopened, <uint32_t>(generation & 0xFFFFF), until)
        if reported:
            rs_probe_reported(f.cell, reported)
        rs_verdict_set(f.cell, word, generation, rs_shared_trip(word, measured))
        if lease:
            rs_probe_give(f.cell, lease)
    rs_lock_release(&self.lock)


cdef tuple _fleet_status(BreakerGate self):
    cdef rs_breaker_of_fleet *f
    cdef int64_t now_ns = rs_clock_now(_clock)
    cdef uint64_t word = 0, lease = 0
    cdef bint stands = False
    rs_lock_acquire(&self.lock)
    f = self.breaker.fleet
    if f != NULL:
        word, lease = rs_atomic_load(&f.cell.word), rs_atomic_load(&f.cell.lease)
        stands = _since_fleets_epoch(f, now_ns) < <int64_t>rs_atomic_load(&f.cell.courier.expires_ns)
    rs_lock_release(&self.lock)
    return (_NAMES[rs_shared_state(word)], rs_probe_phase_of(lease) == RS_PROBE_FLIES) if stands else None


cdef bint _fleet_rest(BreakerGate self, Cell cell):
    cdef rs_breaker_of_fleet *f
    cdef bint rests = False
    rs_lock_acquire(&self.lock)
    f = _fleet_in(self, cell)
    if f != NULL:
        rests = _rest(f)
    rs_lock_release(&self.lock)
    return rests
