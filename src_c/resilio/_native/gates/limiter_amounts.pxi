"""Costs that a caller names by unit, to reserve, correct or observe tokens: a part of limiter.pxi."""


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
