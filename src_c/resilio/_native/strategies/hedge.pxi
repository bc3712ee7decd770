"""The hedge stage: when a copy of a call may start; `resilio._strategies.race` runs the race of primary and copies."""

cimport cython
from cpython.exc cimport PyErr_Clear, PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from resilio._native.gate cimport (
    Gate, RS_ADMITTED, RS_FAILURE, RS_HEDGE, RS_IGNORED, RS_NEVER, RS_REACHED, RS_REFUSED, RS_SUCCESS, rs_gate,
    rs_gate_ops, rs_is_unserved, rs_lock_acquire, rs_lock_release, rs_rejection, rs_request, rs_slot,
)
from resilio._native.options cimport ns_of
from resilio._native.strategy cimport (
    RS_AWAIT, RS_ON_TRIO, RS_PASS, RS_SUPERSEDED, RS_UNINTERRUPTED, rs_core_api, rs_end, rs_strategy_ops,
)

from resilio._events import log as _log
from resilio._native import core
from resilio._failures.outcome import is_rejection

cdef extern from "hedging.h" nogil:
    enum:
        RS_HEDGING_GO
        RS_HEDGING_ANSWERS
    const int64_t RS_HEDGING_NEVER
    const int64_t RS_HEDGING_ONE
    ctypedef struct rs_hedging:
        int64_t delay_ns, fixed_ns, least_ns, most_ns, max_extra, needed, recent_ns, baseline_ns, samples, tokens
        double quantile
        int32_t won, failed
        uint64_t answers[RS_HEDGING_ANSWERS]
    void rs_hedging_init(rs_hedging *, double, int64_t, double)
    void rs_hedging_free(rs_hedging *)
    void rs_hedging_reset(rs_hedging *)
    void rs_hedging_refresh(rs_hedging *)
    void rs_hedging_begin(rs_hedging *, int64_t)
    void rs_hedging_sample(rs_hedging *, int64_t, int, int64_t)
    void rs_hedging_outcome(rs_hedging *, int)
    void rs_hedging_verdict(rs_hedging *, int)
    int rs_hedging_may(rs_hedging *)
    void rs_hedging_give_back(rs_hedging *)
    bint rs_hedging_is_new(const rs_hedging *, int64_t)

cdef extern from "Python.h":
    PyObject *PyContext_CopyCurrent()

cdef extern from "gate.h" nogil:
    const uint32_t RS_LISTEN_HEDGE_STARTED
    const uint32_t RS_LISTEN_HEDGE_WON

cdef extern from *:
    """
    #include "gate.h"
    typedef struct { rs_gate gate; void *methods; rs_hedging hedging; int64_t *schedule; int waits, computed; }
        rs_hedge;
    static inline uint32_t rs_hedge_listening(PyObject *gate) { return ((rs_gate *)gate)->listening; }
    """
    uint32_t rs_hedge_listening(PyObject *)
    ctypedef struct rs_hedge:
        rs_hedging hedging
        int64_t *schedule
        int waits, computed

SUPERSEDED = RS_SUPERSEDED                # for a race, which interrupts its primary
cdef object race_type = None            # resilio._strategies.race_asyncio.AsyncioRace, from the first race on


ANSWERS = ("started", "unmeasured", "failing", "saturated", "losing", "capped")
"""The verdicts on hedges that were due."""

cdef enum:                              # slot.hedge.judged
    JUDGED = 1                          # the primary's end has been learned: skip it when the stage is settled
    ELSEWHERE = 2                       # the race that runs the primary will learn it


# ---- operations called by the core -----------------------------------------------------------------------------------

@cython.final
cdef class _HedgeOptions:
    """Options of a hedge that C does not need, replaced as a whole."""

    cdef int max_hedges
    cdef object targets, discard, idempotent
    cdef object delay_of                # the function of a call's arguments that returns the delay, or None


cdef int hedge_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    cdef PyObject *before
    cdef int64_t wait_ns = RS_NEVER
    slot.hedge.judged = JUDGED if request.hedge else 0
    slot.hedge.raced = False
    if request.hedge or request.context == NULL or (<rs_hedge *>gate).hedging.delay_ns == RS_HEDGING_NEVER:
        return 0
    if (<rs_hedge *>gate).computed:
        wait_ns = hedge_computed_ns(<HedgeGate><PyObject *>gate, request)
        if wait_ns == RS_NEVER:
            return 0
    before = request.context[0]
    request.context[0] = PyContext_CopyCurrent()
    if request.context[0] == NULL:
        PyErr_Clear()                   # no memory: nothing is copied
    else:
        slot.hedge.raced = True
        slot.wake_ns = wait_ns          # from its admission on; RS_NEVER: that of all calls
    Py_XDECREF(before)
    return 0


cdef int64_t hedge_computed_ns(HedgeGate gate, const rs_request *request) noexcept:
    """Compute the delay of this call's copies from its arguments; RS_NEVER: none may start."""
    cdef int64_t ns
    cdef _HedgeOptions options = gate.current()
    if options.delay_of is None:        # options were replaced meanwhile
        return RS_NEVER
    try:
        ns = asked_time_ns(options.delay_of, request, RS_NEVER, True)
        return RS_NEVER if ns == RS_NEVER else min(max(ns, gate.hedging.least_ns), gate.hedging.most_ns)
    except BaseException as error:
        rs_lock_acquire(&gate.lock)
        gate.bad_delays += 1
        rs_lock_release(&gate.lock)
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()        # not the function's: raised again at the next safe point
    return RS_NEVER


cdef int hedge_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now,
                     rs_rejection *why) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.hedge.judged == JUDGED:
        return RS_ADMITTED
    rs_hedging_begin(&hedge.hedging, now)
    if slot.wake_ns != RS_NEVER:
        slot.wake_ns += now
    elif slot.hedge.raced and hedge.hedging.delay_ns != RS_HEDGING_NEVER and not hedge.computed:
        slot.wake_ns = now + (hedge.schedule[0] if hedge.schedule != NULL else hedge.hedging.delay_ns)
    return RS_ADMITTED


cdef void hedge_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.hedge.judged or outcome == RS_IGNORED:
        return
    rs_hedging_outcome(&hedge.hedging, outcome != RS_SUCCESS)     # none is started while the server refuses calls
    if outcome == RS_SUCCESS:
        rs_hedging_sample(&hedge.hedging, latency, 0, now)


cdef int hedge_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        return (<HedgeGate><object><PyObject *>gate).ended(slot, end)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a hedge failed to decide: what there is goes on")
    return RS_PASS


cdef int hedge_expired(rs_gate *gate, rs_slot *slot, PyObject *call, int stage, int64_t now) noexcept:
    try:
        (<HedgeGate><object><PyObject *>gate).expired(slot, <object>call, stage, now)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a hedge could not be started")
    return RS_UNINTERRUPTED


cdef int hedge_delegates(rs_gate *gate, rs_slot *slot, int place) noexcept:
    """On trio a copy needs a nursery around it and the primary: delegate only where a hedge may start at all."""
    if place != RS_ON_TRIO or slot.hedge.judged == JUDGED or (<rs_hedge *>gate).hedging.delay_ns == RS_HEDGING_NEVER:
        return 0
    slot.hedge.judged = ELSEWHERE
    return 1


cdef void hedge_told(rs_slot *slot, int64_t now, int64_t until_ns) noexcept:
    """An attempt of the primary waits for a time that its server has named: meanwhile the next copy's delay stops."""
    if slot.wake_ns != RS_NEVER:
        slot.wake_ns += until_ns - now


cdef void hedge_leave(rs_gate *gate, rs_slot *slot) noexcept:
    """The call is gone, perhaps dropped: so are its copies."""
    if slot.hedge.judged == ELSEWHERE or slot.extra == NULL:
        return
    try:
        race = <object>slot.extra
        if type(race) is not core.InnerCall:     # kept by a stage that has delegated, and possibly judged since
            race.dropped()
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("copies of a dropped call could not be cancelled")


cdef int hedge_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    return rs_hedging_is_new(&(<rs_hedge *>gate).hedging, now)


cdef rs_strategy_ops hedge_strategy
memset(&hedge_strategy, 0, sizeof(hedge_strategy))
hedge_strategy.ended = hedge_ended
hedge_strategy.expired = hedge_expired
hedge_strategy.delegates = hedge_delegates
hedge_strategy.told = hedge_told
hedge_strategy.leave = hedge_leave

cdef const char *hedge_reasons[1]
hedge_reasons[:] = [NULL]
cdef rs_gate_ops hedge_ops
memset(&hedge_ops, 0, sizeof(hedge_ops))
hedge_ops.kind = "hedge"
hedge_ops.segment = RS_HEDGE
hedge_ops.error = "ResilienceError"
hedge_ops.reasons = hedge_reasons
hedge_ops.prepare = hedge_prepare
hedge_ops.admit = hedge_admit
hedge_ops.settle = hedge_settle
hedge_ops.strategy = &hedge_strategy
hedge_ops.pristine = hedge_pristine


# ---- the stage -------------------------------------------------------------------------------------------------

cdef class HedgeGate(Gate):
    """Starts a copy of a slow call where that helps; `hedging.h` holds what it learns."""

    cdef rs_hedging hedging             # must be the first field: C reads it here
    cdef int64_t *schedule
    cdef int waits, computed            # lengths of `delays`; 1: a function computes the delay
    cdef int64_t delays[16]
    cdef uint64_t rejected, hedge_wins, bad_delays
    cdef _HedgeOptions options               # read and replaced under the lock

    def __cinit__(self, *args, **options):
        self.ops = &hedge_ops
        if <void *>&(<rs_hedge *><PyObject *>self).computed != <void *>&self.computed:
            raise SystemError("a hedge's fields are not where C looks for them")
        rs_hedging_init(&self.hedging, 0.5, 0, 0.0)
        self.options = _HedgeOptions.__new__(_HedgeOptions)

    def __init__(self, config):
        """Make a hedge that has learned nothing, with the options of *config*, a `HedgeConfig`."""
        self.configure(config)

    def __dealloc__(self):
        rs_hedging_free(&self.hedging)

    def configure(self, config):
        """Take the options of *config*, all at once, and keep the samples."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef _HedgeOptions options = _HedgeOptions.__new__(_HedgeOptions)
        cdef double quantile = config.quantile, max_extra = config.max_extra
        cdef int64_t min_delay_ns = ns_of(config.min_delay), max_delay_ns = ns_of(config.max_delay)
        cdef tuple delays = config.delays
        cdef int64_t delays_ns[16]
        cdef int at, waits = len(delays)
        for at in range(waits):
            delays_ns[at] = ns_of(delays[at])
        options.max_hedges = config.max_hedges or max(1, waits)
        options.targets = config.to
        options.discard = config.discard
        options.idempotent = config.idempotent
        options.delay_of = config.delay_of
        before = self.options               # released after the lock
        rs_lock_acquire(&gate.lock)
        self.options = options
        self.hedging.quantile = quantile
        self.hedging.needed = max(20, <int64_t>(2 / (1 - quantile) + 0.5)) if quantile > 0 else 20
        self.hedging.max_extra = <int64_t>(max_extra * RS_HEDGING_ONE)
        self.hedging.least_ns = min_delay_ns
        self.hedging.most_ns = max_delay_ns
        for at in range(waits):
            self.delays[at] = delays_ns[at]
        self.waits = waits
        self.computed = options.delay_of is not None
        self.schedule = self.delays if waits else NULL
        if waits:
            self.hedging.fixed_ns = self.delays[0]
        if self.hedging.samples >= self.hedging.needed:
            rs_hedging_refresh(&self.hedging)
        else:
            self.hedging.delay_ns = RS_HEDGING_NEVER
        rs_lock_release(&gate.lock)

    def reset(self):
        """Forget what was learned from primaries and copies; keep the counters."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        rs_hedging_reset(&self.hedging)
        rs_lock_release(&gate.lock)

    cdef _HedgeOptions current(self):
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef _HedgeOptions found
        rs_lock_acquire(&gate.lock)
        found = self.options
        rs_lock_release(&gate.lock)
        return found

    @property
    def max_hedges(self):
        """The largest number of copies of one call."""
        return self.current().max_hedges

    @property
    def targets(self):
        """Functions for the copies, in order; empty: the guarded function."""
        return self.current().targets

    @property
    def discard(self):
        """Callback for the results of copies that came too late, or None."""
        return self.current().discard

    @property
    def idempotent(self):
        """True, or a function of the arguments that returns whether this call may be copied."""
        return self.current().idempotent

    # -- due times

    cdef int64_t wait_ns(self, uint64_t started, int64_t first_ns):
        """The wait between the latest start and the next hedge, in nanoseconds."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t found
        rs_lock_acquire(&gate.lock)
        found = self.delays[min(<int>started, self.waits - 1)] if self.waits else self.hedging.delay_ns
        if self.computed:
            found = first_ns
        rs_lock_release(&gate.lock)
        return found

    def due_after(self, uint64_t started, int64_t now, int64_t first_ns=RS_HEDGING_NEVER):
        """
        Return when the next hedge is due, in nanoseconds of the policies' clock; RS_NEVER if none is.

        Args:
            started: Hedges started so far.

            now: When the latest of them started.

            first_ns: The wait before the first, which holds for all of a call whose delay is computed.
        """
        cdef int64_t wait_ns = self.wait_ns(started, first_ns)
        return RS_NEVER if wait_ns == RS_HEDGING_NEVER else now + wait_ns

    cdef int expired(self, rs_slot *slot, object call, int stage, int64_t now) except -1:
        """Start the copy that is due; slot.extra is the race of all copies."""
        if not call._ending():
            slot.wake_ns = self.race_of(slot, call, stage, now).due(now)
        return 0

    cdef object race_of(self, rs_slot *slot, object call, int stage, int64_t due_ns):
        """The race of a call, whose first copy is due at *due_ns*."""
        global race_type
        if race_type is None:
            race_type = core.hook("AsyncioRace")
        if slot.extra == NULL:
            wait_ns = RS_NEVER if due_ns == RS_NEVER else due_ns - slot.admitted_ns
            race = race_type(self, call, stage, self.budget_of(call, stage), slot.hedge.deadline_ns, wait_ns)
            Py_INCREF(race)
            slot.extra = <PyObject *>race
        return <object>slot.extra

    cdef object budget_of(self, object call, int stage):
        cdef rs_gate *retry = api.outside(<PyObject *>call, stage, "retry")
        return None if retry == NULL else (<object><PyObject *>retry).budget

    # -- learning

    def may_start(self, int64_t until_ns):
        """
        Return True, and count a hedge, if one may start now.

        Args:
            until_ns: The call's deadline. No hedge starts if half of the calls take longer than the time left.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        if until_ns != RS_NEVER and until_ns - api.now_ns() < self.hedging.recent_ns:
            return False
        rs_lock_acquire(&gate.lock)
        cdef int answer = rs_hedging_may(&self.hedging)
        rs_lock_release(&gate.lock)
        return answer == RS_HEDGING_GO

    def give_back(self):
        """Take back a hedge that `may_start` allowed: it did not start, or was rejected inside."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        rs_hedging_give_back(&self.hedging)
        self.rejected += 1
        rs_lock_release(&gate.lock)

    def outcome_of(self, inner, value, error):
        """Judge a result of *inner*, or else an Exception, by this hedge's rules; return the Outcome's number."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        return api.judge(gate, <PyObject *>inner, <PyObject *>value, NULL if error is None else <PyObject *>error)

    def learn(self, double seconds, *, bint stopped=False, bint failed=False):
        """
        Learn from the end of a primary.

        Args:
            seconds: Since it began.
            stopped: It was ended by resilio at that time, and would have taken longer.
            failed: It failed; its time is learned only if it was stopped.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now = api.now_ns()
        rs_lock_acquire(&gate.lock)
        if failed or not stopped:
            rs_hedging_outcome(&self.hedging, failed)
        if stopped or not failed:
            rs_hedging_sample(&self.hedging, <int64_t>(seconds * 1e9), stopped, now)
        rs_lock_release(&gate.lock)

    def learn_end(self, double seconds, error, int outcome):
        """Learn from the end of a primary that was not superseded. A rejection or refusal counts as a failure."""
        if outcome == RS_SUCCESS:
            self.learn(seconds)
        elif error is not None and not isinstance(error, Exception):
            if outcome == RS_FAILURE:           # a timeout further out: it would have taken longer
                self.learn(seconds, stopped=True, failed=True)
        elif outcome == RS_REFUSED or (error is not None and is_rejection(error)):
            self.learn(seconds, failed=True)
        elif outcome == RS_FAILURE:             # stopped, if by a timeout further in or of the callee's own
            self.learn(seconds, stopped=isinstance(error, TimeoutError), failed=True)

    def verdict(self, bint won):
        """Learn whether a started hedge gave the call its result."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        rs_hedging_verdict(&self.hedging, won)
        self.hedge_wins += won
        rs_lock_release(&gate.lock)

    @property
    def delay(self):
        """Seconds before the first hedge; None while too little has been measured, or if each call has its own."""
        return None if self.computed or self.hedging.delay_ns == RS_HEDGING_NEVER else self.hedging.delay_ns / 1e9

    @property
    def after_errors(self):
        """Calls without copies because the function of their arguments raised or returned no time."""
        return self.bad_delays

    @property
    def hedge_counters(self):
        """Hedges that were due, by verdict (ANSWERS); hedges rejected afterwards; hedges that won."""
        due = {name: self.hedging.answers[at] for at, name in enumerate(ANSWERS)}
        return due, self.rejected, self.hedge_wins

    def notify_started(self, int number):
        """Notify listeners that a copy was started."""
        if rs_hedge_listening(<PyObject *>self) & RS_LISTEN_HEDGE_STARTED:
            from resilio import events

            events.hedge_started(self, number)

    def notify_won(self, int number):
        """Notify listeners that a copy has won."""
        if rs_hedge_listening(<PyObject *>self) & RS_LISTEN_HEDGE_WON:
            from resilio import events

            events.hedge_won(self, number)

    # -- on trio

    def arun(self, inner):
        """Run the inner part of the call and its hedges in a nursery of trio."""
        return core.hook("run_trio_race")(self, inner)

    # -- how the primary has ended

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        if slot.hedge.judged == ELSEWHERE:
            if end.outcome == RS_FAILURE and end.error != NULL and not isinstance(<object>end.error, Exception):
                self.judged(slot, end)          # a timeout further out
            return RS_PASS
        if slot.extra != NULL:
            return self.race_ended(<object>slot.extra, slot, end)
        if slot.hedge.judged == JUDGED:
            return RS_PASS
        if not rs_is_unserved(end.outcome) or (end.error != NULL and not isinstance(<object>end.error, Exception)):
            self.judged(slot, end)
            return RS_PASS
        if not slot.hedge.raced or end.place == RS_ON_TRIO:       # too few samples, which is counted, or no delay
            self.judged(slot, end)
            if self.hedging.delay_ns == RS_HEDGING_NEVER:
                self.may_start(RS_NEVER)
            return RS_PASS
        return self.race_ended(self.race_of(slot, <object>end.call, end.stage, slot.wake_ns), slot, end)

    cdef int judged(self, rs_slot *slot, rs_end *end) except -1:
        """Learn from the primary's end, once: not again when the stage is settled."""
        cdef double seconds = max(end.now_ns - slot.admitted_ns, 0) / 1e9
        if slot.hedge.judged == JUDGED:
            return 0
        slot.hedge.judged = JUDGED
        if end.fired == RS_SUPERSEDED:
            self.learn(seconds, stopped=True)
        else:
            self.learn_end(seconds, None if end.error == NULL else <object>end.error, end.outcome)
        return 0

    cdef int race_ended(self, race, rs_slot *slot, rs_end *end) except -1:
        """Go on after the end of the primary, or of what the race awaited after it."""
        error = None if end.error == NULL else <object>end.error
        value = None if end.value == NULL else <object>end.value
        self.judged(slot, end)
        awaits, instead = race.ended(value, error, end.outcome, end.fired == RS_SUPERSEDED, bool(end.cancelled))
        slot.wake_ns = race.due_ns
        if race.called:
            slot.flags |= RS_REACHED
        if awaits is not None:
            Py_INCREF(awaits)
            end.target = <PyObject *>awaits
            return RS_AWAIT
        if instead is not None:
            self.replace(end, instead.value, instead.error)
            end.outcome = instead.outcome
        return RS_PASS

    cdef int replace(self, rs_end *end, object value, object error) except -1:
        """Replace the end of the call by the value, or else the error."""
        cdef PyObject *old_value = end.value
        cdef PyObject *old_error = end.error
        end.value = end.error = NULL
        if error is None:
            Py_INCREF(value)
            end.value = <PyObject *>value
        else:
            Py_INCREF(error)
            end.error = <PyObject *>error
        Py_XDECREF(old_value)
        Py_XDECREF(old_error)
        return 0
