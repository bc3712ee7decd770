"""
The cost of a call before it is admitted: a part of limiter.pxi.

A reservation has it already, cost functions are called, and `admit` finds the cost in the slot.
"""

cdef int64_t _millionths(object tokens) except -1:
    """A cost in millionths of a token, rounded up; raises if it is not a valid number."""
    cdef double amount
    if isinstance(tokens, bool):
        raise TypeError(tokens)
    amount = tokens
    if not (isfinite(amount) and amount >= 0.0):
        raise ValueError(tokens)
    return LIMITER_TOO_MUCH if amount >= LIMITER_TOO_MUCH / _TOKEN else <int64_t>ceil(amount * _TOKEN - 1e-3)


cdef int64_t _limiter_ask(LimiterGate self, object function, const rs_request *request) noexcept:
    """Ask a cost function. If it raises or returns nonsense, the cost is one token: it must not stop calls."""
    try:
        return _millionths(PyObject_Vectorcall(function, request.args, request.nargs, request.kwnames))
    except BaseException as error:
        self.bad_costs += 1
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()            # not the function's: raised again at the next safe point
    return TOKEN


cdef void _found(rs_slot *slot, int rates, uint32_t version, const int64_t *cost) noexcept nogil:
    """Keep the call's cost for `admit`. If there is no memory for several rates, the default costs apply."""
    slot.limiter.version = version
    slot.limiter.cost = cost[0]
    if rates > 1:
        slot.limiter.claim = _claim(version, cost, 0)
        slot.flags |= RS_TO_UNDO


cdef void _ask_all(LimiterGate self, rs_slot *slot, const rs_request *request):
    """Ask all cost functions, and keep their costs for `admit`."""
    cdef int64_t cost[RS_MOST_RATES]
    cdef uint32_t version
    cdef int rates
    cdef tuple functions
    rs_lock_acquire(&self.lock)
    functions = self.functions
    version = self.limiter.version
    rates = self.limiter.buckets.n
    memcpy(cost, self.limiter.cost, sizeof(cost))
    rs_lock_release(&self.lock)
    for i, function in enumerate(functions):
        if function is not None:
            cost[i] = _limiter_ask(self, function, request)
    _found(slot, rates, version, cost)


cdef int _limiter_prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    slot.limiter.version = 0
    slot.limiter.claim = NULL
    return _price(gate, slot, request) if _is_reservation(request) or _limiter_of(gate).variable else 0


cdef int _price "rs_limiter_price"(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    """Find the cost of a call with a reservation or with cost functions."""
    if _is_reservation(request):
        # A reservation made before a change of configuration is void: the default costs apply.
        if (<rs_amounts_object *>request.args[0]).version == _limiter_of(gate).version:
            _found(slot, _limiter_of(gate).buckets.n, _limiter_of(gate).version,
                   (<rs_amounts_object *>request.args[0]).cost)
    else:
        _ask_all(<LimiterGate><PyObject *>gate, slot, request)
    return 0


cdef void _leave_unasked(rs_gate *gate, rs_slot *slot) noexcept:
    """Drop the claim of a call that was rejected, or admitted in shadow mode."""
    _drop_claim(slot)


# ---- costs that a caller names by unit -------------------------------------------------------------------------------

@cython.final
@cython.auto_pickle(False)
cdef class Amounts:
    """The cost of one call, rate by rate; as the only argument of an acquire it replaces the configured costs."""

    def __init__(self):
        raise TypeError("amounts are made by LimiterGate.amounts()")

    @property
    def shadow(self):
        """True if nothing was taken, because enforcement would have rejected the call or made it wait."""
        return bool(self.shadow)

    def of(self, str unit):
        """Return the tokens of *unit*; with several rates in it, of the first."""
        return self.cost[self.units.index(unit)] / _TOKEN


_amounts_type = <void *><PyObject *>Amounts


cdef tuple _units(LimiterGate self):
    rs_lock_acquire(&self.lock)
    cdef tuple units = self.units
    rs_lock_release(&self.lock)
    return units


cdef int64_t _mask(tuple units, str unit) except -1:
    """The rates that count *unit*, as bits."""
    cdef int64_t mask = 0
    for i, known in enumerate(units):
        mask |= <int64_t>(known == unit) << i
    if mask == 0:
        raise ValueError(f"no rate counts {unit!r}; there are: {', '.join(dict.fromkeys(units))}")
    return mask


cdef int64_t _checked(str unit, object tokens) except -1:
    try:
        return _millionths(tokens)
    except TypeError:
        raise TypeError(f"{unit} must be a number of tokens >= 0, not {tokens!r}") from None
    except ValueError:
        raise ValueError(f"{unit} must be a number of tokens >= 0, not {tokens!r}") from None


cdef int64_t _computed_cost(LimiterGate self, object function, tuple args, dict kwargs) except -1:
    try:
        return _millionths(function(*args, **kwargs))
    except Exception:
        self.bad_costs += 1
    return TOKEN
