"""
The gate of an adaptive limit: a learned number of permits, and a bounded queue for calls that find none.

The law is in laws.h; this gate decides which calls are admitted, and which ends are samples. A sample is the latency
and `slot.adaptive.inflight`, the number of calls in flight at admission, the call itself included.

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


include "adaptive_machine.pxi"
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
HOST_ADAPTIVE.is_shared = _adaptive_is_shared


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
        a.ahead.owner = 0
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
