"""
The table of a pool: its endpoints by place. A part of pool.pyx.
"""


cdef class PoolTable(Table):
    """
    The endpoints of a pool.

    Attributes:
        stages: The gates that stand for those of the endpoints in a pipeline.
    """

    cdef rs_pool pool
    cdef readonly tuple stages
    cdef list rows                      # (pipeline of gates, place, level, weight, zone, drained) of each endpoint
    cdef CallKey affinity               # None: an endpoint is chosen without regard to the call
    cdef object report                  # is called with what a key function raised
    cdef list left                      # (weak reference to its owner, index, gate) of endpoints that are gone

    def __cinit__(self):
        self._seed(seed64())
        self.pool.overprovision = 1.4
        self.pool.max_ejected = 0.5
        self.pool.spill = True
        self.stages = ()
        self.rows = []
        self.left = []

    def begin(self, gates):
        """Make the stages for endpoints whose own gates are like *gates*; once."""
        self.stages = (
            PoolStage(self, len(gates) + 1), *[KeyedGate(self, at, gate) for at, gate in enumerate(gates, 1)],
        )

    def go_by(self, object key, object where, object report):
        """
        Send calls of one key to one endpoint.

        Args:
            key: A function of a call's arguments, the name of a parameter, or None: to any.

            where: A function that returns the place of that parameter in a function, as the arguments of `Where`.

            report: A function that is called with what a key function raised.
        """
        self.report = report
        self.affinity = None if key is None else CallKey(key, where)

    def learn(self, object function):
        """Find the key's parameter in a function that is about to be guarded; raise TypeError without one."""
        if self.affinity is not None:
            self.affinity.learn(function)

    def at_home(self):
        """Return the number of calls whose key has an endpoint, and of those of them that were sent there at once."""
        rs_lock_acquire(&self.pool.lock)
        cdef uint64_t with_key = self.pool.with_key, at_home = self.pool.at_home
        rs_lock_release(&self.pool.lock)
        return with_key, at_home

    def configure(self, config):
        """Take the options of a PoolConfig."""
        cdef uint8_t by = _BALANCES[config.balance]
        cdef double overprovision = config.overprovision, max_ejected = config.max_ejected
        cdef bint spill = config.spill
        cdef int64_t warm_up_ns = 0 if config.warm_up is None else ns_of(config.warm_up)
        rs_lock_acquire(&self.pool.lock)
        self.pool.balance = by
        self.pool.overprovision = overprovision
        self.pool.max_ejected = max_ejected
        self.pool.warm_up_ns = warm_up_ns
        self.pool.spill = spill
        rs_pool_share_out(&self.pool)
        rs_lock_release(&self.pool.lock)

    def arrange(self, rows):
        """
        Replace all endpoints at once. An endpoint that stays keeps what it has learned, and its place.

        Args:
            rows: (pipeline, place, level, weight, zone, drained) of each endpoint: the Pipeline of its seat and its
                own gates, its place from 0 to 63, the rank of its level from 0, a weight > 0, the number of its zone
                (0: none), and whether calls are kept away. In the order of their levels, each of which has an endpoint.
        """
        if len(rows) > RS_MOST_PLACES:
            raise ValueError(f"rows: at most {RS_MOST_PLACES} endpoints, not {len(rows)}")
        with _lock:
            self.replace(list(rows))

    cdef int replace(self, list rows) except -1:
        cdef rs_row row[RS_MOST_PLACES]
        cdef Pipeline policy
        cdef set kept = {id(one[0]) for one in rows}
        cdef set gates = {id(gate) for one in rows for gate in (<Pipeline>one[0]).gates}
        cdef list before
        cdef int n = 0
        for policy, row[n].place, row[n].level, row[n].weight, row[n].zone, row[n].drained in rows:
            self.take(policy)
            row[n].seat = &seat_of(<rs_gate *>PyTuple_GET_ITEM(policy.gates, 0)).seat
            n += 1
        rs_lock_acquire(&self.pool.lock)
        rs_pool_arrange(&self.pool, row, n)
        rs_lock_release(&self.pool.lock)
        before, self.rows = self.rows, rows
        for one in before:
            if id(one[0]) not in kept:
                self.let_go(one[0])
        self.left = [one for one in self.left if id(one[2]) not in gates]      # another endpoint has it, and its counts
        before = one = policy = None
        return self.release()

    cdef int take(self, Pipeline policy) except -1:
        """Let calls hold these gates, and the endpoint's own ones ask its seat before they eject it."""
        cdef Seat seat = policy.gates[0]
        cdef tuple own = policy.gates[1:]
        (<rs_gate *><PyObject *>seat).keeper = <PyObject *>policy
        for gate in own:                    # weakly, or a gate that is kept for its counts would keep its policy
            if gate.policy is not None:
                gate.policy = PyWeakref_NewRef(gate.policy, None)
        return guard(seat, own)

    cdef int let_go(self, Pipeline policy) except -1:
        """Count its gates until their owners die: `each` may keep a policy, and a later endpoint have it again."""
        own = getattr(policy, "policy", policy)
        end_guard(policy.gates[0])
        for index, gate in enumerate(policy.gates):
            self.left.append((PyWeakref_NewRef(own if index else policy, None), index, gate))
        return 0

    cdef int release(self) except -1:
        """Keep only the counters of endpoints that are gone and whose calls have ended."""
        cdef Gate stage, gate
        cdef list kept = [], gone = []
        for one in self.left:
            (gone if one[0]() is None else kept).append(one)
        self.left = kept
        for _, index, gate in gone:
            stage = self.stages[index]
            rs_gate_add(<rs_gate *><PyObject *>stage, <rs_gate *><PyObject *>gate)
        return 0

    def look(self):
        """Take over what the endpoints' own gates let pass now: changes by hand count before the next call."""
        cdef Gate seat
        cdef int64_t now_ns = rs_clock_now(_clock)
        with _lock:
            kept = list(self.rows)              # their gates are alive while these are
        for row in kept:
            seat = (<Pipeline>row[0]).gates[0]
            look_at(seat, now_ns)

    def levels(self):
        """Return the share of the calls of each level, by rank, in percent."""
        rs_lock_acquire(&self.pool.lock)
        cdef rs_pool pool = self.pool
        rs_lock_release(&self.pool.lock)
        return [pool.levels.load[i] for i in range(pool.levels.n)]

    cdef list gates_of(self, Py_ssize_t index):
        cdef Pipeline policy
        with _lock:
            return [(<Pipeline>row[0]).gates[index] for row in self.rows]

    cdef list left_of(self, Py_ssize_t index):
        with _lock:
            return [gate for _, at, gate in self.left if at == index]

    cdef Pipeline policy_at(self, const rs_request *request, rs_gate *before):
        """The gates of the endpoint that the first stage has chosen; *before*: its seat."""
        return <Pipeline>before.keeper

    def _draw(self, uint64_t among):
        """Return the place of one candidate among these places of the first level."""
        cdef int place
        rs_lock_acquire(&self.pool.lock)
        place = rs_pool_draw(&self.pool, 0, among, rs_clock_now(_clock)).place
        rs_lock_release(&self.pool.lock)
        return place

    def _seed(self, uint64_t seed):
        """Make the choices repeatable."""
        self.pool.random = seed or 1
