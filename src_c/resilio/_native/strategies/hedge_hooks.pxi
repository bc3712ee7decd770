"""
A hedge's operations, called by the core, and its options: a part of hedge.pxi.

None of them raises: where a hedge cannot decide, the call goes on without it.
"""


@cython.final
cdef class _HedgeOptions:
    """Options of a hedge that C does not need, replaced as a whole."""

    cdef int max_hedges
    cdef object targets, discard, idempotent
    cdef object delay_of                # the function of a call's arguments that returns the delay, or None


cdef int hedge_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    cdef PyObject *before
    cdef int64_t wait_ns = RS_NEVER
    slot.hedge.judged = JUDGED if request.hedge else 0
    slot.hedge.raced = False
    if request.hedge or request.context == NULL or (<rs_hedge *>gate).hedging.delay_ns == RS_HEDGING_NEVER:
        return 0
    if (<rs_hedge *>gate).computed:
        wait_ns = hedge_computed_ns(<HedgeGate><PyObject *>gate, request)
        if wait_ns == RS_NEVER:
            return 0
    before = request.context[0]
    request.context[0] = PyContext_CopyCurrent()
    if request.context[0] == NULL:
        PyErr_Clear()                   # no memory: nothing is copied
    else:
        slot.hedge.raced = True
        slot.wake_ns = wait_ns          # from its admission on; RS_NEVER: that of all calls
    Py_XDECREF(before)
    return 0


cdef int64_t hedge_computed_ns(HedgeGate gate, const rs_request *request) noexcept:
    """Compute the delay of this call's copies from its arguments; RS_NEVER: none may start."""
    cdef int64_t ns
    cdef _HedgeOptions options = gate.current()
    if options.delay_of is None:        # options were replaced meanwhile
        return RS_NEVER
    try:
        ns = asked_time_ns(options.delay_of, request, RS_NEVER, True)
        return RS_NEVER if ns == RS_NEVER else min(max(ns, gate.hedging.least_ns), gate.hedging.most_ns)
    except BaseException as error:
        rs_lock_acquire(&gate.lock)
        gate.bad_delays += 1
        rs_lock_release(&gate.lock)
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()        # not the function's: raised again at the next safe point
    return RS_NEVER


cdef int hedge_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now,
                     rs_rejection *why) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.hedge.judged == JUDGED:
        return RS_ADMITTED
    rs_hedging_begin(&hedge.hedging, now)
    if slot.wake_ns != RS_NEVER:
        slot.wake_ns += now
    elif slot.hedge.raced and hedge.hedging.delay_ns != RS_HEDGING_NEVER and not hedge.computed:
        slot.wake_ns = now + (hedge.schedule[0] if hedge.schedule != NULL else hedge.hedging.delay_ns)
    return RS_ADMITTED


cdef void hedge_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.hedge.judged or outcome == RS_IGNORED:
        return
    rs_hedging_outcome(&hedge.hedging, outcome != RS_SUCCESS)     # none is started while the server refuses calls
    if outcome == RS_SUCCESS:
        rs_hedging_sample(&hedge.hedging, latency, 0, now)


cdef int hedge_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        return (<HedgeGate><object><PyObject *>gate).ended(slot, end)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a hedge failed to decide: what there is goes on")
    return RS_PASS


cdef int hedge_expired(rs_gate *gate, rs_slot *slot, PyObject *call, int stage, int64_t now) noexcept:
    try:
        (<HedgeGate><object><PyObject *>gate).expired(slot, <object>call, stage, now)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a hedge could not be started")
    return RS_UNINTERRUPTED


cdef int hedge_delegates(rs_gate *gate, rs_slot *slot, int place) noexcept:
    """On trio a copy needs a nursery around it and the primary: delegate only where a hedge may start at all."""
    if place != RS_ON_TRIO or slot.hedge.judged == JUDGED or (<rs_hedge *>gate).hedging.delay_ns == RS_HEDGING_NEVER:
        return 0
    slot.hedge.judged = ELSEWHERE
    return 1


cdef void hedge_told(rs_slot *slot, int64_t now, int64_t until_ns) noexcept:
    """An attempt of the primary waits for a time that its server has named: meanwhile the next copy's delay stops."""
    if slot.wake_ns != RS_NEVER:
        slot.wake_ns += until_ns - now


cdef void hedge_leave(rs_gate *gate, rs_slot *slot) noexcept:
    """The call is gone, perhaps dropped: so are its copies."""
    if slot.hedge.judged == ELSEWHERE or slot.extra == NULL:
        return
    try:
        race = <object>slot.extra
        if type(race) is not core.InnerCall:     # kept by a stage that has delegated, and possibly judged since
            race.dropped()
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("copies of a dropped call could not be cancelled")


cdef int hedge_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    return rs_hedging_is_new(&(<rs_hedge *>gate).hedging, now)


cdef rs_strategy_ops hedge_strategy
memset(&hedge_strategy, 0, sizeof(hedge_strategy))
hedge_strategy.ended = hedge_ended
hedge_strategy.expired = hedge_expired
hedge_strategy.delegates = hedge_delegates
hedge_strategy.told = hedge_told
hedge_strategy.leave = hedge_leave

cdef const char *hedge_reasons[1]
hedge_reasons[:] = [NULL]
cdef rs_gate_ops hedge_ops
memset(&hedge_ops, 0, sizeof(hedge_ops))
hedge_ops.kind = "hedge"
hedge_ops.segment = RS_HEDGE
hedge_ops.error = "ResilienceError"
hedge_ops.reasons = hedge_reasons
hedge_ops.prepare = hedge_prepare
hedge_ops.admit = hedge_admit
hedge_ops.settle = hedge_settle
hedge_ops.strategy = &hedge_strategy
hedge_ops.pristine = hedge_pristine
