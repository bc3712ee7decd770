"""The leases of a rate limit, or of a retry budget, as the courier's thread sees them: a part of limiter.pxi."""

cdef tuple _DOWN = ("local", "open", "closed")


cdef tuple _leases_wanted(LimiterGate gate):
    """Return the needs of the limit in a region: the kind of cell, the options that define its stock, the bytes."""
    cdef rs_host_rates host
    _describe(&host, gate.rates, True)
    stock = tuple([(*rate[:4], 1.0, rate[5] and gate.is_exact) for rate in gate.rates])
    return RS_CELL_LEASE, _stock(stock), rs_rates_leases_size(&host)


cdef int _share_leases(LimiterGate gate, Cell cell) except -1:
    """Let the limit's calls draw on the leases in this cell."""
    cdef rs_host_rates *host = _limiter_host_of(gate.rates, True)
    cdef int i
    rs_rates_begin_leases(host, cell.member, cell.body, 0)
    for i in range(host.n):
        host.rate[i].draw.is_exact = gate.is_exact and gate.rates[i][5]
        rs_draw_first(&host.rate[i].draw)
    return _limiter_change_host(gate, cell, host)


cdef class Leases:
    """
    The leases of a rate limit as its courier sees them: those that the limit's calls draw on since `share_fleet`.

    A retry budget has the reserve of its fleet in the same way, as one rate. Amounts are millionths of a token, times
    those of the owner's clock.

    The owner may draw on others at any time, or on none, also while an answer is under way. From then on no method
    changes or finds anything. They are known by their cell, which is kept: no other cell has its memory meanwhile.
    """

    cdef readonly object owner
    cdef LimiterGate gate           # the owner, whose calls may wait; None: a budget
    cdef rs_lock *lock              # of the owner
    cdef rs_host_rates **used       # those that it draws on now
    cdef rs_host_rates *host        # the same, while the lock is held
    cdef Cell cell

    def __init__(self, owner):
        """
        Take the leases of a `LimiterGate`, or a `RetryBudget`.

        Raises:
            ValueError: It has none.
        """
        cdef PyObject **cell
        self.owner = owner
        if isinstance(owner, LimiterGate):
            self.gate = owner
            self.lock, self.used, cell = &self.gate.lock, &self.gate.limiter.buckets.host, &self.gate.cell
        else:
            self.lock = <rs_lock *>&(<RetryBudget?>owner).lock
            self.used = <rs_host_rates **>&(<RetryBudget>owner).budget.fleet
            cell = &(<RetryBudget>owner).leased
        rs_lock_acquire(self.lock)
        if self.used[0] != NULL and self.used[0].courier != NULL:
            self.cell = <Cell>cell[0]
        rs_lock_release(self.lock)
        if self.cell is None:
            raise ValueError("the limit has no leases: share_fleet(cell) gives it some")

    def use(self, *, str on_store_down, uint64_t peers, int64_t trip_ns, bint asks_each):
        """
        Set the rules of this process.

        Args:
            on_store_down: What calls get while the store is away: "local", "open" or "closed".

            peers: Askers, as far as is known without an answer; at least 1.

            trip_ns: The time for which a call may wait for an answer, whatever its `max_wait`, if the store can have
                its tokens. Calls of a budget do not wait.

            asks_each: True if each call is asked for.
        """
        cdef rs_draw *draw
        cdef int down = _DOWN.index(on_store_down), i
        if not self._lock():
            return
        if self.gate is not None:
            self.gate.limiter.trip_ns = trip_ns
            self.gate.limiter.asks_each = asks_each
        for i in range(self.host.n):
            draw = &self.host.rate[i].draw
            draw.down = <rs_down>down
            rs_draw_begin(draw, draw.lease, peers)
        rs_lock_release(self.lock)

    def begin_anew(self):
        """
        Begin as on a new host if the leases have ended; return if they had.

        For a cell without a courier: the memory of a host outlives its service, and its old leases would mean that the
        store is away.
        """
        cdef bint found
        if not self._lock():
            return False
        found = rs_rates_begin_anew(self.host, rs_clock_now(_clock))
        rs_lock_release(self.lock)
        return found

    @property
    def is_used(self):
        """True as long as the limit's calls draw on these leases."""
        return self._is_used()

    def now(self, int i):
        """Return the purse, the credit, and what calls have missed since the last ask and wait for, of the rate *i*."""
        cdef rs_leased *lease
        if not self._lock():
            return 0, 0, 0, 0
        lease = self.host.rate[i].draw.lease
        found = (rs_word_signed(&lease.purse), rs_word_signed(&lease.credit),
                 rs_word_signed(&lease.missed), rs_leased_queued(lease))
        rs_lock_release(self.lock)
        return found

    cdef int _end(self, int i) except -1:
        """End the lease of the rate *i* now: no answer has ever come, and none is to be expected."""
        cdef int64_t now_ns
        if not self._lock():
            return 0
        now_ns = rs_clock_now(_clock) - self.host.member.epoch_ns
        rs_atomic_store(&self.host.rate[i].draw.lease.expires_ns, <uint64_t>max(1, now_ns))
        rs_lock_release(self.lock)
        return 0

    cdef int _rest(self, Cell horizon, int64_t stock) except -1:
        """
        Let the leases rest until a call rings.

        Args:
            horizon: Its `expires_ns` is when the store is taken to be away.

            stock: What the store had: with a token of each rate, a call may pass before it is asked for.
        """
        cdef int i
        if not self._lock():
            return 0
        for i in range(self.host.n):
            rs_draw_rest(&self.host.rate[i].draw, &(<rs_courier *>horizon.body).expires_ns, stock)
        rs_lock_release(self.lock)
        return 0

    cdef bint _is_used(self) noexcept:
        cdef bint found = self._lock()
        if found:
            rs_lock_release(self.lock)
        return found

    cdef int _serve(self) except -1:
        """Serve the calls that wait on this host, now that more may be there; others here have had their answer."""
        if self.gate is None:
            return 0
        if self._lock():
            rs_rates_wake_others(self.host)
            rs_lock_release(self.lock)
        return self._serve_here()

    cdef int _serve_here(self) except -1:
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.gate.lock)
        _pump(<rs_gate *><PyObject *>self.gate, &self.gate.limiter, now_ns, NULL)
        _end_trips(<rs_gate *><PyObject *>self.gate, &self.gate.limiter)
        _sooner(<rs_gate *><PyObject *>self.gate, &self.gate.limiter, now_ns)
        rs_lock_release(&self.gate.lock)
        self.gate.deliver()
        return 0

    cdef int _look(self) except -1:
        """Serve the calls that wait in this process, if any do: another one has had an answer for all."""
        cdef bint wait
        if self.gate is None or not self._lock():
            return 0
        wait = rs_rates_has_callers(self.host)
        if wait and self.gate.limiter.queue.head == NULL:
            rs_rates_has_none(self.host)
            wait = False
        rs_lock_release(self.lock)
        return self._serve_here() if wait else 0

    cdef bint _lock(self) noexcept:
        """Take the owner's lock, and return True. False, without the lock: it draws on these leases no more."""
        rs_lock_acquire(self.lock)
        self.host = self.used[0]
        if self.host != NULL and <void *>self.host.courier == self.cell.body:
            return True
        rs_lock_release(self.lock)
        return False
