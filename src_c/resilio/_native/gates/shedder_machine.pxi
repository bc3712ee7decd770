"""
The load shedder's permits and queue, part of shedder.pxi: it runs with the gate's lock held, C arithmetic only.

shedding.h decides the room in the queue, shed_queue.h the next waiter and the victim. As in a bulkhead a permit moves
to a waiter when its turn comes, before it is woken: until the waiter polls or is cancelled the permit counts as used.

A slot's fields are in slot.h.
"""

cdef inline rs_shedder *_shedder_of(rs_gate *gate) noexcept nogil:
    return &(<rs_shedder_object *>gate).shedder


# ---- tasks and tenants -----------------------------------------------------------------------------------------------

cdef inline uint64_t _salted(rs_shedder *s, uint64_t hash, int64_t now_ns) noexcept nogil:
    """Hash that changes by the hour, with the order of tasks and shared flows: no user is permanently disadvantaged."""
    return rs_shed_mix(hash ^ s.salt ^ <uint64_t>(now_ns // HOUR_NS))


cdef inline bint _is_known(rs_shedder *s, uint64_t task) noexcept nogil:
    return s.known != NULL and s.known[task % TASKS] == task


cdef void _remember(rs_shedder *s, uint64_t task) noexcept nogil:
    if task == 0:
        return
    if s.known == NULL:
        s.known = <uint64_t *>calloc(TASKS, sizeof(uint64_t))
        if s.known == NULL:                 # no task is served first
            return
    s.known[task % TASKS] = task


cdef inline void _give_up_task(rs_shedder *s, uint64_t task) noexcept nogil:
    """Forget a task: after a rejected call, its other calls are worth little."""
    if _is_known(s, task):
        s.known[task % TASKS] = 0


cdef int64_t _find_place(rs_shedder *s, rs_slot *slot, int64_t now_ns) noexcept nogil:
    """Find the call's place in the queue; salt its task's hash."""
    cdef bint known = False
    cdef uint64_t order = NO_TASK
    if slot.shedder.task != 0:
        order = _salted(s, slot.shedder.task, now_ns)
        order += order == 0
        slot.shedder.task = order
        known = _is_known(s, order)
    if s.fair:
        order = _salted(s, slot.shedder.tenant, now_ns)
    return rs_shed_place(<int>slot.shedder.level, rs_shed_rank(&s.queue, order, known))


# ---- counting --------------------------------------------------------------------------------------------------------

cdef inline void _arrived(rs_gate *gate, rs_shedder *s, int64_t now_ns) noexcept nogil:
    rs_shed_arrived(&s.state)
    if s.state.overloaded and rs_shed_over(&s.state, now_ns):
        rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)


cdef void _shed(rs_gate *gate, rs_shedder *s, int64_t place, int reason, uint64_t task, int64_t now_ns) noexcept nogil:
    """Count a call lost to overload."""
    s.shed[rs_shed_level(place)][reason] += 1
    _give_up_task(s, task)
    if rs_shed_count(&s.state, now_ns):
        rs_gate_change(gate, NORMAL, OVERLOADED, BEGAN, now_ns)


cdef inline int64_t _room(rs_shedder *s, bint timely) noexcept nogil:
    """Room in the queue, for calls with (*timely*) or without a deadline."""
    if s.learns and s.law.knee > 0.0:
        return rs_shed_room_left(&s.state, s.law.knee, s.limit, timely)
    return rs_shed_room_configured(&s.state, s.limit, timely)


cdef int _shedder_reject(rs_shedder *s, int reason, rs_rejection *rejection) noexcept nogil:
    rejection.reason = reason
    rejection.measured = s.used
    rejection.limit = s.limit
    if reason == SHEDDER_QUEUE_FULL or reason == DISPLACED:
        rejection.measured = s.queue.length
        rejection.limit = _room(s, False)
    rejection.retry_after_ns = rs_shed_retry_after_ns(&s.state, s.queue.length, s.limit)
    return RS_REJECTED


cdef int _reject_hopeless(rs_shedder *s, double needed_ns, int64_t left_ns, rs_rejection *rejection) noexcept nogil:
    rejection.reason = RS_OUT_OF_TIME_TO_WAIT
    rejection.measured = needed_ns / 1e9
    rejection.limit = left_ns / 1e9
    rejection.retry_after_ns = rs_shed_retry_after_ns(&s.state, s.queue.length, s.limit)
    return RS_REJECTED


# ---- permits ---------------------------------------------------------------------------------------------------------

cdef void _set_limit(rs_shedder *s, int64_t limit) noexcept nogil:
    """Set the permits. Sheddable calls leave a tenth free, background calls twice that; at least one permit each."""
    cdef int64_t kept = 0 if limit < 2 else (limit + 9) // 10
    s.limit = limit
    s.most[CRITICAL] = s.most[STANDARD] = limit
    s.most[SHEDDABLE] = limit - kept
    s.most[BACKGROUND] = max(limit - 2 * kept, 1)


cdef inline bint _rises(rs_shedder *s) noexcept nogil:
    return s.learns and (s.law.fresh or s.law.regains)


cdef inline void _learn_limit(rs_shedder *s, rs_slot *slot, int outcome, int64_t latency_ns,
                              int64_t now_ns) noexcept nogil:
    """Learn the limit. A quick failure is no evidence of load; one as slow as slow successes is a lost answer."""
    cdef bint dropped = outcome == RS_FAILURE
    cdef int64_t limit
    if dropped:
        if not rs_shed_lost(&s.state, latency_ns, rs_law_baseline(&s.law)):
            return
        rs_shed_note_lost(&s.state, latency_ns)
    s.law.patience = rs_shed_patience(&s.state)
    rs_law_learn(&s.law, latency_ns, slot.shedder.inflight, s.used + 1, dropped, now_ns)
    s.state.rising = _rises(s)
    limit = <int64_t>s.law.limit
    if limit != s.limit:
        _set_limit(s, limit)


cdef inline void _note_inflight(rs_shedder *s, rs_slot *slot) noexcept nogil:
    slot.shedder.inflight = <uint32_t>s.used


cdef inline bint _is_first(rs_shedder *s, int level) noexcept nogil:
    """True if no waiting call is of this class or a higher one."""
    cdef int i
    if s.queue.length == 0:
        return True
    for i in range(level + 1):
        if s.queue.classes[i].length != 0:
            return False
    return True


cdef inline void _charge(rs_shedder *s, int64_t place, int64_t ns) noexcept nogil:
    if s.fair:
        rs_shed_charge(&s.queue, place, ns, <int64_t>rs_shed_usual_ns(&s.state) + 1)


cdef void _put_out(rs_gate *gate, rs_shedder *s, rs_waiter *waiter, int reason, int64_t now_ns) noexcept nogil:
    cdef uint64_t task = waiter.task
    rs_shed_remove(&s.queue, waiter)
    waiter.state = RS_WAITER_REJECTED
    waiter.reason = reason
    _shed(gate, s, waiter.amount, DISPLACED if reason == DISPLACED else SHEDDER_HOPELESS, task, now_ns)
    rs_gate_wake(gate, waiter)


cdef inline int64_t _before(rs_shedder *s, int level) noexcept nogil:
    """Number of waiting calls of this class and higher ones."""
    cdef int64_t waiting = 0
    cdef int i
    for i in range(level + 1):
        waiting += s.queue.classes[i].length
    return waiting


cdef bint _is_too_late(rs_gate *gate, rs_shedder *s, rs_waiter *waiter, int64_t now_ns) noexcept nogil:
    """Put the next waiter out if it could hardly end in time, or only at the cost of the calls behind it."""
    cdef double needed_ns
    if waiter.expires_ns == 0:
        return False
    needed_ns = rs_shed_needed_ns(&s.state, _before(s, rs_shed_level(waiter.amount)) - 1, s.limit)
    if <double>(waiter.expires_ns - now_ns) > needed_ns:
        return False
    _put_out(gate, s, waiter, RS_EXPIRED if now_ns >= waiter.expires_ns else SHEDDER_HOPELESS, now_ns)
    waiter.deadline_ns = <int64_t>needed_ns     # no longer a deadline: the needed time, for the rejection
    return True


cdef void _shedder_grant(rs_gate *gate, rs_shedder *s, int64_t now_ns) noexcept nogil:
    """Move free permits to the next waiters and wake them; put out waiters that could not end in time."""
    cdef rs_waiter *waiter
    cdef int last
    cdef int64_t quantum_ns
    while s.queue.length != 0:
        last = BACKGROUND
        while last >= 0 and s.used >= s.most[last]:
            last -= 1
        quantum_ns = <int64_t>rs_shed_usual_ns(&s.state) + 1
        waiter = rs_shed_best(&s.queue, last, rs_shed_newest_first(&s.state), quantum_ns)
        if waiter == NULL:
            return
        if _is_too_late(gate, s, waiter, now_ns):
            continue
        rs_shed_remove(&s.queue, waiter)
        waiter.state = RS_WAITER_GRANTED
        s.used += 1
        _charge(s, waiter.amount, quantum_ns)
        _remember(s, waiter.task)
        rs_gate_wake(gate, waiter)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef bint _make_room(rs_gate *gate, rs_shedder *s, int64_t place, int64_t room, int64_t now_ns) noexcept nogil:
    """Put out waiters that rank below the newcomer; return False if there is none and no room."""
    cdef rs_waiter *victim
    while s.queue.length >= room:           # more than one, if the room has become smaller
        victim = rs_shed_victim(&s.queue, place, rs_shed_newest_first(&s.state))
        if victim == NULL:
            return False
        _put_out(gate, s, victim, DISPLACED, now_ns)
    return True


cdef int64_t _ahead(rs_shedder *s, int level) noexcept nogil:
    """Number of calls that are served before a newcomer of this class."""
    return _before(s, level - 1 if rs_shed_newest_first(&s.state) else level)


cdef bint _shedder_is_hopeless(rs_shedder *s, const rs_request *request, int level, int64_t now_ns,
                               rs_rejection *rejection) noexcept nogil:
    cdef double needed_ns
    cdef int64_t left_ns
    if request.deadline_ns == 0:
        return False
    left_ns = request.deadline_ns - now_ns
    needed_ns = rs_shed_median_ns(&s.state)
    if s.state.samples:
        needed_ns += rs_shed_drain_ns(&s.state, _ahead(s, level) + 1, s.limit)
    if needed_ns <= left_ns:
        return False
    _reject_hopeless(s, needed_ns, left_ns, rejection)
    return True


cdef int _shedder_shadow(rs_gate *gate, rs_slot *slot) noexcept nogil:
    """In shadow mode no call waits, so the queue would have had room."""
    gate.counters.would_wait += 1
    slot.state = RS_SLOT_SHADOW
    return RS_ADMITTED


cdef int _shedder_queue(rs_gate *gate, rs_shedder *s, rs_slot *slot, const rs_request *request, int64_t now_ns,
                        rs_rejection *rejection) noexcept nogil:
    cdef int64_t room, place
    cdef int level = slot.shedder.level
    cdef rs_waiter *waiter = request.waiter
    if not rs_gate_enforced(gate):
        return _shedder_shadow(gate, slot)
    if waiter == NULL:                      # core admits again with a waiter, if the call can wait
        return _shedder_reject(s, RESERVED if s.used < s.limit else SHEDDER_FULL, rejection)
    _arrived(gate, s, now_ns)
    rs_shed_note_patience(&s.state, request.deadline_ns - now_ns if request.deadline_ns != 0 else 0)
    place = _find_place(s, slot, now_ns)
    if _shedder_is_hopeless(s, request, level, now_ns, rejection):
        if rejection.limit * 1e9 >= rs_shed_median_ns(&s.state):      # in time but for the wait
            _shed(gate, s, place, SHEDDER_HOPELESS, slot.shedder.task, now_ns)
        else:
            s.shed[level][SHEDDER_HOPELESS] += 1
        return RS_REJECTED
    room = _room(s, request.deadline_ns != 0)
    if slot.shedder.task != 0 and _is_known(s, slot.shedder.task):
        room += RS_SHED_SHORT               # a begun task is worth a longer queue
    if s.queue.length >= room and not _make_room(gate, s, place, room, now_ns):
        _shed(gate, s, place, SHEDDER_QUEUE_FULL, slot.shedder.task, now_ns)
        return _shedder_reject(s, SHEDDER_QUEUE_FULL, rejection)
    waiter.task = slot.shedder.task
    waiter.deadline_ns = now_ns + rs_shed_patience_ns(&s.state, room, s.limit)
    slot.shedder.place = place
    slot.wake_ns = waiter.deadline_ns
    rs_shed_push(&s.queue, waiter, place, now_ns)
    return RS_WAIT


cdef int _shedder_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                        rs_rejection *rejection) noexcept nogil:
    cdef rs_shedder *s = _shedder_of(gate)
    cdef int64_t place = 0
    if s.used >= s.most[slot.shedder.level] or not _is_first(s, slot.shedder.level):
        return _shedder_queue(gate, s, slot, request, now_ns, rejection)
    _arrived(gate, s, now_ns)
    s.used += 1
    if slot.shedder.task != 0 or s.fair:
        place = _find_place(s, slot, now_ns)
        _charge(s, place, <int64_t>rs_shed_usual_ns(&s.state) + 1)
        _remember(s, slot.shedder.task)
    slot.shedder.place = place
    _note_inflight(s, slot)
    return RS_ADMITTED


cdef int _shedder_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_shedder *s = _shedder_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    if waiter.state == RS_WAITER_GRANTED:
        waiter.state = RS_WAITER_IDLE
        _note_inflight(s, slot)
        return RS_ADMITTED
    if waiter.state == RS_WAITER_QUEUED:
        slot.wake_ns = waiter.deadline_ns
        if now_ns < waiter.deadline_ns:
            return RS_WAIT
        rs_shed_remove(&s.queue, waiter)
        _shed(gate, s, waiter.amount, SHEDDER_TOO_LATE, waiter.task, now_ns)
        _shedder_reject(s, SHEDDER_TOO_LATE, rejection)
        rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
        rejection.limit = (waiter.deadline_ns - waiter.enqueued_ns) / 1e9
        return RS_REJECTED
    if waiter.reason == SHEDDER_HOPELESS:
        return _reject_hopeless(s, <double>waiter.deadline_ns, waiter.expires_ns - now_ns, rejection)
    return _shedder_reject(s, waiter.reason, rejection)


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef void _shedder_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _shedder_of(gate)
    if slot.state == RS_SLOT_HELD:
        s.used -= 1
        _charge(s, slot.shedder.place, -<int64_t>rs_shed_usual_ns(&s.state))
    elif slot.waiter == NULL:               # a pass in shadow mode
        return
    elif slot.waiter.state == RS_WAITER_GRANTED:
        slot.waiter.state = RS_WAITER_IDLE
        s.used -= 1
        _charge(s, slot.waiter.amount, -<int64_t>rs_shed_usual_ns(&s.state))
    elif slot.waiter.state == RS_WAITER_QUEUED:
        rs_shed_remove(&s.queue, slot.waiter)
    _shedder_grant(gate, s, now_ns)


cdef void _shedder_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _shedder_of(gate)
    cdef int64_t held_ns = now_ns - slot.admitted_ns
    s.used -= 1
    if s.fair:
        _charge(s, slot.shedder.place, held_ns - <int64_t>rs_shed_usual_ns(&s.state))
    if outcome != RS_SUCCESS and s.state.successes == 0:
        s.state.silent = True               # a dependency that hangs from the first call on is no burst
    if rs_is_evidence(outcome):
        rs_shed_learn(&s.state, held_ns, latency_ns if outcome == RS_SUCCESS else -1, now_ns)
        if s.learns:
            _learn_limit(s, slot, outcome, latency_ns, now_ns)
    if s.queue.length != 0:
        _shedder_grant(gate, s, now_ns)


cdef void _shedder_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _shedder_of(gate)
    s.used = 0
    rs_shed_forget(&s.queue)


cdef int _shedder_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """True if idle, and the learnt state is stale: a new one would behave the same."""
    cdef rs_shedder *s = _shedder_of(gate)
    return s.used == 0 and s.queue.length == 0 and not rs_shed_knows(&s.state, now_ns)
