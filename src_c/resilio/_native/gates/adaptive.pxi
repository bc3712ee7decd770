# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The gate of an adaptive limit: a learned number of permits, and a bounded queue for calls that find none.

All code above the class runs with the gate's lock held: C arithmetic only. The law is in laws.h; this gate decides
which calls are admitted, and which ends are samples. A sample is the latency and `slot.adaptive.inflight`, the number
of calls in flight at admission, the call itself included.

In shadow mode a call that would have been rejected runs all the same, and the others wait for it. So the law counts it
(`passing`) and learns from it; only the permits leave it out. Without it, the law would take the latency of ten calls
for that of five.

If the permits are the host's (adaptive_host.pxi), the law is too: `law` is then what this worker has last seen of it,
and `used` counts the calls of this process.
"""

from cpython.object cimport PyObject
from libc.math cimport fabs
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from resilio._native import clock
from resilio._native.gate cimport *
from resilio._native.primitives cimport *
from resilio._native.options cimport ns_of
from resilio._native.shared cimport RS_CELL_ADAPTIVE, Cell

cdef enum AdaptiveReason:
    LIMIT, ADAPTIVE_QUEUE_FULL, ADAPTIVE_TOO_LATE, ADAPTIVE_NONE, MOVED = 3

cdef const char *ADAPTIVE_REASONS[5]
ADAPTIVE_REASONS[:] = ["limit", "queue_full", "wait", "moved", NULL]

cdef const char *ADAPTIVE_STATES[2]                  # no real states: recording a change of the limit needs one
ADAPTIVE_STATES[:] = ["limiting", NULL]

cdef enum Mark:
    PLAIN_CALL, PASSING = 1, TAUGHT = 2, COUNTED = 4      # bits of slot.adaptive.flags; counted by the host

cdef enum:
    FLAGS = 3                               # their number

cdef double NOTABLE = 0.2                   # share by which the limit moves before listeners are notified


cdef inline rs_adaptive *_adaptive_of(rs_gate *gate) noexcept nogil:
    return &(<rs_adaptive_object *>gate).adaptive


cdef inline bint _is_free(rs_adaptive *a) noexcept nogil:
    return <double>(a.used + 1) <= a.law.limit


cdef inline uint64_t _generation(rs_adaptive *a) noexcept nogil:
    """Of the learned state: calls that began in an earlier one teach nothing."""
    return a.generation if a.host == NULL else a.generation + a.learning.resets


cdef inline bint _adaptive_take(rs_adaptive *a) noexcept nogil:
    """Take a permit if there is one."""
    cdef int64_t free = -1 if a.host == NULL else rs_host_take(a.host, a.used, 1)
    if free < 0:
        free = _is_free(a)
    a.used += free
    return free


cdef inline int64_t _adaptive_enter(rs_gate *gate, rs_adaptive *a, uint32_t *flags) noexcept nogil:
    """Return the number of calls in flight, with the one that has just taken a permit."""
    flags[0] = PLAIN_CALL
    return a.used + a.passing if a.host == NULL else _host_enter(gate, a, flags)


# ---- the queue -------------------------------------------------------------------------------------------------------

cdef inline void _adaptive_unqueue(rs_gate *gate, rs_adaptive *a, rs_waiter *waiter) noexcept nogil:
    rs_queue_remove(&a.queue, waiter)
    if a.host != NULL:
        rs_host_unqueued(gate, a.host, &a.queue, waiter, False)


cdef void _adaptive_grant(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Move free permits to the longest waiting calls, and wake them."""
    cdef rs_waiter *waiter = a.queue.head
    cdef uint32_t flags
    while waiter != NULL and (a.host != NULL or _is_free(a)):
        if rs_waiter_expired(waiter, now_ns):
            _adaptive_unqueue(gate, a, waiter)
            waiter.state = RS_WAITER_REJECTED
            waiter.reason = RS_EXPIRED
        elif _adaptive_take(a):
            _adaptive_unqueue(gate, a, waiter)
            waiter.state = RS_WAITER_GRANTED
            waiter.amount = _adaptive_enter(gate, a, &flags) << FLAGS | flags
        else:
            return
        rs_gate_wake(gate, waiter)
        waiter = a.queue.head


# ---- learning --------------------------------------------------------------------------------------------------------

cdef void _note(rs_gate *gate, rs_adaptive *a, int64_t now_ns) noexcept nogil:
    """Record a notable move of the limit, if there are listeners."""
    if fabs(a.law.learned - a.reported) <= NOTABLE * a.reported:
        return
    if gate.listening & RS_LISTEN_LIMIT:
        if a.moved[1] == 0:                 # an undelivered move keeps its origin
            a.moved[0] = a.reported
            rs_gate_change(gate, 0, 0, MOVED, now_ns)
        a.moved[1] = a.law.learned
    a.reported = a.law.learned


cdef inline void _adaptive_learn(rs_gate *gate, rs_adaptive *a, rs_slot *slot, int64_t latency_ns, bint dropped,
                                 int64_t now_ns) noexcept nogil:
    if slot.adaptive.generation != a.generation or slot.adaptive.flags & TAUGHT:
        return
    slot.adaptive.flags |= TAUGHT
    rs_law_learn(&a.law, latency_ns, slot.adaptive.inflight, a.used + a.passing + 1, dropped, now_ns)
    _note(gate, a, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef inline int64_t _turn_ns(rs_adaptive *a) noexcept nogil:
    """Expected wait of the last call in the queue, in ns; -1: no measurement yet."""
    cdef double wait_ns = a.law.mean * (a.queue.length + 1) / a.law.limit
    return <int64_t>wait_ns + 1 if 0 < wait_ns < 4e18 else -1


cdef int _adaptive_reject(rs_adaptive *a, int reason, rs_rejection *rejection) noexcept nogil:
    rejection.reason = reason
    rejection.measured = a.used if a.host == NULL else _adaptive_used_by_all(a)
    rejection.limit = <double><int64_t>a.law.limit
    rejection.retry_after_ns = -1 if a.law.mean == 0 else <int64_t>a.law.mean + _turn_ns(a)
    if reason == ADAPTIVE_QUEUE_FULL:
        rejection.measured = a.queue.length
        rejection.limit = a.most_queued
    return RS_REJECTED


cdef int _pass(rs_gate *gate, rs_adaptive *a, rs_slot *slot, int obstacle) noexcept nogil:
    if obstacle == ADAPTIVE_NONE:
        gate.counters.would_wait += 1
    else:
        gate.counters.would_reject += 1
    gate.counters.inflight -= 1             # core counts it as a holder of a permit
    a.passing += 1
    slot.adaptive.flags = PASSING
    slot.adaptive.inflight = a.used + a.passing if a.host == NULL else _host_pass(a)
    return RS_ADMITTED


cdef int _adaptive_queue(rs_gate *gate, rs_adaptive *a, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef int obstacle = ADAPTIVE_NONE
    cdef rs_waiter *waiter = request.waiter
    if a.most_queued == 0 or a.max_wait_ns == 0:
        obstacle = LIMIT
    elif a.queue.length >= a.most_queued:
        obstacle = ADAPTIVE_QUEUE_FULL
    if not rs_gate_enforced(gate):
        return _pass(gate, a, slot, obstacle)
    if obstacle != ADAPTIVE_NONE or waiter == NULL:
        return _adaptive_reject(a, obstacle if obstacle != ADAPTIVE_NONE else LIMIT, rejection)
    if rs_gate_cannot_finish(gate, request, now_ns, max(_turn_ns(a), 0), rejection):
        return RS_REJECTED
    waiter.amount = 0
    waiter.deadline_ns = now_ns + a.max_wait_ns
    rs_queue_push(&a.queue, waiter, now_ns)
    slot.wake_ns = waiter.deadline_ns
    if a.host != NULL:
        rs_host_queued(a.host, waiter, now_ns)
        rs_host_wait(a.host, slot, waiter)
    return RS_WAIT


cdef int _adaptive_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                         rs_rejection *rejection) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    slot.adaptive.generation = a.generation
    slot.adaptive.flags = PLAIN_CALL
    if a.queue.head == NULL and _is_free(a):
        a.used += 1
        slot.adaptive.inflight = a.used + a.passing
        return RS_ADMITTED
    return _adaptive_queue(gate, a, slot, request, now_ns, rejection)


cdef int _adaptive_poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_rejection *rejection) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    cdef rs_waiter *waiter = slot.waiter
    if a.host != NULL and waiter.state == RS_WAITER_QUEUED and rs_host_asks(a.host, waiter, now_ns):
        _adaptive_ask(gate, a, now_ns)
    if waiter.state == RS_WAITER_QUEUED:
        if now_ns < waiter.deadline_ns:
            slot.wake_ns = waiter.deadline_ns
            if a.host != NULL:
                rs_host_wait(a.host, slot, waiter)
            return RS_WAIT
        _adaptive_unqueue(gate, a, waiter)
        _adaptive_reject(a, ADAPTIVE_TOO_LATE, rejection)
        rejection.measured = (now_ns - waiter.enqueued_ns) / 1e9
        rejection.limit = (waiter.deadline_ns - waiter.enqueued_ns) / 1e9
        return RS_REJECTED
    if waiter.state == RS_WAITER_GRANTED:
        waiter.state = RS_WAITER_IDLE
        slot.adaptive.inflight = waiter.amount >> FLAGS
        slot.adaptive.flags = <uint32_t>waiter.amount & ((1 << FLAGS) - 1)
        slot.adaptive.generation = _generation(a)
        return RS_ADMITTED
    return _adaptive_reject(a, waiter.reason, rejection)


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef inline void _give_back(rs_gate *gate, rs_adaptive *a, rs_slot *slot) noexcept nogil:
    if slot.adaptive.flags & PASSING:
        a.passing -= 1
        gate.counters.inflight += 1         # core has taken it off
    else:
        a.used -= 1


cdef void _adaptive_cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    if slot.state == RS_SLOT_HELD:
        if a.host != NULL:
            _host_leave(a, slot.adaptive.flags)
        _give_back(gate, a, slot)
    elif slot.waiter.state == RS_WAITER_GRANTED:
        slot.waiter.state = RS_WAITER_IDLE
        if a.host != NULL:
            _host_leave(a, <uint32_t>slot.waiter.amount & ((1 << FLAGS) - 1))
        a.used -= 1
    elif slot.waiter.state == RS_WAITER_QUEUED:
        _adaptive_unqueue(gate, a, slot.waiter)
    if a.host != NULL:
        _adaptive_host_end(gate, a, now_ns)
    else:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns,
                           int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    _give_back(gate, a, slot)
    if outcome == RS_FAILURE:
        slot.adaptive.flags &= ~<uint32_t>TAUGHT      # a stream may break off after its first item was a sample
        _adaptive_learn(gate, a, slot, latency_ns, True, now_ns)
    elif outcome == RS_SUCCESS:
        _adaptive_learn(gate, a, slot, latency_ns, False, now_ns)
    if a.queue.head != NULL:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    _adaptive_learn(gate, a, slot, latency_ns, False, now_ns)
    if a.queue.head != NULL:
        _adaptive_grant(gate, a, now_ns)


cdef void _adaptive_forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    a.used = a.passing = 0
    memset(&a.queue, 0, sizeof(a.queue))
    if a.host != NULL:
        rs_host_forget(a.host)


cdef int _adaptive_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_adaptive *a = _adaptive_of(gate)
    return (a.host == NULL and a.used == 0 and a.passing == 0 and a.queue.head == NULL
            and rs_law_untouched(&a.law))


include "adaptive_host.pxi"


cdef rs_gate_ops ADAPTIVE_OPS                        # field by field: a struct made at once leaves the others undefined
ADAPTIVE_OPS.kind = "adaptive_limit"
ADAPTIVE_OPS.error = "OverloadedError"
ADAPTIVE_OPS.reasons = &ADAPTIVE_REASONS[0]
ADAPTIVE_OPS.states = &ADAPTIVE_STATES[0]
ADAPTIVE_OPS.admit = _adaptive_admit
ADAPTIVE_OPS.poll = _adaptive_poll
ADAPTIVE_OPS.cancel = _adaptive_cancel
ADAPTIVE_OPS.settle = _adaptive_settle
ADAPTIVE_OPS.first_item = _adaptive_first_item
ADAPTIVE_OPS.forget = _adaptive_forget
ADAPTIVE_OPS.pristine = _adaptive_pristine
cdef rs_gate_ops HOST_ADAPTIVE = ADAPTIVE_OPS
HOST_ADAPTIVE.admit = _adaptive_host_admit
HOST_ADAPTIVE.settle = _adaptive_host_settle
HOST_ADAPTIVE.first_item = _adaptive_host_first_item


cdef class AdaptiveGate(Gate):
    """
    Permits, queue and learned state of one adaptive limit, shared by all functions that it guards.

    `resilio.adaptive_limit` is its public face and checks every option; this class checks none. The methods are
    atomic and may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_adaptive_object *seen = <rs_adaptive_object *><PyObject *>self
        if <void *>&seen.adaptive != <void *>&self.adaptive:
            raise SystemError("resilio._native.gates was built against another gate.h")
        self.ops = &ADAPTIVE_OPS

    def __dealloc__(self):
        rs_host_free(self.adaptive.host)
        Py_XDECREF(self.cell)

    def __init__(self, config):
        """Make a gate without learned state, with the options of *config*, an `AdaptiveLimitConfig`."""
        rs_law_init(&self.adaptive.law, kind_of(config.law), config.start, config.floor, config.ceiling)
        self.adaptive.reported = self.adaptive.law.learned
        self.configure(config)

    def configure(self, config):
        """
        Take the options of *config* at once; keep held permits, waiting calls and the learned state.

        A new law begins at the limit that the old one had learned; `start` is for :meth:`reset`.
        """
        cdef int kind = kind_of(config.law)
        cdef double start = config.start, floor = config.floor, ceiling = config.ceiling
        cdef int64_t max_queued = config.max_queued, max_wait_ns = ns_of(config.max_wait)
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef rs_adaptive *a = &self.adaptive
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if kind != a.law.kind:
            rs_law_init(&a.law, kind, a.law.learned, floor, ceiling)
            a.generation += 1
        a.law.start = start
        rs_law_bound(&a.law, floor, ceiling)
        _set_rules(a, rs_rules(kind=kind, start=config.start, floor=config.floor, ceiling=config.ceiling), now_ns)
        a.most_queued = max_queued
        a.max_wait_ns = max_wait_ns
        _note(gate, a, now_ns)
        _adaptive_grant(gate, a, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def reset(self):
        """Forget the learned state: the limit is `start` again. Calls in flight keep permits, but are no samples."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        rs_law_reset(&self.adaptive.law)
        self.adaptive.generation += 1
        if self.adaptive.host != NULL:
            _host_reset(&self.adaptive, now_ns)
        _note(gate, &self.adaptive, now_ns)
        _adaptive_grant(gate, &self.adaptive, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def drain_moves(self):
        """Return the move of the limit not yet reported, as `[(old, new)]`, or an empty list."""
        cdef double old, new
        rs_lock_acquire(&self.lock)
        old, new = self.adaptive.moved[0], self.adaptive.moved[1]
        self.adaptive.moved[0] = self.adaptive.moved[1] = 0
        rs_lock_release(&self.lock)
        return [(old, new)] if new > 0 else []

    def state(self):
        """Return `(limit, learned, baseline_ns, mean_ns, used, passing)`, read at one moment; 0 ns: unknown."""
        cdef rs_adaptive seen
        rs_lock_acquire(&self.lock)
        _adaptive_look(&self.adaptive)
        seen = self.adaptive
        rs_lock_release(&self.lock)
        return (seen.law.limit, seen.law.learned, rs_law_baseline(&seen.law), seen.law.mean, seen.used, seen.passing)

    @property
    def limit(self):
        """The limit in force."""
        rs_lock_acquire(&self.lock)
        _adaptive_follow(&self.adaptive)
        cdef double limit = self.adaptive.law.limit
        rs_lock_release(&self.lock)
        return limit

    @property
    def used(self):
        """Permits held, or granted to a waiter that has not come for them yet."""
        return self.adaptive.used

    @property
    def used_by_host(self):
        """The same in all workers of the host; in this process if its permits are its own."""
        rs_lock_acquire(&self.lock)
        cdef double used = _adaptive_used_by_all(&self.adaptive)
        rs_lock_release(&self.lock)
        return <int64_t>used

    def cell_wanted(self):
        """
        Return the kind, stock and size in bytes of the cell that the limit needs in a region of the host.

        It is the cell that the gate has, as long as there is room for its ceiling.
        """
        cdef rs_host *host = self.adaptive.host
        cdef rs_rules rules = rs_rules_of(self.adaptive.rules)
        if host == NULL or rules.ceiling > host.hold.room:
            self.stock = b"%d,%d,%d,%d,%d" % (rules.kind, rules.start, rules.floor, rules.ceiling, sizeof(rs_law))
            self.room = _room_for(rules.ceiling)
        return RS_CELL_ADAPTIVE, self.stock, rs_host_law_size(self.room)

    def share(self, Cell cell):
        """
        Learn and admit together with all workers of *cell*; None: alone again, from what was learned.

        Calls that hold a permit keep it, and are not counted among the host's.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef rs_adaptive *a = &self.adaptive
        cdef rs_host_law *learning = NULL if cell is None else <rs_host_law *>cell.body
        cdef rs_host *host
        cdef rs_host *old
        cdef PyObject *new
        cdef PyObject *before
        cdef int64_t now_ns = clock.now_ns()
        host = _host_of(cell, NULL if learning == NULL else rs_host_law_permits(learning), self.room)
        new = _owned(cell)
        if learning != NULL:
            rs_host_law_init(learning, rs_rules_of(a.rules))
        rs_lock_acquire(&self.lock)
        _adaptive_look(a)
        old, a.host = a.host, host
        a.learning = learning
        before, self.cell = self.cell, new
        self.ops = &ADAPTIVE_OPS if host == NULL else &HOST_ADAPTIVE
        a.generation += 1
        if a.queue.head != NULL and host != NULL:
            rs_host_queued(host, a.queue.head, now_ns)
        rs_host_free(old)
        _adaptive_grant(gate, a, now_ns)
        rs_lock_release(&self.lock)
        Py_XDECREF(before)
        self.deliver()
