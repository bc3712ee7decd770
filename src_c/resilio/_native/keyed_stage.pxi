"""
The stage of a keyed policy, and of a pool: a part of keyed.pyx.

It stands in a pipeline for the gates of all keys, finds the gate of a call, and adds up their counters.
"""


cdef class Table:
    """The gates that the stages of one policy stand for: those of all keys, or of all endpoints of a pool."""

    cdef list gates_of(self, Py_ssize_t index):
        """The gates of one stage."""
        return []

    cdef list left_of(self, Py_ssize_t index):
        """Of those that are gone, the ones that still keep their own counts."""
        return []

    cdef Pipeline policy_at(self, const rs_request *request, rs_gate *before):
        """The gates for a call; *before*: the one it has just passed, or NULL."""
        raise NotImplementedError


cdef rs_gate *find_gate(rs_gate *gate, const rs_request *request, rs_gate *before) noexcept:
    """The gate for this call, whose keeper the call holds."""
    cdef KeyedGate self = <KeyedGate><PyObject *>gate
    cdef Pipeline policy = self.table.policy_at(request, before if self.index else NULL)
    cdef rs_gate *found = <rs_gate *>PyTuple_GET_ITEM(policy.gates, self.index)
    Py_INCREF(<object>(found.keeper if found.keeper != NULL else <PyObject *>found))
    return found


cdef dict _copies = {}                  # address of a kind's operations -> that of the keyed stage's


cdef const rs_gate_ops *keyed_ops(const rs_gate_ops *ops) except NULL:
    """The operations of a stage that stands for gates of this kind: theirs, and the look-up. Never freed."""
    cdef rs_gate_ops *copy
    if <size_t>ops not in _copies:
        copy = <rs_gate_ops *>malloc(sizeof(rs_gate_ops))
        if copy == NULL:
            raise MemoryError("no memory for a keyed policy")
        copy[0] = ops[0]
        copy.resolve = find_gate
        copy.pristine = NULL
        copy.forget = NULL              # the stage's memory is not that of such a gate
        copy.kept = ops
        _copies[<size_t>ops] = <size_t>copy
    return <const rs_gate_ops *><size_t>_copies[<size_t>ops]


cdef class KeyedGate(Gate):
    """
    Stands in a pipeline for the gates of all keys; its own counters are those of keys that are gone.

    Args:
        table: The policies by key.

        index: The index, in each policy, of the gate that it stands for.

        gate: One such gate.

    Attributes:
        table: As given.

        index: As given.
    """

    def __init__(self, Table table, Py_ssize_t index, Gate gate):
        if gate.ops.resolve != NULL:
            raise TypeError("a keyed policy cannot have keys of its own for each key: make one key of both")
        self.table = table
        self.index = index
        self.ops = keyed_ops(gate.ops)

    def gates(self):
        """Return the gates of all keys, and the shared one."""
        return self.table.gates_of(self.index)

    def left(self):
        """Return the gates of forgotten keys whose policies are alive; until these die they keep their own counts."""
        with _lock:
            return self.table.left_of(self.index)

    cdef list counted(self):
        """All gates with counts that the stage's own do not include. Hold the lock of all tables while adding them."""
        return self.table.gates_of(self.index) + self.table.left_of(self.index)

    def counters(self):
        """All counters, added up, as a dict of int."""
        cdef rs_counters sum, one
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        with _lock:
            rs_lock_acquire(&gate.lock)
            sum = gate.counters
            rs_lock_release(&gate.lock)
            for each in self.counted():
                gate = <rs_gate *><PyObject *>each
                rs_lock_acquire(&gate.lock)
                one = gate.counters
                rs_lock_release(&gate.lock)
                rs_counters_add(&sum, &one)
        return dict(sum)

    def add_to(self, sums):
        """
        Add the counters of all keys to Sums, in slices: other threads run in between.

        Each key counts once. A key that goes meanwhile adds its counts to the stage, which was read before, and keeps
        its own for this reading.
        """
        cdef Py_ssize_t start
        with _lock:
            gates = self.counted()
            sums.add([self])
        for start in range(0, len(gates), SLICE):
            sums.add(gates[start:start + SLICE])
            sleep(0)

    def seconds(self):
        """The seconds by segment of calls whose outermost stage this is, added up."""
        with _lock:
            found = Gate.seconds(self)
            for gate in self.counted():
                for segment, spent in gate.seconds().items():
                    found[segment] += spent
        return found

    @property
    def waited(self):
        """Seconds that calls have waited, added up."""
        with _lock:
            return sum([gate.waited for gate in self.counted()], Gate.waited.__get__(self))

    def rejections(self):
        """The rejected calls by reason, added up."""
        with _lock:
            found = Gate.rejections(self)
            for gate in self.counted():
                for reason, count in gate.rejections().items():
                    found[reason] += count
        return found

    def latency(self):
        """Return all latencies as one LatencyHistogram."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef rs_latencies sum
        cdef int failed
        rs_histogram_init(&sum)
        with _lock:
            gates = [self, *self.counted()]
        for each in gates:
            gate = <rs_gate *><PyObject *>each
            rs_lock_acquire(&gate.lock)
            failed = rs_histogram_merge(&sum, <rs_latencies *>&gate.latency)
            rs_lock_release(&gate.lock)
            if failed:
                rs_histogram_free(&sum)
                raise MemoryError("no memory for all latencies")
        return histogram_adopt(&sum)

    @property
    def listening(self):
        """Bits of the events that listeners want: 1 rejected, 2 settled; of all keys, including later ones."""
        return (<rs_gate *><PyObject *>self).listening

    @listening.setter
    def listening(self, uint32_t mask):
        (<rs_gate *><PyObject *>self).listening = mask
        if self.table is not None:
            for gate in self.counted():
                gate.listening = mask
