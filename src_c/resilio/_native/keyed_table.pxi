"""
The table of keys: look-up, insertion and eviction. A part of keyed.pyx.
"""


cdef class KeyedTable(Table):
    """
    The policies by key.

    Attributes:
        overflow: The entry shared by all keys that find no room.

        stages: The gates that stand for those of the keys in a pipeline.

        overflowed: The number of calls that had to share it.

        evicted: The number of keys evicted.

        errors: The number of calls without a key, or without a policy for it.
    """

    cdef dict policies                  # by key; the only strong references to them; their gates refer to the entry
    cdef list ring                      # of the entries, for the clock hand
    cdef Py_ssize_t hand
    cdef list leaving                   # entries removed by `clear`: they keep their own counts until their policy dies
    cdef Py_ssize_t next_leaving
    cdef object face                    # the maker of policies; `__init__` lists its functions
    cdef Pipeline shared                # the policy of keys that find no room
    cdef CallKey key
    cdef readonly Entry overflow
    cdef readonly tuple stages
    cdef Py_ssize_t max_keys
    cdef int64_t idle_ns
    cdef uint32_t ticks
    cdef uint64_t changes               # of options so far
    cdef readonly uint64_t overflowed
    cdef readonly uint64_t evicted
    cdef readonly uint64_t errors

    def __init__(self, object face, object key):
        """
        Make a table without keys; `begin` must follow.

        Args:
            face: The maker of policies, with `build(key)`, `catch_up(policy)`, `is_new(policy, configs)`,
                `where(function)` and `report(error)`. For a key that leaves the table it receives `goes(gates)`, and
                `gone(gates)` once its policy is dead.

            key: A function of a call's arguments, or the name of a parameter.
        """
        self.policies = {}
        self.ring = []
        self.leaving = []
        self.face = face
        self.key = CallKey(key, face.where)
        self.stages = ()

    def begin(self, object policy):
        """Take the policy of keys that find no room; the table makes a stage for each of its gates."""
        self.shared = policy
        self.overflow = self.entry_of(None, policy)
        self.stages = tuple([KeyedGate(self, index, gate) for index, gate in enumerate(self.overflow.gates)])

    def configure(self, config):
        """Take the options of *config*, a `KeyedConfig`: the most keys, and the longest time without use."""
        cdef Py_ssize_t max_keys = config.max_keys
        cdef int64_t idle_ns = ns_of(config.idle)
        with _lock:
            self.max_keys = max_keys
            self.idle_ns = idle_ns
            self.changes += 1

    # -- look-ups

    def find(self, object key):
        """Return the policy of this key, made if there is none; the shared one if there is no room."""
        return self.policy(key)

    def get(self, object key):
        """Return the policy of this key, or None."""
        cdef PyObject *found = NULL
        rs_dict_find(self.policies, key, &found)
        if found == NULL:
            return None
        policy = <Pipeline>found
        Py_DECREF(policy)
        return policy

    cdef Pipeline policy(self, object key):
        cdef PyObject *found = NULL
        cdef Pipeline policy
        rs_dict_find(self.policies, key, &found)
        if found == NULL:
            return self.make(key)
        policy = <Pipeline>found
        Py_DECREF(policy)               # the variable has its own
        if not policy.used:
            policy.used = True
        self.ticks += 1
        if self.ticks % TICKS == 0:
            self.tidy(1)
        return policy

    cdef Pipeline policy_for(self, const rs_request *request):
        """The policy for a call; the shared one if the key function raises."""
        try:
            return self.policy(self.key.of(request))
        except BaseException as error:
            rs_count(self.errors)
            if isinstance(error, KeyboardInterrupt):
                PyErr_SetInterrupt()    # not the function's: raised again at the next safe point
            else:
                self.face.report(error)
        return self.shared

    def policy_for_stream(self, object function, tuple args, dict kwargs):
        """
        Return the policy for a call that yields items: of such a call the core sees only permits.

        Args:
            function: The function.

            args: Its positional arguments.

            kwargs: Its keyword arguments.
        """
        cdef rs_request request
        cdef tuple values = (*args, *kwargs.values()), names = tuple(kwargs)
        memset(&request, 0, sizeof(request))
        request.args = rs_items_of(values)
        request.nargs = len(args)
        request.kwnames = <PyObject *>names if names else NULL
        request.func = <PyObject *>function
        return self.policy_for(&request)

    def learn(self, object function):
        """Find the key's parameter in a function that is about to be guarded; raise TypeError without one."""
        self.key.learn(function)

    cdef Pipeline policy_at(self, const rs_request *request, rs_gate *before):
        """The policy for a call: if several stages share this table, the first looks it up for all of them."""
        cdef Entry entry = entry_at(before) if before != NULL else None
        if entry is not None and entry.table is self:
            return <Pipeline>before.keeper
        try:
            return self.policy_for(request)
        except KeyboardInterrupt:
            PyErr_SetInterrupt()            # again, at the next safe point
        except BaseException:               # even the report failed
            pass
        return self.shared

    # -- keys come

    cdef Entry entry_of(self, object key, Pipeline policy):
        cdef Entry entry = Entry.__new__(Entry)
        entry.key = key
        entry.reference = PyWeakref_NewRef(policy, None)
        entry.table = self
        entry.gates = policy.gates
        entry.keep_configs()
        if self.overflow is not None and entry.configs == self.overflow.configs:
            entry.configs = self.overflow.configs
        entry.seen_ns = rs_clock_now(_clock)
        policy.used = True
        for gate in entry.gates:
            gate.entry = entry
            gate.policy = PyWeakref_NewRef(gate.policy, None)
            (<rs_gate *><PyObject *>gate).keeper = <PyObject *>policy
        return entry

    cdef Pipeline make(self, object key):
        cdef Pipeline made, policy
        if len(self.policies) >= self.max_keys and not self.make_room():
            rs_count(self.overflowed)
            return self.shared
        cdef uint64_t changes = self.changes_now()
        made = self.face.build(key)
        policy = self.insert(self.entry_of(key, made), made)
        if self.changes_now() != changes:       # meanwhile, when it was not in the table yet
            self.face.catch_up(policy)
        return policy

    cdef uint64_t changes_now(self):
        with _lock:
            return self.changes

    cdef Pipeline insert(self, Entry entry, Pipeline policy):
        """Insert a new policy, unless another thread was quicker or the table is full; return the one to use."""
        cdef Pipeline there
        with _lock:
            there = self.policies.get(entry.key)
            if there is None and len(self.policies) >= self.max_keys:
                rs_count(self.overflowed)
                there = self.shared
            if there is None:
                self.policies[entry.key] = policy
                self.put_on_ring(entry)
        if there is not None:
            forget(entry)
            return there
        for stage, gate in zip(self.stages, entry.gates):
            gate.listening = stage.listening
        self.tidy(2)
        return policy

    cdef int put_on_ring(self, Entry entry) except -1:
        entry.place = len(self.ring)
        self.ring.append(entry)
        return 0

    # -- keys go

    cdef bint make_room(self) except -1:
        """Evict one of the next few entries that equals a new one and was not used since the hand's last visit."""
        cdef list gone = []             # parts of evicted keys: freed after the lock is released
        with _lock:
            for _ in range(STEPS):
                if len(self.policies) < self.max_keys or self.look_at_next(gone, pressed=True):
                    return True
        return False

    cdef int tidy(self, int looks) except -1:
        """Evict those of the next entries that equal new ones and have been idle for long."""
        cdef list gone = []
        with _lock:
            for _ in range(looks):
                self.look_at_next(gone, pressed=False)
            if self.leaving:
                self.release_dead(STEPS, gone)
        return 0

    cdef bint look_at_next(self, list gone, bint pressed) except -1:
        """Visit the next entry; return True if it was evicted."""
        cdef Entry entry
        cdef Pipeline policy
        cdef int64_t now_ns
        if not self.ring:
            return False
        now_ns = rs_clock_now(_clock)
        self.hand = self.hand + 1 if self.hand + 1 < len(self.ring) else 0
        entry = <Entry>self.ring[self.hand]
        policy = entry.policy
        if policy.used:
            policy.used = False
            entry.seen_ns = now_ns
            return False
        if not pressed and now_ns - entry.seen_ns < self.idle_ns:
            if now_ns < entry.seen_ns:  # the clock was set back
                entry.seen_ns = now_ns
            return False
        if not native_pristine(entry, now_ns) or not self.face.is_new(policy, entry.configs):
            return False
        policy = None
        return self.evict(entry, now_ns, gone)

    cdef bint evict(self, Entry entry, int64_t now_ns, list gone) except -1:
        """Drop the policy of a key; put it back if a caller keeps it alive, or it was used meanwhile."""
        cdef Pipeline policy = self.policies.pop(entry.key, None)
        if policy is None:
            return False
        self.take_from_ring(entry)
        if native_pristine(entry, now_ns):
            policy = None
            policy = entry.policy       # without the GIL it may die later, in its thread: it goes the next time
        if policy is not None:
            if self.policies.setdefault(entry.key, policy) is policy:
                self.put_on_ring(entry)
            else:                       # a finaliser has asked for the key
                self.leaving.append(entry)
            return False
        self.face.goes(entry.gates)
        self.release(entry, gone)
        self.evicted += 1
        return True

    cdef int take_from_ring(self, Entry entry) except -1:
        cdef Entry last = <Entry>self.ring.pop()
        if last is not entry:
            last.place = entry.place
            self.ring[entry.place] = last
        return 0

    cdef int release(self, Entry entry, list gone) except -1:
        """Keep only the counters of a key: its policy is dead."""
        cdef Gate stage, gate
        self.face.gone(entry.gates)
        for stage, gate in zip(self.stages, entry.gates):
            rs_gate_add(<rs_gate *><PyObject *>stage, <rs_gate *><PyObject *>gate)
        gone.append(entry)
        forget(entry)
        return 0

    def clear(self):
        """Forget all keys and the state of their policies; calls in flight end, and are counted, where they began."""
        cdef Entry entry
        cdef list dropped, gone = []
        with _lock:
            for entry in self.ring:
                self.face.goes(entry.gates)
            self.leaving += self.ring
            dropped = list(self.policies.values())
            self.policies.clear()       # in place: a look-up in another thread may be reading it
            self.ring.clear()
            self.hand = 0
        dropped = None                  # policies without a caller die
        with _lock:
            self.release_dead(len(self.leaving), gone)

    cdef int release_dead(self, Py_ssize_t most, list gone) except -1:
        """Release those of the next cleared entries whose policy is dead."""
        cdef Entry entry, last
        for _ in range(min(most, len(self.leaving))):
            if self.next_leaving >= len(self.leaving):
                self.next_leaving = 0
            entry = <Entry>self.leaving[self.next_leaving]
            if entry.policy is not None:
                self.next_leaving += 1
                continue
            last = <Entry>self.leaving.pop()
            if last is not entry:
                self.leaving[self.next_leaving] = last
            self.release(entry, gone)
        return 0

    # -- all of them

    def __len__(self):
        return len(self.policies)

    def __contains__(self, object key):
        return key in self.policies

    def all(self):
        """Return the policies by key, without the shared one."""
        return dict(self.policies)

    cdef list gates_of(self, Py_ssize_t index):
        cdef Entry entry
        return [entry.gates[index] for entry in (*self.ring, self.overflow)]

    cdef list left_of(self, Py_ssize_t index):
        """The gates of keys removed by `clear` whose policies are alive."""
        cdef Entry entry
        return [entry.gates[index] for entry in self.leaving]
