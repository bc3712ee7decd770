"""
A rate limit without rates, part of limiter.pxi: a door, which a pause alone shuts. While it is open it costs next to
nothing; queue, waits and rejections in a pause are those of any limit.
"""

cdef rs_gate_ops DOOR_OPS

cdef extern from *:
    """
    static RS_APART int rs_door_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    """


cdef int _door_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                     rs_rejection *rejection) noexcept nogil:
    cdef rs_limiter *m = _limiter_of(gate)
    slot.limiter.version = 0                # no tokens taken: nothing to give back
    slot.limiter.claim = NULL
    if m.paused_until_ns != 0 or m.queue.head != NULL:
        return _door_decide(gate, slot, request, now_ns, rejection)
    return RS_ADMITTED


cdef int _door_decide "rs_door_decide"(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                                       rs_rejection *rejection) noexcept nogil:
    """Admit after the pause, behind the calls that have waited for its end."""
    cdef rs_limiter *m = _limiter_of(gate)
    if now_ns >= m.paused_until_ns:
        m.paused_until_ns = 0
    return _limiter_decide(gate, slot, request, now_ns, rejection)


DOOR_OPS = LIMITER_OPS
DOOR_OPS.prepare = NULL
DOOR_OPS.admit = _door_admit
DOOR_OPS.settle = NULL


cdef void _become_door_or_limit(LimiterGate self) noexcept nogil:
    """Take the operations for the number of rates; those of a shared limit stay."""
    cdef bint door = self.limiter.buckets.n == 0
    if self.limiter.buckets.host == NULL:
        self.ops = &DOOR_OPS if door else &LIMITER_OPS
        self.timeless = RS_NO_LATENCY if door else 0
