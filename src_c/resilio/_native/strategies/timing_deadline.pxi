"""
The deadline as a stage, and its gate: a part of timing.pxi.

It sets the ambient deadline; the core only knows `wake_ns` of its slot.
"""


cdef int _set(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """
    Set the ambient deadline for the guarded function, unless the one outside is nearer.

    The slot owns both values that it keeps before any step may fail. The variable is set by each call: a task that the
    function makes before it first suspends copies the context then.
    """
    cdef int64_t allowed_ns = (<rs_deadline_object *>gate).allowed_ns, outer_ns
    cdef PyObject *before = NULL
    slot.deadline.value = slot.deadline.before = NULL
    slot.wake_ns = _later(_core.now_ns(), allowed_ns)
    outer_ns = _core.deadline_ns()
    if outer_ns <= slot.wake_ns:
        slot.wake_ns = outer_ns
        return 0
    PyContextVar_Get(_ambient, NULL, &before)
    slot.deadline.before = before
    slot.flags |= RS_TO_UNDO
    value = _core.deadline(slot.wake_ns, allowed_ns, before)
    Py_INCREF(value)
    slot.deadline.value = <PyObject *>value
    _put(value)                             # on failure it still applies to the call, but its tasks do not know it
    return 0


cdef void _put_back(rs_gate *gate, rs_slot *slot) noexcept:
    """Undo `_set` if its value is still set: in a context other than that of `_set` there is nothing to undo."""
    cdef object value = _taken(slot.deadline.value), before = _taken(slot.deadline.before)
    cdef PyObject *now = NULL
    cdef bint stands
    slot.deadline.value = slot.deadline.before = NULL
    if value is None:
        return
    PyContextVar_Get(_ambient, NULL, &now)
    stands = now == <PyObject *>value
    Py_DECREF(<object>now)
    if stands and not _put(before):
        _core.forget(<PyObject *>value)


cdef bint _put(object value) noexcept:
    """Set the ambient deadline, unless there is no memory."""
    cdef PyObject *token = set_variable(_ambient, value)
    if token == NULL:
        PyErr_Clear()
        return False
    Py_DECREF(<object>token)
    return True


cdef object _taken(PyObject *owned):
    """The object owned through a pointer; None for NULL."""
    if owned == NULL:
        return None
    value = <object>owned
    Py_DECREF(value)
    return value


cdef int _let_in_quietly(
    rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns, rs_rejection *why
) noexcept nogil:
    """Set no context variable: code in the call's own task learns of the deadline without it."""
    slot.deadline.value = slot.deadline.before = NULL
    slot.wake_ns = _later(now_ns, (<rs_deadline_object *>gate).allowed_ns)
    return RS_ADMITTED


cdef int _let_in(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                 rs_rejection *why) noexcept nogil:
    return RS_ADMITTED


cdef int _ran_out(rs_gate *gate, rs_slot *slot, PyObject *call, int stage, int64_t now_ns) noexcept:
    return RS_OUT_OF_TIME


cdef int _deadline_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    cdef int64_t allowed_ns
    try:
        if end.fired != RS_UNINTERRUPTED and _is_cancellation(end.error):
            allowed_ns = (<rs_deadline_object *>gate).allowed_ns
            _replace(end, _out_of_time(_later(slot.admitted_ns, allowed_ns), allowed_ns))
        elif _cut_says(slot, "cancelled_caught"):
            end.outcome = RS_FAILURE
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    return RS_PASS


cdef int _deadline_delegates(rs_gate *gate, rs_slot *slot, int place) noexcept:
    return place == RS_ON_TRIO


cdef int _deadline_label(rs_gate *gate, rs_slot *slot) noexcept:
    return RS_OUT_OF_TIME if _cut_says(slot, "cancel_called") else RS_UNINTERRUPTED


cdef int _keeps_nothing(rs_gate *gate, int64_t now_ns) noexcept nogil:
    return True


cdef rs_strategy_ops TIMING_DEADLINE
memset(&TIMING_DEADLINE, 0, sizeof(TIMING_DEADLINE))
TIMING_DEADLINE.ended = _deadline_ended
TIMING_DEADLINE.expired = _ran_out
TIMING_DEADLINE.leave = _put_back
TIMING_DEADLINE.delegates = _deadline_delegates
TIMING_DEADLINE.label = _deadline_label
TIMING_DEADLINE.sets_deadline = True

cdef rs_gate_ops DEADLINE_OPS
memset(&DEADLINE_OPS, 0, sizeof(DEADLINE_OPS))
DEADLINE_OPS.kind = "deadline"
DEADLINE_OPS.error = "RejectedError"
DEADLINE_OPS.reasons = &REASONS[0]
DEADLINE_OPS.prepare = _set
DEADLINE_OPS.admit = _let_in
DEADLINE_OPS.strategy = &TIMING_DEADLINE
DEADLINE_OPS.pristine = _keeps_nothing


cdef rs_gate_ops QUIET_OPS = DEADLINE_OPS
QUIET_OPS.prepare = NULL
QUIET_OPS.admit = _let_in_quietly


cdef class DeadlineGate(Gate):
    """The ambient deadline that a call sets for all code inside; `resilio.deadline` is its public face."""

    def __cinit__(self, *args, **kwargs):
        cdef rs_deadline_object *seen = <rs_deadline_object *><PyObject *>self
        if <void *>&seen.allowed_ns != <void *>&self.allowed_ns:
            raise SystemError("resilio._native.strategies was built against another gate.h")
        self.ops = &DEADLINE_OPS
        self.timeless = RS_NO_START | RS_NO_LATENCY     # `_set` reads the clock, and may call a function before that

    def __init__(self, config):
        """Allow the time of *config*, a `DeadlineConfig`, from the beginning of a call."""
        self.configure(config)

    def configure(self, config):
        """Allow another time, for calls that begin from now on; with `tasks`, tasks that they start also know it."""
        self.allowed_ns = ns_of(config.seconds)
        self.ops = &DEADLINE_OPS if config.tasks else &QUIET_OPS
        self.timeless = RS_NO_LATENCY

    @property
    def allowed(self):
        """The seconds that a call gets."""
        return self.allowed_ns / 1e9

    def passed(self):
        """Return the error of a call whose deadline has passed."""
        return _out_of_time()

    def stream(self, make):
        """Return a stream of `make()` whose deadline is ambient inside."""
        return core.hook("deadline_items")(self, make)

    def astream(self, make):
        """Return an async stream of `make()` that ends at its deadline."""
        return core.hook("items_until_deadline")(self, make)

    async def arun(self, inner):
        """Run *inner* in a cancel scope of trio."""
        return await core.hook("until_deadline")(self, inner)
