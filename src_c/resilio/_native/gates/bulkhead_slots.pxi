"""The slots of a fleet's bulkhead as the courier's thread sees them: a part of gates.pyx, after bulkhead.pxi."""


cdef class Slots:
    """
    The slots of a bulkhead as its courier sees them: those that its calls take since `share_fleet`.

    Times are those of the gate's clock.
    """

    cdef readonly BulkheadGate gate
    cdef rs_slots *slots            # of the gate, as long as it takes them

    def __init__(self, BulkheadGate gate not None):
        """
        Take the slots of this gate.

        Raises:
            ValueError: It has none.
        """
        self.gate, self.slots = gate, gate.bulkhead.slots
        if self.slots == NULL:
            raise ValueError("the bulkhead has no slots: share_fleet(cell) gives it some")

    def use(self, *, str on_store_down, uint32_t peers, int64_t trip_ns):
        """
        Set the rules of this host.

        Args:
            on_store_down: What calls get while the store is away: "local", "open" or "closed".

            peers: Askers, as far as is known without an answer; at least 1.

            trip_ns: The time for which a call that may not queue waits for an answer, if the store had slots for it.
        """
        cdef uint32_t down = _DOWN.index(on_store_down)
        self._lock()
        self.slots.down, self.slots.peers = down, peers
        self.gate.bulkhead.trip_ns = trip_ns
        rs_lock_release(&self.gate.lock)

    def note(self, uint32_t left):
        """Note the slots that no asker had at the latest answer; 0: it was lost, so no call waits for the next one."""
        self._lock()
        rs_slots_note(self.slots, left)
        rs_lock_release(&self.gate.lock)

    def begin_anew(self):
        """
        Begin as on a new host if the lease has ended; return if it had.

        For a cell without a courier: the memory of a host outlives its service, and its old lease would mean that the
        store is away.
        """
        cdef bint found
        cdef int64_t now_ns = clock.now_ns()
        self._lock()
        found = rs_slots_begin_anew(self.slots, now_ns - self.gate.bulkhead.host.hold.member.epoch_ns)
        rs_lock_release(&self.gate.lock)
        return found

    @property
    def is_used(self):
        """True as long as the bulkhead's calls take these slots."""
        return self.slots != NULL and self.gate.bulkhead.slots == self.slots

    @property
    def bound(self):
        """The slots that calls of this host may have now."""
        cdef int64_t now_ns = clock.now_ns()
        self._lock()
        bound = rs_slots_bound(self.slots, self.slots.terms, now_ns - self.gate.bulkhead.host.hold.member.epoch_ns)
        rs_lock_release(&self.gate.lock)
        return bound

    @property
    def used(self):
        """Those that they have."""
        self._lock()
        used = rs_slots_used(self.slots, self.gate.bulkhead.host.hold.room)
        rs_lock_release(&self.gate.lock)
        return used

    def open(self, uint32_t keep):
        """
        Begin an ask, whose number has been drawn: give up what exceeds *keep* and is not in use.

        Returns:
            The terms, by which an answer counts; the slots to be kept, those of them on lease, those in use, and those
            of the fleet. Then those that calls have missed since the last ask, those that they wait for, and when the
            lease ends by the store's clock, in microseconds; 0: none stands.
        """
        cdef rs_slots_found found
        cdef int64_t now_ns = clock.now_ns()
        self._lock()
        now_ns -= self.gate.bulkhead.host.hold.member.epoch_ns
        _report_queue(&self.gate.bulkhead, rs_slots_next(self.slots) - 1, 0)
        found = rs_slots_open(self.slots, self.gate.bulkhead.host.hold.room, now_ns, keep)
        rs_lock_release(&self.gate.lock)
        return (found.terms, found.kept, found.sure, found.used, found.capacity, found.missed, found.waiting,
                found.ends_us)

    def grant(self, uint64_t ask, uint64_t terms, *, uint32_t allotment, int64_t end_ns, uint64_t ends_us, bint eager):
        """
        Let calls have what the store has granted.

        Args:
            ask: The number of the ask.

            terms: Those that it left.

            allotment: The slots.

            end_ns: When the lease ends.

            ends_us: The same by the store's clock, in microseconds.

            eager: True: a slot that is given back is to be reported at once.

        Returns:
            False if there has been another ask since.
        """
        cdef bint counts
        self._lock()
        end_ns -= self.gate.bulkhead.host.hold.member.epoch_ns
        counts = rs_slots_grant(self.slots, ask, terms, min(allotment, <uint32_t>RS_SLOTS_MOST), end_ns,
                                ends_us, eager)
        rs_lock_release(&self.gate.lock)
        return counts

    def give_up(self, uint64_t terms):
        """Let calls have what they get without a store: no answer has ever come, and none is to be expected."""
        self._lock()
        rs_slots_give_up(self.slots, terms)
        rs_lock_release(&self.gate.lock)

    def serve(self):
        """Serve the calls that wait in this process, now that more slots may be there; those that wait on want more."""
        cdef int64_t now_ns = clock.now_ns()
        self._lock()
        _bulkhead_grant(<rs_gate *><PyObject *>self.gate, &self.gate.bulkhead, now_ns)
        _want_slots(&self.gate.bulkhead, 0)
        rs_lock_release(&self.gate.lock)
        self.gate.deliver()

    cdef int _lock(self) except -1:
        """Take the gate's lock, for its slots."""
        rs_lock_acquire(&self.gate.lock)
        if self.gate.bulkhead.slots != self.slots:
            rs_lock_release(&self.gate.lock)
            raise RuntimeError("the bulkhead takes other slots now")
        return 0
