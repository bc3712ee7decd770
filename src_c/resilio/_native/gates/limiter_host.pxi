"""
A rate limit whose tokens are those of all processes of a host, or of a fleet: a part of limiter.pxi.

What is counted is in the cell (shared/rates.h); the queue is the gate's own. All of it runs with the gate's lock held:
C arithmetic only.

At a single token bucket each waiting call has a place: its time in the host's queue. The times of the gate's own calls
are kept in the order of its queue: where one leaves, those behind it move up, and the last place is given back. At
several rates, and at a window, the head of the queue asks when it could be its turn.
"""

cdef inline bint _has_places(rs_limiter *m) noexcept nogil:
    return m.buckets.host != NULL and rs_rates_is_bucket(m.buckets.host)


cdef void _add_up(rs_limiter *m, int64_t *every) noexcept nogil:
    """Add up the costs of all waiters, by rate."""
    cdef rs_waiter *waiter = m.queue.head
    cdef int i
    memset(every, 0, RS_MOST_RATES * sizeof(int64_t))
    while waiter != NULL:
        for i in range(m.buckets.n):
            every[i] += waiter.claim.cost[i]
        waiter = waiter.next


cdef int64_t _host_wait_behind(rs_limiter *m, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """The wait of a call behind the gate's queue; with places behind all of the host, else without other callers."""
    cdef int64_t behind, longest = 0
    cdef int64_t every[RS_MOST_RATES]
    cdef int i
    if _has_places(m):
        return rs_rates_wait(m.buckets.host, 0, now_ns, cost[0], True)
    _add_up(m, every)
    for i in range(m.buckets.n):
        behind = rs_leased_queued(m.buckets.host.rate[i].draw.lease) if _is_leased(m) else every[i]
        longest = max(longest, rs_rates_wait(m.buckets.host, i, now_ns, behind + cost[i], False))
    return longest


cdef inline bint _take_turn(rs_limiter *m, int64_t now_ns, rs_claim *claim) noexcept nogil:
    """Take the tokens of the head of the queue, if it is its turn and they are available."""
    if _is_leased(m):
        return now_ns >= m.paused_until_ns and rs_rates_take_at(m.buckets.host, now_ns, claim.cost, claim.line)
    if not claim.place:
        return _take(m, now_ns, claim.cost)
    return (now_ns >= claim.plan_ns and now_ns >= m.paused_until_ns
            and rs_rates_take_due(m.buckets.host, now_ns, claim.cost[0], claim.place))


cdef int64_t _hand_down(rs_waiter *waiter, int64_t plan_ns) noexcept nogil:
    """Give *waiter* and those behind it their times in their order, with *plan_ns* as one more; return the last one."""
    cdef rs_claim *claim
    cdef int64_t later_ns
    while waiter != NULL:
        claim = waiter.claim
        if claim.place and claim.plan_ns > plan_ns:
            later_ns = claim.plan_ns
            claim.plan_ns = plan_ns
            plan_ns = later_ns
        waiter = waiter.next
    return plan_ns


cdef void _take_place(rs_gate *gate, rs_limiter *m, rs_claim *claim, int64_t now_ns) noexcept nogil:
    """Join the host's queue. A call of another process may have left it: then the first of this gate moves up."""
    cdef int64_t plan_ns = rs_rates_join(m.buckets.host, now_ns, claim.cost[0], &claim.place)
    claim.plan_ns = plan_ns
    if m.queue.tail != NULL and plan_ns < m.queue.tail.claim.plan_ns:
        claim.plan_ns = _hand_down(m.queue.head, plan_ns)
        rs_gate_wake(gate, m.queue.head)


cdef void _drop_place(rs_limiter *m, rs_waiter *waiter) noexcept nogil:
    """Give back the place of a call that leaves the queue, if it has one."""
    cdef rs_claim *claim = waiter.claim
    cdef uint32_t place = claim.place
    if _is_leased(m):
        rs_rates_fall_out(m.buckets.host, claim.cost, claim.turn == m.turn)
    if place:
        claim.place = 0
        _hand_down(waiter.next, claim.plan_ns)
        rs_rates_leave(m.buckets.host, claim.cost[0], place)


cdef void _delay(rs_limiter *m, int64_t now_ns) noexcept nogil:
    """After a pause has begun: queued calls may wait longer, and those that it delays have new places."""
    cdef rs_waiter *waiter = m.queue.head
    cdef rs_claim *claim
    while waiter != NULL:
        claim = waiter.claim
        waiter.deadline_ns = max(waiter.deadline_ns, _gives_up_ns(m, waiter.expires_ns != 0, now_ns))
        if claim.place and claim.plan_ns < m.paused_until_ns:
            rs_rates_leave(m.buckets.host, claim.cost[0], claim.place)
            claim.plan_ns = rs_rates_join(m.buckets.host, now_ns, claim.cost[0], &claim.place)
        waiter = waiter.next


cdef inline void _host_see(rs_gate *gate, rs_limiter *m, int64_t now_ns) noexcept nogil:
    """Find out about a pause that another process has begun or ended."""
    if rs_rates_sees(m.buckets.host, &m.paused_until_ns):
        _delay(m, now_ns)


cdef void _host_fill(rs_limiter *m, int64_t now_ns) noexcept nogil:
    """Fill the rates of the host. All places are void: queued calls ask at once."""
    cdef rs_waiter *waiter = m.queue.head
    rs_rates_fill(m.buckets.host)
    rs_rates_sees(m.buckets.host, &m.paused_until_ns)
    while waiter != NULL:
        if waiter.claim.place:
            rs_rates_drop_place(m.buckets.host, waiter.claim.cost[0], waiter.claim.place)
        waiter.claim.place = 0
        waiter.claim.plan_ns = now_ns
        waiter = waiter.next


cdef int _limiter_shared_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                               rs_rejection *rejection) noexcept nogil:
    """Fast path: a call of default cost takes its tokens, from the purse or the leases, if no call waits here."""
    cdef rs_limiter *m = _limiter_of(gate)
    rs_member_owner(m.buckets.host.member)      # the first shared call makes the process a worker
    _host_see(gate, m, now_ns)
    if (slot.limiter.version != 0 or m.queue.head != NULL or now_ns < m.paused_until_ns
            or not rs_rates_take(m.buckets.host, now_ns, m.cost)):
        return _limiter_decide(gate, slot, request, now_ns, rejection)
    slot.limiter.cost = m.cost[0]
    slot.limiter.version = m.version
    return RS_ADMITTED


cdef int _limiter_is_shared(const rs_gate *gate) noexcept nogil:
    """Also of a process without a slot: a token needs no owner."""
    return RS_OF_FLEET if _is_leased(_limiter_of(<rs_gate *>gate)) else RS_OF_HOST


# ---- joining and leaving ---------------------------------------------------------------------------------------------

cdef int64_t _entry_of(object cost) except -1:
    """The millionths of a token that an entry of a window is: a token, or a cost that is a fraction of tokens."""
    cdef int64_t millionths = TOKEN if callable(cost) else _millionths(cost)
    return TOKEN if millionths % TOKEN == 0 or millionths * 4096 < TOKEN else millionths


cdef int _describe(rs_host_rates *host, tuple rates, bint leased=False) except -1:
    """Fill in the rates of a shared limit, without its cell. On lease a window is a bucket of the same amount."""
    cdef int failed
    memset(host, 0, sizeof(host[0]))
    for unit, amount, period_ns, burst, cost, window in rates:
        failed = 0
        if leased:
            least = TOKEN if callable(cost) else max(TOKEN, _millionths(cost))
            failed = rs_rates_add_lease(host, amount * _TOKEN, period_ns, _millionths(burst), least, <rs_down>0)
        elif window:
            rs_rates_add_window(host, _millionths(burst), period_ns, _entry_of(cost))
        else:
            failed = rs_rates_add_bucket(host, amount * _TOKEN, period_ns, _millionths(burst))
        if failed < 0:
            raise ValueError(f"{amount:g} {unit} every {period_ns / 1e9:g} s is too fast to be shared")
    return 0


cdef bytes _stock(tuple rates):
    """The options that define the stock, in canonical form."""
    return repr([(unit, float(amount), period_ns, float(burst), _entry_of(cost) if window else 0)
                 for unit, amount, period_ns, burst, cost, window in rates]).encode()


cdef void _limiter_leave_host(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Count for the process alone from now on, with the tokens that the host has now."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef rs_host_rates *host = m.buckets.host
    cdef rs_waiter *waiter = m.queue.head
    cdef int64_t tokens[RS_MOST_RATES]
    cdef int i
    if host == NULL:
        return
    while waiter != NULL:
        _drop_place(m, waiter)
        waiter = waiter.next
    for i in range(host.n):
        tokens[i] = rs_rate_available(&m.buckets, i, now_ns)
    m.buckets.host = NULL
    for i in range(host.n):
        rs_rate_set(&m.buckets, i, now_ns, tokens[i])
    free(host)
    m.version += 1
    m.planned = False
    m.trip_ns = 0
    gate.ops = &LIMITER_OPS


cdef void _limiter_join_host(rs_gate *gate, rs_host_rates *host, int64_t now_ns) noexcept nogil:
    """Count in the host's cell from now on; calls that wait here queue behind those of the host."""
    cdef rs_limiter *m = _limiter_of(gate)
    cdef rs_waiter *waiter = m.queue.head
    m.buckets.host = host
    m.version += 1
    gate.ops = &SHARED_LIMITER_OPS
    if now_ns < m.paused_until_ns:
        rs_rates_hold(host, m.paused_until_ns)
    while waiter != NULL and _has_places(m):
        waiter.claim.plan_ns = rs_rates_join(host, now_ns, waiter.claim.cost[0], &waiter.claim.place)
        waiter = waiter.next
    while waiter != NULL and _is_leased(m):
        rs_rates_line_up(host, waiter.claim.cost, waiter.claim.line)
        waiter = waiter.next
    _host_see(gate, m, now_ns)
    _sooner(gate, m, now_ns)


cdef rs_host_rates *_limiter_host_of(tuple rates, bint leased=False) except NULL:
    """The rates of a shared limit, without its cell; owned by the caller."""
    cdef rs_host_rates *host = <rs_host_rates *>malloc(sizeof(rs_host_rates))
    if host == NULL:
        raise MemoryError("no memory for a shared limit")
    try:
        _describe(host, rates, leased)
    except BaseException:
        free(host)
        raise
    return host


cdef tuple _of_keys(tuple rates):
    """The rates for a table of keys, in which a window counts whole tokens."""
    return tuple([(unit, amount, period_ns, burst, 1.0 if window else cost, window)
                  for unit, amount, period_ns, burst, cost, window in rates])


cdef int _limiter_change_host(LimiterGate self, Cell cell, rs_host_rates *host) except -1:
    """Leave the cell, if there is one, and count in the other one, if there is one."""
    cdef int64_t now_ns = clock.now_ns()
    cdef PyObject *left
    cdef PyObject *new = _owned(cell)
    rs_lock_acquire(&self.lock)
    _limiter_leave_host(<rs_gate *><PyObject *>self, now_ns)
    left, self.cell = self.cell, new
    if host != NULL:
        _limiter_join_host(<rs_gate *><PyObject *>self, host, now_ns)
    rs_lock_release(&self.lock)
    Py_XDECREF(left)
    self.deliver()
    return 0


# ---- tokens on lease from the store of a fleet -----------------------------------------------------------------------

# What calls take is in the cell (shared/lease.h), and the order of those that wait in all processes of the host; the
# queue is the gate's own, and its head asks when more is expected.
# The courier's thread sees the cell through `Leases` (limiter_fleet.pxi); what it puts in serves the calls that wait.

cdef inline bint _is_leased(rs_limiter *m) noexcept nogil:
    return m.buckets.host != NULL and m.buckets.host.courier != NULL


cdef void _line_up_again(rs_limiter *m) noexcept nogil:
    """Take other places for the calls that wait here, where the order of those of all processes has begun anew."""
    cdef rs_waiter *waiter
    cdef rs_draw *draw
    cdef int i
    for i in range(m.buckets.n):
        draw = &m.buckets.host.rate[i].draw
        waiter = m.queue.head if rs_draw_is_new_order(draw) else NULL
        while waiter != NULL:
            waiter.claim.line[i] = rs_draw_join(draw, waiter.claim.cost[i])
            waiter = waiter.next


cdef void _end_trips(rs_gate *gate, rs_limiter *m) noexcept nogil:
    """
    Let calls that waited for this answer alone wait no longer: the store has not had their tokens, or has not answered.

    They have been asked for if they queued before the question. Those that a pause holds up wait for its end.
    """
    cdef rs_waiter *waiter = m.queue.head
    cdef int64_t until_ns
    while waiter != NULL and waiter.claim.turn != m.turn:
        until_ns = waiter.enqueued_ns + m.max_wait_ns
        if until_ns < waiter.deadline_ns and m.paused_until_ns <= waiter.enqueued_ns:
            waiter.deadline_ns = until_ns
            rs_gate_wake(gate, waiter)
        waiter = waiter.next
