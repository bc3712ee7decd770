"""
The attempts of one call so far, and the decision about the next: a part of retry.pxi.

The stage keeps a `Tries` from a call's first failure on; a retried block or stream has one from its beginning.
"""


@cython.final
@cython.freelist(16)
@cython.no_gc_clear                     # deallocation needs the scope, and no cycle leads back from that
cdef class Tries:
    """
    The attempts of one call.

    Blocks and streams report the end of each attempt, and get the wait before the next.

    Args:
        gate: The retry.
    """

    cdef RetryGate gate
    cdef list ended                     # (error, end, wait) of each attempt with a successor; None: none yet
    cdef Scope scope
    cdef RetryBudget paid_by            # the budget that paid for the last retry; None: it was free
    cdef int64_t price                  # of the last retry
    cdef int64_t taken                  # for all retries of the call
    cdef int64_t began_ns, delay_ns, resume_ns
    cdef int64_t attempt_ns             # start of the attempt in progress
    cdef uint64_t attempt               # the number of attempts that have ended
    cdef uint64_t elsewhere             # attempts that the client has made again by itself
    cdef bint untried                   # the next attempt goes to an endpoint of a pool that none has been to
    cdef bint troubled                  # counted in the gate's `troubled`
    cdef bint releasing                 # the call awaits the closing of a failed result
    cdef int reason
    cdef str one_shot                   # the argument that the first attempt used up; empty: none may be passed again
    cdef public object shown            # after the last attempt: the exception to raise in place of its own

    def __cinit__(self, RetryGate gate):
        self.gate = gate
        self.reason = GO
        self.began_ns = self.attempt_ns = api.now_ns()

    def __dealloc__(self):
        if self.scope is not None:
            self.scope.end()
        if self.troubled:
            trouble(self.gate, -1)

    @property
    def number(self):
        """The number of this attempt, from 1."""
        return self.attempt + 1

    @property
    def stop_reason(self):
        """The reason why there is no further attempt; None while there is one."""
        return None if self.reason == GO else STOP_REASONS[self.reason]

    @property
    def counts(self):
        """True if the end counts as a failure, False if it is ignored."""
        return not self.quiet()

    def enter(self, generator=None):
        """
        Begin an attempt: retries inside defer to this one.

        Args:
            generator: The generator whose consumer would see the scope between two items; None: there is none.
        """
        self.show(generator, NULL)

    def leave(self):
        """End the attempt that `enter` began."""
        if self.scope is not None:
            self.scope.close()

    def raised(self, Exception error not None, bint threaded, str one_shot=None, bint untried=False):
        """
        Report that an attempt has raised.

        Args:
            error: The exception.

            threaded: True if the wait would block this thread.

            one_shot: The argument that cannot be used again; empty: none may be passed again; None: all may.

            untried: Whether the next attempt goes to an endpoint of a pool that none has been to.

        Returns:
            Seconds to wait before the next attempt; None if there is none.
        """
        judge = self.gate.judge_error
        self.one_shot = one_shot
        self.untried = untried
        return self.next_after(error, None, RS_FAILURE if judge is None else judge(error), threaded)

    def returned(self, value, bint threaded):
        """Report that an attempt has returned a failed result; see `raised`."""
        return self.next_after(None, value, RS_FAILURE, threaded)

    def succeeded(self):
        """Report that an attempt has succeeded."""
        self.answered(api.now_ns())

    def refund(self):
        """Report that the next attempt was not made."""
        self.give_back()

    cdef object next_after(self, object error, object value, int outcome, bint threaded):
        cdef int64_t now = api.now_ns()
        self.attempt += 1
        self.trouble()
        cdef int reason = self.gate.decide(self, error, value, outcome, NULL, NULL, threaded, now)
        if reason == GO:
            self.go_on(error, now)
            return self.delay_ns / 1e9
        self.stop(reason, error, True, now)
        return None

    cdef int show(self, object generator, rs_slot *slot) except -1:
        """Make this retry visible to nested retries that the chain of calls does not lead to."""
        if self.scope is None:
            self.scope = Scope()
            self.scope.gate = self.gate
        self.scope.link(_visible(self.scope))
        paying = _payer(slot, self.scope)
        self.scope.pay_by(self.gate.options().budget if paying is None else paying)
        self.scope.run_in(None if generator is None else ref(generator))
        return self.scope.open()

    cdef bint quiet(self) noexcept:
        """Return True for the end of a sole attempt that is a rejection, or left to an outer retry: no evidence."""
        return self.reason in (REJECTED, NESTED) and self.ended is None

    cdef int trouble(self) noexcept:
        if not self.troubled:
            self.troubled = True
            trouble(self.gate, 1)
        return 0

    cdef int answered(self, int64_t now) noexcept:
        """Note the success of the last attempt; repay the cost of the retries, unless successes are slow now."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self.gate
        rs_lock_acquire(&gate.lock)
        rs_pace_saw(&self.gate.pace_, max(<int64_t>0, now - self.attempt_ns), gate.counters.inflight)
        cdef bint slow = rs_pace_is_slow(&self.gate.pace_)
        rs_lock_release(&gate.lock)
        if self.taken and not slow and self.paid_by is not None:
            budget_acquire(&self.paid_by.lock)
            rs_budget_repay(&self.paid_by.budget, self.taken)
            budget_release(&self.paid_by.lock)
        self.taken = 0
        return 0

    cdef int give_back(self) except -1:
        if self.paid_by is not None:
            budget_acquire(&self.paid_by.lock)
            rs_budget_put_back(&self.paid_by.budget, self.price)
            self.taken -= self.price
            budget_release(&self.paid_by.lock)
            self.paid_by = None
        return 0

    cdef int go_on(self, object error, int64_t now) except -1:
        if self.ended is None:
            self.ended = []
        self.ended.append((error, now, self.delay_ns))
        self.resume_ns = self.attempt_ns = now + self.delay_ns
        self.gate.count(GO)
        cdef uint64_t since = self.gate.to_log(now, _log.retries_every_ns())
        if since:
            _log.retried(self.gate, self.attempt, error, self.delay_ns / 1e9, since)
        if (<rs_gate *><PyObject *>self.gate).listening & RS_LISTEN_RETRIED:
            _events.retried(self.gate, self.attempt, error, self.delay_ns / 1e9)
        return 0

    cdef int stop(self, int reason, object error, bint called, int64_t now) except -1:
        """End the attempts: choose the callee's last own exception, and attach the trail of all attempts to it."""
        self.reason = reason
        self.shown = error
        self.gate.count(reason)
        if (<rs_gate *><PyObject *>self.gate).listening & RS_LISTEN_GAVE_UP:
            _events.gave_up(self.gate, self.attempt, error, STOP_REASONS[reason])
        if reason == WOULD_BLOCK:
            warn_rejection(self.gate)
        if error is None or (reason == NESTED and self.ended is None):
            return 0
        if not called or (reason in (REJECTED, RETRY_DEADLINE)
                          and isinstance(error, (RejectedError, DeadlineExceededError))):
            self.shown = self.last_own(error)
        attach(
            self.shown, error, STOP_REASONS[reason], self.ended or (), self.began_ns, now,
            self.delay_ns / 1e9 if reason == RETRY_AFTER else None,
            self.gate.options().max_retry_after_ns / 1e9,
            self.one_shot or None if reason == NOT_REPLAYABLE else None, self.gate,
        )
        if reason == WOULD_BLOCK:
            add_advice(self.shown, self.gate)
        return 0

    cdef int cut_off(self, object error, rs_end *end) except -1:
        """Attach the trail to a cancellation after the deadline: the error that replaces it takes it over."""
        if self.ended is not None and end.deadline_ns <= end.now_ns:
            attach(error, error, STOP_REASONS[RETRY_DEADLINE], self.ended, self.began_ns, end.now_ns, gate=self.gate)
        return 0

    cdef object last_own(self, object error):
        for earlier, _, _ in reversed(self.ended or ()):
            if earlier is not None and not isinstance(earlier, (RejectedError, DeadlineExceededError)):
                return earlier
        return error


cdef class TriedBlock:
    """
    A block that is one attempt of a loop. Its exit is native: Python raises a Ctrl-C where a Python function begins.

    Args:
        loop: The loop; it has the tries as `_tries`, and `leave(error)` to report the end of a block.
    """

    cdef readonly object _loop
    cdef Tries tries

    def __cinit__(self, loop, *rest):
        self._loop = loop
        self.tries = loop._tries

    def __exit__(self, kind, error, traceback):
        """End the attempt; return True, to suppress the exception, if there is another one."""
        self.tries.leave()
        return self._loop.leave(error)


cdef tuple arguments_of(const rs_request *request):
    """The positional arguments of a call, a list, and those by name, a dict."""
    if request == NULL:
        return [], {}
    names = <tuple>request.kwnames if request.kwnames != NULL else ()
    return (
        [<object>request.args[at] for at in range(request.nargs)],
        {name: <object>request.args[request.nargs + at] for at, name in enumerate(names)},
    )


cdef str _one_shot(RetryGate gate, object rule, rs_end *end):
    """The name of the argument that cannot be used again; empty: none may be passed again; None: all may."""
    return used_up(gate, rule, <object>end.func if end.func != NULL else None, *arguments_of(end.request))
