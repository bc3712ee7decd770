"""
A timeout's operations, called by the core: a part of timing.pxi.

They set the time that a call gets, learn from its end, and put the stage's own error in place of the cancellation that
it sent.
"""

cdef int _admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                rs_rejection *why) noexcept nogil:
    slot.timeout.total_ns = _of(gate).total_ns
    slot.wake_ns = _later(now_ns, _of(gate).total_ns)
    slot.timeout.ours = 0
    return RS_ADMITTED


cdef int _compute(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """Compute the time of this call from its arguments, for `_admit_computed`."""
    cdef TimeoutGate self = <TimeoutGate><PyObject *>gate
    slot.timeout.total_ns = RS_NEVER
    try:
        slot.timeout.total_ns = asked_time_ns(_function_of(self), request, RS_NEVER, False)
    except BaseException as error:
        _count_bad_time(self, error)
    return 0


cdef object _function_of(TimeoutGate gate):
    """The function of a call's arguments that returns its time, or None. Not a method, as `_count_end`."""
    rs_lock_acquire(&gate.lock)
    found = gate.time_of
    rs_lock_release(&gate.lock)
    return found


cdef int _count_bad_time(TimeoutGate gate, object error) except -1:
    """Count a call whose function failed: it has the ceiling. Not a method, as `_count_end`."""
    rs_lock_acquire(&gate.lock)
    gate.bad_times += 1
    rs_lock_release(&gate.lock)
    if isinstance(error, KeyboardInterrupt):
        PyErr_SetInterrupt()            # not the function's: raised again at the next safe point
    return 0


cdef inline int64_t _bounded(rs_timeout *t, int64_t asked_ns) noexcept nogil:
    return min(max(asked_ns, t.floor_ns), t.ceiling_ns)


cdef int _admit_computed(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *why) noexcept nogil:
    slot.timeout.total_ns = _bounded(_of(gate), slot.timeout.total_ns)
    slot.wake_ns = _later(now_ns, slot.timeout.total_ns)
    slot.timeout.ours = 0
    return RS_ADMITTED


cdef void _settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """Learn from successes; an interrupted call counts as a sample of the ceiling, since it would have taken longer."""
    if slot.timeout.ours == OURS:
        _learn(_of(gate), _of(gate).ceiling_ns, now_ns)
    elif outcome == RS_SUCCESS:
        _learn(_of(gate), latency_ns, now_ns)


cdef int _expired(rs_gate *gate, rs_slot *slot, PyObject *call, int stage, int64_t now_ns) noexcept:
    slot.timeout.expired_ns = now_ns
    return RS_TIMED_OUT


cdef bint _is_cancellation(PyObject *error) except -1:
    from asyncio import CancelledError  # loaded already: it has raised one

    return error != NULL and isinstance(<object>error, CancelledError)


cdef int _replace(rs_end *end, object new) except -1:
    """Raise *new* in place of the cancellation that the stage sent."""
    old = <object>end.error
    new.__cause__ = new.__context__ = old
    trail = getattr(old, "resilio", None)   # of a retry inside that the deadline has cut off
    if trail is not None:
        new.resilio = trail
    Py_INCREF(new)
    Py_DECREF(old)
    end.error = <PyObject *>new
    end.outcome = RS_FAILURE
    return 0


cdef object _out_of_time(int64_t until_ns=RS_NEVER, int64_t allowed_ns=0):
    """The error of a passed deadline: the ambient one, or a nearer one that only its call knows."""
    ambient = ambient_deadline()
    if until_ns != RS_NEVER and (ambient is None or ambient.until_ns > until_ns):
        return DeadlineExceededError(allowed_ns / 1e9, 0.0)
    return DeadlineExceededError(None if ambient is None else ambient.allowed_ns / 1e9, 0.0)


cdef bint _cut_says(rs_slot *slot, str question) noexcept:
    """
    Read a flag of the scope or thread to which this stage has delegated the call.

    It is a Python object, so a Ctrl-C may interrupt the reading: then it is read again.
    """
    cdef bint answer = False, interrupted = False
    if slot.extra == NULL:
        return False
    for _ in range(2):
        try:
            cut = (<object>slot.extra).cut
            answer = cut is not None and getattr(cut, question)
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        PyErr_SetInterrupt()            # again, at the next safe point
    return answer


cdef int _ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        if end.fired != RS_UNINTERRUPTED and _is_cancellation(end.error):
            slot.timeout.ours = OURS
            if end.fired == RS_OUT_OF_TIME:
                _replace(end, _out_of_time())
            else:
                _replace(end, (<TimeoutGate>gate).timed_out(slot.timeout.expired_ns, slot.timeout.total_ns / 1e9))
        elif _cut_says(slot, "cancelled_caught"):
            slot.timeout.ours = OURS
            end.outcome = RS_FAILURE
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    return RS_PASS


cdef int _delegates(rs_gate *gate, rs_slot *slot, int place) noexcept:
    return place != RS_ON_ASYNCIO


cdef int _label(rs_gate *gate, rs_slot *slot) noexcept:
    return RS_TIMED_OUT if _cut_says(slot, "cancel_called") else RS_UNINTERRUPTED


cdef rs_strategy_ops TIMED                  # field by field: a struct made at once leaves the others undefined
memset(&TIMED, 0, sizeof(TIMED))
TIMED.ended = _ended
TIMED.expired = _expired
TIMED.delegates = _delegates
TIMED.label = _label

cdef int _has_learned_nothing(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Return True without samples, or if the last is so old that the ceiling of a new timeout is as good a guess."""
    cdef rs_timeout *t = &(<rs_timeout_object *>gate).timeout
    return t.recent.count + t.before.count == 0 or now_ns - t.sampled_ns >= <int64_t>STALE_NS


cdef rs_gate_ops PLAIN
memset(&PLAIN, 0, sizeof(PLAIN))
PLAIN.kind = "timeout"
PLAIN.error = "RejectedError"
PLAIN.reasons = &REASONS[0]
PLAIN.admit = _admit
PLAIN.strategy = &TIMED
PLAIN.pristine = _has_learned_nothing
cdef rs_gate_ops LEARNING = PLAIN
LEARNING.settle = _settle
cdef rs_gate_ops COMPUTED = PLAIN
COMPUTED.prepare = _compute
COMPUTED.admit = _admit_computed
