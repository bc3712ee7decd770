"""
Timeouts and deadlines as stages: they set the time of a call, and turn its cancellation into their own error.

On asyncio the core does the rest: one timer for the call, armed when it first suspends, and a labelled cancellation. On
trio the stage runs in a cancel scope. In a thread, a timeout that may use threads runs in a thread of the policy's own.
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from contextvars import Context
from weakref import ref

from resilio._context import variables as _context
from resilio._native import core
from resilio._native.core import ambient_deadline
from resilio._native.gate cimport *
from resilio._native.options cimport ns_of
from resilio._native.strategy cimport *
from resilio._support.client_target import HEEDS_TIME, TO_HEADERS
from resilio.errors import CallTimeoutError, DeadlineExceededError

cdef extern from "Python.h":
    int PyContextVar_Get(object, PyObject *, PyObject **) except -1
    int PyContextVar_Reset(object, object) except -1
    object PyContextVar_Set(object, object)
    void PyErr_Clear()
    PyObject *set_variable "PyContextVar_Set" (object, object)  # NULL with an exception

cdef const rs_core_api *_core = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")
cdef object _ambient = _context.deadline

cdef enum:
    OURS = 1                                # in slot.timeout.ours: this stage has interrupted the call
    OFTEN = 256                             # quantile: computed anew after this many samples
    SELDOM_NS = 100_000_000                 # quantile: computed anew after this time, if sooner
    WINDOW = 1024                           # samples: the older half is dropped after this many
    FORGET_NS = 60_000_000_000              # samples: the older half is dropped after this time, if enough remain
    STALE_NS = 600_000_000_000              # no samples: after this time the learned timeout is outdated

cdef const char *REASONS[1]
REASONS[:] = [NULL]

cdef tuple CLOCKS = ("total", "first", "idle", "deadline")     # of TimeoutGate.ended


cdef inline rs_timeout *_of(rs_gate *gate) noexcept nogil:
    return &(<rs_timeout_object *>gate).timeout


cdef inline int64_t _later(int64_t now_ns, int64_t by_ns) noexcept nogil:
    return RS_NEVER if by_ns >= RS_NEVER - now_ns else now_ns + by_ns


# ---- streams, which a strategy drives in Python: the core sees no call of them ---------------------------------------

def stream_began(Gate gate not None):
    """Count a stream that begins at the gate of a strategy."""
    rs_lock_acquire(&gate.lock)
    gate.counters.calls += 1
    gate.counters.inflight += 1
    rs_lock_release(&gate.lock)


def stream_ended(Gate gate not None, int outcome):
    """Count the end of a stream, an Outcome."""
    rs_lock_acquire(&gate.lock)
    gate.counters.inflight -= 1
    rs_gate_count_end(<rs_gate *><PyObject *>gate, outcome)
    rs_lock_release(&gate.lock)


# ---- learning of a timeout, with the gate's lock held ----------------------------------------------------------------

cdef int64_t _quantile(rs_timeout *t) noexcept nogil:
    """The quantile of both halves in ns, or -1 without memory."""
    cdef rs_samples both
    cdef int64_t ns = -1
    if t.before.count == 0:
        return rs_samples_quantile(&t.recent, t.q)
    if rs_samples_copy(&both, &t.before) < 0:
        return -1
    if rs_samples_merge(&both, &t.recent) == 0:
        ns = rs_samples_quantile(&both, t.q)
    rs_samples_free(&both)
    return ns


cdef void _rotate_window(rs_timeout *t, int64_t now_ns) noexcept nogil:
    """Forget the older half."""
    rs_samples_free(&t.before)
    t.before = t.recent
    rs_samples_init(&t.recent)
    t.turned_at_ns = now_ns


cdef void _learn(rs_timeout *t, int64_t sample_ns, int64_t now_ns) noexcept nogil:
    cdef int64_t count, ns
    cdef double total
    rs_samples_record(&t.recent, min(sample_ns, t.ceiling_ns))
    t.unlearned += 1
    t.sampled_ns = now_ns
    count = t.recent.count
    if count >= max(<int64_t>WINDOW, 10 * t.enough) or (
        now_ns - t.turned_at_ns >= <int64_t>FORGET_NS and count >= t.enough
    ):
        _rotate_window(t, now_ns)
    if <int64_t>(t.recent.count + t.before.count) < t.enough:
        return
    if t.unlearned < <int64_t>OFTEN and now_ns - t.learned_at_ns < <int64_t>SELDOM_NS:
        return
    t.unlearned = 0
    t.learned_at_ns = now_ns
    ns = _quantile(t)
    if ns >= 0:
        total = ns * t.factor
        t.total_ns = t.ceiling_ns if total >= t.ceiling_ns else max(<int64_t>total, t.floor_ns)


# ---- the timeout as a stage ------------------------------------------------------------------------------------------

# ---- a timeout's operations, called by the core ----------------------------------------------------------------------

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


cdef int _count_end(TimeoutGate gate, str clock) except -1:
    """Count a call that ran out of time. Not a method: a table of methods would shift the fields that C reads."""
    cdef int at = CLOCKS.index(clock) if clock in CLOCKS else 0
    rs_lock_acquire(&gate.lock)
    gate.ended[at] += 1
    rs_lock_release(&gate.lock)
    return 0


cdef class TimeoutGate(Gate):
    """
    The time that a call may take, and the latencies from which it is learned.

    `resilio.timeout` is its public face and checks every option; this class does not. The methods are atomic and may
    be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_timeout_object *seen = <rs_timeout_object *><PyObject *>self
        if <void *>&seen.timeout != <void *>&self.timeout:
            raise SystemError("resilio._native.strategies was built against another gate.h")
        self.ops = &PLAIN
        rs_samples_init(&self.timeout.recent)
        rs_samples_init(&self.timeout.before)

    def __init__(self, config):
        """Begin with the options of *config*, a `TimeoutConfig`, and without samples."""
        self.configure(config)

    def __dealloc__(self):
        rs_samples_free(&self.timeout.recent)
        rs_samples_free(&self.timeout.before)

    def reset(self):
        """Forget all samples: a call gets the ceiling until there are enough again. Counters stay."""
        cdef rs_timeout *t = &self.timeout
        rs_lock_acquire(&self.lock)
        rs_samples_free(&t.recent)
        rs_samples_free(&t.before)
        rs_samples_init(&t.recent)
        rs_samples_init(&t.before)
        t.unlearned = t.learned_at_ns = t.turned_at_ns = t.sampled_ns = 0
        if t.q:
            t.total_ns = t.ceiling_ns
        rs_lock_release(&self.lock)

    def configure(self, config):
        """Take the options of *config*, all at once; keep the samples if there is still a quantile to learn."""
        cdef rs_timeout *t = &self.timeout
        cdef object law = config.law, time_of = config.time_of
        cdef double q = 0.0 if law is None else law.q, factor = 1.0 if law is None else law.times
        cdef int64_t first_ns = ns_of(config.first, RS_NEVER), idle_ns = ns_of(config.idle, RS_NEVER)
        cdef int64_t floor_ns = ns_of(config.floor), ceiling_ns = ns_of(config.ceiling, RS_NEVER)
        cdef int64_t total_ns = ceiling_ns
        if law is None and time_of is None:
            total_ns = ns_of(config.total, RS_NEVER)
        cdef bint threads = config.thread
        before = self.time_of               # released after the lock
        rs_lock_acquire(&self.lock)
        if q == 0.0 or q != t.q or <int64_t>(t.recent.count + t.before.count) < t.enough:
            t.total_ns = total_ns
        t.total_ns = min(max(t.total_ns, floor_ns), ceiling_ns)
        t.first_ns = first_ns
        t.idle_ns = idle_ns
        t.q = q
        t.factor = factor
        t.floor_ns = floor_ns
        t.ceiling_ns = ceiling_ns
        t.enough = max(20, <int64_t>(1.0 / (1.0 - q) + 0.999999))
        t.learned_at_ns = 0
        self.in_threads = threads
        self.time_of = time_of
        self.ops = &COMPUTED if time_of is not None else &LEARNING if q else &PLAIN
        self.timeless = 0 if q else RS_NO_LATENCY
        rs_lock_release(&self.lock)

    @property
    def total(self):
        """Seconds that a call gets now, at most if a function computes them; None: no limit."""
        cdef int64_t ns
        rs_lock_acquire(&self.lock)
        ns = self.timeout.total_ns
        rs_lock_release(&self.lock)
        return None if ns == RS_NEVER else ns / 1e9

    def total_for(self, args, kwargs):
        """Return the seconds that a call with these arguments gets; None: no limit."""
        cdef int64_t ns = RS_NEVER
        function = _function_of(self)
        if function is None:
            return self.total
        try:
            ns = time_ns(function(*args, **kwargs), RS_NEVER, False)
        except BaseException as error:
            _count_bad_time(self, error)
        rs_lock_acquire(&self.lock)
        ns = _bounded(&self.timeout, ns)
        rs_lock_release(&self.lock)
        return ns / 1e9

    @property
    def total_errors(self):
        """Calls that got the ceiling because the function of their arguments raised or returned no time."""
        return self.bad_times

    @property
    def first(self):
        """Seconds that a stream gets until its first item, or None."""
        return None if self.timeout.first_ns == RS_NEVER else self.timeout.first_ns / 1e9

    @property
    def idle(self):
        """Seconds that a stream gets between two items, or None."""
        return None if self.timeout.idle_ns == RS_NEVER else self.timeout.idle_ns / 1e9

    @property
    def learned_ceiling(self):
        """Seconds that a learned timeout never exceeds; None: it is not learned."""
        return self.timeout.ceiling_ns / 1e9 if self.timeout.q else None

    @property
    def learned_from(self):
        """The number of calls from which the quantile is taken."""
        return self.timeout.recent.count + self.timeout.before.count

    @property
    def abandoned(self):
        """Threads still at work for a call that ran out of time."""
        return 0 if self.threads is None else self.threads.abandoned

    @property
    def timeouts(self):
        """
        The number of calls that ran out of time, by clock.

        The clocks are total, first, idle, and deadline for a deadline that had passed as well.
        """
        cdef unsigned long long ended[4]
        rs_lock_acquire(&self.lock)
        memcpy(ended, self.ended, sizeof(ended))
        rs_lock_release(&self.lock)
        return {clock: ended[at] for at, clock in enumerate(CLOCKS)}

    def timed_out(self, int64_t at_ns, limit, clock="total"):
        """
        Return the error of a call that ran out of time; a deadline that has passed as well by then comes first.

        Args:
            at_ns: When the time was up.

            limit: The time that it had, in seconds.

            clock: The clock that ran out: total, first or idle.
        """
        if _core.deadline_ns() <= at_ns:
            _count_end(self, "deadline")
            return _out_of_time()
        _count_end(self, clock)
        return CallTimeoutError(clock, limit, self.name)

    def note(self, int outcome, int64_t spent_ns, bint late):
        """Learn from a stream with *spent_ns* spent in its producer; *late*: this timeout has ended it."""
        rs_lock_acquire(&self.lock)
        if self.timeout.q and (late or outcome == RS_SUCCESS):
            _learn(&self.timeout, self.timeout.ceiling_ns if late else spent_ns, _core.now_ns())
        rs_lock_release(&self.lock)

    def astream(self, make):
        """Return a stream of `make()` that applies the time limits to each item; see resilio._policy.streams."""
        return core.hook("timed_items")(self, make)

    async def arun(self, inner):
        """Run *inner* in a cancel scope of trio."""
        return await core.hook("run_in_scope")(self, inner, _seconds_of(inner))

    def run(self, inner):
        """
        Run *inner* in a thread that may be abandoned, or in this one if *inner* observes the time that is left.

        Raises:
            TypeError: Neither applies: nothing can interrupt a function in this thread.
        """
        if not self.in_threads:
            heeds = getattr(inner.func, HEEDS_TIME, False)
            if heeds is True or heeds == TO_HEADERS:
                return _run_within(self, inner, heeds == TO_HEADERS)
            raise TypeError(f"a timeout cannot stop {inner.func!r}, which is not async: use thread=True, or async def")
        if self.threads is None:
            self.threads = core.hook("Threads")()
        return self.threads.timed(self, inner, _seconds_of(inner))


cdef object _seconds_of(inner):
    """The seconds that this call of a timeout's inner part gets; None: no limit."""
    cdef int64_t ns = inner.wait_ns
    return None if ns == RS_NEVER else ns / 1e9


def locked(lock, function, *args):
    """
    Call a function while a lock is held; return its result.

    For a thread that a Ctrl-C may interrupt. On 3.14 a Ctrl-C that comes just as `with lock` has acquired the lock
    leaves it locked for ever (python/cpython#148874). Here nothing can come between acquire and release.

    Args:
        lock: Anything with `acquire` and `release`.

        function: The function.

        args: Its arguments.
    """
    lock.acquire()
    try:
        return function(*args)
    finally:
        lock.release()


# ---- the deadline as a stage -----------------------------------------------------------------------------------------

include "timing_deadline.pxi"
include "timing_cutoff.pxi"
include "time_limit.pxi"
