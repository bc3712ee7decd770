# cython: auto_pickle=False
"""The hedge stage: when a second copy of a call starts; which of them wins is `resilio._strategies.race`'s."""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from resilio._native.gate cimport (
    Gate, RS_ADMITTED, RS_FAILURE, RS_IGNORED, RS_NEVER, RS_SUCCESS, rs_gate, rs_gate_ops, rs_lock_acquire, rs_lock_release,
    rs_refusal, rs_request, rs_slot,
)
from resilio._native.strategy cimport (
    RS_AWAIT, RS_ON_ASYNCIO, RS_ON_TRIO, RS_PASS, RS_SUPERSEDED, RS_UNINTERRUPTED, rs_core_api, rs_end, rs_strategy_ops,
)

import sys

from resilio import _log
from resilio._native import core
from resilio.errors import RejectedError

__all__ = ["ANSWERS", "HedgeGate"]

cdef extern from "hedging.h" nogil:
    enum:
        RS_HEDGING_GO
        RS_HEDGING_ANSWERS
    const int64_t RS_HEDGING_NEVER
    const int64_t RS_HEDGING_ONE
    const int32_t RS_HEDGING_SHARE
    ctypedef struct rs_hedging:
        int64_t delay_ns, fixed_ns, least_ns, most_ns, max_extra, needed, recent_ns, baseline_ns, samples, tokens
        double quantile
        int32_t won, failed
        uint64_t answers[6]
    void rs_hedging_init(rs_hedging *, double, int64_t, double)
    void rs_hedging_free(rs_hedging *)
    void rs_hedging_begin(rs_hedging *, int64_t)
    void rs_hedging_sample(rs_hedging *, int64_t, int, int64_t)
    void rs_hedging_outcome(rs_hedging *, int)
    void rs_hedging_verdict(rs_hedging *, int)
    int rs_hedging_may(rs_hedging *)
    void rs_hedging_give_back(rs_hedging *)

cdef extern from *:
    """
    #include "gate.h"
    typedef struct { rs_gate gate; void *methods; rs_hedging hedging; int64_t *schedule; int waits; } rs_hedge;
    """
    ctypedef struct rs_hedge:
        rs_hedging hedging
        int64_t *schedule
        int waits

cdef extern from *:
    object PyContext_CopyCurrent()

cdef bint KEEPS_CONTEXT = sys.version_info < (3, 12)
cdef object race_type = None            # resilio._strategies.race.Race, once there was a race

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")

ANSWERS = ("started", "unmeasured", "failing", "saturated", "losing", "capped")
"""What became of hedges that were due."""

cdef enum:                              # slot.mark
    JUDGED = 1                          # what the primary did has been learned: not once more when the stage is settled


# ---- what the core calls ---------------------------------------------------------------------------------------

cdef int hedge_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    slot.mark = JUDGED if request.hedge else 0
    slot.generation = 0                 # hedges started
    if KEEPS_CONTEXT and not request.hedge:     # a task of 3.11 does not tell in which context it runs
        context = PyContext_CopyCurrent()
        Py_INCREF(context)
        slot.extra = <PyObject *>context
    return 0


cdef int hedge_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now, rs_refusal *why) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.mark == JUDGED:
        return RS_ADMITTED
    rs_hedging_begin(&hedge.hedging, now)
    if hedge.hedging.delay_ns != RS_HEDGING_NEVER:
        slot.wake_ns = now + (hedge.schedule[0] if hedge.schedule != NULL else hedge.hedging.delay_ns)
    return RS_ADMITTED


cdef void hedge_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    cdef rs_hedge *hedge = <rs_hedge *>gate
    if slot.mark == JUDGED or outcome == RS_IGNORED:
        return
    rs_hedging_outcome(&hedge.hedging, outcome == RS_FAILURE)
    if outcome == RS_SUCCESS:
        rs_hedging_sample(&hedge.hedging, latency, 0, now)


cdef int hedge_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        return (<HedgeGate><object><PyObject *>gate).ended(slot, end)
    except BaseException:
        _log.logger().exception("a hedge failed to decide: what there is goes on")
        return RS_PASS


cdef int hedge_expired(rs_gate *gate, rs_slot *slot, PyObject *call, int stage, int64_t now) noexcept:
    try:
        (<HedgeGate><object><PyObject *>gate).start(slot, <object>call, stage, now)
    except BaseException:
        _log.logger().exception("a hedge could not be started")
    return RS_UNINTERRUPTED


cdef int hedge_delegates(rs_gate *gate, rs_slot *slot, int place) noexcept:
    """On trio another task needs a nursery around both: only where a hedge may start at all."""
    if place != RS_ON_TRIO or slot.mark == JUDGED or (<rs_hedge *>gate).hedging.delay_ns == RS_HEDGING_NEVER:
        return 0
    slot.mark = JUDGED                  # by the race
    return 1


cdef void hedge_leave(rs_gate *gate, rs_slot *slot) noexcept:
    """The call is gone, perhaps dropped: so are its copies."""
    extra = <object>slot.extra
    if race_type is not None and isinstance(extra, race_type):
        try:
            extra.dropped()
        except BaseException:
            _log.logger().exception("copies of a dropped call could not be cancelled")


cdef int hedge_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    """It has learned nothing: what it learns stays."""
    return (<rs_hedge *>gate).hedging.samples == 0


cdef rs_strategy_ops hedge_strategy
memset(&hedge_strategy, 0, sizeof(hedge_strategy))
hedge_strategy.ended = hedge_ended
hedge_strategy.expired = hedge_expired
hedge_strategy.delegates = hedge_delegates
hedge_strategy.leave = hedge_leave

cdef const char *hedge_reasons[1]
hedge_reasons[:] = [NULL]
cdef rs_gate_ops hedge_ops
memset(&hedge_ops, 0, sizeof(hedge_ops))
hedge_ops.kind = "hedge"
hedge_ops.error = "ResilienceError"
hedge_ops.reasons = hedge_reasons
hedge_ops.prepare = hedge_prepare
hedge_ops.admit = hedge_admit
hedge_ops.settle = hedge_settle
hedge_ops.strategy = &hedge_strategy
hedge_ops.pristine = hedge_pristine


# ---- the stage -------------------------------------------------------------------------------------------------

cdef class HedgeGate(Gate):
    """Starts a copy of a call that takes long, where that helps; what it learns is in `hedging.h`."""

    cdef rs_hedging hedging             # first: C looks for it here
    cdef int64_t *schedule
    cdef int waits
    cdef int64_t delays[16]
    cdef uint64_t refused, hedge_wins
    cdef readonly int max_hedges
    cdef readonly object targets, discard, replay_safe

    def __cinit__(self, *args, **options):
        self.ops = &hedge_ops
        if <void *>&(<rs_hedge *><PyObject *>self).waits != <void *>&self.waits:
            raise SystemError("a hedge's fields are not where C looks for them")
        rs_hedging_init(&self.hedging, 0.5, 0, 0.0)

    def __init__(self, **options):
        """Make a hedge that has learned nothing; the options are those of `configure`."""
        self.configure(**options)

    def __dealloc__(self):
        rs_hedging_free(&self.hedging)

    def configure(
        self, *, double quantile, tuple delays, double max_extra, double min_delay, double max_delay, int max_hedges,
        tuple targets, object discard, object replay_safe,
    ):
        """
        Replace all options, keeping what was learned.

        Args:
            quantile: Of the primary's latency, when the hedge starts, in (0, 1); 0: `delays` say.

            delays: Seconds before the first hedge, and before each further one, at most 16; empty with a quantile.

            max_extra: Hedges a call, in [0, 1].

            min_delay: A learned delay is at least this, in seconds.

            max_delay: A learned delay is at most this, in seconds.

            max_hedges: Copies of one call, at most.

            targets: Functions for the copies, in order; the last one serves for all further ones. Empty: the function.

            discard: Called with the results of copies that came too late, or None.

            replay_safe: True, or a function of the arguments that says whether this call may be copied.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef double unmeasured = self.hedging.samples < self.hedging.needed
        rs_lock_acquire(&gate.lock)
        self.hedging.quantile = quantile
        self.hedging.needed = max(20, <int64_t>(2 / (1 - quantile) + 0.5)) if quantile > 0 else 20
        self.hedging.max_extra = <int64_t>(max_extra * RS_HEDGING_ONE)
        self.hedging.least_ns = <int64_t>(min_delay * 1e9)
        self.hedging.most_ns = <int64_t>(max_delay * 1e9)
        for at, delay in enumerate(delays):
            self.delays[at] = <int64_t>(delay * 1e9)
        self.waits = len(delays)
        self.schedule = self.delays if delays else NULL
        if delays:
            self.hedging.fixed_ns = self.delays[0]
        if self.hedging.delay_ns != RS_HEDGING_NEVER and delays:
            self.hedging.delay_ns = self.hedging.fixed_ns
        rs_lock_release(&gate.lock)
        self.max_hedges = max_hedges
        self.targets = targets
        self.discard = discard
        self.replay_safe = replay_safe

    # -- when it is due

    cdef int64_t wait_ns(self, uint64_t started):
        """How long after the last one the next hedge starts."""
        if self.schedule == NULL:
            return self.hedging.delay_ns
        return self.delays[min(<int>started, self.waits - 1)]

    cdef int start(self, rs_slot *slot, object call, int stage, int64_t now) except -1:
        """Start a copy, if everything is for it; slot.extra is the race of all copies."""
        global race_type
        if race_type is None:
            from resilio._strategies.race import Race

            race_type = Race
        race = None if slot.extra == NULL else <object>slot.extra
        if not isinstance(race, race_type):
            race = race_type(self, call, stage, race)
        if not self.pay(call, stage, now):
            return 0
        if not race.start(int(slot.generation) + 1):
            self.pay_back(call, stage)
            return 0
        if slot.extra != <PyObject *>race:
            Py_XDECREF(slot.extra)
            Py_INCREF(race)
            slot.extra = <PyObject *>race
        slot.generation += 1
        if <int>slot.generation < self.max_hedges:
            slot.wake_ns = now + self.wait_ns(slot.generation)
        return 1

    cdef bint pay(self, object call, int stage, int64_t now) except -1:
        """May one start now? Then it has been paid for, out of its own share and out of the budget of retries."""
        cdef int64_t deadline = api.deadline_ns()
        if deadline != RS_NEVER and deadline - now < self.hedging.recent_ns:
            return False
        if not self.may_start():
            return False
        budget = self.budget_of(call, stage)
        if budget is None or budget.withdraw():
            return True
        self.give_back()
        return False

    def pay_back(self, object call, int stage):
        """A hedge that was paid for did not start, or was refused inside."""
        self.give_back()
        budget = self.budget_of(call, stage)
        if budget is not None:
            budget.refund()

    cdef object budget_of(self, object call, int stage):
        cdef rs_gate *retry = api.outside(<PyObject *>call, stage, "retry")
        return None if retry == NULL else (<object><PyObject *>retry).budget

    # -- what is learned, and by whom it is told

    def may_start(self):
        """Whether a hedge may start now; if so, it counts as started."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        cdef int answer = rs_hedging_may(&self.hedging)
        rs_lock_release(&gate.lock)
        return answer == RS_HEDGING_GO

    def give_back(self):
        """A hedge that may have started did not, or was refused inside."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        rs_hedging_give_back(&self.hedging)
        self.refused += 1
        rs_lock_release(&gate.lock)

    def learn(self, double seconds, *, bint stopped=False, bint failed=False):
        """
        Tell how a primary has ended.

        Args:
            seconds: Since it began.

            stopped: It was ended by resilio at that time, and would have taken longer.

            failed: It failed; of that one no time is learned unless it was stopped.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef int64_t now = api.now_ns()
        rs_lock_acquire(&gate.lock)
        if failed or not stopped:
            rs_hedging_outcome(&self.hedging, failed)
        if stopped or not failed:
            rs_hedging_sample(&self.hedging, <int64_t>(seconds * 1e9), stopped, now)
        rs_lock_release(&gate.lock)

    def verdict(self, bint won):
        """Tell whether a hedge that was started gave the call its result."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        rs_hedging_verdict(&self.hedging, won)
        self.hedge_wins += won
        rs_lock_release(&gate.lock)

    @property
    def delay(self):
        """Seconds before the first hedge; None while too little has been measured."""
        return None if self.hedging.delay_ns == RS_HEDGING_NEVER else self.hedging.delay_ns / 1e9

    @property
    def delays_after(self):
        """Seconds before each hedge, in order, `max_hedges` of them."""
        return [self.wait_ns(at) / 1e9 for at in range(self.max_hedges)]

    @property
    def hedge_counters(self):
        """Hedges that were due by what became of them, those refused afterwards, and those that won."""
        due = {name: self.hedging.answers[at] for at, name in enumerate(ANSWERS)}
        return due, self.refused, self.hedge_wins

    # -- on trio

    def arun(self, rest):
        """Run the rest of the call and its hedges in a nursery of trio."""
        from resilio._strategies.race_trio import run

        return run(self, rest)

    # -- how the primary has ended

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        if slot.extra != NULL and race_type is not None and isinstance(<object>slot.extra, race_type):
            return self.race_ended(<object>slot.extra, slot, end)
        if end.error == NULL or slot.mark == JUDGED:
            return RS_PASS
        error = <object>end.error
        if not isinstance(error, Exception):
            if end.outcome == RS_FAILURE:       # a timeout further out: it would have taken longer
                self.judged(slot, end, stopped=True, failed=True)
            return RS_PASS
        if end.place != RS_ON_ASYNCIO or end.call == NULL or not end.called or isinstance(error, RejectedError):
            return RS_PASS
        self.judged(slot, end, stopped=False, failed=True)
        if self.start(slot, <object>end.call, end.stage, end.now_ns):
            return self.race_ended(<object>slot.extra, slot, end)
        return RS_PASS

    cdef int judged(self, rs_slot *slot, rs_end *end, bint stopped, bint failed) except -1:
        if slot.mark != JUDGED:
            slot.mark = JUDGED
            self.learn(max(end.now_ns - slot.admitted_ns, 0) / 1e9, stopped=stopped, failed=failed)
        return 0

    cdef int race_ended(self, race, rs_slot *slot, rs_end *end) except -1:
        """The primary has ended, or what the race had awaited after it."""
        cdef object error = None if end.error == NULL else <object>end.error
        cdef object value = None if end.value == NULL else <object>end.value
        slot.wake_ns = RS_NEVER
        if race.winner is not None:
            self.judged(slot, end, stopped=end.fired == RS_SUPERSEDED, failed=False)
        elif error is None:
            self.judged(slot, end, stopped=False, failed=False)
        elif isinstance(error, Exception):
            self.judged(slot, end, stopped=False, failed=True)
        elif end.outcome == RS_FAILURE:
            self.judged(slot, end, stopped=True, failed=True)
        awaits, new_value, new_error = race.ended(value, error, bool(end.cancelled))
        if awaits is not None:
            Py_INCREF(awaits)
            end.target = <PyObject *>awaits
            return RS_AWAIT
        Py_XDECREF(end.value)
        Py_XDECREF(end.error)
        end.value = end.error = NULL
        if new_error is not None:
            Py_INCREF(new_error)
            end.error = <PyObject *>new_error
        else:
            Py_INCREF(new_value)
            end.value = <PyObject *>new_value
            end.outcome = RS_SUCCESS
        return RS_PASS
