"""Backoffs: a part of budget.pyx, so that a retry loads one module."""


def _reseed(uint64_t state):
    """Seed the random numbers of all backoffs with *state*; return the state before, which may be restored."""
    return rs_random_reseed(&_random, state)


cdef uint64_t _entropy() except? 0:
    return int.from_bytes(os.urandom(8), "little")


cpdef int64_t spread_ns(int64_t asked_ns, int64_t room_ns) noexcept:
    """
    Return a random wait between *asked_ns* and twice that.

    Args:
        asked_ns: The wait that the callee has asked for, >= 0.

        room_ns: The most that may be added.
    """
    return rs_backoff_spread(&_random, asked_ns, room_ns)


@cython.final
cdef class Backoff:
    """
    The wait before an attempt; immutable.

    `resilio.full_jitter` and its kin are the public face and check every option; this class does not.

    Args:
        kind: constant, exponential, full_jitter, equal_jitter or decorrelated_jitter.

        base_ns: The first wait, >= 0.

        cap_ns: The longest wait, >= *base_ns*.

        factor: The growth from one wait to the next, >= 1.

        reach: The share of the time left that a retry waits if its dependency is silent, 0 to 1.
    """

    def __cinit__(self, str kind, int64_t base_ns, int64_t cap_ns, double factor, double reach=0.0):
        self.backoff.kind = _KINDS[kind]
        self.backoff.base_ns = base_ns
        self.backoff.cap_ns = cap_ns
        self.backoff.factor = factor
        self.backoff.reach = reach
        self.backoff.random = &_random

    def delay_ns(self, uint64_t attempt, int64_t previous_ns=0, draw=None):
        """
        Return the wait after *attempt* in nanoseconds.

        Args:
            attempt: From 1.

            previous_ns: The wait before this one; 0 if there was none.

            draw: The random number, in [0, 1); None: one of this process's.
        """
        if draw is None:
            return rs_backoff_delay(&self.backoff, attempt, previous_ns)
        return rs_backoff_drawn(&self.backoff, attempt, previous_ns, draw)
