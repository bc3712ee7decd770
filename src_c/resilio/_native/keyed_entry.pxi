"""
One key of a keyed policy, and the test whether its policy equals a new one: a part of keyed.pyx.
"""


cdef class Entry:
    """
    One key of a keyed policy.

    Attributes:
        key: The key; None for the policy shared by all keys that find no room.

        policy: Its policy; None if it is dead.

        table: Its table.
    """

    cdef object reference               # to the policy, weak
    cdef readonly object key
    cdef readonly KeyedTable table
    cdef tuple gates                    # of the policy
    cdef tuple configs                  # of the gates' policies, when they were made
    cdef int64_t seen_ns                # when the clock hand last found it used
    cdef Py_ssize_t place               # in the ring

    @property
    def policy(self):
        """Its policy; None if it is dead."""
        return self.reference()

    @property
    def gates(self):
        """The gates of its policy, outermost first."""
        return self.gates

    def keep_configs(self):
        """Record the present options as the original ones."""
        self.configs = tuple([gate.policy.config for gate in self.gates])


cdef bint native_pristine(Entry entry, int64_t now_ns) noexcept:
    """Return True if its gates have no calls in flight and equal new ones."""
    cdef rs_gate *gate
    cdef Py_ssize_t i
    cdef bint new = True
    for i in range(len(entry.gates)):
        gate = <rs_gate *>PyTuple_GET_ITEM(entry.gates, i)
        if gate.ops.pristine == NULL or gate.weakrefs != NULL:      # a weak reference means a listener
            return False
        rs_lock_acquire(&gate.lock)
        new = not (gate.counters.inflight or gate.counters.queued or gate.changes) and gate.ops.pristine(gate, now_ns)
        rs_lock_release(&gate.lock)
        if not new:
            return False
    return True
