"""
The courier's part of a rate limit in its fleet: when it asks, for what, and what its calls get. A part of gates.pyx.

The classes Tie (resilio/sharing/_fleet/tie.py) and LimitTie (ties/limit.py) extend these two.
"""

cdef int64_t _A_SECOND_NS = 1_000_000_000
cdef int64_t _LONGEST_LEASE_NS = 30 * _A_SECOND_NS      # of a lease, if its tick is not longer
cdef int64_t _SOON = 10         # the part of a tick after which it may ask again, once all that was wanted has come

cdef extern from *:
    """
    static inline int64_t rs_times(int64_t ns, int64_t by, int64_t of) { return (int64_t)((__int128)ns * by / of); }
    """
    int64_t rs_times(int64_t, int64_t, int64_t) nogil


cdef class TieState:
    """
    The state of a tie that its courier sets.

    Attributes:
        cell: The memory that its gate and the courier have in common; None: a model in a test has none.

        tick_ns: The time to its next ask, as the courier wants it now.
    """

    cdef readonly object cell
    cdef public int64_t tick_ns

    def __init__(self, cell):
        """Tie a policy by the cell of its gate."""
        self.cell = cell
        self.tick_ns = 250_000_000


cdef class LeaseTie(TieState):
    """
    The leases of a policy as its courier handles them: one for each rate. The methods are those of Tie.

    Attributes:
        leases: What the calls draw on.

        wants: What callers want, by rate.

        asked_ns: When it asked last; 0: it has not, or rests.

        leased: True: it takes leases; False: each call is asked for.

        is_off: True as long as its options leave nothing to ask for.
    """

    cdef readonly Leases leases
    cdef readonly tuple wants
    cdef readonly int64_t asked_ns
    cdef public bint leased, is_off
    cdef object policy              # a reference, which may be to nothing any more
    cdef object config              # the options that `_read` has seen; for the courier's thread alone
    cdef tuple keys, kinds          # of the asks, by rate
    cdef Cell at
    cdef int n
    cdef bint holds, lends
    cdef uint64_t seen
    cdef int64_t peers              # that `_read` has seen
    cdef int64_t stock              # what the store had at the latest answer
    cdef int64_t next_ns
    cdef int64_t dozes_ns           # at rest until then; 0: it is not
    cdef int64_t longest_ns, base_ns, fill_ns, before_ns
    cdef int64_t tick_of, tick, rest_of_tick, ttl   # nanoseconds, by the courier's tick
    cdef int64_t spare[RS_MOST_RATES]

    def __init__(self, Cell cell not None, gate, policy, list stocks not None, *, int64_t longest_ns, bint holds,
                 bint lends):
        """
        Tie a policy to its fleet.

        Args:
            cell: The cell of its gate.

            gate: The gate, or a retry budget.

            policy: A reference to it; its options are read as they are at each answer.

            stocks: Of each rate the class of its questions, its key in the store, its tokens, the nanoseconds in which
                they come in, and its burst.

            longest_ns: The time between questions of a large burst.

            holds: True if a call that comes after a rest shall find its tokens.

            lends: True if no call waits: where each is asked for, one token may be spent before.
        """
        TieState.__init__(self, cell)
        self.at, self.policy = cell, policy
        self.longest_ns, self.holds, self.lends = longest_ns, holds, lends
        self.leases, self.n, self.leased = Leases(gate), len(stocks), True
        self.kinds, self.keys = tuple([kind for kind, *_ in stocks]), tuple([stock[1] for stock in stocks])
        self.wants = tuple([Wants(self.leases, i, *stock[2:]) for i, stock in enumerate(stocks)])
        self.base_ns = longest_ns
        for i in range(self.n):
            self.fill_ns = max(self.fill_ns, self._wants(i).fill_ns)
            self.base_ns = min(self.base_ns, self._wants(i)._tick_ns(longest_ns))
        self._refresh(1)
        self.before_ns = 0 if cell.has_courier or not self.leases.begin_anew() else cell.at_ns

    cdef Wants _wants(self, int i):
        return <Wants>self.wants[i]

    cdef int _refresh(self, int64_t peers) except -1:
        """Take the options of now, and choose by them and the number of askers how to take from the fleet."""
        policy = self.policy()
        config = self.config if policy is None else policy.config
        if config is not self.config or peers != self.peers:
            self.config, self.peers = config, peers
            self._read(config, peers)
        return 0

    def _read(self, config, peers):
        raise NotImplementedError

    @property
    def is_used(self):
        """True as long as the policy's calls draw on its leases."""
        return self.leases._is_used()

    @property
    def rings(self):
        """True if a call wants an answer soon."""
        return self.at.rings

    @property
    def is_idle(self):
        """True if nothing is wanted, and less than a token is here."""
        cdef int i
        if not self.leases._is_used() or not self._is_calm():
            return False
        for i in range(self.n):
            purse, _, missed, waiting = self.leases.now(i)
            if not 0 <= purse < TOKEN or missed or waiting:
                return False
        return True

    cdef bint _is_calm(self):
        cdef int i
        for i in range(self.n):
            if not self._wants(i)._is_idle():
                return False
        return True

    def rest(self, Cell horizon not None, int64_t now_ns):
        """
        Let it rest until a call rings; *horizon*: the cell that expires when the store is taken to be away.

        Returns:
            True if the store has a token, with which the next call may pass. Otherwise it asks once more when there
            should be one: a token that is not there must not be taken on credit at each rest.
        """
        cdef double lacks = 0
        cdef int i
        if self.leases._is_used():
            self.leases._rest(horizon, self.stock)
        self.asked_ns = 0
        for i in range(self.n):
            self._wants(i)._rest()
            lacks = max(lacks, <double>(TOKEN - self.stock) / self._wants(i).rate * _SECOND)
        if self.stock >= TOKEN:
            self.dozes_ns = 0
            return True
        self.dozes_ns = now_ns + max(self._ttl_ns(), <int64_t>min(_MOST, ceil(lacks)))
        return False

    @property
    def outstanding(self):
        """Tokens of the first rate that are here on lease and not spent."""
        return max(0, self.leases.now(0)[0]) / _TOKEN if self.leases._is_used() else 0.0

    # ---- times

    @property
    def pace_ns(self):
        """The time between questions, in the mean; 0 where calls wait for them."""
        return self._pace_ns()

    cdef int64_t _pace_ns(self):
        return self._own_tick_ns() if self.leased else 0

    @property
    def ttl_ns(self):
        """
        The time that a lease lasts from its question on: five ticks, at least a second.

        Of a slow rate, a hundredth of the time in which its burst comes in: lost tokens are dear there.
        """
        return self._ttl_ns()

    cdef int64_t _own_tick_ns(self):
        """Return the time between questions, without its random part: the same for all askers, or 2, 4, ... times."""
        if self.tick_of != self.tick_ns:
            self._find_times()
        return self.tick

    cdef int64_t _ttl_ns(self):
        if self.tick_of != self.tick_ns:
            self._find_times()
        return self.ttl

    cdef int _find_times(self) except -1:
        """Find the tick, the rest and the life of a lease by the courier's tick, which is another one each trip."""
        cdef int64_t tick_ns = self.base_ns
        cdef bint is_short = self.tick_ns > 2 * self.longest_ns     # the store is short of time
        cdef double spare
        while is_short and 2 * tick_ns < self.tick_ns:
            tick_ns *= 2
        # from a question to the next: a tick of its own, as much longer as the courier's is now
        self.rest_of_tick = max(tick_ns, self.tick_ns) if is_short else rs_times(tick_ns, self.tick_ns, self.longest_ns)
        self.tick_of = self.tick_ns
        if tick_ns != self.tick:
            self.tick = tick_ns
            self.ttl = max(5 * tick_ns, _A_SECOND_NS, min(self.fill_ns // 100, _LONGEST_LEASE_NS))
            for i in range(self.n):     # no more than comes in meanwhile: a host that dies takes its lease with it
                spare = self._wants(i).rate * <double>self.ttl / _SECOND
                self.spare[i] = <int64_t>min(spare, <double>self._wants(i).burst)
        return 0

    # ---- when

    def due_ns(self, int64_t now_ns):
        """Return when it next wants to ask: at once if a purse is low, each tick while there are calls."""
        return self._due_ns(now_ns)

    cdef int64_t _due_ns(self, int64_t now_ns):
        cdef int64_t lives_ns
        if self.is_off:
            return INT64_MAX
        if not self.leases._is_used():
            return now_ns + _A_SECOND_NS
        if self.asked_ns == 0:
            return now_ns if self.at.rings else self.dozes_ns
        lives_ns = self.asked_ns + self._ttl_ns() // 2
        if self._is_low() or self._is_low_after_all():
            return min(self.next_ns, lives_ns)
        if not self.leased or self._is_calm():
            return lives_ns
        return max(self.next_ns, self.asked_ns + self.rest_of_tick)

    cdef bint _is_low(self):
        cdef int i
        for i in range(self.n):
            if self._wants(i)._is_low(self.tick, self.leased):
                return True
        return False

    cdef bint _is_low_after_all(self):
        """Let calls ring again that have rung for nothing, and look once more: the next one must be heard."""
        if not self.at.rings:
            return False
        self.at.hush()
        return self._is_low()

    # ---- what

    def ask(self, int64_t now_ns):
        """Return the question of each rate, with the rest of its lease."""
        return self._asks(now_ns)

    cdef object _asks(self, int64_t now_ns):
        cdef int64_t elapsed_ns, seq, seen, tick_ns = self._own_tick_ns()
        cdef LimitAskNumbers ask
        cdef int i
        if not self.leases._is_used():
            return ()
        elapsed_ns = now_ns - self.asked_ns if self.asked_ns else tick_ns
        self.asked_ns = now_ns
        self.at.hush()
        asks = []
        for i in range(self.n):
            ask = self._ask(i, elapsed_ns)
            if ask is None:
                return ()   # the policy has just moved
            asks.append(ask)
        seq = self.at.next_number(&self.seen)   # after it calls that wait report anew: what was found is in this ask
        seen = 0 if self._is_forgotten(now_ns) else <int64_t>self.seen
        for ask in asks:
            ask.seq, ask.seen = seq, seen
        return asks

    cdef bint _is_forgotten(self, int64_t now_ns):
        """Return True after so long a rest that the store keeps nothing of it: its bucket is full again."""
        return now_ns - self.at.answer_ns() > max(4 * self.ttl, 2 * self.fill_ns)

    cdef LimitAskNumbers _ask(self, int i, int64_t elapsed_ns):
        cdef Wants wants = self._wants(i)
        cdef LimitAskNumbers ask = rs_new_of(self.kinds[i], ())
        ask.key, ask.asker = <str>self.keys[i], self.at.asker_id()
        ask.amount, ask.period_us, ask.burst, ask.cost = wants.amount, wants.period_us, wants.burst, wants.cost
        if wants._ask(ask, elapsed_ns, self.tick, self.rest_of_tick, self.leased, self.holds):
            return None
        if not isinstance(ask, WindowAskNumbers):
            ask.spare = 0 if ask.least or not (ask.want or ask.kept) else self.spare[i]
        ask.tick_us, ask.ttl_us = self.tick // 1000, self.ttl // 1000
        return ask

    def take(self, asks, answers, int64_t sent_ns, int64_t now_ns):
        """Put what was granted into the purses, and serve the calls that wait."""
        self._take_all(asks, answers, sent_ns, now_ns)

    cdef int _take_all(self, asks, answers, int64_t sent_ns, int64_t now_ns) except -1:
        cdef LimitAnswerNumbers answer
        cdef LimitAskNumbers ask
        cdef int64_t peers = 1, wait_ns = 0, stock = INT64_MAX
        cdef int came = 0, i
        cdef bint was_enough = True
        if not self.leases._is_used():
            return 0
        for found in answers:
            if isinstance(found, LimitAnswerNumbers):
                answer = <LimitAnswerNumbers>found
                came += 1
                peers, stock = max(peers, answer.peers), min(stock, answer.left)
                wait_ns = max(wait_ns, _wait_ns(answer))
        if came:
            if not self.at.saw(self.seen, (<LimitAskNumbers?>asks[0]).seq):
                return 0    # another courier has had an answer since
            self._refresh(peers)
            self.at.answered(now_ns, sent_ns + self._ttl_ns())
        self.stock = stock if came else 0
        for i in range(self.n):
            ask, found = asks[i], answers[i]
            if isinstance(found, LimitAnswerNumbers):
                answer = <LimitAnswerNumbers>found
                was_enough = was_enough and answer.grant >= ask.want
                self._wants(i)._take(answer, ask.want, self._credit(answer), self.leased, self._own_tick_ns(), sent_ns,
                                     sent_ns + self.ttl, now_ns)
            else:
                self._lose(i, now_ns)
        self.next_ns = self._after(wait_ns, was_enough, now_ns) if came == self.n else now_ns + self.tick_ns
        return self.leases._serve()

    cdef int64_t _credit(self, LimitAnswerNumbers answer):
        """Return what may be spent beyond the grant, or before it is asked for, where each call is."""
        if self.leased:
            return answer.credit
        return TOKEN if self.lends and answer.left >= TOKEN else 0

    cdef int64_t _after(self, int64_t wait_ns, bint was_enough, int64_t now_ns):
        """Return the earliest time of the next question after all answers have come."""
        if self.leased:
            return now_ns + self.tick // _SOON if was_enough else self.asked_ns + self.rest_of_tick
        return now_ns + max(wait_ns, self.tick if self.lends else 0)

    cdef int _lose(self, int i, int64_t now_ns) except -1:
        """Note that an answer is lost; if none has come since the start, the store is away at once."""
        self._wants(i)._lose(now_ns + self.tick_ns)
        if self.at.answer_ns() == self.before_ns:
            self.leases._end(i)
        return 0
