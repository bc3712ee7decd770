"""
The retry stage: whether a failed attempt is repeated, and when; `resilio._policies.retry.policy` is its public face.

`Tries` is the history of one call; `Scope` lets nested retries know of the retry around them.
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from resilio._native.budget cimport (
    Backoff, RetryBudget, rs_backoff_delay, rs_backoff_reach, rs_budget_deposit, rs_budget_failed,
    rs_budget_is_mute, rs_budget_object, rs_budget_price, rs_budget_put_back, rs_budget_repay, rs_budget_take,
    spread_ns, rs_lock_acquire as budget_acquire, rs_lock_release as budget_release,
)
from resilio._native.gate cimport (
    Gate, RS_ADMITTED, RS_FAILURE, RS_IGNORED, RS_NEVER, RS_REFUSED, RS_SUCCESS, rs_gate, rs_gate_ops,
    rs_histogram_quantile, rs_is_unserved, rs_lock, rs_lock_acquire, rs_lock_release, rs_rejection, rs_request, rs_slot,
)
from resilio._native.options cimport ns_of
from resilio._native.strategy cimport (
    RS_AGAIN, RS_AWAIT, RS_IN_THREAD, RS_PASS, rs_core_api, rs_end, rs_strategy_ops,
)

from inspect import isawaitable
from weakref import ref

from resilio import events as _events
from resilio._context import variables as _context
from resilio._events import log as _log
from resilio._policies.retry.backoff import delay_of
from resilio._context.blocking import add_advice, warn_rejection
from resilio._native import core
from resilio._failures.answer_parts import HINTS
from resilio._failures.retry_after import retry_after_of, should_retry_of
from resilio._failures.aws import retries_of
from resilio._failures.replayable import used_up
from resilio._failures.retry_trail import attach
from resilio.errors import DeadlineExceededError, RejectedError

STOP_REASONS = (
    "attempts", "budget", "deadline", "rejected", "retry_after", "not_retryable", "not_replayable", "would_block",
    "nested",
)
cdef enum:
    ATTEMPTS, BUDGET, RETRY_DEADLINE, REJECTED, RETRY_AFTER, NOT_RETRYABLE, NOT_REPLAYABLE, WOULD_BLOCK, NESTED, GO

cdef extern from "Python.h":
    int PyContextVar_Get(object, PyObject *, PyObject **) except -1
    object PyContextVar_Set(object, object)

cdef extern from "pace.h":
    ctypedef struct rs_pace:
        int64_t latest, usual
    void rs_pace_saw(rs_pace *pace, int64_t took_ns, int64_t underway) noexcept nogil
    int rs_pace_is_slow(const rs_pace *pace) noexcept nogil
    int64_t rs_pace_share(const rs_pace *pace, int64_t took_ns) noexcept nogil

cdef extern from *:
    """
    #include "budget_object.h"
    #include "pace.h"
    #include "strategy.h"
    typedef int (*rs_asked)(rs_gate *, rs_slot *, void *);
    typedef struct { rs_gate gate; void *methods; rs_budget_object *budget; rs_pace pace; } rs_retry;
    """
    enum:
        RS_LISTEN_RETRIED
        RS_LISTEN_GAVE_UP
    ctypedef int (*rs_asked)(rs_gate *, rs_slot *, void *) noexcept
    ctypedef struct rs_retry:
        rs_budget_object *budget
        rs_pace pace

cdef uint64_t UNLIMITED = 2147483647
cdef uint64_t ENOUGH = 20               # successes before their median counts
cdef int64_t SHORTER = 10               # as many times, at least, is the first wait before an attempt elsewhere
cdef tuple _hints = (*HINTS, "_resilio_replay", "_resilio_permanent")


include "strategy_fault.pxi"
cdef extern from *:
    """
    static RS_APART int rs_retry_in_paying_scope(void);
    """

# ---- operations called by the core -----------------------------------------------------------------------------------
# None of them raises: where a retry cannot decide, the result or error at hand goes on.

cdef int ask_outer(rs_slot *slot, rs_asked ask, void *context, int *beyond) noexcept:
    """
    Ask the retries around, of this run and the runs around it, innermost first, until one returns other than 0.

    *beyond*, or NULL: set before those that stand outside of a pool, whose endpoint's client asks.
    """
    cdef uint64_t before = 0 if slot == NULL else slot.retry.before
    cdef int answer
    while before:
        slot -= 1
        before -= 1
        if slot.gate.ops == &retry_ops:
            answer = ask(slot.gate, slot, context)
            if answer:
                return answer
    return api.outer(&retry_ops, ask, context, beyond)


cdef int pays(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    return (<rs_retry *>gate).budget != NULL


cdef int retry_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    slot.retry.paid_outside = False
    slot.retry.measures = request.func != NULL  # the Tries of blocks and streams measure their attempts themselves
    if ask_outer(slot, pays, NULL, NULL) or (rs_scopes_alive() and in_paying_scope()):
        slot.retry.paid_outside = True
    return 0


cdef bint in_paying_scope "rs_retry_in_paying_scope"() noexcept:
    try:
        return _payer(NULL, None) is not None
    except Exception:
        return False


cdef void retry_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    """Settle a call; a success pays in once, however many retries are around it."""
    cdef rs_budget_object *budget = (<rs_retry *>gate).budget
    if outcome == RS_SUCCESS and slot.extra == NULL and slot.retry.measures and slot.first_ns == 0:
        rs_pace_saw(&(<rs_retry *>gate).pace, latency, gate.counters.inflight)
    if outcome == RS_SUCCESS and not slot.retry.paid_outside and budget != NULL:
        budget_acquire(&budget.lock)
        rs_budget_deposit(&budget.budget, now)
        budget_release(&budget.lock)


cdef int retry_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    if end.error == NULL and end.outcome == RS_SUCCESS and slot.extra == NULL:
        return RS_PASS
    try:
        return (<RetryGate><object><PyObject *>gate).ended(slot, end)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        end.outcome = RS_FAILURE
        say_failed("a retry failed to decide: what there is goes on")
        return RS_PASS


cdef int retry_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    """Return True: a retry has no state of its own. Its public face checks the budget, and knows who owns it."""
    return True


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
retry_ops.settle = retry_settle
retry_ops.strategy = &retry_strategy
retry_ops.pristine = retry_pristine


cdef struct rs_failed:
    PyObject *error
    int beyond                          # whether a pool lies between the retry that asks and the one asked


cdef int would_retry(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    """Return True if this retry, further out, takes the error at hand."""
    cdef rs_failed *failed = <rs_failed *>context
    try:
        return (<RetryGate><object><PyObject *>gate).takes(<object>failed.error, failed.beyond)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except Exception:
        pass
    return 0


# ---- the stage -------------------------------------------------------------------------------------------------

@cython.final
cdef class Options:
    """Options of a retry, replaced as a whole."""

    cdef uint64_t attempts
    cdef int64_t max_retry_after_ns
    cdef object backoff             # resilio._policies.retry.backoff: a Backoff, a Schedule, or the user's function
    cdef Backoff native             # the native part of a Backoff, else None
    cdef RetryBudget budget         # None: retries are not paid for
    cdef object replayable          # whether arguments may be passed again; None: by inspection
    cdef tuple named                # rejections and passed deadlines that `on` lists by class
    cdef bint same_first            # around a pool it leaves the first attempts to the client of the endpoint

    cdef int64_t reach_ns(self, int64_t left_ns) noexcept:
        return 0 if self.native is None else rs_backoff_reach(&self.native.backoff, left_ns)

    cdef int64_t wait_ns(self, uint64_t attempt, int64_t previous, object subject) except -1:
        if self.native is not None:
            return rs_backoff_delay(&self.native.backoff, attempt, previous)
        return <int64_t>(delay_of(self.backoff, attempt, previous / 1e9, subject) * 1e9)


cdef class RetryGate(Gate):
    """Repeats failed attempts, as often and as soon as its options, the budget and the deadline allow."""

    cdef rs_budget_object *paid     # the budget as C sees it; must be the first field: C reads it here
    cdef rs_pace pace_              # of attempts that succeed
    cdef int64_t troubled           # calls in flight with a failed attempt
    cdef Options _options
    cdef uint64_t retries
    cdef uint64_t stops[10]
    cdef int64_t log_ns             # no line about a retry is logged before this time
    cdef uint64_t logged            # the retries up to the latest line

    def __cinit__(self, *args, **options):
        self.ops = &retry_ops
        if <void *>&(<rs_retry *><PyObject *>self).budget != <void *>&self.paid:
            raise SystemError("a retry's fields are not where C looks for them")

    def __init__(self, config, RetryBudget budget):
        """Make a retry with the options of *config*, a `RetryConfig`; *budget* pays for its retries, if not None."""
        self.configure(config, budget)

    def configure(self, config, RetryBudget budget):
        """Take the options of *config* and another budget, all at once; calls in flight go on with the new ones."""
        cdef Options new = Options()
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef object attempts = config.attempts, backoff = config.backoff
        new.attempts = UNLIMITED if attempts is None else attempts
        new.max_retry_after_ns = ns_of(config.max_retry_after)
        new.backoff = backoff
        native = getattr(backoff, "native", None)   # a user's function, a mock for example, may have it too
        new.native = native if isinstance(native, Backoff) else None
        new.budget = budget
        new.replayable = config.replayable
        new.named = config.named()
        new.same_first = config.same_first
        before = self._options      # released after the lock
        rs_lock_acquire(&gate.lock)
        self.paid = NULL if budget is None else <rs_budget_object *><PyObject *>budget
        self._options = new
        rs_lock_release(&gate.lock)

    def forget(self):
        """Forget the durations of attempts."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        memset(&self.pace_, 0, sizeof(self.pace_))
        rs_lock_release(&gate.lock)

    @property
    def retry_counters(self):
        """The number of retries, and of failures that were not retried, by reason."""
        return self.retries, {name: self.stops[at] for at, name in enumerate(STOP_REASONS)}

    def stream(self, make):
        """Return a stream of `make()` whose first item is retried; see resilio._policy.streams."""
        return core.hook("retried")(self, make)

    def astream(self, make):
        """Return an async stream of `make()` whose first item is retried."""
        return core.hook("aretried")(self, make)

    @property
    def budget(self):
        """The budget that pays for retries, and for hedges inside; None: they are free."""
        return self.options().budget

    @property
    def pace(self):
        """Durations of successful attempts in seconds, 0 if not known: the latest, the usual; True if that is slow."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        cdef rs_pace copy = self.pace_
        rs_lock_release(&gate.lock)
        return copy.latest / 1e9, copy.usual / 1e9, bool(rs_pace_is_slow(&copy))

    @property
    def replayable(self):
        """Whether arguments may be passed again: a bool, a function of them, or None to inspect them."""
        return self.options().replayable

    cdef Options options(self):
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef Options found
        rs_lock_acquire(&gate.lock)
        found = self._options
        rs_lock_release(&gate.lock)
        return found

    cdef int count(self, int reason) noexcept:
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        if reason == GO:
            self.retries += 1
        else:
            self.stops[reason] += 1
        rs_lock_release(&gate.lock)
        return 0

    cdef uint64_t to_log(self, int64_t now, int64_t every) noexcept:
        """Return the number of retries since the latest line, and begin to count anew; 0: too early for a line."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef uint64_t since = 0
        rs_lock_acquire(&gate.lock)
        if now >= self.log_ns or self.log_ns - now > every:     # or the clock has gone back
            self.log_ns = now + every
            since = self.retries - self.logged
            self.logged = self.retries
        rs_lock_release(&gate.lock)
        return since

    cdef bint takes(self, object error, bint beyond) except -1:
        """
        Return True if this retry is the one for such an error, with or without attempts left.

        If it has none left, the retries of other layers must not add to its attempts.

        Args:
            error: An error from inside.

            beyond: Whether it comes from an endpoint's client of a pool inside, which has a retry of its own.
        """
        cdef Options options = self.options()
        if options.attempts == 1 or unnamed(options, error) or (beyond and options.same_first):
            return False
        judge = self.judge_error
        return judge is None or rs_is_unserved(judge(error))

    cdef int decide(
        self, Tries tries, object error, object value, int outcome, rs_slot *slot, rs_end *end, bint threaded,
        int64_t now,
    ) except -1:
        """Return why the attempt is not repeated; GO: it is, after tries.delay_ns, and that is paid for."""
        cdef Options options = self.options()
        cdef int reason = GO if error is None else self.concerns(tries, options, error, outcome, slot, end)
        if reason != GO:
            return reason
        cdef RetryBudget budget = payer(options, tries, slot)
        note_failure(self, tries, budget, error)
        if tries.attempt >= options.attempts:
            return ATTEMPTS
        subject = value if error is None else error
        cdef bint says = says_something(subject)
        if says and should_retry_of(subject) is False:
            return NOT_REPLAYABLE if getattr(subject, "_resilio_replay", None) is False else NOT_RETRYABLE
        if says:
            tries.elsewhere += retries_of(subject)
            if tries.attempt + tries.elsewhere >= options.attempts:
                return ATTEMPTS
        if end != NULL and end.request != NULL:
            if is_forbidden(end.request):
                return NOT_REPLAYABLE
            if options.replayable is not True and (
                options.replayable is not None or not api.replayable(end.request, end.func, 0)
            ):
                tries.one_shot = _one_shot(self, options.replayable, end)
        if tries.one_shot is not None:
            return NOT_REPLAYABLE
        cdef int64_t asked = asked_ns(subject) if says and not tries.untried else 0
        cdef int64_t deadline = api.deadline_ns() if end == NULL else end.deadline_ns
        if deadline <= now:             # in any case: the attempt has ended after it
            return RETRY_DEADLINE
        reason = plan(self, tries, options, budget, subject, asked, deadline, now)
        if reason != GO:
            return reason
        if tries.delay_ns > 0 and threaded and not api.may_block():
            return WOULD_BLOCK
        if not pay(self, tries, budget, asked, now):
            return BUDGET
        if asked:
            api.told(NULL if end == NULL else end.call, now, now + tries.delay_ns)
        return GO

    cdef int concerns(self, Tries tries, Options options, object error, int outcome, rs_slot *slot,
                      rs_end *end) except -1:
        """Return GO if such an error is this retry's to repeat; else why it is not."""
        if unnamed(options, error):
            return RETRY_DEADLINE if isinstance(error, DeadlineExceededError) else REJECTED
        if not rs_is_unserved(outcome):
            return NOT_RETRYABLE
        cdef rs_failed failed = rs_failed(<PyObject *>error, False)
        if ask_outer(slot, would_retry, &failed, &failed.beyond):
            return NESTED
        if rs_scopes_alive() and _would_any(_visible(tries.scope), error, failed.beyond):
            return NESTED
        return GO

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        cdef Tries tries = None if slot.extra == NULL else <Tries>slot.extra
        cdef object error = None if end.error == NULL else <object>end.error
        cdef int reason
        if error is not None and not isinstance(error, Exception):
            if tries is not None:
                tries.leave()
                if not end.called:      # cancelled while it waited
                    tries.give_back()
                else:
                    tries.cut_off(error, end)
            return RS_PASS
        if tries is not None and tries.releasing:
            tries.releasing = False
            end.resume_ns = tries.resume_ns
            return RS_AGAIN
        if error is None and not rs_is_unserved(end.outcome):  # one that `failed_if` cannot judge is not repeated
            if tries is not None:
                tries.answered(end.now_ns)
                tries.leave()
            return RS_PASS
        if tries is None:
            tries = Tries(self)
            tries.began_ns = tries.attempt_ns = slot.admitted_ns
            Py_INCREF(tries)
            slot.extra = <PyObject *>tries
        elif not end.called:            # rejected inside: the retry has not reached the callee
            tries.give_back()
        tries.attempt += 1
        tries.untried = end.untried
        tries.trouble()
        value = None if end.value == NULL else <object>end.value
        reason = self.decide(
            tries, error, value, end.outcome, slot, end, end.place == RS_IN_THREAD and end.call == NULL, end.now_ns
        )
        if reason == GO:
            return self.again(tries, error, value, slot, end)
        tries.leave()
        tries.stop(reason, error, end.called, end.now_ns)
        end.outcome = RS_IGNORED if tries.quiet() else RS_REFUSED if end.outcome == RS_REFUSED else RS_FAILURE
        if tries.shown is not error:
            Py_INCREF(tries.shown)
            Py_XDECREF(end.error)
            end.error = <PyObject *>tries.shown
        tries.shown = None
        return RS_PASS

    cdef int again(self, Tries tries, object error, object value, rs_slot *slot, rs_end *end) except -1:
        tries.go_on(error, end.now_ns)
        tries.show(None, slot)
        end.resume_ns = tries.resume_ns
        if error is not None:
            return RS_AGAIN
        closing = release(value, end.call != NULL)
        if closing is None:
            return RS_AGAIN
        closing = once_closed(closing, value)
        tries.releasing = True
        Py_INCREF(closing)
        end.target = <PyObject *>closing
        return RS_AWAIT


# ---- what a failed attempt asks for ----------------------------------------------------------------------------------
# Objects of clients and of users are read and closed here: where that raises, the retry goes on.

cdef bint unnamed(Options options, object error) except -1:
    """Return True for a rejection or a passed deadline that `on` does not list."""
    return isinstance(error, (RejectedError, DeadlineExceededError)) and not isinstance(error, options.named)


cdef bint is_forbidden(const rs_request *request) except -1:
    """
    Return True if a client's request must not be sent twice, however its attempt ended.

    The request is asked, since the error of a timeout knows nothing of it.
    """
    if request.nargs != 1:
        return False
    try:
        return getattr(<object>request.args[0], "_resilio_replay", None) is False
    except Exception:
        return False


cdef int64_t asked_ns(object subject) except -1:
    said = retry_after_of(subject)
    return 0 if said is None else RS_NEVER if said > 9e9 else <int64_t>(said * 1e9)


cdef int64_t paused_ns(object subject) except -1:
    """The pause that a policy inside has made for *subject* (`server_pauses.MADE`): its door opens at its end."""
    seconds = getattr(subject, "_resilio_pause", 0.0)
    return <int64_t>(seconds * 1e9) if isinstance(seconds, float) and 0.0 < seconds < 9e9 else 0


cdef bint says_something(object subject) except -1:
    """Return True if *subject* may hold advice; most exceptions have none of the attributes that do."""
    if isinstance(subject, (BaseExceptionGroup, dict)):
        return True
    for name in _hints:
        try:
            if hasattr(subject, name):
                return True
        except Exception:               # it may have one: the code that reads it handles the error
            return True
    return False


async def once_closed(closing, value):
    """Await the closing of a result and return that result: rules that look at it must not see another."""
    await closing
    return value


def release(value, bint may_await):
    """
    Close a failed result that will be discarded: a response holds its connection until then.

    Args:
        value: The result.

        may_await: Whether the caller can await.

    Returns:
        The awaitable that closes it, or None.
    """
    try:
        close = getattr(value, "aclose", None) if may_await else None
        if close is None:
            close = getattr(value, "close", None)
        closing = close() if callable(close) else None
        return closing if may_await and isawaitable(closing) else None
    except Exception as error:
        _log.say(_log.DEBUG, "a failed result could not be closed", error=error)
        return None
# ---- the cost of a retry, its repayment, and its wait ----------------------------------------------------------------
# The retry compares the duration of a failed attempt with those of successful ones: the ratio is the failed attempt's
# cost to the dependency.


cdef RetryBudget payer(Options options, Tries tries, rs_slot *slot):
    """The budget that pays for a retry: the outermost, to which the success of nested retries pays in."""
    found = _payer(slot, tries.scope)
    return options.budget if found is None else found


cdef int64_t underway(RetryGate self) noexcept:
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    cdef int64_t found = gate.counters.inflight
    rs_lock_release(&gate.lock)
    return found


cdef int trouble(RetryGate self, int more) noexcept:
    """Count calls in flight with a failed attempt: one more, or one less."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    self.troubled += more
    rs_lock_release(&gate.lock)
    return 0


cdef int note_failure(RetryGate self, Tries tries, RetryBudget budget, object error) except -1:
    """Note a failed attempt in the budget, unless it was a rejection inside, which never reached the dependency."""
    if budget is None or isinstance(error, RejectedError):
        return 0
    cdef int64_t calls = underway(self)
    budget_acquire(&budget.lock)
    rs_budget_failed(&budget.budget, calls)
    budget_release(&budget.lock)
    return 0


cdef int plan(
    RetryGate self, Tries tries, Options options, RetryBudget budget, object subject, int64_t asked,
    int64_t deadline, int64_t now,
) except -1:
    """Choose tries.delay_ns; return GO if there is time for it and for an attempt, else the reason."""
    if asked > options.max_retry_after_ns:
        tries.delay_ns = asked
        return RETRY_AFTER
    cdef int64_t delay = max(options.wait_ns(tries.attempt, tries.delay_ns, subject), asked)
    if tries.untried and tries.attempt == 1:    # another endpoint need not recover; callers that failed together spread
        delay = spread_ns(delay // (2 * SHORTER), delay)
    cdef int64_t room = options.max_retry_after_ns - asked
    cdef int64_t left, paused
    if deadline != RS_NEVER:
        left = deadline - now - median_ns(self)
        if not asked and tries.attempt > 1 and is_silent(self, tries, budget):
            delay = max(delay, options.reach_ns(left))
        if left < delay:
            tries.delay_ns = asked
            return RETRY_AFTER if deadline - now < asked else RETRY_DEADLINE
        room = (left - asked) // 2      # the attempt needs time too
    if asked:
        paused = paused_ns(subject)
        delay = max(delay, min(paused, asked + room) if paused >= asked else spread_ns(asked, room))
    tries.delay_ns = delay
    return GO


cdef bint is_silent(RetryGate self, Tries tries, RetryBudget budget) except -1:
    """Return True if no call has succeeded since this one began, and most calls in flight have failed attempts too."""
    # A long second wait costs each call whose first two attempts fail by chance: 4 % at a fifth of failures. In a batch
    # nothing has succeeded yet when its failures return, so the calls in flight count as well.
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    cdef bint answered
    if budget is None:
        return False
    budget_acquire(&budget.lock)
    answered = budget.budget.success_ns >= tries.began_ns
    budget_release(&budget.lock)
    if answered:
        return False
    rs_lock_acquire(&gate.lock)
    cdef bint most = 2 * self.troubled >= gate.counters.inflight
    rs_lock_release(&gate.lock)
    return most


cdef bint pay(RetryGate self, Tries tries, RetryBudget budget, int64_t asked, int64_t now) except -1:
    """Take the cost of the retry, to which calls in flight here lend; return False if the budget is short."""
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    cdef int64_t lenders, share, price = 0
    cdef bint quick, mute, taken
    if budget is not None:
        rs_lock_acquire(&gate.lock)
        lenders = gate.counters.inflight
        share = rs_pace_share(&self.pace_, now - tries.attempt_ns)
        quick = not rs_pace_is_slow(&self.pace_)
        rs_lock_release(&gate.lock)
        budget_acquire(&budget.lock)
        price = rs_budget_price(&budget.budget, share, asked)
        mute = rs_budget_is_mute(&budget.budget, price, lenders, tries.attempt)
        taken = rs_budget_take(&budget.budget, now, price, lenders, quick, mute)
        budget_release(&budget.lock)
        if not taken:
            return False
    if budget is not tries.paid_by:
        tries.taken = 0
    tries.paid_by = budget
    tries.price = price
    tries.taken += price
    return True


cdef int64_t median_ns(RetryGate self) noexcept:
    cdef int64_t median = 0
    cdef rs_gate *gate = <rs_gate *><PyObject *>self
    rs_lock_acquire(&gate.lock)
    if gate.counters.successes >= ENOUGH:
        median = rs_histogram_quantile(&gate.latency, 0.5)
    rs_lock_release(&gate.lock)
    return median


include "retry_scopes.pxi"
include "retry_tries.pxi"
