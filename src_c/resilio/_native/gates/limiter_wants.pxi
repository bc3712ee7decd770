"""The wants of a rate limit's callers in its fleet: a part of gates.pyx, over the leases of limiter_fleet.pxi."""

cdef double _SECOND = 1e9
cdef double _MOST = 4e18                # of a number that is rounded: less than the largest integer
cdef int64_t _SHORTEST_TICK_NS = 50_000_000     # for a small burst
cdef int64_t _TICKS_A_BURST = 4         # in which the whole burst comes in, at least
# The ticks in which a demand that has ended is forgotten: leases of hosts whose turn is over are of use to others.
cdef double _FADES = 1.25
cdef double _HEADROOM = 0.5             # the part of a tick for which a lease is enough beyond the next question
# The time for whose calls tokens are kept while an answer is under way, where others want what is here.
cdef int64_t _UNDER_WAY_NS = 3_000_000
cdef int64_t _LONGEST_WAIT_US = 1_000_000_000_000_000
cdef int64_t _NEVER_LOW = -(<int64_t>1 << 62)


cdef class Wants:
    """
    The wants of the callers of one rate, in millionths of a token, and the questions by which its lease follows them.

    Attributes:
        amount: What comes in each period.

        period_us: That period.

        burst: The most that all askers have together.

        rate: What comes in each second.

        fill_ns: The time in which the whole burst comes in.

        cost: Of a call.

        demand: What callers want a second.
    """

    cdef Leases leases
    cdef int i
    cdef readonly int64_t amount, period_us, burst, fill_ns
    cdef readonly double rate, demand
    cdef public int64_t cost
    cdef int64_t base               # what was in the purse after the latest question or answer
    cdef bint is_short              # the latest answer brought less than it was asked for: others want it too
    cdef int64_t joined             # what calls had come to wait for by then.
    cdef int64_t offered            # with the question under way, a debt from the time without a store apart

    def __init__(self, Leases leases not None, int i, amount, period_ns, burst):
        """
        Describe a rate by its tokens in each period.

        Args:
            leases: The leases of its limit.

            i: Its place there.

            amount: Tokens that come in each period.

            period_ns: That period.

            burst: Tokens.
        """
        scale = max(1, -(-1000 // period_ns))   # a period of less than a microsecond
        self.leases, self.i = leases, i
        self.period_us = max(1, round(period_ns * scale / 1000))
        self.amount = max(1, round(amount * 1_000_000 * scale))
        self.burst = round(burst * 1_000_000)
        self.rate = <double>self.amount / <double>self.period_us * 1e6
        self.fill_ns = <int64_t>min(_MOST, ceil(<double>self.burst / self.rate * _SECOND))
        self.cost = TOKEN

    cdef int64_t _tick_ns(self, int64_t most_ns) noexcept:
        """Return the time between questions: a quarter of that in which the burst comes in, within limits."""
        return min(most_ns, max(_SHORTEST_TICK_NS, self.fill_ns // _TICKS_A_BURST))

    cdef bint _is_idle(self) noexcept:
        """Return True if callers want less than a hundredth of a call in a second."""
        return self.demand < <double>self.cost / 100

    cdef int _is_low(self, int64_t tick_ns, bint leased) except -1:
        """Return True if calls have missed or wait for something, or soon will."""
        cdef rs_leased *lease
        cdef int64_t purse, credit
        cdef bint lacks
        if not self.leases._lock():
            return False
        lease = self.leases.host.rate[self.i].draw.lease
        purse, credit = rs_word_signed(&lease.purse), rs_word_signed(&lease.credit)
        lacks = rs_leased_lacks(lease)
        rs_lock_release(self.leases.lock)
        if lacks or not leased:
            return lacks or purse < 0
        return <double>(purse + credit) < <double>self.cost + self._in_time(<double>tick_ns / 4)

    cdef int _ask(self, LimitAskNumbers ask, int64_t elapsed_ns, int64_t tick_ns, int64_t rest_ns, bint leased,
                  bint holds) except -1:
        """
        Take the tokens out of the purse, to offer them to the store with a question; some stay until the answer.

        Args:
            ask: The question. It gets the amount that goes back, below zero a debt; the one that is kept; the one that
                callers want a second; and the most and the least that it asks for.

            elapsed_ns: The time since the question before.

            tick_ns: The time between questions, without its random part.

            rest_ns: The time until the next one.

            leased: False: each call is asked for.

            holds: True if a call that comes after a rest shall find its tokens.

        Returns:
            0; 1 if calls do not draw on these leases any more.
        """
        cdef rs_lease_found found
        cdef int64_t keep = 0, spent, missed, waiting
        cdef double want, until_ns = <double>rest_ns + <double>tick_ns * _HEADROOM
        if not self.leases._lock():
            return 1
        if leased and not self._is_idle():  # not offered, so not lost with the answer
            keep = <int64_t>max(self._in_time(_UNDER_WAY_NS), self._needs(until_ns, elapsed_ns)) + self.cost
        if self.leases.gate is not None:
            self.leases.gate.limiter.turn += self.i == 0    # calls that wait now are in the question
        found = rs_draw_open(&self.leases.host.rate[self.i].draw,
                             rs_clock_now(_clock) - self.leases.host.member.epoch_ns, keep)
        rs_lock_release(self.leases.lock)
        spent = found.owed if found.is_void else max(0, self.base - found.purse)
        # where each call is asked for, one that waits has missed its tokens before
        missed = found.missed if leased else max(0, found.missed - (found.joined - self.joined))
        self._see(spent + missed, elapsed_ns, tick_ns)
        self.base, self.offered, self.joined = found.kept, found.left, found.joined
        waiting = max(0, found.waiting - found.kept) + found.unasked
        want = <double>(found.waiting + found.unasked)
        want += self._in_time(until_ns) if leased else <double>min(missed, self.cost)
        if leased and (found.left < 0 or holds or not self._is_idle()):
            want = max(want, <double>self.cost)
        ask.left, ask.kept, ask.spare = found.left - found.owed, found.kept, found.returned    # a window's spare
        ask.demand = <int64_t>min(_MOST, self.demand + <double>waiting / <double>tick_ns * _SECOND)
        ask.want = <int64_t>max(0.0, min(want, <double>self.burst) - <double>found.kept)
        ask.least = 0 if leased or want == 0 else self.cost
        return 0

    cdef int _take(self, LimitAnswerNumbers answer, int64_t want, int64_t credit, bint leased, int64_t tick_ns,
                   int64_t sent_ns, int64_t expires_ns, int64_t now_ns) except -1:
        """
        Put into the purse what the store has granted.

        Args:
            answer: The answer of the store.

            want: What it was asked for.

            credit: What may be spent beyond the grant.

            leased: False: each call is asked for.

            tick_ns: The time between questions, without its random part.

            sent_ns: When the question was sent.

            expires_ns: When the lease ends.

            now_ns: The time.
        """
        cdef rs_lease_terms terms
        cdef int64_t epoch_ns = self.leases.cell.member.epoch_ns
        cdef double share
        terms.grant, terms.credit, terms.peers = answer.grant, credit, answer.peers
        terms.stock = max(0, answer.left)
        share = max(<double>terms.grant / <double>tick_ns * _SECOND, self.rate / <double>terms.peers)
        terms.income = <int64_t>(self.rate if terms.grant >= want else min(share, self.rate))
        terms.asked_ns, terms.expires_ns = sent_ns - epoch_ns, expires_ns - epoch_ns
        terms.next_ns = now_ns - epoch_ns
        if leased:    # calls ring below it
            terms.low = <int64_t>(<double>self.cost + self._in_time(<double>tick_ns / 4)) - credit
            terms.next_ns += tick_ns if terms.grant < want else 0
        else:
            terms.low = 0 if credit else _NEVER_LOW
            terms.next_ns += _wait_ns(answer)
        if not self.leases._lock():
            return 0
        terms.now_ns = rs_clock_now(_clock) - epoch_ns
        self.base += terms.grant
        self.is_short = terms.grant < want
        rs_draw_grant(&self.leases.host.rate[self.i].draw, &terms)
        rs_lock_release(self.leases.lock)
        return 0

    cdef int _lose(self, int64_t next_ns) except -1:
        """
        Note that no answer came to what was offered: it is taken for spent, and a debt stays.

        Args:
            next_ns: When the next answer is to be expected.
        """
        if not self.leases._lock():
            return 0
        rs_draw_lose(&self.leases.host.rate[self.i].draw, self.offered, next_ns - self.leases.host.member.epoch_ns)
        rs_lock_release(self.leases.lock)
        self.base += min(0, self.offered)
        return 0

    cdef double _needs(self, double time_ns, int64_t elapsed_ns) noexcept:
        """Return what calls will need in this time, with the lock; 0 where others want it, or the demand has ended."""
        cdef rs_leased *lease = self.leases.host.rate[self.i].draw.lease
        cdef double lately = <double>(self.base - rs_word_signed(&lease.purse)) / <double>max(1, elapsed_ns) * _SECOND
        return 0.0 if self.is_short or lately < self.demand / 2 else self._in_time(time_ns)

    cdef void _rest(self) noexcept:
        """Forget what callers have wanted: the lease rests."""
        self.demand, self.base = 0.0, 0

    cdef double _in_time(self, double time_ns) noexcept:
        """Return the demand in this time."""
        return self.demand * time_ns / _SECOND

    cdef void _see(self, int64_t wanted, int64_t elapsed_ns, int64_t tick_ns) noexcept:
        """Learn from what callers have wanted in this time: more counts at once, less bit by bit."""
        cdef double now = <double>wanted / <double>max(elapsed_ns, tick_ns // 4) * _SECOND
        cdef double part = 1.0 if now > self.demand else min(1.0, <double>elapsed_ns / (_FADES * <double>tick_ns))
        self.demand += (now - self.demand) * part


cdef int64_t _wait_ns(LimitAnswerNumbers answer) noexcept:
    return 1000 * min(answer.wait_us, _LONGEST_WAIT_US)
