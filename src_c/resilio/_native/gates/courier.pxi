"""
The turns of a fleet's courier: whose policies are due, what they ask, and who gets which answer. A part of gates.pyx.

The class Courier (resilio/sharing/_fleet/courier.py) extends the one here. A trip runs all of it with cold caches: as
functions of Python it took four times as long.
"""

cdef double _PHASE = 0.1                # the random part of a tick, either way.
cdef int64_t _EARLY = 4                 # trips that may be ahead of their time at once.
cdef int64_t _STRETCH = 8               # after trips that came early a tick is longer by one part in eight, at most.
# The time in which there are no more trips than ticks, those that came early included.
cdef int64_t _WITHIN_NS = 60_000_000_000
cdef int64_t _LONGEST_NS = 2_000_000_000        # the longest time between two trips after losses
# Policies that are due within half a tick go along: so those that begin at any times soon go together.
cdef int64_t _TOGETHER = 2
cdef double _SHARE = 0.1                # the part of the store's time that all askers of a fleet shall need at most
cdef int64_t _EXCHANGE_NS = 50_000      # the store's time for one exchange, roughly
cdef int _MOST_READ = 10_000            # keys whose time is kept; with more, all are forgotten and read again


cdef class CourierEntry:
    """One policy: its tie, when it is due and was answered, whether the last ask was lost, and whether it is alone."""

    cdef readonly object tie
    cdef LeaseTie leases            # the same, if it is one of these
    cdef Cell cell
    cdef int64_t due_ns             # INT64_MAX: not known yet, or not ours
    cdef int64_t heard_ns
    cdef int64_t peers              # in the answers of the trip under way, at least 1; 0: none has come
    cdef bint is_lost, is_alone
    cdef object asks, answers       # of the trip under way

    def __init__(self, TieState tie not None, int64_t now_ns):
        """Begin with a tie that has not asked yet."""
        self.tie, self.cell = tie, tie.cell
        self.leases = tie if isinstance(tie, LeaseTie) else None
        self.heard_ns, self.due_ns = now_ns, INT64_MAX
        self.asks = self.answers = ()

    @property
    def rings(self):
        """True if a call wants an answer soon, and none has been asked for since; a tie without a cell may want one."""
        return self.cell is None or self.cell.rings

    cdef int _take(self, int64_t sent_ns, int64_t now_ns) except -1:
        """Hand over the answers of a trip."""
        asks, found = self.asks, self.answers
        self.asks = self.answers = ()
        self.is_lost = self.peers == 0
        if self.peers:
            self.heard_ns = now_ns
        if self.leases is not None:
            self.leases._take_all(asks, found, sent_ns, now_ns)
        else:
            self.tie.take(asks, found, sent_ns, now_ns)
        if self.peers and self.cell is not None:    # for all processes of the host
            self.cell.count_peers(<uint32_t>self.peers)
        return 0

    cdef int _look(self, int64_t now_ns, int64_t peers) except -1:
        """Let the policy be alone once what the store gave has ended, and end that with the next answer."""
        cdef int64_t heard_ns = self.heard_ns if self.cell is None else max(self.heard_ns, self.cell.answer_ns())
        cdef bint is_alone = self.is_lost and now_ns - heard_ns >= <int64_t>self.tie.ttl_ns
        if is_alone and not self.is_alone:
            self.tie.down(now_ns, peers)
        elif self.is_alone and not self.is_lost:
            self.tie.up(now_ns)
        self.is_alone = self.is_lost and (is_alone or self.is_alone)
        return 0


cdef class CourierTurns:
    """
    The turns of a courier, over the entries in its `_all`; for its `_random` see Courier.

    Attributes: see Courier.
    """

    cdef public int64_t peers, trips, lost, answered_ns
    cdef readonly str problem, broken
    cdef list under_way             # entries
    cdef dict read                  # by key: its time in microseconds at the last answer, and when that ask was sent
    cdef int64_t wanted_ns
    cdef int64_t asked              # the asks of the last trip
    cdef int64_t sent_ns
    cdef int64_t not_before_ns      # after losses
    cdef int64_t pace_ns
    cdef int64_t paid_ns            # the time until which trips have been used up: later than now if some came early
    cdef int64_t losses

    def __init__(self, int64_t tick_ns, int64_t peers):
        """Begin without policies."""
        self.wanted_ns, self.pace_ns = tick_ns, _with_early(tick_ns)
        self.peers, self.problem, self.broken, self.under_way, self.read = peers, "", "", [], {}

    @property
    def is_down(self):
        """True if a policy is alone: the store has been away for longer than what it gave lasts."""
        cdef CourierEntry entry
        for entry in <tuple?>self._all:
            if entry.is_alone:
                return True
        return False

    @property
    def tick_ns(self):
        """The time between trips, without its random part: longer where all askers would need much of the store."""
        return self._plain_ns()

    cdef int64_t _plain_ns(self) noexcept:
        return max(self.wanted_ns, <int64_t>(<double>(self.peers * self.asked * _EXCHANGE_NS) / _SHARE))

    def due_ns(self, int64_t now_ns):
        """Return the time of the next trip; with nothing to ask, a time that does not come."""
        cdef CourierEntry entry
        cdef int64_t soonest = INT64_MAX, paced = INT64_MAX, pace_ns = self._plain_ns(), own_ns
        for entry in <tuple?>self._all:
            entry.due_ns = INT64_MAX
            if entry.cell is not None and not entry.cell.claim():
                if entry.leases is not None:
                    entry.leases.leases._look()
                continue            # on a host, one of its processes makes the trips for a policy
            if entry.leases is not None:
                entry.due_ns, own_ns = entry.leases._due_ns(now_ns), entry.leases._pace_ns()
            else:
                entry.due_ns, own_ns = entry.tie.due_ns(now_ns), entry.tie.pace_ns
            if own_ns == 0:
                soonest = min(soonest, entry.due_ns)
            else:
                paced, pace_ns = min(paced, entry.due_ns), min(pace_ns, own_ns)
        self.pace_ns = _with_early(pace_ns)
        return max(min(soonest, max(paced, self.paid_ns - _EARLY * self.pace_ns)), self.not_before_ns)

    def begin(self, int64_t now_ns):
        """Return what to send now, by the times that `due_ns` has just found; `end` follows, also if it is nothing."""
        cdef CourierEntry entry
        cdef int64_t plain_ns = self._plain_ns(), ahead_ns = max(0, self.paid_ns - now_ns)
        cdef int64_t tick_ns = self._at_random(plain_ns) + min(ahead_ns, plain_ns // _STRETCH)
        cdef list asks = []
        cdef tuple entries = self._all
        self.sent_ns, self.under_way = now_ns, []
        for entry in entries:
            if entry.due_ns > now_ns + plain_ns // _TOGETHER:
                continue
            (<TieState>entry.tie).tick_ns = tick_ns
            entry.asks = entry.leases._asks(now_ns) if entry.leases is not None else entry.tie.ask(now_ns)
            if entry.asks:
                self._reckon(entry.asks, now_ns)
                self.under_way.append(entry)
                asks += entry.asks
        if asks:
            self.paid_ns = now_ns + min(ahead_ns, _EARLY * self.pace_ns) + self.pace_ns
        self.asked = max(len(asks), len(entries))
        return asks

    cdef int _reckon(self, asks, int64_t now_ns) except -1:
        """Put into each ask the time of its key, from its last answer and this process's clock."""
        cdef tuple found
        cdef int64_t by_us
        for ask in asks:
            found = self.read.get(_key_of(ask))
            by_us = 0 if found is None else <int64_t>found[0] + (now_ns - <int64_t>found[1]) // 1000
            if isinstance(ask, LimitAskNumbers):
                (<LimitAskNumbers>ask).by_us = by_us
            else:
                ask.by_us = by_us
        return 0

    cdef int _keep(self, ask, int64_t at_us) except -1:
        """Keep the time of a key at an answer."""
        if len(self.read) >= _MOST_READ:
            self.read.clear()
        self.read[_key_of(ask)] = (at_us, self.sent_ns)
        return 0

    def end(self, answers, int64_t now_ns):
        """
        Hand out the answers.

        Args:
            answers: In the order of what `begin` has returned, each an answer or a `StoreProblem`; or one problem of
                all.

            now_ns: The time.
        """
        cdef CourierEntry entry
        cdef list entries = self.under_way
        failure = None
        self.under_way = []
        if entries:
            self._count(self._shared_out(entries, answers), now_ns)
        for entry in entries:
            try:
                entry._take(self.sent_ns, now_ns)
            except Exception as error:          # the others get their answers all the same
                failure = error
        for entry in <tuple?>self._all:
            if entry.is_lost or entry.is_alone:
                entry._look(now_ns, self.peers)
        if failure is not None:
            raise failure

    cdef int _count(self, int64_t peers, int64_t now_ns) except -1:
        """Count a trip by the askers in its answers, 0 without one; after losses the next waits, longer each time."""
        cdef int64_t plain_ns, most_ns
        self.trips += 1
        if peers:
            self.losses = self.not_before_ns = 0
            self.answered_ns, self.peers = now_ns, peers
            return 0
        plain_ns = most_ns = self._plain_ns()
        self.lost += 1
        self.losses += 1
        if plain_ns < _LONGEST_NS:
            most_ns = min(_LONGEST_NS, plain_ns << min(self.losses - 1, 16))
        self.not_before_ns = now_ns + <int64_t>self._random.uniform(plain_ns / 2, most_ns)
        return 0

    cdef int64_t _shared_out(self, list entries, answers) except -1:
        """
        Share out what a trip has brought, and count the askers in each policy's answers.

        Returns:
            The most askers of a policy; 0 without an answer.
        """
        cdef CourierEntry entry
        cdef Py_ssize_t first = 0, last
        cdef int64_t most = 0
        self.problem = self.broken = ""
        for entry in entries:
            last = first + len(entry.asks)
            entry.answers = ([answers] * (last - first) if isinstance(answers, StoreProblem)
                             else answers[first:last])
            first = last
            self._read(entry)
            most = max(most, entry.peers)
        return most

    cdef int _read(self, CourierEntry entry) except -1:
        """Count the askers in a policy's answers, and keep the first problem, with the key if others have answers."""
        cdef StoreProblem problem
        cdef Py_ssize_t i, broken = -1
        entry.peers = 0
        for i, answer in enumerate(entry.answers):
            if isinstance(answer, LimitAnswerNumbers):
                entry.peers = max(entry.peers, (<LimitAnswerNumbers>answer).peers, 1)
                self._keep(entry.asks[i], (<LimitAnswerNumbers>answer).at_us)
            elif isinstance(answer, StoreProblem):
                broken = i if broken < 0 else broken
            else:
                entry.peers = max(entry.peers, <int64_t>answer.peers, 1)
                self._keep(entry.asks[i], answer.at_us)
        if broken < 0:
            return 0
        problem = <StoreProblem>entry.answers[broken]
        self.problem = self.problem or problem.why
        if entry.peers:
            self.broken = self.broken or f"{_key_of(entry.asks[broken])}: {problem.why}"
        return 0

    def _tick(self):
        """Return the time to the next tick: at random, so that those that begin together do not go on so."""
        return self._at_random(self._plain_ns())

    cdef int64_t _at_random(self, int64_t tick_ns) except? -1:
        cdef double drawn = self._random.random()
        return <int64_t>(<double>_with_early(tick_ns) * (1 - _PHASE + 2 * _PHASE * drawn))


cdef int64_t _with_early(int64_t tick_ns) noexcept:
    """Return a tick that is longer by so much that those of a minute leave time for the trips that come early."""
    cdef int64_t early = (_EARLY + 1) * tick_ns
    return tick_ns + rs_times(early, tick_ns, max(tick_ns, _WITHIN_NS - early))
