"""The breaker of a fleet for the link and the tie of its policy, part of breaker.pxi: what the class hands on."""

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
