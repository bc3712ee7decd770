"""
One key of a keyed policy, and whether anybody could tell its policy from a new one: a part of keyed.pyx.
"""


cdef class Entry:
    """
    One key of a keyed policy.

    Attributes:
        key: The key; None for the policy that all keys share for which there is no room.

        policy: Its policy; None: it is dead.

        table: The table that it is of.
    """

    cdef object reference               # to the policy, weak
    cdef readonly object key
    cdef readonly KeyedTable table
    cdef tuple gates                    # of the policy
    cdef tuple configs                  # of the gates' policies, as they were made
    cdef int64_t seen_ns                # when the hand last found it used
    cdef Py_ssize_t place               # in the ring

    @property
    def policy(self):
        """Its policy; None: it is dead."""
        return self.reference()

    @property
    def gates(self):
        """The gates of its policy, outermost first."""
        return self.gates

    def keep_configs(self):
        """Take the options in force for those that it was made with."""
        self.configs = tuple([gate.policy.config for gate in self.gates])


cdef bint native_pristine(Entry entry, int64_t now_ns) noexcept:
    """Is nothing under way at its gates, and does nothing there differ from new ones?"""
    cdef rs_gate *gate
    cdef Py_ssize_t i
    cdef bint new = True
    for i in range(len(entry.gates)):
        gate = <rs_gate *>PyTuple_GET_ITEM(entry.gates, i)
        if gate.ops.pristine == NULL or gate.weakrefs != NULL:      # who has a weak reference listens
            return False
        rs_lock_acquire(&gate.lock)
        new = not (gate.counters.inflight or gate.counters.queued or gate.changes) and gate.ops.pristine(gate, now_ns)
        rs_lock_release(&gate.lock)
        if not new:
            return False
    return True
