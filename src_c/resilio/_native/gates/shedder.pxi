"""
The load shedder as a gate: permits, and a queue that keeps the calls worth serving.

The decisions are in shedder_machine.pxi. Here are a call's class, task and tenant, and the Python interface.
"""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject, PyObject_Hash
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from resilio._native import clock, core
from resilio._native.gate cimport *
from resilio._native.primitives cimport (
    RS_LAW_DEFAULT, rs_law_baseline, rs_law_init, rs_law_learn, rs_law_queue_before, rs_law_reset,
)
from resilio._native.options cimport ns_of
from resilio._native.strategy cimport rs_core_api

from resilio._support.random_seed import seed64

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject *const *, size_t, PyObject *)

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")

cdef enum:
    CRITICAL, STANDARD, SHEDDABLE, BACKGROUND

cdef enum:
    SHEDDER_FULL, RESERVED, SHEDDER_QUEUE_FULL, DISPLACED, SHEDDER_TOO_LATE, BEGAN, ENDED, SHEDDER_HOPELESS

cdef const char *SHEDDER_REASONS[8]
SHEDDER_REASONS[:] = ["full", "reserved", "queue_full", "displaced", "wait", "rejections", "recovered", NULL]

cdef enum:
    NORMAL, OVERLOADED

cdef const char *SHEDDER_STATES[3]
SHEDDER_STATES[:] = ["normal", "overloaded", NULL]

cdef enum:
    TASKS = 4096                            # remembered tasks: a power of two
    MOST_LEARNT = 1_000_000                 # most permits that a law may grant

cdef uint64_t NO_TASK = <uint64_t>1 << 63   # ranks in the middle of calls with a task
cdef int64_t HOUR_NS = 3_600_000_000_000

_LEVELS = ("critical", "standard", "sheddable", "background")
_COUNTED = ("full", "reserved", "queue_full", "displaced", "wait", None, None, "deadline")

include "shedder_machine.pxi"


# ---- before admission ------------------------------------------------------------------------------------------------

cdef int _shedder_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """Find the class and the task in the context: two loads while no context has a priority."""
    cdef int level = STANDARD
    cdef uint64_t task = 0
    slot.shedder.tenant = 0
    if api.priorities[0] != 0:
        level = api.priority(&task)
        if not CRITICAL <= level <= BACKGROUND:
            level = STANDARD
    if request.hedge and level < SHEDDABLE:
        level = SHEDDABLE
    slot.shedder.task = task
    slot.shedder.level = level
    return 0


cdef uint64_t _hash_of(object function, const rs_request *request) except? 0:
    """Hash of the value that *function* returns for the call; 0 only for None."""
    cdef object key = PyObject_Vectorcall(function, request.args, request.nargs, request.kwnames)
    if key is None:
        return 0
    cdef uint64_t hash = <uint64_t>PyObject_Hash(key)
    return hash + (hash == 0)


cdef uint64_t _shedder_ask(object function, const rs_request *request, uint64_t *errors) noexcept:
    """Hash by *function*; 0 if it raises or its value has no hash, because it must not decide over the call."""
    try:
        return _hash_of(function, request)
    except BaseException as error:
        errors[0] += 1
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()            # not of the function: raised again at the next safe point
        return 0


cdef int _prepare_asking(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    cdef ShedderGate self = <ShedderGate><PyObject *>gate
    cdef object tenant, task
    cdef uint64_t hash
    _shedder_prepare(gate, slot, request)
    rs_lock_acquire(&self.lock)
    tenant, task = self.tenant, self.task
    rs_lock_release(&self.lock)
    if task is not None:
        hash = _shedder_ask(task, request, &self.bad_tasks)
        if hash != 0:
            slot.shedder.task = hash
    if tenant is not None:
        slot.shedder.tenant = _shedder_ask(tenant, request, &self.bad_tenants)
    return 0


cdef rs_gate_ops SHEDDER_PLAIN                      # field by field: a struct made at once leaves the others undefined
SHEDDER_PLAIN.kind = "load_shed"
SHEDDER_PLAIN.error = "OverloadedError"
SHEDDER_PLAIN.reasons = &SHEDDER_REASONS[0]
SHEDDER_PLAIN.states = &SHEDDER_STATES[0]
SHEDDER_PLAIN.prepare = _shedder_prepare
SHEDDER_PLAIN.admit = _shedder_admit
SHEDDER_PLAIN.poll = _shedder_poll
SHEDDER_PLAIN.cancel = _shedder_cancel
SHEDDER_PLAIN.settle = _shedder_settle
SHEDDER_PLAIN.forget = _shedder_forget
SHEDDER_PLAIN.pristine = _shedder_pristine
cdef rs_gate_ops ASKING = SHEDDER_PLAIN
ASKING.prepare = _prepare_asking


cdef class ShedderGate(Gate):
    """
    Permits and queue of one load shedder, shared by all functions that it guards.

    `resilio.load_shed` is its public face and checks every option; this class checks none. The methods are
    atomic and may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_shedder_object *seen = <rs_shedder_object *><PyObject *>self
        if <void *>&seen.shedder != <void *>&self.shedder:
            raise SystemError("resilio._native.gates was built against another gate.h")
        if rs_shed_init(&self.shedder.queue, False) < 0:
            raise MemoryError
        self.ops = &SHEDDER_PLAIN
        self.shedder.salt = seed64()
        self.shedder.state.random = self.shedder.salt

    def __init__(self, config):
        """Make an idle load shedder with the options of *config*, a `LoadShedConfig`."""
        self.configure(config)

    def __dealloc__(self):
        rs_shed_release(&self.shedder.queue)
        free(self.shedder.known)

    def configure(self, config):
        """
        Take the options of *config* at once; keep held permits, waiting calls and the learnt state.

        Additional permits go to waiting calls at once, in order. With fewer permits, held ones stay valid.

        Raises:
            MemoryError: No memory for the tenants.
        """
        cdef rs_shed_queue queue
        cdef object tenant = config.tenant, task = config.task
        cdef bint fair = tenant is not None
        cdef int64_t limit = config.max_concurrent or 0, target_ns = ns_of(config.target)
        cdef int64_t now_ns = clock.now_ns()
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef object old = (self.tenant, self.task)      # freed after the lock is released
        if rs_shed_init(&queue, fair) < 0:
            raise MemoryError
        rs_lock_acquire(&self.lock)
        self.tenant, self.task = tenant, task
        self.ops = &SHEDDER_PLAIN if tenant is None and task is None else &ASKING
        if self.shedder.fair != fair:
            rs_shed_move(&self.shedder.queue, &queue)
            self.shedder.queue, queue = queue, self.shedder.queue
            self.shedder.fair = fair
        self.shedder.state.target_ns = target_ns
        if limit == 0 and not self.shedder.learns:
            rs_law_init(&self.shedder.law, RS_LAW_DEFAULT, 20.0, 1.0, MOST_LEARNT)
            rs_law_queue_before(&self.shedder.law)
        self.shedder.learns = limit == 0
        _set_limit(&self.shedder, limit if limit != 0 else <int64_t>self.shedder.law.limit)
        self.shedder.state.rising = _rises(&self.shedder)
        _shedder_grant(gate, &self.shedder, now_ns)
        rs_lock_release(&self.lock)
        rs_shed_release(&queue)
        self.deliver()

    def reset(self):
        """Forget the learnt state; held permits and waiting calls stay."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef rs_shed_state *state = &self.shedder.state
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if state.overloaded:
            rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)
        state.overloaded = False
        state.shed = 0.0
        state.samples = state.successes = 0
        state.patience_ns = state.timely = state.gave_up_ns = 0.0
        if self.shedder.known != NULL:
            memset(self.shedder.known, 0, TASKS * sizeof(uint64_t))
        if self.shedder.learns:
            rs_law_reset(&self.shedder.law)
            _set_limit(&self.shedder, <int64_t>self.shedder.law.limit)
            state.rising = _rises(&self.shedder)
            _shedder_grant(gate, &self.shedder, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def look(self):
        """Notice the end of an overload without a new arrival."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if self.shedder.state.overloaded and rs_shed_over(&self.shedder.state, now_ns):
            rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def rejected_by_priority(self):
        """Return the number of calls lost to overload by class and reason, without zeros."""
        cdef int level, reason
        cdef uint64_t count
        result = {}
        for level in range(4):
            for reason in range(8):
                rs_lock_acquire(&self.lock)
                count = self.shedder.shed[level][reason]
                rs_lock_release(&self.lock)
                if count:
                    result[_LEVELS[level], _COUNTED[reason]] = count
        return result

    @property
    def overloaded(self):
        """True if it rejects more calls than a queue loses by chance."""
        return bool(self.shedder.state.overloaded)

    @property
    def limit(self):
        """Number of permits."""
        return self.shedder.limit

    @property
    def used(self):
        """Permits held, or granted to a waiter that has not come for them yet."""
        return self.shedder.used

    @property
    def room(self):
        """Number of calls that may wait now."""
        return _room(&self.shedder, False)

    @property
    def rejected_share(self):
        """Rejected share of recent arrivals."""
        return self.shedder.state.shed

    @property
    def usual_ns(self):
        """Mean time that a permit is held and median latency of successes, in ns; 0.0: unknown."""
        if self.shedder.state.samples == 0:
            return 0.0, 0.0
        return self.shedder.state.mean_ns, rs_shed_median_ns(&self.shedder.state)

    @property
    def tenant_errors(self):
        """Calls whose tenant function raised or returned an unhashable value; they had no tenant."""
        return self.bad_tenants

    @property
    def task_errors(self):
        """Calls whose task function raised or returned an unhashable value; they used the task of their context."""
        return self.bad_tasks
