"""
The bulkhead as a gate: a number of permits, and a bounded queue for the calls that find none free.

The state machine is in bulkhead_machine.pxi; what a host shares is in bulkhead_host.pxi, what a fleet has leased in
bulkhead_fleet.pxi and bulkhead_slots.pxi; this file has the weights of calls and the class.
"""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from resilio._native import clock
from resilio._native.gate cimport *
from resilio._native.options cimport ns_of
from resilio._native.shared cimport RS_CELL_PERMITS, RS_CELL_SLOTS, Cell, rs_courier_ring

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject *const *, size_t, PyObject *)

cdef enum Order:
    FIFO, LIFO, ADAPTIVE

cdef enum BulkheadReason:
    BULKHEAD_FULL, BULKHEAD_QUEUE_FULL, BULKHEAD_TOO_LATE, TOO_HEAVY, BULKHEAD_CLOSED, RESUMED, BULKHEAD_NONE

cdef const char *BULKHEAD_REASONS[7]
BULKHEAD_REASONS[:] = ["full", "queue_full", "wait", "too_heavy", "closed", "resumed", NULL]

cdef enum BulkheadState:
    ADMITTING, CLOSED_DOWN

cdef const char *BULKHEAD_STATES[3]
BULKHEAD_STATES[:] = ["admitting", "closed_down", NULL]

cdef enum:
    BULKHEAD_TOO_MUCH = 2_000_000_000                # more than any bulkhead has

cdef dict _ORDERS = {"fifo": FIFO, "lifo": LIFO, "adaptive": ADAPTIVE}


class _Patient:
    """The first argument of an acquire that waits without limit and outside the bound of the queue."""

    def __repr__(self):
        return "PATIENT"


PATIENT = _Patient()
cdef PyObject *_patient = <PyObject *>PATIENT


cdef extern from *:
    """
    static RS_APART int64_t rs_bulkhead_host_take(rs_gate *, int64_t, int64_t);
    static RS_APART void rs_bulkhead_end(rs_gate *, int64_t);
    """

include "bulkhead_machine.pxi"
include "bulkhead_host.pxi"
include "bulkhead_fleet.pxi"


# ---- weights ---------------------------------------------------------------------------------------------------------

cdef int64_t _whole(object weight) except -1:
    """A weight as a number of permits; raises if it is not a valid number."""
    if type(weight) is not int or weight < 1:
        raise ValueError(weight)
    return min(weight, BULKHEAD_TOO_MUCH)


cdef int _bulkhead_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """Ask the weigher. If it raises or returns nonsense the call weighs 1: a faulty weigher must not stop calls."""
    cdef BulkheadGate self = <BulkheadGate><PyObject *>gate
    cdef Py_ssize_t skipped = _is_patient(request)
    cdef object weigher
    rs_lock_acquire(&self.lock)
    weigher = self.weigher
    rs_lock_release(&self.lock)
    slot.bulkhead.weight = 1
    if weigher is None:
        return 0
    try:
        slot.bulkhead.weight = _whole(PyObject_Vectorcall(weigher, request.args + skipped, request.nargs - skipped,
                                                          request.kwnames))
    except BaseException as error:
        self.bad_weights += 1
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()            # not the weigher's: raised again at the next safe point
    return 0


cdef int _bulkhead_pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_bulkhead *b = _bulkhead_of(gate)
    return not b.closed and b.used == 0 and b.queue.head == NULL and b.idlers.head == NULL


cdef rs_gate_ops BULKHEAD_PLAIN                      # field by field: a struct made at once leaves the others undefined
BULKHEAD_PLAIN.kind = "bulkhead"
BULKHEAD_PLAIN.error = "BulkheadFullError"
BULKHEAD_PLAIN.reasons = &BULKHEAD_REASONS[0]
BULKHEAD_PLAIN.states = &BULKHEAD_STATES[0]
BULKHEAD_PLAIN.admit = _bulkhead_admit
BULKHEAD_PLAIN.poll = _bulkhead_poll
BULKHEAD_PLAIN.cancel = _bulkhead_cancel
BULKHEAD_PLAIN.settle = _bulkhead_settle
BULKHEAD_PLAIN.forget = _bulkhead_forget
BULKHEAD_PLAIN.pristine = _bulkhead_pristine
BULKHEAD_PLAIN.is_shared = _bulkhead_is_shared
cdef rs_gate_ops WEIGHED = BULKHEAD_PLAIN
WEIGHED.prepare = _bulkhead_prepare
cdef rs_gate_ops FLEET_BULKHEAD = BULKHEAD_PLAIN
FLEET_BULKHEAD.admit = _bulkhead_fleet_admit
FLEET_BULKHEAD.cancel = _bulkhead_fleet_cancel
FLEET_BULKHEAD.settle = _bulkhead_fleet_settle
FLEET_BULKHEAD.is_shared = _bulkhead_is_a_fleets
cdef rs_gate_ops FLEET_WEIGHED = FLEET_BULKHEAD
FLEET_WEIGHED.prepare = _bulkhead_prepare


cdef const rs_gate_ops *_bulkhead_ops(rs_bulkhead *b) noexcept nogil:
    if b.slots != NULL:
        return &FLEET_BULKHEAD if b.weight != 0 else &FLEET_WEIGHED
    return &BULKHEAD_PLAIN if b.weight != 0 else &WEIGHED


cdef int _bulkhead_share(BulkheadGate self, Cell cell, rs_slots *slots) except -1:
    """Take permits from the cell, which is a fleet's if there are *slots*."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    cdef rs_bulkhead *b = &self.bulkhead
    cdef rs_permits *permits = NULL if cell is None else <rs_permits *>cell.body
    cdef rs_host *host = _host_of(cell, permits if slots == NULL else rs_slots_permits(slots), self.room)
    cdef rs_host *old
    cdef PyObject *new = _owned(cell)
    cdef PyObject *before
    cdef int64_t now_ns = clock.now_ns()
    if slots != NULL:
        slots.capacity = slots.capacity or <uint32_t>b.configured
    elif host != NULL:
        rs_permits_begin(host.hold.permits, <uint32_t>b.configured)
    rs_lock_acquire(&self.lock)
    old, b.host = b.host, host
    b.slots, b.reported = slots, 0
    before, self.cell = self.cell, new
    self.ops = _bulkhead_ops(b)
    b.capacity = b.configured
    if b.queue.head != NULL and host != NULL:
        rs_host_queued(host, b.queue.head, now_ns)
    rs_host_free(old)
    _bulkhead_grant(gate, b, now_ns)
    rs_lock_release(&self.lock)
    Py_XDECREF(before)
    self.deliver()
    return 0


cdef class BulkheadGate(Gate):
    """
    The permits and the queue of one bulkhead, shared by all that it guards.

    `resilio.bulkhead` is its public face and checks every option; this class does not. The methods are atomic and may
    be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_bulkhead_object *seen = <rs_bulkhead_object *><PyObject *>self
        if <void *>&seen.bulkhead != <void *>&self.bulkhead:
            raise SystemError("resilio._native.gates was built against another gate.h")
        self.ops = &BULKHEAD_PLAIN
        self.watching = set()

    def __dealloc__(self):
        rs_host_free(self.bulkhead.host)
        Py_XDECREF(self.cell)

    def __init__(self, config):
        """Make an empty bulkhead with the options of *config*, a `BulkheadConfig`."""
        self.configure(config)

    def configure(self, config):
        """
        Take the options of *config*, all at once; held permits and queued calls stay.

        More permits are handed out at once, in order. With fewer, permits already held stay valid, and queued calls
        that are now too heavy are rejected. Queued calls keep the longest wait that they came with.
        """
        cdef int64_t max_concurrent = config.max_concurrent, max_queued = config.max_queued
        cdef int64_t max_wait_ns = ns_of(config.max_wait)
        cdef uint8_t code = _ORDERS[config.order]
        cdef object weight = config.weight
        cdef int64_t constant = 0 if callable(weight) else weight
        cdef int64_t now_ns = clock.now_ns()
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef object old = self.weigher      # freed after the lock is released
        cdef object weigher = weight if constant == 0 else None
        rs_lock_acquire(&self.lock)
        self.weigher = weigher
        self.bulkhead.weight = constant
        self.ops = _bulkhead_ops(&self.bulkhead)
        _set_capacity(&self.bulkhead, max_concurrent)
        self.bulkhead.most_queued = max_queued
        self.bulkhead.max_wait_ns = max_wait_ns
        self.bulkhead.order = code
        self.bulkhead.chosen = NULL
        _reject_queued(gate, &self.bulkhead, self.bulkhead.capacity, TOO_HEAVY)
        _bulkhead_grant(gate, &self.bulkhead, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def cell_wanted(self):
        """
        Return the kind, stock and size in bytes of the cell that the permits need in a region of the host.

        It is the cell that the gate has, as long as there is room for its permits.
        """
        cdef int64_t permits = self.bulkhead.configured
        cdef rs_host *host = self.bulkhead.host
        if host == NULL or permits > host.hold.room:
            self.stock = b"%d" % permits
            self.room = _room_for(SPARE_ROOM * permits)
        return RS_CELL_PERMITS, self.stock, rs_permits_size(self.room)

    def share(self, Cell cell):
        """
        Take permits from *cell*, with all its workers; None: from this process's own again.

        Calls that hold a permit keep it, and are not counted among the host's.
        """
        _bulkhead_share(self, cell, NULL)

    def fleet_cell_wanted(self):
        """Return the same for a fleet's bulkhead."""
        self.cell_wanted()
        if self.bulkhead.configured > RS_SLOTS_MOST:
            raise ValueError(f"max_concurrent must be at most {RS_SLOTS_MOST:,} in a fleet, "
                             f"not {self.bulkhead.configured:,}")
        return RS_CELL_SLOTS, self.stock, rs_slots_size(self.room)

    def share_fleet(self, Cell cell):
        """Take the slots that a fleet's store leases to *cell*, with all its workers; None: this process's own."""
        _bulkhead_share(self, cell, NULL if cell is None else <rs_slots *>cell.body)

    def close(self):
        """Reject all new calls and all that wait; calls that hold a permit keep it to their end."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if not self.bulkhead.closed:
            rs_gate_change(gate, ADMITTING, CLOSED_DOWN, BULKHEAD_CLOSED, now_ns)
        self.bulkhead.closed = True
        _reject_queued(gate, &self.bulkhead, 0, BULKHEAD_CLOSED)
        _bulkhead_grant(gate, &self.bulkhead, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def open(self):
        """Admit again after :meth:`close`."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if self.bulkhead.closed:
            rs_gate_change(gate, CLOSED_DOWN, ADMITTING, RESUMED, now_ns)
        self.bulkhead.closed = False
        rs_lock_release(&self.lock)
        self.deliver()

    def watch(self, Waiter waiter not None):
        """
        Wake *waiter* when no permit is held and no call waits; return False if that is so already.

        A waiter is woken once. Call :meth:`unwatch` to stop waiting before that.
        """
        cdef rs_waiter *watcher = <rs_waiter *><PyObject *>waiter
        cdef bint busy
        self.watching.add(waiter)           # the queue holds no references
        rs_lock_acquire(&self.lock)
        busy = self.bulkhead.used > 0 or self.bulkhead.queue.head != NULL
        if busy and watcher.state == RS_WAITER_IDLE:
            rs_queue_push(&self.bulkhead.idlers, watcher, 0)
        rs_lock_release(&self.lock)
        return busy

    def unwatch(self, Waiter waiter not None):
        """Stop waiting: do not wake *waiter*."""
        cdef rs_waiter *watcher = <rs_waiter *><PyObject *>waiter
        rs_lock_acquire(&self.lock)
        if watcher.state == RS_WAITER_QUEUED:
            rs_queue_remove(&self.bulkhead.idlers, watcher)
        rs_lock_release(&self.lock)
        self.watching.discard(waiter)

    @property
    def capacity(self):
        """The number of permits, free and held; the host's if they are shared."""
        rs_lock_acquire(&self.lock)
        _bulkhead_follow(&self.bulkhead)
        rs_lock_release(&self.lock)
        return self.bulkhead.capacity

    @property
    def used(self):
        """Permits held, or granted to a waiter that has not taken them yet."""
        return self.bulkhead.used

    @property
    def used_by_host(self):
        """The same in all workers of the host; in this process if its permits are its own."""
        rs_lock_acquire(&self.lock)
        cdef double used = _used_by_all(&self.bulkhead)
        rs_lock_release(&self.lock)
        return <int64_t>used

    @property
    def available(self):
        """Permits that calls may take now; below zero if more are held than there are by now."""
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        _bulkhead_follow(&self.bulkhead)
        cdef double free = _bound_of(&self.bulkhead, now_ns) - _used_by_all(&self.bulkhead)
        rs_lock_release(&self.lock)
        return <int64_t>free

    @property
    def closed(self):
        """True from :meth:`close` until :meth:`open`."""
        return bool(self.bulkhead.closed)

    @property
    def weight_errors(self):
        """Calls that weighed 1 because the weight function raised or returned nonsense."""
        return self.bad_weights
