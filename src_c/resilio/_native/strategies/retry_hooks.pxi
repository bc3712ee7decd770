"""
A retry's operations, called by the core: a part of retry.pxi.

None of them raises: where a retry cannot decide, the result or error at hand goes on.
"""

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
