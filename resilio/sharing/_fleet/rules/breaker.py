"""
The rule of a fleet's circuit breaker: evidence is added up, and the store decides, once for all.

    E2  A minority opens nothing: one asker's evidence weighs no more than that of all others (breaker_evidence.py).
    E4  The store gives leases: one probe is under way until the first success of a round.
    E5  A generation is never used twice, so results of a state that was lost do not count in the one that follows.

Chance comes with the ask, so that equal asks have equal answers in every engine.
"""

from __future__ import annotations

from resilio.sharing._fleet.ask_breaker import BAD, BY_PROBE_FAILED, CLOSED, HALF_OPEN, OPEN, BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.rules.breaker_evidence import Asker, Bucket, add, judge
from resilio.sharing._fleet.rules.rows import HEAD, Row, State

__all__ = ["exchange", "keeps_us"]

REOPENINGS = 31
MILLION = 1_000_000
SHORTEST_KEEP_US = 10_000_000


class _Breaker:
    """
    The policy's row, by names; a new one where the store has none.

    Attributes:
        at: The time.

        generation, state, reason, measured, reopened, proven: As in an answer.

        until: End of the open time.

        half: When it became half open.

        blamed: The asker whose probe failed last: others go first; 0: none.

        row_since: Failures reported since then are in the row.

        swept: When askers that have gone were looked for.

        peers: Askers.

        buckets: The window.
    """

    at: float
    generation: float
    state: float
    reason: float
    measured: float
    reopened: float
    proven: float
    until: float
    half: float
    blamed: float
    row_since: float
    swept: float
    peers: float
    __slots__ = (
        "at", "blamed", "buckets", "generation", "half", "measured", "peers", "proven", "reason", "reopened",
        "row_since", "state", "swept", "until",
    )  # fmt: skip

    def __init__(self, row: Row | None, now_us: int) -> None:
        if row is None:
            row = (now_us, CLOSED, 0, 0, 0, 0, 0, 0, 0, now_us, now_us, 0)
        self.at = now_us
        self.generation, self.state, self.reason, self.measured, self.reopened, self.proven = row[:6]
        self.until, self.half, self.blamed, self.row_since, self.swept, self.peers = row[6:12]
        self.buckets = Bucket.all_of(row[12:])

    def row(self) -> Row:
        """Return the numbers in their order."""
        head = (self.generation, self.state, self.reason, self.measured, self.reopened, self.proven)
        times = (self.until, self.half, self.blamed, self.row_since, self.swept, self.peers)
        return (*head, *times, *(number for bucket in self.buckets for number in bucket.row()))

    def enter(self, state: int) -> None:
        """Change the state: what was seen before is no evidence any more. Leases are of their generation."""
        self.state = state
        self.generation += 1
        self.proven = 0
        self.buckets = []
        self.row_since = self.at

    def open(self, ask: BreakerAsk, reopened: float) -> None:
        """Open, for half as long again after each failed round."""
        self.reopened = min(reopened, REOPENINGS)
        open_us, again = ask.open_us, self.reopened
        while again > 0 and open_us < ask.max_open_us:
            open_us += open_us // 2
            again -= 1
        open_us = min(open_us, max(ask.max_open_us, ask.open_us))
        self.until = self.at + open_us - open_us * ask.draw // (10 * MILLION)
        self.enter(OPEN)

    def sweep(self, state: State, ask: BreakerAsk) -> None:
        """Forget the askers that have gone, once a tick."""
        if self.at < self.swept + ask.tick_us:
            return
        self.swept = self.at
        gone_us = self.at - max(SHORTEST_KEEP_US, 20 * ask.tick_us, 2 * ask.lease_us)
        for field in [field for field, row in state.items() if field != HEAD and row[1] < gone_us]:
            del state[field]
            self.peers -= 1

    def report(self, state: State, asker: Asker, ask: BreakerAsk) -> None:
        """Apply the news of a report, if it is of this generation."""
        if ask.generation != self.generation:
            return
        if self.state == CLOSED:
            self.row_since = add(self.buckets, self.row_since, asker, ask, self.at)
            self._judge(state, asker, ask)
        elif self.state == HALF_OPEN and ask.result != 0:
            self._probed(asker, ask)

    def _judge(self, state: State, asker: Asker, ask: BreakerAsk) -> None:
        if ask.failed + ask.slow > 0 or asker.failing >= self.row_since:
            state[str(ask.asker)] = asker.row()
            self_row = [Asker(row) for field, row in state.items() if field != HEAD]
            reason, measured = judge(self.buckets, self.row_since, self_row, ask, self.at)
            if reason != 0:
                self.reason, self.measured, self.blamed = reason, measured, 0
                self.open(ask, 0)

    def _probed(self, asker: Asker, ask: BreakerAsk) -> None:
        """Apply a probe's result, even after its lease has ended: it is as fresh as any other of this round."""
        asker.lease = 0
        if ask.result == BAD:
            self.reason, self.blamed = BY_PROBE_FAILED, ask.asker
            self.open(ask, self.reopened + 1)
            return
        self.proven += 1
        if self.proven >= ask.closing:
            self.reopened = self.blamed = 0
            self.enter(CLOSED)

    def lease(self, state: State, asker: Asker, ask: BreakerAsk) -> int:
        """Return the number of the lease that the asker holds from now on; 0: none."""
        if self.state != HALF_OPEN:
            asker.lease = 0
            return 0
        if asker.holds(self.generation, self.at) and (ask.seen < asker.lease or ask.holds == asker.lease):
            return int(asker.lease)  # if the answer with it was lost, it arrives now
        asker.lease = 0  # ended, or given back
        waits = ask.asker == self.blamed and self.at < self.half + 2 * ask.tick_us
        if ask.ready == 0 or waits or self._is_full(state, ask):
            return 0
        asker.lease, asker.lease_of, asker.lease_until = ask.seq, self.generation, self.at + ask.lease_us
        return ask.seq

    def _is_full(self, state: State, ask: BreakerAsk) -> bool:
        """Return True if others hold all leases: one until the first success, then as many as complete `probes`."""
        places = max(1, ask.probes - self.proven) if self.proven > 0 else 1
        others = [Asker(row) for field, row in state.items() if field not in (HEAD, str(ask.asker))]
        return sum(one.holds(self.generation, self.at) for one in others) >= places

    def answer(self, ask: BreakerAsk, lease: int) -> BreakerAnswer:
        """Return the answer."""
        return BreakerAnswer(
            seq=ask.seq,
            state=int(self.state),
            generation=int(self.generation),
            left_us=int(max(0, self.until - self.at)) if self.state == OPEN else 0,
            reason=int(self.reason),
            measured=int(self.measured),
            reopened=int(self.reopened),
            proven=int(self.proven),
            lease=lease,
            peers=int(self.peers),
        )


def exchange(state: State, ask: BreakerAsk, now_us: int) -> BreakerAnswer:
    """Apply a report and answer it; one that arrives again, or late, adds nothing, and is answered all the same."""
    breaker, field = _Breaker(state.get(HEAD), now_us), str(ask.asker)
    if ask.generation > breaker.generation:  # this is the state of a replica that lagged behind
        breaker.generation, breaker.reopened = ask.generation, 0
        breaker.enter(CLOSED)
    breaker.sweep(state, ask)
    if field not in state:
        breaker.peers += 1
    asker = Asker(state.get(field))
    asker.seen = breaker.at
    lease = int(asker.lease) if asker.holds(breaker.generation, breaker.at) else 0
    if ask.seq > asker.seq:
        asker.seq = ask.seq
        breaker.report(state, asker, ask)
        if breaker.state == OPEN and breaker.at >= breaker.until:
            breaker.enter(HALF_OPEN)
            breaker.half = breaker.at
        lease = breaker.lease(state, asker, ask)
    state[field] = asker.row()
    state[HEAD] = breaker.row()
    return breaker.answer(ask, lease)


def keeps_us(ask: BreakerAsk) -> int:
    """Return how long the state is kept: longer than a window, an open time and a lease."""
    return max(SHORTEST_KEEP_US, ask.window_us, 2 * ask.max_open_us, 2 * ask.lease_us, 20 * ask.tick_us)
