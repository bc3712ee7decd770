"""
The first stage of a pool, which chooses the endpoint of a call. A part of pool.pyx.
"""

cdef void look_at_ejected(rs_pool *pool, int64_t now_ns) noexcept:
    """Ask the gates of ejected endpoints whose time has come. The pool's lock is held, and let go meanwhile."""
    cdef rs_seat *seat = rs_pool_to_look_at(pool, now_ns)
    while seat != NULL:
        keeper = <object>seat.gate.keeper
        gate = <Gate><PyObject *>seat.gate
        rs_lock_release(&pool.lock)
        look_at(gate, now_ns)
        keeper = gate = None
        rs_lock_acquire(&pool.lock)
        seat = rs_pool_to_look_at(pool, now_ns)


cdef void look_at(Gate gate, int64_t now_ns) noexcept:
    """Take over what the gates of this seat's endpoint let pass now, and deliver what has changed. No lock is held."""
    rs_lock_acquire(&gate.lock)
    look(<rs_gate *><PyObject *>gate, now_ns)
    rs_lock_release(&gate.lock)
    if (<rs_gate *><PyObject *>gate).changes:
        try:
            gate.deliver()
        except KeyboardInterrupt:
            PyErr_SetInterrupt()
        except BaseException:           # listeners are called elsewhere, so none is due to them
            pass


cdef rs_gate *choose(rs_gate *gate, const rs_request *request, rs_gate *before) noexcept:
    """The seat of the endpoint for this call, and a reference to its keeper; the stage itself, if there is none."""
    cdef PoolTable table = <PoolTable>(<PoolStage><PyObject *>gate).table
    cdef rs_pool *pool = &table.pool
    cdef rs_seat *seat = NULL
    if table.affinity is not None and not request.choice.asks and request.choice.key == 0:
        request.choice.key = key_of(table, request)
    rs_lock_acquire(&pool.lock)
    if (pool.ejected | pool.due) and request.choice.now_ns >= pool.look_ns:
        look_at_ejected(pool, request.choice.now_ns)
    if request.choice.asks:
        request.choice.place = 0 if rs_pool_has_untried(pool, request.choice) else -1
    else:
        seat = rs_pool_choose(pool, request.choice)
    if seat != NULL:
        gate = seat.gate
        Py_INCREF(<object>gate.keeper)
    rs_lock_release(&pool.lock)
    return gate


cdef int stage_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                     rs_rejection *rejection) noexcept with gil:
    """Reject: it is asked only if there is no endpoint to choose."""
    cdef PoolTable table = <PoolTable>(<PoolStage><PyObject *>gate).table
    rejection.reason = POOL_DRAINED if table.pool.places else POOL_EMPTY
    return RS_REJECTED


cdef rs_gate_ops STAGE_OPS
STAGE_OPS.kind = "pool"
STAGE_OPS.error = "NoEndpointError"
STAGE_OPS.reasons = POOL_REASONS
STAGE_OPS.admit = stage_admit
STAGE_OPS.resolve = choose


cdef class PoolStage(KeyedGate):
    """
    Stands in a pipeline for the seats of all endpoints; its own counters are those of calls without an endpoint.

    Args:
        table: The endpoints.

        span: The number of stages of the pool, this one included.
    """

    def __init__(self, PoolTable table, int span):
        self.table = table
        self.index = 0
        self.span = span
        self.ops = &STAGE_OPS
