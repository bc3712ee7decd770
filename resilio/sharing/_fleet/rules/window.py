"""
The rule of an exact window: at most `burst` tokens in any period, whatever fails.

Time is cut into parts of the period. A token on lease counts until it is known to be spent or not. From then on it is
used in the part of that time, and is free again a period after the end of the next part: the store's clock may be ahead
for a moment.

    W1  `out` and all that is used are never more than the burst after each ask, but for debts.
    W2  A lease that does not come back is used in the part in which it ended. The grant of an answer that was lost is
        not used.
    W3  What calls give back is taken off the oldest part: that is free soonest, so no part holds too little.
    W4  If the store has lost the state, all of the burst is taken for used now, unless the asker is new.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from resilio.sharing._fleet.ask import LimitAnswer, LimitAsk
from resilio.sharing._fleet.rules.limit import keeps_us
from resilio.sharing._fleet.rules.rows import HEAD, Row, State

__all__ = ["exchange", "keeps_us"]

PARTS = 64
LATE = 2
"""Parts after the beginning of its own in which a token counts as if it were spent then."""


class _Window:
    """The policy's row: tokens on lease, when leases were looked at, and the amounts used, by part."""

    __slots__ = ("out", "period", "swept", "used", "width")

    def __init__(self, row: Row | None, ask: LimitAsk, now_us: int) -> None:
        self.period, self.width = ask.period_us, ask.period_us / PARTS
        self.out, self.swept = (0.0, float(now_us)) if row is None else row[:2]
        self.used: dict[float, float] = {} if row is None else dict(zip(row[2::2], row[3::2], strict=True))
        if row is None and ask.seen:
            self.use(now_us, ask.burst)

    def row(self) -> Row:
        """Return the numbers in their order."""
        return (self.out, self.swept, *[number for pair in self.parts() for number in pair])

    def parts(self) -> Iterator[tuple[float, float]]:
        """Yield the parts and the amounts used in them, the oldest first."""
        yield from sorted(self.used.items())

    def use(self, at_us: float, tokens: float) -> None:
        """Count tokens as spent at this time."""
        part = math.floor(at_us / self.width)
        if tokens > 0:
            self.used[part] = self.used.get(part, 0) + tokens

    def free_us(self, part: float) -> float:
        """Return the time when the amount used in a part is free again."""
        return (part + LATE) * self.width + self.period

    def forget(self, now_us: int) -> None:
        """Take out the amounts that are free again."""
        self.used = {part: tokens for part, tokens in self.used.items() if self.free_us(part) > now_us}

    def sweep(self, state: State, ask: LimitAsk, now_us: int) -> None:
        """Take the leases that have ended for spent, once a tick. The others are added up anew."""
        if now_us < self.swept + ask.tick_us:
            return
        self.swept, self.out = now_us, 0
        for field, (_, grant, ends) in [(field, row) for field, row in state.items() if field != HEAD]:
            if ends > now_us:
                self.out += grant
            else:
                self.use(ends, grant)
                del state[field]

    def settle(self, lease: Row | None, ask: LimitAsk, now_us: int) -> None:
        """End the asker's lease: what of it does not come back is spent by now, if its answer has arrived."""
        if lease is not None:
            seq, grant, _ = lease
            self.out -= grant
            if seq == ask.seen:
                self.use(now_us, grant - max(0, ask.left))
        self.use(now_us, -ask.left)
        self.take_off(ask.spare)

    def take_off(self, tokens: float) -> None:
        """Take what was given back off the oldest parts."""
        for part, used in list(self.parts()):
            found = min(used, tokens)
            tokens -= found
            self.used[part] = used - found
            if found == used:
                del self.used[part]

    def grant(self, ask: LimitAsk) -> float:
        """Take what the asker gets: all that it wants if it is there, and nothing below `least`."""
        there = self.left(ask)
        found = 0 if there < max(1, ask.least) else min(ask.want, there)
        self.out += found
        return found

    def left(self, ask: LimitAsk) -> float:
        """Return the tokens that are neither out nor used."""
        return ask.burst - self.out - sum(self.used.values())

    def wait(self, ask: LimitAsk, now_us: int) -> int:
        """Return how long it takes until `least` is there; a tick, if others must give it back."""
        lacks = ask.least - self.left(ask)
        for part, used in self.parts():
            lacks -= used
            if lacks <= 0:
                return math.ceil(self.free_us(part) - now_us)
        return ask.tick_us

    def answer(self, state: State, ask: LimitAsk, grant: float, now_us: int) -> LimitAnswer:
        """Return the answer with this grant; there is no credit."""
        wait = self.wait(ask, now_us) if ask.least > 0 and grant == 0 else 0
        peers = max(1, len(state) - (HEAD in state))
        return LimitAnswer(seq=ask.seq, grant=int(grant), credit=0, wait_us=wait, peers=peers, left=int(self.left(ask)))


def exchange(state: State, ask: LimitAsk, now_us: int) -> LimitAnswer:
    """Exchange an asker's lease for a new one; an ask that arrives again, or late, changes nothing."""
    window, field = _Window(state.get(HEAD), ask, now_us), str(ask.asker)
    lease = state.get(field)
    if lease is not None and ask.seq <= lease[0]:
        return window.answer(state, ask, lease[1] if ask.seq == lease[0] else 0, now_us)
    window.sweep(state, ask, now_us)
    window.settle(state.get(field), ask, now_us)
    window.forget(now_us)
    grant = window.grant(ask)
    state[field] = (ask.seq, grant, now_us + ask.ttl_us)
    state[HEAD] = window.row()
    return window.answer(state, ask, grant, now_us)
