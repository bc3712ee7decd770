# cython: auto_pickle=False
"""The retry stage: whether what has failed is tried once more, and when; `resilio._policies.retry` is its face."""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from resilio._native.budget cimport (
    Backoff, RetryBudget, rs_backoff_delay, rs_budget_deposit, rs_budget_object,
    rs_lock_acquire as budget_acquire, rs_lock_release as budget_release,
)
from resilio._native.gate cimport (
    Gate, RS_ADMITTED, RS_FAILURE, RS_IGNORED, RS_NEVER, RS_SUCCESS, rs_gate, rs_gate_ops, rs_histogram_quantile, rs_lock_acquire,
    rs_lock_release, rs_refusal, rs_request, rs_slot,
)
from resilio._native.strategy cimport RS_AGAIN, RS_IN_THREAD, RS_PASS, rs_core_api, rs_end, rs_strategy_ops

from resilio import _log
from resilio._backoff import delay_of
from resilio._native import core
from resilio._retry_after import retry_after_of, should_retry_of
from resilio._trail import attach
from resilio.errors import DeadlineExceededError, RejectedError

__all__ = ["STOP_REASONS", "RetryGate"]

STOP_REASONS = (
    "attempts", "budget", "deadline", "refused", "retry_after", "not_retryable", "not_replayable", "would_block", "nested",
)
cdef enum:
    ATTEMPTS, BUDGET, DEADLINE, REFUSED, RETRY_AFTER, NOT_RETRYABLE, NOT_REPLAYABLE, WOULD_BLOCK, NESTED, GO

cdef extern from *:
    """
    #include "budget_object.h"
    #include "gate.h"
    typedef struct { rs_gate gate; void *methods; rs_budget_object *budget; } rs_retry;
    """
    ctypedef struct rs_retry:
        rs_budget_object *budget

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")
cdef uint64_t UNLIMITED = 2147483647
cdef uint64_t ENOUGH = 20               # successes before their median says anything
cdef uint64_t IN_A_RETRY = 1            # slot.generation: an outer retry pays in for this call
cdef tuple _hints = ("retry_after", "response", "headers", "trailing_metadata")


# ---- what the core calls ---------------------------------------------------------------------------------------

cdef int any_retry(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    return 1


cdef int retry_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    slot.mark = 0
    slot.amount = 0
    slot.generation = IN_A_RETRY if api.outer(NULL, &retry_ops, any_retry, NULL) else 0
    return 0


cdef int retry_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now, rs_refusal *why) noexcept nogil:
    return RS_ADMITTED


cdef void retry_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    """A success pays in, once for a call however many retries are around it."""
    cdef rs_budget_object *budget = (<rs_retry *>gate).budget
    if outcome == RS_SUCCESS and slot.generation == 0 and budget != NULL:
        budget_acquire(&budget.lock)
        rs_budget_deposit(&budget.budget, now)
        budget_release(&budget.lock)


cdef int retry_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    if end.error == NULL and end.outcome == RS_SUCCESS:
        return RS_PASS
    try:
        return (<RetryGate><object><PyObject *>gate).ended(slot, end)
    except BaseException as error:
        _log.logger().exception("a retry failed to decide: what there is goes on")
        end.outcome = RS_FAILURE
        return RS_PASS


cdef rs_strategy_ops retry_strategy
memset(&retry_strategy, 0, sizeof(retry_strategy))
retry_strategy.ended = retry_ended

cdef const char *retry_reasons[1]
retry_reasons[:] = [NULL]
cdef rs_gate_ops retry_ops
memset(&retry_ops, 0, sizeof(retry_ops))
retry_ops.kind = "retry"
retry_ops.error = "ResilienceError"
retry_ops.reasons = retry_reasons
retry_ops.prepare = retry_prepare
retry_ops.admit = retry_admit
retry_ops.settle = retry_settle
retry_ops.strategy = &retry_strategy


cdef int would_retry(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    """Would this retry, further out, try again what has just failed?"""
    try:
        return (<RetryGate><object><PyObject *>gate).takes(<object><PyObject *>context, slot.mark + 1)
    except Exception:
        return 0


# ---- the stage -------------------------------------------------------------------------------------------------

cdef class RetryGate(Gate):
    """Tries once more what has failed, as often and as soon as its options, the budget and the deadline let it."""

    cdef rs_budget_object *paid     # `budget` as C sees it, which looks for it here: first
    cdef readonly RetryBudget budget    # or None: retries are not paid for
    cdef uint64_t attempts
    cdef int64_t max_retry_after_ns
    cdef object backoff             # resilio._backoff: a Backoff, a Schedule, or the user's function
    cdef Backoff native             # of a Backoff, else None
    cdef tuple named                # refusals and passed deadlines that `on` lists by class
    cdef uint64_t retries
    cdef uint64_t stops[10]

    def __cinit__(self, *args, **options):
        self.ops = &retry_ops
        if <void *>&(<rs_retry *><PyObject *>self).budget != <void *>&self.paid:
            raise SystemError("a retry's fields are not where C looks for them")

    def __init__(self, **options):
        """Make a retry; the options are those of `configure`."""
        self.configure(**options)

    def configure(self, *, object attempts, object backoff, double max_retry_after, RetryBudget budget, tuple named):
        """
        Replace all options; calls under way go on with the new ones.

        Args:
            attempts: How often a call is tried, >= 1; None: as often as the budget and the deadline let it.

            backoff: What `resilio._backoff.backoff_option` returned.

            max_retry_after: The longest wait in seconds that a dependency may ask for.

            budget: Pays for retries; None: they are free.

            named: Classes of refusals and passed deadlines that are retried because `on` names them.
        """
        self.attempts = UNLIMITED if attempts is None else attempts
        self.max_retry_after_ns = <int64_t>(max_retry_after * 1e9)
        self.backoff = backoff
        self.native = getattr(backoff, "native", None)
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        before = self.budget        # let go of after the lock
        rs_lock_acquire(&gate.lock)
        self.paid = NULL if budget is None else <rs_budget_object *><PyObject *>budget
        self.budget = budget
        rs_lock_release(&gate.lock)
        self.named = named

    cdef bint takes(self, error, uint64_t attempts) except -1:
        """Is this one to be tried again, were there attempts left after so many, and are there?"""
        if attempts >= self.attempts or not isinstance(error, Exception):
            return False
        if isinstance(error, (RejectedError, DeadlineExceededError)) and not isinstance(error, self.named):
            return False
        judge = self.judge_error
        return judge is None or judge(error) == RS_FAILURE

    cdef int why_not(self, object error, object value, uint64_t attempt, rs_end *end, int64_t *delay) except -1:
        """Why what has ended so is not tried again; GO: it is, after the delay."""
        delay[0] = 0
        if error is not None:
            if isinstance(error, (RejectedError, DeadlineExceededError)) and not isinstance(error, self.named):
                return DEADLINE if isinstance(error, DeadlineExceededError) else REFUSED
            if end.outcome != RS_FAILURE:
                return NOT_RETRYABLE
            if api.outer(end.run, &retry_ops, would_retry, <void *>error):
                return NESTED
        if attempt >= self.attempts:
            return ATTEMPTS
        subject = value if error is None else error
        if says_something(subject) and should_retry_of(subject) is False:
            return NOT_RETRYABLE
        if end.request != NULL and not api.replayable(end.request):
            return NOT_REPLAYABLE
        return self.when(subject, attempt, end, delay)

    cdef int when(self, object subject, uint64_t attempt, rs_end *end, int64_t *delay) except -1:
        cdef int64_t asked = 0, deadline
        delay[0] = self.wait_ns(attempt, delay[0])
        if says_something(subject):
            said = retry_after_of(subject)
            if said is not None:
                if said * 1e9 > self.max_retry_after_ns:
                    return RETRY_AFTER
                asked = <int64_t>(said * 1e9)
                delay[0] = max(delay[0], asked)
        deadline = api.deadline_ns()
        if deadline != RS_NEVER and deadline - end.now_ns < delay[0] + self.median_ns():
            return RETRY_AFTER if asked and deadline - end.now_ns < asked else DEADLINE
        if delay[0] > 0 and end.place == RS_IN_THREAD and end.call == NULL and not api.may_block():
            return WOULD_BLOCK
        if self.budget is not None and not self.budget.withdraw():
            return BUDGET
        return GO

    cdef int64_t wait_ns(self, uint64_t attempt, int64_t previous) except -1:
        if self.native is not None:
            return rs_backoff_delay(&self.native.backoff, attempt, previous)
        return <int64_t>(delay_of(self.backoff, attempt, previous / 1e9) * 1e9)

    cdef int64_t median_ns(self):
        cdef int64_t median = 0
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        if gate.counters.successes >= ENOUGH:
            median = rs_histogram_quantile(&gate.latency, 0.5)
        rs_lock_release(&gate.lock)
        return median

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        cdef object error = None if end.error == NULL else <object>end.error
        cdef object value = None if end.value == NULL else <object>end.value
        cdef int64_t delay = slot.amount
        if error is not None and not isinstance(error, Exception):
            end.outcome = RS_IGNORED
            return RS_PASS
        slot.mark += 1
        cdef int reason = self.why_not(error, value, slot.mark, end, &delay)
        cdef list trail = None if slot.extra == NULL else <list>slot.extra
        if reason == GO:
            slot.amount = delay
            if trail is None:
                trail = []
                Py_INCREF(trail)
                slot.extra = <PyObject *>trail
            trail.append((error, value if error is None else None, end.now_ns, delay))
            self.retries += 1
            end.resume_ns = end.now_ns + delay
            return RS_AGAIN
        self.stops[reason] += 1
        end.outcome = RS_IGNORED if reason in (REFUSED, NESTED) and trail is None else RS_FAILURE
        if error is not None:
            self.give_up(reason, error, trail, slot, end)
        return RS_PASS

    cdef int give_up(self, int reason, object error, list trail, rs_slot *slot, rs_end *end) except -1:
        """What goes on is the callee's last own exception, with the trail of all attempts."""
        shown = error
        if not end.called or reason == REFUSED or reason == DEADLINE:
            for earlier, _, _, _ in reversed(trail or ()):
                if earlier is not None and not isinstance(earlier, (RejectedError, DeadlineExceededError)):
                    shown = earlier
                    break
        attach(shown, error, STOP_REASONS[reason], trail or (), slot.admitted_ns, end.now_ns)
        if shown is not error:
            Py_INCREF(shown)
            Py_XDECREF(end.error)
            end.error = <PyObject *>shown
        return 0

    @property
    def retry_counters(self):
        """How often something was tried again, and for which reasons it was not."""
        return self.retries, {name: self.stops[at] for at, name in enumerate(STOP_REASONS)}


cdef bint says_something(object subject) except -1:
    """May it say when to come back? Most exceptions have none of the attributes that do."""
    if isinstance(subject, BaseExceptionGroup):
        return True
    for name in _hints:
        if hasattr(subject, name):
            return True
    return False
