# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The load shedder as a gate: permits, and a queue that keeps the calls worth serving.

Everything above the class but `_prepare` runs with the gate's lock held: C arithmetic only (shedding.h decides how many
may wait, shed_queue.h who is next and who goes). As in a bulkhead a permit moves to a waiter when its turn comes,
before it is woken: until it polls or is cancelled the permit counts as used.

A slot keeps the class in the low byte of `mark` (above it, how many were in flight at its admission), the hash of the
task in `generation`, that of the tenant in `amount` until the call has its place in the queue or a permit, and the
place from then on. A waiter keeps its task in `claim`.
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
from resilio._native.laws cimport RS_LAW_DEFAULT, rs_law_init, rs_law_learn, rs_law_queue_before, rs_law_reset
from resilio._native.strategy cimport rs_core_api

from resilio._entropy import seed64

__all__ = ["ShedderGate"]

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject *const *, size_t, PyObject *)

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")

cdef enum:
    CRITICAL, STANDARD, SHEDDABLE, BACKGROUND

cdef enum:
    FULL, RESERVED, QUEUE_FULL, EVICTED, TOO_LATE, BEGAN, ENDED, HOPELESS

cdef const char *REASONS[8]
REASONS[:] = ["full", "reserved", "queue_full", "evicted", "wait", "shed", "recovered", NULL]

cdef enum:
    NORMAL, OVERLOADED

cdef const char *STATES[3]
STATES[:] = ["normal", "overloaded", NULL]

cdef enum:
    TASKS = 4096                            # remembered: a power of two
    MOST_LEARNT = 1_000_000                 # permits that a law may give

cdef uint64_t NO_TASK = <uint64_t>1 << 63   # ranks in the middle of those with a task
cdef int64_t HOUR_NS = 3_600_000_000_000

_LEVELS = ("critical", "standard", "sheddable", "background")
_COUNTED = ("full", "reserved", "queue_full", "evicted", "wait", None, None, "deadline")


cdef inline rs_shedder *_of(rs_gate *gate) noexcept nogil:
    return &(<rs_shedder_object *>gate).shedder


# ---- tasks and tenants -----------------------------------------------------------------------------------------------

cdef inline uint64_t _salted(rs_shedder *s, uint64_t hash, int64_t now_ns) noexcept nogil:
    """Nobody is unlucky for good: the order of tasks, and who shares a flow, change by the hour."""
    return rs_shed_mix(hash ^ s.salt ^ <uint64_t>(now_ns // HOUR_NS))


cdef inline bint _is_known(rs_shedder *s, uint64_t task) noexcept nogil:
    return s.known != NULL and s.known[task % TASKS] == task


cdef void _remember(rs_shedder *s, uint64_t task) noexcept nogil:
    if task == 0:
        return
    if s.known == NULL:
        s.known = <uint64_t *>calloc(TASKS, sizeof(uint64_t))
        if s.known == NULL:                 # then no task is served first
            return
    s.known[task % TASKS] = task


cdef inline void _give_up_task(rs_shedder *s, uint64_t task) noexcept nogil:
    """What is left of a task that was refused a call is of little use."""
    if _is_known(s, task):
        s.known[task % TASKS] = 0


cdef int64_t _find_place(rs_shedder *s, rs_slot *slot, int64_t now_ns) noexcept nogil:
    """Where the call belongs in the queue; its task's hash is salted from here on."""
    cdef bint known = False
    cdef uint64_t order = NO_TASK
    if slot.generation != 0:
        order = _salted(s, slot.generation, now_ns)
        order += order == 0
        slot.generation = order
        known = _is_known(s, order)
    if s.fair:
        order = _salted(s, <uint64_t>slot.amount, now_ns)
    return rs_shed_place(<int>slot.mark, rs_shed_rank(&s.queue, order, known))


# ---- counting --------------------------------------------------------------------------------------------------------

cdef inline void _arrived(rs_gate *gate, rs_shedder *s, int64_t now_ns) noexcept nogil:
    rs_shed_arrived(&s.state)
    if s.state.overloaded and rs_shed_over(&s.state, now_ns):
        rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)


cdef void _shed(rs_gate *gate, rs_shedder *s, int64_t place, int reason, uint64_t task, int64_t now_ns) noexcept nogil:
    """A call is lost to overload."""
    s.shed[rs_shed_level(place)][reason] += 1
    _give_up_task(s, task)
    if rs_shed_count(&s.state, now_ns):
        rs_gate_change(gate, NORMAL, OVERLOADED, BEGAN, now_ns)


cdef inline int64_t _room(rs_shedder *s, bint timely) noexcept nogil:
    """How many may wait, among calls that know their deadline or do not."""
    if s.learns and s.law.knee > 0.0:
        return rs_shed_room_left(&s.state, s.law.knee, s.limit, timely)
    return rs_shed_room(&s.state, s.limit, timely)


cdef int _refuse(rs_shedder *s, int reason, rs_refusal *refusal) noexcept nogil:
    refusal.reason = reason
    refusal.measured = s.used
    refusal.limit = s.limit
    if reason == QUEUE_FULL or reason == EVICTED:
        refusal.measured = s.queue.length
        refusal.limit = _room(s, False)
    refusal.retry_after_ns = rs_shed_retry_after_ns(&s.state, s.queue.length, s.limit)
    return RS_REJECTED


cdef int _refuse_hopeless(rs_shedder *s, double needed_ns, int64_t left_ns, rs_refusal *refusal) noexcept nogil:
    refusal.reason = RS_OUT_OF_TIME_TO_WAIT
    refusal.measured = needed_ns * 1e-9
    refusal.limit = left_ns * 1e-9
    refusal.retry_after_ns = rs_shed_retry_after_ns(&s.state, s.queue.length, s.limit)
    return RS_REJECTED


# ---- permits ---------------------------------------------------------------------------------------------------------

cdef void _set_limit(rs_shedder *s, int64_t limit) noexcept nogil:
    """A tenth is kept free of what is sheddable, twice that of what is in the background, at least one permit each."""
    cdef int64_t kept = 0 if limit < 2 else (limit + 9) // 10
    s.limit = limit
    s.most[CRITICAL] = s.most[STANDARD] = limit
    s.most[SHEDDABLE] = limit - kept
    s.most[BACKGROUND] = max(limit - 2 * kept, 1)


cdef inline void _learn_limit(rs_shedder *s, rs_slot *slot, int outcome, int64_t latency_ns) noexcept nogil:
    """A failure that was quick says nothing about the load; one that took long is an answer that never came."""
    cdef bint dropped = outcome == RS_FAILURE
    cdef int64_t limit
    if dropped and (s.state.successes == 0 or <double>latency_ns < 2.0 * s.state.median_ns):
        return
    rs_law_learn(&s.law, latency_ns, slot.mark >> 8, dropped)
    limit = <int64_t>s.law.limit
    if limit != s.limit:
        _set_limit(s, limit)


cdef inline void _note_inflight(rs_shedder *s, rs_slot *slot) noexcept nogil:
    slot.mark = (slot.mark & 0xff) | <uint32_t>s.used << 8


cdef inline bint _is_first(rs_shedder *s, int level) noexcept nogil:
    """Nobody waits whom a call of this class would overtake."""
    cdef int i
    if s.queue.length == 0:
        return True
    for i in range(level + 1):
        if s.queue.classes[i].length != 0:
            return False
    return True


cdef inline void _charge(rs_shedder *s, int64_t place, int64_t ns) noexcept nogil:
    if s.fair:
        rs_shed_charge(&s.queue, place, ns, <int64_t>rs_shed_usual_ns(&s.state) + 1)


cdef void _put_out(rs_gate *gate, rs_shedder *s, rs_waiter *waiter, int reason, int64_t now_ns) noexcept nogil:
    cdef uint64_t task = <uintptr_t>waiter.claim
    rs_shed_remove(&s.queue, waiter)
    waiter.state = RS_WAITER_REFUSED
    waiter.reason = reason
    _shed(gate, s, waiter.amount, EVICTED if reason == EVICTED else HOPELESS, task, now_ns)
    rs_gate_wake(gate, waiter)


cdef inline int64_t _before(rs_shedder *s, int level) noexcept nogil:
    """How many wait of this class and those above it."""
    cdef int64_t waiting = 0
    cdef int i
    for i in range(level + 1):
        waiting += s.queue.classes[i].length
    return waiting


cdef bint _is_too_late(rs_gate *gate, rs_shedder *s, rs_waiter *waiter, int64_t now_ns) noexcept nogil:
    """Put out whose turn has come, if it could hardly be done in time, or only at the cost of those behind it."""
    cdef double needed_ns
    if waiter.expires_ns == 0:
        return False
    needed_ns = rs_shed_needed_ns(&s.state, _before(s, rs_shed_level(waiter.amount)) - 1, s.limit)
    if <double>(waiter.expires_ns - now_ns) > needed_ns:
        return False
    _put_out(gate, s, waiter, RS_EXPIRED if now_ns >= waiter.expires_ns else HOPELESS, now_ns)
    waiter.deadline_ns = <int64_t>needed_ns     # its patience is of no more use: what it would have needed, for the refusal
    return True


cdef void _grant(rs_gate *gate, rs_shedder *s, int64_t now_ns) noexcept nogil:
    """Move free permits to those whose turn it is, and wake them; who could not be done in time goes."""
    cdef rs_waiter *waiter
    cdef int last
    cdef int64_t quantum_ns
    while s.queue.length != 0:
        last = BACKGROUND
        while last >= 0 and s.used >= s.most[last]:
            last -= 1
        quantum_ns = <int64_t>rs_shed_usual_ns(&s.state) + 1
        waiter = rs_shed_best(&s.queue, last, rs_shed_newest_first(&s.state), quantum_ns)
        if waiter == NULL:
            return
        if _is_too_late(gate, s, waiter, now_ns):
            continue
        rs_shed_remove(&s.queue, waiter)
        waiter.state = RS_WAITER_GRANTED
        s.used += 1
        _charge(s, waiter.amount, quantum_ns)
        _remember(s, <uintptr_t>waiter.claim)
        rs_gate_wake(gate, waiter)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef bint _make_room(rs_gate *gate, rs_shedder *s, int64_t place, int64_t room, int64_t now_ns) noexcept nogil:
    """Put out who is worse than the newcomer; False: there is nobody, and no room."""
    cdef rs_waiter *victim
    while s.queue.length >= room:           # by more than one, if the queue has become shorter
        victim = rs_shed_victim(&s.queue, place, rs_shed_newest_first(&s.state))
        if victim == NULL:
            return False
        _put_out(gate, s, victim, EVICTED, now_ns)
    return True


cdef int64_t _ahead(rs_shedder *s, int level) noexcept nogil:
    """Who is served before a newcomer of this class."""
    return _before(s, level - 1 if rs_shed_newest_first(&s.state) else level)


cdef bint _is_hopeless(rs_shedder *s, const rs_request *request, int level, int64_t now_ns,
                       rs_refusal *refusal) noexcept nogil:
    cdef double needed_ns
    cdef int64_t left_ns
    if request.deadline_ns == 0:
        return False
    left_ns = request.deadline_ns - now_ns
    needed_ns = rs_shed_median_ns(&s.state)
    if s.state.samples:
        needed_ns += rs_shed_drain_ns(&s.state, _ahead(s, level) + 1, s.limit)
    if needed_ns <= left_ns:
        return False
    _refuse_hopeless(s, needed_ns, left_ns, refusal)
    return True


cdef int _shadow(rs_gate *gate, rs_slot *slot) noexcept nogil:
    """Nothing ever waits where nothing is enforced, so there would have been room."""
    gate.counters.would_wait += 1
    slot.state = RS_SLOT_SHADOW
    return RS_ADMITTED


cdef int _queue(rs_gate *gate, rs_shedder *s, rs_slot *slot, const rs_request *request, int64_t now_ns,
                rs_refusal *refusal) noexcept nogil:
    cdef int64_t room, place
    cdef int level = slot.mark
    cdef rs_waiter *waiter = request.waiter
    if not rs_gate_enforced(gate):
        return _shadow(gate, slot)
    if waiter == NULL:                      # core asks once more, if the call can wait
        return _refuse(s, RESERVED if s.used < s.limit else FULL, refusal)
    _arrived(gate, s, now_ns)
    place = _find_place(s, slot, now_ns)
    if _is_hopeless(s, request, level, now_ns, refusal):
        if refusal.limit * 1e9 >= rs_shed_median_ns(&s.state):      # but for the wait it would have been in time
            _shed(gate, s, place, HOPELESS, slot.generation, now_ns)
        else:
            s.shed[level][HOPELESS] += 1
        return RS_REJECTED
    room = _room(s, request.deadline_ns != 0)
    if slot.generation != 0 and _is_known(s, slot.generation):
        room += RS_SHED_SHORT               # what is begun is worth a longer queue
    if s.queue.length >= room and not _make_room(gate, s, place, room, now_ns):
        _shed(gate, s, place, QUEUE_FULL, slot.generation, now_ns)
        return _refuse(s, QUEUE_FULL, refusal)
    waiter.claim = <void *><uintptr_t>slot.generation
    waiter.deadline_ns = now_ns + rs_shed_patience_ns(&s.state, room, s.limit)
    slot.amount = place
    slot.wake_ns = waiter.deadline_ns
    rs_shed_push(&s.queue, waiter, place, now_ns)
    return RS_WAIT


cdef int _admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                rs_refusal *refusal) noexcept nogil:
    cdef rs_shedder *s = _of(gate)
    cdef int64_t place = 0
    if s.used >= s.most[slot.mark] or not _is_first(s, slot.mark):
        return _queue(gate, s, slot, request, now_ns, refusal)
    _arrived(gate, s, now_ns)
    s.used += 1
    if slot.generation != 0 or s.fair:
        place = _find_place(s, slot, now_ns)
        _charge(s, place, <int64_t>rs_shed_usual_ns(&s.state) + 1)
        _remember(s, slot.generation)
    slot.amount = place
    _note_inflight(s, slot)
    return RS_ADMITTED


cdef int _poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    cdef rs_shedder *s = _of(gate)
    cdef rs_waiter *waiter = slot.waiter
    if waiter.state == RS_WAITER_GRANTED:
        waiter.state = RS_WAITER_IDLE
        _note_inflight(s, slot)
        return RS_ADMITTED
    if waiter.state == RS_WAITER_QUEUED:
        slot.wake_ns = waiter.deadline_ns
        if now_ns < waiter.deadline_ns:
            return RS_WAIT
        rs_shed_remove(&s.queue, waiter)
        _shed(gate, s, waiter.amount, TOO_LATE, <uintptr_t>waiter.claim, now_ns)
        _refuse(s, TOO_LATE, refusal)
        refusal.measured = (now_ns - waiter.enqueued_ns) * 1e-9
        refusal.limit = (waiter.deadline_ns - waiter.enqueued_ns) * 1e-9
        return RS_REJECTED
    if waiter.reason == HOPELESS:
        return _refuse_hopeless(s, <double>waiter.deadline_ns, waiter.expires_ns - now_ns, refusal)
    return _refuse(s, waiter.reason, refusal)


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef void _cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _of(gate)
    if slot.state == RS_SLOT_HELD:
        s.used -= 1
        _charge(s, slot.amount, -<int64_t>rs_shed_usual_ns(&s.state))
    elif slot.waiter == NULL:               # a pass in shadow mode
        return
    elif slot.waiter.state == RS_WAITER_GRANTED:
        slot.waiter.state = RS_WAITER_IDLE
        s.used -= 1
        _charge(s, slot.amount, -<int64_t>rs_shed_usual_ns(&s.state))
    elif slot.waiter.state == RS_WAITER_QUEUED:
        rs_shed_remove(&s.queue, slot.waiter)
    _grant(gate, s, now_ns)


cdef void _settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _of(gate)
    cdef int64_t held_ns = now_ns - slot.admitted_ns
    s.used -= 1
    if s.fair:
        _charge(s, slot.amount, held_ns - <int64_t>rs_shed_usual_ns(&s.state))
    if outcome != RS_IGNORED:
        rs_shed_learn(&s.state, held_ns, latency_ns if outcome == RS_SUCCESS else -1, now_ns)
        if s.learns:
            _learn_limit(s, slot, outcome, latency_ns)
    if s.queue.length != 0:
        _grant(gate, s, now_ns)


cdef void _forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_shedder *s = _of(gate)
    s.used = 0
    rs_shed_forget(&s.queue)


cdef int _pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """What it has learnt it forgets after a pause; so does whoever would look at it."""
    cdef rs_shedder *s = _of(gate)
    return s.used == 0 and s.queue.length == 0 and not rs_shed_knows(&s.state, now_ns)


# ---- before admission ------------------------------------------------------------------------------------------------

cdef int _prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """Find the class, and the task, in the context: two loads while nobody has set one."""
    cdef int level = STANDARD
    slot.generation = 0
    slot.amount = 0
    if api.priorities[0] != 0:
        level = api.priority(&slot.generation)
        if not CRITICAL <= level <= BACKGROUND:
            level = STANDARD
    if request.hedge and level < SHEDDABLE:
        level = SHEDDABLE
    slot.mark = level
    return 0


cdef uint64_t _hash_of(object function, const rs_request *request) except? 0:
    """The hash of what *function* says of the call, never 0 but for None."""
    cdef object key = PyObject_Vectorcall(function, request.args, request.nargs, request.kwnames)
    if key is None:
        return 0
    cdef uint64_t hash = <uint64_t>PyObject_Hash(key)
    return hash + (hash == 0)


cdef uint64_t _ask(object function, const rs_request *request, uint64_t *errors) noexcept:
    """A function that raises, or whose answer has no hash, says nothing: it must not decide over the call."""
    try:
        return _hash_of(function, request)
    except BaseException as error:
        errors[0] += 1
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()            # not the function's: raised again at the next safe point
        return 0


cdef int _prepare_asking(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    cdef ShedderGate self = <ShedderGate><PyObject *>gate
    cdef object tenant, task
    cdef uint64_t hash
    _prepare(gate, slot, request)
    rs_lock_acquire(&self.lock)
    tenant, task = self.tenant, self.task
    rs_lock_release(&self.lock)
    if task is not None:
        hash = _ask(task, request, &self.bad_tasks)
        if hash != 0:
            slot.generation = hash
    if tenant is not None:
        slot.amount = <int64_t>_ask(tenant, request, &self.bad_tenants)
    return 0


cdef rs_gate_ops PLAIN                      # field by field: a struct made at once leaves the others undefined
PLAIN.kind = "load_shed"
PLAIN.error = "OverloadedError"
PLAIN.reasons = &REASONS[0]
PLAIN.states = &STATES[0]
PLAIN.prepare = _prepare
PLAIN.admit = _admit
PLAIN.poll = _poll
PLAIN.cancel = _cancel
PLAIN.settle = _settle
PLAIN.forget = _forget
PLAIN.pristine = _pristine
cdef rs_gate_ops ASKING = PLAIN
ASKING.prepare = _prepare_asking


cdef class ShedderGate(Gate):
    """
    The permits of one load shedder and those who wait for them, shared by all that it guards.

    `resilio.load_shed` is its public face and checks every option; here they are taken as they are. The methods are
    atomic and may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_shedder_object *seen = <rs_shedder_object *><PyObject *>self
        if <void *>&seen.shedder != <void *>&self.shedder:
            raise SystemError("resilio._native.shedder was built against another gate.h")
        if rs_shed_init(&self.shedder.queue, False) < 0:
            raise MemoryError
        self.ops = &PLAIN
        self.shedder.salt = seed64()
        self.shedder.state.random = self.shedder.salt

    def __init__(self, *, max_concurrent, target_ns=0, tenant=None, task=None):
        """Make an idle load shedder with the options of :meth:`configure`."""
        self.configure(max_concurrent=max_concurrent, target_ns=target_ns, tenant=tenant, task=task)

    def __dealloc__(self):
        rs_shed_release(&self.shedder.queue)
        free(self.shedder.known)

    def configure(self, *, max_concurrent, int64_t target_ns, tenant, task):
        """
        Replace every option at once, keeping who holds, who waits and what was learnt.

        More permits are handed out at once, in order. With fewer, who holds one keeps it.

        Args:
            max_concurrent: Permits, >= 1; None: as many as a law finds out.

            target_ns: The longest wait that is normal; 0: as learnt.

            tenant: A function of the call's arguments that says whose it is, or None.

            task: A function of the call's arguments that says what it belongs to, or None.

        Raises:
            MemoryError: There is none for the tenants.
        """
        cdef rs_shed_queue queue
        cdef bint fair = tenant is not None
        cdef int64_t limit = 0 if max_concurrent is None else max_concurrent
        cdef int64_t now_ns = clock.now_ns()
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef object old = (self.tenant, self.task)      # freed after the lock is released
        if rs_shed_init(&queue, fair) < 0:
            raise MemoryError
        rs_lock_acquire(&self.lock)
        self.tenant, self.task = tenant, task
        self.ops = &PLAIN if tenant is None and task is None else &ASKING
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
        _grant(gate, &self.shedder, now_ns)
        rs_lock_release(&self.lock)
        rs_shed_release(&queue)
        self.deliver()

    def reset(self):
        """Forget all that was learnt; who holds and who waits go on."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef rs_shed_state *state = &self.shedder.state
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if state.overloaded:
            rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)
        state.overloaded = False
        state.shed = 0.0
        state.samples = state.successes = 0
        if self.shedder.known != NULL:
            memset(self.shedder.known, 0, TASKS * sizeof(uint64_t))
        if self.shedder.learns:
            rs_law_reset(&self.shedder.law)
            _set_limit(&self.shedder, <int64_t>self.shedder.law.limit)
            _grant(gate, &self.shedder, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def look(self):
        """Notice that an overload is over though nothing has come since."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if self.shedder.state.overloaded and rs_shed_over(&self.shedder.state, now_ns):
            rs_gate_change(gate, OVERLOADED, NORMAL, ENDED, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def shed(self):
        """Return how many calls were lost to overload, by class and reason; what was none is left out."""
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
        """Whether it sheds more than it serves by chance."""
        return bool(self.shedder.state.overloaded)

    @property
    def limit(self):
        """Permits there are."""
        return self.shedder.limit

    @property
    def used(self):
        """Permits held, or granted to a waiter that has not come for them yet."""
        return self.shedder.used

    @property
    def room(self):
        """How many may wait now."""
        return _room(&self.shedder, False)

    @property
    def shed_share(self):
        """The share of the last arrivals that was shed."""
        return self.shedder.state.shed

    @property
    def usual_ns(self):
        """How long a permit is held on average, and the median of the latencies of successes; 0.0: unknown."""
        if self.shedder.state.samples == 0:
            return 0.0, 0.0
        return self.shedder.state.mean_ns, rs_shed_median_ns(&self.shedder.state)

    @property
    def tenant_errors(self):
        """How often the function of the tenant raised, or its answer had no hash; such a call belonged to nobody."""
        return self.bad_tenants

    @property
    def task_errors(self):
        """How often the function of the task raised, or its answer had no hash; such a call belonged to none."""
        return self.bad_tasks
