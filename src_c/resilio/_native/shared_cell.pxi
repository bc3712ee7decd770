"""
The part of a region that one policy uses. A part of shared.pyx.

A fleet's cell begins with the head of courier.h: its courier, and the numbers of its asks.
"""


cdef class Cell:
    """The part of a region that one policy uses; one of a fleet has a courier."""

    def __dealloc__(self):
        free(self.loose)

    @property
    def asker(self):
        """The id by which the store knows this cell: drawn once, and the same whichever process makes the trips."""
        return self.asker_id()

    cdef uint64_t asker_id(self) except 0:
        cdef uint64_t found = rs_atomic_load(&_head(self).id)
        return found if found else rs_courier_id(_head(self), (seed64() & ASKER_MASK) | 1)

    @property
    def seen(self):
        """The number of the last ask that was answered; 0: none."""
        return rs_atomic_load(&_head(self).seen)

    @property
    def at_ns(self):
        """The time of the last answer; 0: never."""
        return self.answer_ns()

    cdef int64_t answer_ns(self) except? -1:
        return _real(self, rs_atomic_load(&_head(self).at_ns))

    @property
    def expires_ns(self):
        """The time at which its leases end; 0: there was none."""
        return _real(self, rs_atomic_load(&_head(self).expires_ns))

    @property
    def peers(self):
        """The number of askers of the fleet, of the last answer, whichever process has had it; 0: not known."""
        return _head(self).peers

    cpdef count_peers(self, uint32_t peers):
        """Note how many askers the fleet has."""
        _head(self).peers = peers

    @property
    def is_silent(self):
        """True if two asks and more have had no answer, and its leases have ended: the store is away."""
        cdef rs_courier *head = _head(self)
        cdef int64_t now_ns = rs_clock_now(_clock) - self.member.epoch_ns
        lost = rs_atomic_load(&head.seq) - rs_atomic_load(&head.seen)
        return lost >= 2 and now_ns >= <int64_t>rs_atomic_load(&head.expires_ns)

    @property
    def rings(self):
        """True if a call wants an answer soon, since the last ask."""
        return _head(self).rings != 0

    cpdef hush(self):
        """Let calls ring again: the caller looks after it at what they have reported."""
        rs_courier_hush(_head(self))

    cpdef bint claim(self) except -1:
        """Return True if this process makes the trips for the cell, from now on or still."""
        cdef rs_courier *head = _head(self)
        cdef bint is_private = self.region.mapping.path == NULL   # its members fall never silent
        cdef int64_t now_ns = 0 if is_private else rs_clock_now(_clock) - self.member.epoch_ns
        return rs_courier_claim(head, self.member, now_ns, 0 if is_private else RS_COURIER_SILENCE_NS)

    @property
    def has_courier(self):
        """True if a living process, this one or another, makes the trips for the cell."""
        cdef bint is_private = self.region.mapping.path == NULL
        cdef int64_t now_ns = 0 if is_private else rs_clock_now(_clock) - self.member.epoch_ns
        return rs_courier_is_there(_head(self), self.member, now_ns, 0 if is_private else RS_COURIER_SILENCE_NS)

    def release(self):
        """Make no more trips for the cell: another process may, from now on."""
        rs_courier_release(_head(self), self.member)

    def number(self):
        """Return the number of the next ask, and that of the last answer; calls may ring again."""
        cdef uint64_t seen
        seq = self.next_number(&seen)
        return seq, seen

    cdef uint64_t next_number(self, uint64_t *seen) except 0:
        cdef rs_courier *head = _head(self)
        rs_courier_hush(head)
        seen[0] = rs_atomic_load(&head.seen)
        return rs_atomic_add(&head.seq, 1) + 1

    cpdef bint saw(self, uint64_t seen, uint64_t seq) except -1:
        """Count an answer; return False if another courier has had one since the ask: then it is not to be used."""
        return rs_courier_saw(_head(self), seen, seq)

    cpdef answered(self, int64_t at_ns, int64_t expires_ns):
        """Note when an answer came, and when what it has brought ends."""
        cdef rs_courier *head = _head(self)
        rs_atomic_store(&head.at_ns, <uint64_t>max(1, at_ns - self.member.epoch_ns))
        rs_atomic_store(&head.expires_ns, <uint64_t>max(1, expires_ns - self.member.epoch_ns))

    def ring(self):
        """Let the cell's courier ask soon, as a call does."""
        rs_courier_ring(_head(self), self.member)


cdef uint64_t ASKER_MASK = (<uint64_t>1 << 53) - 1      # exact as a number of Lua


cdef rs_courier *_head(Cell cell) except NULL:
    if cell.kind < RS_CELL_LEASE or cell.kind == RS_CELL_SPEND:
        raise TypeError(f"the cell of {cell.name!r} belongs to no fleet")
    return <rs_courier *>cell.body


cdef int64_t _real(Cell cell, uint64_t since_ns):
    return <int64_t>since_ns + cell.member.epoch_ns if since_ns else 0
