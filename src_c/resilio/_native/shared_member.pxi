"""A worker's place in a region, and that of the members of a private one. A part of shared.pyx."""


cdef class Member:
    """A worker's place in a region: this process's, or one of several that a private region has."""

    @property
    def owner(self):
        """The owner word, 0 without a slot."""
        return self.it.owner

    @property
    def slot(self):
        """The number of the slot; None without one."""
        return self.it.slot if self.it.owner else None

    @property
    def peers(self):
        """The number of workers that live, at least 1."""
        return rs_member_peers(self.it)

    @property
    def leads(self):
        """True if this worker learns for all."""
        return rs_member_leads(self.it, RS_LEARNER)

    def wait(self, int64_t wait_ns):
        """Wait until a call rings for this process's courier, for at most *wait_ns*."""
        with nogil:
            rs_member_wait(self.it, wait_ns)

    def ring(self):
        """End the wait of this process's courier, also one that began before it had a slot."""
        rs_member_ring(self.it)

    def beat(self):
        """Beat for the living process, and take the roles that no living one has; for a private region."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        if self.it.owner and self.region.mapping.path == NULL:
            rs_atomic_store(&self.it.workers[self.it.slot].beat_ns, <uint64_t>(now_ns - self.it.epoch_ns))
            rs_member_take_roles(self.it, self.region.mapping.region, now_ns)

    def leave(self):
        """Give back the slot of a private region and all that it holds, as after the death of a process."""
        if self.it.owner and self.region.mapping.path == NULL:
            slot, self.it.owner = self.it.slot, 0
            rs_slot_clear(self.region.mapping.region, slot)
            self.region.members.remove(self)
            if self.region.members:
                _take_roles(self.region.members[0])


cdef int _enter(Region region, Member member) except -1:
    """Take a free slot of a private region."""
    cdef uint64_t living = rs_shared_living(region.mapping.region)
    for slot in range(RS_WORKERS):
        if not living >> slot & 1:
            rs_slot_enter(member.it, region.mapping.region, slot, member.it.epoch_ns)
            region.members.append(member)
            _take_roles(member)
            return 0
    raise SharedFull(f"all {RS_WORKERS} slots of the region are taken")


cdef int _take_roles(Member member) except -1:
    """Take the roles of a private region that no member has; none of them ever falls silent."""
    rs_member_take_roles(member.it, member.region.mapping.region, member.it.epoch_ns)
    return 0
