"""
The seat of an endpoint: a gate that always admits, and learns what the endpoint is worth. A part of pool.pyx.
"""

cdef enum PoolReason:
    POOL_EMPTY, POOL_DRAINED, POOL_REJECTED, SEAT_HELD, BY_POLICY, POOL_NONE

cdef const char *POOL_REASONS[6]
POOL_REASONS[:] = ["empty", "drained", "rejected", "held", "policy", NULL]

cdef enum SeatState:
    SEAT_WELL, SEAT_EJECTED

cdef const char *SEAT_STATES[3]
SEAT_STATES[:] = ["well", "ejected", NULL]


# The memory of a Seat seen from C, where nothing may touch a reference count; checked at import.
ctypedef struct rs_seat_object:
    rs_gate gate
    rs_seat seat
    rs_pool *pool
    rs_warden warden


@cython.no_gc_clear                     # deallocation and late calls need the gates and the table; theirs break cycles
cdef class Seat(Gate):
    """
    The gate of one endpoint of a pool, before the gates of its own policy.

    Args:
        table: The pool's table.

        endpoint: The endpoint.

    Attributes:
        endpoint: As given.
    """

    cdef rs_seat seat
    cdef rs_pool *pool                  # of the table
    cdef rs_warden warden               # of the endpoint's own gates
    cdef PoolTable table
    cdef tuple guarded                  # the endpoint's own gates, which ask this one before statistics eject it
    cdef readonly object endpoint

    def __cinit__(self):
        self.ops = &SEAT_OPS
        self.span = RS_SEAT
        self.seat.gate = <rs_gate *><PyObject *>self
        self.seat.share = self.seat.weight = 1.0
        self.warden.may_eject = may_eject
        self.guarded = ()

    def __dealloc__(self):
        end_guard(self)                 # the endpoint's policy may outlive the pool

    def __init__(self, PoolTable table, object endpoint):
        self.table = table
        self.pool = &table.pool
        self.endpoint = endpoint
        self.seat.name = hash_of(endpoint.name)

    @property
    def key(self):
        """The name of its endpoint, for events."""
        return self.endpoint.name

    @property
    def stages(self):
        """The pool's stage that stands for it, whose listeners hear all seats."""
        return self.table.stages[:1]

    @property
    def latency_now(self):
        """The latency by which it is valued, prices included, in seconds; 0.0: nothing is known."""
        return rs_peek(&self.seat.latency_ns) * rs_seat_left(&self.seat, rs_clock_now(_clock)) / 1e9

    @property
    def latency_good(self):
        """The same of its successes alone."""
        return rs_peek(&self.seat.good_ns) / 1e9

    @property
    def share(self):
        """The share of calls that its gates let pass: 1.0, that of a ramp, or 0.0 while it is ejected."""
        return rs_peek(&self.seat.share)

    @property
    def warmth(self):
        """The share of its weight by which it is chosen: below 1.0 while it warms up."""
        cdef double share
        rs_lock_acquire(&self.pool.lock)
        share = rs_pool_warmth(self.pool, &self.seat, rs_clock_now(_clock))
        rs_lock_release(&self.pool.lock)
        return share

    @property
    def state(self):
        """well, or ejected while its own gates let no call pass, a probe excepted."""
        return "ejected" if rs_peek(&self.seat.share) == 0.0 else "well"

    @property
    def place(self):
        """Its index in the pool."""
        return self.seat.place

    def hold(self, double seconds):
        """Send no calls there for this time, at most 1e9 seconds: the endpoint has asked for that."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        rs_seat_hold(&self.seat, now_ns + <int64_t>(min(seconds, 1e9) * 1e9))
        rs_lock_release(&self.lock)

    def hold_refused(self):
        """Send no calls there for a short time, which grows: the endpoint has refused one, and named no time."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        rs_seat_hold_refused(&self.seat, now_ns)
        rs_lock_release(&self.lock)

    def charge(self):
        """Value the endpoint as if its latest call had failed."""
        learn_unserved(self, True)

    def unserved(self):
        """Note that the endpoint has answered a call and has not served it, as by a 404."""
        learn_unserved(self, False)

    def warm_up(self):
        """Begin with a small share of the calls, which rises, if the pool has such a time."""
        rs_lock_acquire(&self.pool.lock)
        self.seat.joined_ns = rs_clock_now(_clock)
        rs_lock_release(&self.pool.lock)

    def look(self, bint well):
        """
        Take over what its own gates let pass now; `events.deliver` must follow.

        Args:
            well: Whether a probe has succeeded: the price of old failures ends.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&gate.lock)
        if well:
            rs_put(&self.seat.latency_ns, self.seat.good_ns)
            self.seat.owes = 0
        look(gate, now_ns)
        rs_lock_release(&gate.lock)


cdef void learn_unserved(Seat self, bint charge) noexcept:
    """No method: Seat would have a table of them, before what C reads."""
    cdef int64_t now_ns = rs_clock_now(_clock)
    rs_lock_acquire(&self.lock)
    rs_lock_acquire(&self.pool.lock)
    if charge:
        rs_seat_charge(&self.seat, RS_POOL_PRICE * rs_pool_median(self.pool), now_ns)
    else:
        rs_pool_unserved(self.pool, &self.seat, now_ns)
    rs_lock_release(&self.pool.lock)
    rs_lock_release(&self.lock)


cdef int guard(Seat self, tuple gates) except -1:
    """Let these gates ask the pool before statistics eject them, in place of another seat's."""
    cdef rs_gate *gate
    self.guarded = gates
    for one in gates:
        gate = <rs_gate *><PyObject *>one
        rs_lock_acquire(&gate.lock)
        gate.warden = &self.warden
        rs_lock_release(&gate.lock)
    return 0


cdef void end_guard(Seat self) noexcept:
    """End that, unless another seat guards them since."""
    cdef rs_gate *gate
    for one in self.guarded:
        gate = <rs_gate *><PyObject *>one
        rs_lock_acquire(&gate.lock)
        if gate.warden == &self.warden:
            gate.warden = NULL
        rs_lock_release(&gate.lock)


cdef inline rs_seat_object *seat_of(rs_gate *gate) noexcept nogil:
    return <rs_seat_object *>gate


cdef double gates_share(rs_pipeline *policy, int64_t now_ns, int64_t *until_ns) noexcept nogil:
    """The share of calls that the endpoint's own gates let pass, and until when."""
    cdef rs_gate *one
    cdef double least = 1.0, share
    cdef int64_t until
    cdef int i
    until_ns[0] = now_ns
    for i in range(1, policy.n):
        one = policy.gate[i]
        if one.ops.share == NULL:
            continue
        until = now_ns
        rs_lock_acquire(&one.lock)
        share = one.ops.share(one, now_ns, &until)
        if one.enforce_share != UINT32_MAX:         # what it would reject passes for the rest of the share
            share = 1.0 - (1.0 - share) * (<double>one.enforce_share / UINT32_MAX)
        rs_lock_release(&one.lock)
        if share < least or (share == least and until > until_ns[0]):
            least = share
            until_ns[0] = until
    return least


cdef void look(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Take over what the endpoint's gates let pass now. The seat's lock is held."""
    cdef rs_seat_object *self = seat_of(gate)
    cdef int64_t until_ns
    cdef double share
    cdef bint changed
    cdef double before = self.seat.share
    share = gates_share(<rs_pipeline *>gate.keeper, now_ns, &until_ns)
    if now_ns < self.seat.hold_ns:
        share = 0.0
        until_ns = max(until_ns, self.seat.hold_ns)
    if share == 1.0 and before == 1.0:
        return
    rs_lock_acquire(&self.pool.lock)
    changed = rs_pool_set_share(self.pool, &self.seat, share, until_ns, now_ns)
    rs_lock_release(&self.pool.lock)
    if changed and (share == 0.0) != (before == 0.0):
        rs_gate_change(gate, SEAT_EJECTED if before == 0.0 else SEAT_WELL, SEAT_EJECTED if share == 0.0 else SEAT_WELL,
                       BY_POLICY, now_ns)


cdef int may_eject(rs_warden *warden, int64_t run) noexcept nogil:
    """Answer an endpoint's own gate, under that one's lock."""
    cdef rs_seat_object *self = <rs_seat_object *>(<char *>warden - <size_t>&(<rs_seat_object *>NULL).warden)
    cdef bint may
    rs_lock_acquire(&self.pool.lock)
    may = rs_pool_may_eject(self.pool, &self.seat, run)
    rs_lock_release(&self.pool.lock)
    return may


cdef int seat_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                    rs_rejection *rejection) noexcept nogil:
    cdef rs_seat *seat = &seat_of(gate).seat
    slot.seat.place = seat.place
    if now_ns >= seat.hold_ns:
        return RS_ADMITTED
    rejection.reason = SEAT_HELD
    rejection.measured = rejection.limit = NAN
    rejection.retry_after_ns = seat.hold_ns - now_ns
    return RS_REJECTED


cdef void seat_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    look(gate, now_ns)


cdef void seat_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_seat_object *self = seat_of(gate)
    cdef double price_ns = 0.0
    if outcome == RS_FAILURE:
        rs_lock_acquire(&self.pool.lock)
        price_ns = RS_POOL_PRICE * rs_pool_median(self.pool)
        rs_pool_count_failure(self.pool)
        rs_lock_release(&self.pool.lock)
        rs_seat_count(&self.seat, True)
    elif outcome == RS_SUCCESS:
        rs_pool_count_success(self.pool)
        rs_seat_count(&self.seat, False)
    rs_seat_learn(&self.seat, outcome, <double>latency_ns, price_ns, now_ns)
    look(gate, now_ns)


cdef void seat_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """In the child of a fork: another thread may have held the lock, and the choices must differ from the parent's."""
    cdef rs_pool *pool = seat_of(gate).pool
    rs_lock_reset(&pool.lock)
    pool.random = pool.random * <uint64_t>6364136223846793005 + <uint64_t>rs_process_id() | 1


cdef rs_gate_ops SEAT_OPS
SEAT_OPS.kind = "pool"
SEAT_OPS.error = "NoEndpointError"
SEAT_OPS.reasons = POOL_REASONS
SEAT_OPS.states = SEAT_STATES
SEAT_OPS.admit = seat_admit
SEAT_OPS.cancel = seat_cancel
SEAT_OPS.settle = seat_settle
SEAT_OPS.forget = seat_forget
