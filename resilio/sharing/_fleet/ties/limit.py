"""
The tie of a rate limit: what its courier asks for, and what its calls get.

The calls of this process, or of its host, draw on a purse for each rate (lease.h). With each question the tie offers
the rest of it, and asks for what callers want until the next answer, and half as much again; and for tokens to spare,
for a burst. Calls beyond them wait for an answer if the store had theirs at the latest one. Where the burst is less
than four calls of each asker, shares would be parts of a call: then the limit is asked for each call, and calls wait
for the answer, as they do in any case with `accuracy="exact"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import ref

from resilio._native.gates import Leases, Wants
from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import TOKEN, Answer, LimitAnswer, LimitAsk
from resilio.sharing._fleet.store_keys import key_of
from resilio.sharing._fleet.tie import Tie

__all__ = ["ASKED", "EXACT", "LEASED", "LimitTie", "Stock"]

LEASED, ASKED, EXACT = "leased", "asked", "exact"
SECOND = 1_000_000_000

FEWEST_CALLS = 4
"""Calls of burst for each asker below which the limit is asked for each call."""
ENOUGH_CALLS = 6
"""... and from which it is leased again."""
SOON = 10
"""After an answer that brought all that was wanted, the next question may come after this part of a tick."""
LONGEST_LEASE_NS = 30 * SECOND
"""A lease lasts at most this long, if its tick is not longer."""
TRIPS = 2
"""A call that asks waits for at most this many times the time of a trip."""

Stock = tuple[str, int, float, int, float]
"""What defines the stock of a rate: unit, place, tokens, the nanoseconds in which they come in, burst."""


class LimitTie(Tie):
    """The tie of a rate limit; see the module."""

    KIND = "limit"
    """In the keys of the store."""

    __slots__ = (
        "_asked_ns",
        "_base_ns",
        "_before_ns",
        "_config",
        "_dozes_ns",
        "_fill_ns",
        "_fleet",
        "_holds",
        "_keys",
        "_leases",
        "_longest_ns",
        "_next_ns",
        "_own_tick_ns",
        "_peers",
        "_policy",
        "_regime",
        "_rest_ns",
        "_seen",
        "_spares",
        "_stock",
        "_tick_of",
        "_ttl_ns",
        "_wants",
    )

    def __init__(
        self, policy: Any, gate: Any, cell: Cell, fleet: Any, *, name: str | None = None, key: bytes = b""
    ) -> None:
        """
        Tie a limit to its fleet.

        Args:
            policy: The limit; its options are read as they are at each question.

            gate: Its gate, which draws on this cell.

            cell: The cell.

            fleet: The fleet.

            name: Of the policy in the store; None: its own.

            key: Of a keyed policy, in the form that all processes agree on.
        """
        super().__init__(cell)
        self._policy = ref(policy)
        self._fleet = fleet
        self._leases = Leases(gate)
        self._longest_ns = round(fleet.tick * SECOND)
        stocks, called = self._stocks(policy), name or policy.name
        self._keys = tuple(key_of(fleet.name, self.KIND, called, repr((part, key) if key else part)) for part in stocks)
        self._wants = tuple(Wants(self._leases, i, *part[2:]) for i, part in enumerate(stocks))
        self._holds = not key
        self._config: Any = None
        self._regime = LEASED
        self._asked_ns = self._next_ns = self._seen = self._stock = 0
        self._dozes_ns = 0  # at rest until then; 0: it is not
        self._spares: list[int] = []
        self._tick_of = self._own_tick_ns = self._rest_ns = self._ttl_ns = self._peers = 0
        self._fill_ns = max(wants.fill_ns for wants in self._wants)
        self._base_ns = min(wants.tick_ns(self._longest_ns) for wants in self._wants)
        self._read(1)
        self._before_ns = 0 if cell.has_courier or not self._leases.begin_anew() else cell.at_ns

    def _read(self, peers: int) -> None:
        """Take the options of now, and choose by them and the number of askers how to take from the fleet."""
        policy = self._policy()
        config = self._config if policy is None else policy.config
        if config is self._config and peers == self._peers:
            return
        self._config, self._peers = config, peers
        for wants, cost in zip(self._wants, self._costs(), strict=False):
            wants.cost = cost
        fewest = min(wants.burst / wants.cost for wants in self._wants) / peers
        if self._is_exact or fewest < FEWEST_CALLS:
            self._regime = ASKED
        elif fewest >= ENOUGH_CALLS or self._asked_ns == 0:
            self._regime = LEASED
        trip_ns = round(self._fleet.timeout * TRIPS * SECOND)
        down = self._config.on_store_down or self._fleet.on_store_down
        asks_each = self._regime == ASKED
        self._leases.use(on_store_down=down, peers=self._fleet.peers or 1, trip_ns=trip_ns, asks_each=asks_each)

    def _stocks(self, policy: Any) -> list[Stock]:
        """Return what defines the stock of each rate."""
        native = [rate.native() for rate in policy.config.resolved()]
        return [(unit, i, amount, period_ns, burst) for i, (unit, amount, period_ns, burst, _, _) in enumerate(native)]

    def _costs(self) -> Sequence[int]:
        """Return the cost of a call by each rate, in millionths."""
        rates = self._config.resolved()
        return [TOKEN if callable(rate.cost) else max(1, round(rate.cost * TOKEN)) for rate in rates]

    @property
    def _is_exact(self) -> bool:
        return bool(self._config.accuracy == "exact")

    @property
    def regime(self) -> str:
        """Either LEASED, or for each call: ASKED, or EXACT, as its options want it."""
        return EXACT if self._is_exact else self._regime

    @property
    def is_used(self) -> bool:
        """True as long as the limit's calls draw on its leases."""
        return self._leases.is_used

    @property
    def is_idle(self) -> bool:
        """True if nothing is wanted, and less than a token is here."""
        if not self._leases.is_used or not all(wants.is_idle for wants in self._wants):
            return False
        found = [self._leases.now(i) for i in range(len(self._wants))]
        return all(0 <= purse < TOKEN and not missed and not waiting for purse, _, missed, waiting in found)

    def rest(self, horizon: Cell, now_ns: int) -> bool:
        """
        Let it rest until a call rings; *horizon*: the cell that expires when the store is taken to be away.

        Returns:
            True if the store has a token, with which the next call may pass. Otherwise it asks once more when there
            should be one: a token that is not there must not be taken on credit at each rest.
        """
        if self._leases.is_used:
            self._leases.rest(horizon, self._stock)
        self._asked_ns = 0
        for wants in self._wants:
            wants.rest()
        is_full = self._stock >= TOKEN
        lacks_ns = max((TOKEN - self._stock) / wants.rate * SECOND for wants in self._wants)
        self._dozes_ns = 0 if is_full else now_ns + max(self.ttl_ns, math.ceil(lacks_ns))
        return is_full

    @property
    def outstanding(self) -> float:
        """Tokens of the first rate that are here on lease and not spent."""
        return max(0, self._leases.now(0)[0]) / TOKEN if self._leases.is_used else 0.0

    @property
    def pace_ns(self) -> int:
        """The time between questions, in the mean; 0 where calls wait for them."""
        return self.own_tick_ns if self._regime == LEASED else 0

    @property
    def own_tick_ns(self) -> int:
        """The time between questions, without its random part: the same for all askers, or twice, four times that."""
        if self._tick_of != self.tick_ns:
            self._find_times()
        return self._own_tick_ns

    def _find_times(self) -> None:
        """Find the tick, the rest and the life of a lease by the courier's tick, which is another one each trip."""
        tick_ns, longest_ns = self._base_ns, self._longest_ns
        is_short = self.tick_ns > 2 * longest_ns
        while is_short and tick_ns < self.tick_ns / 2:  # the store is short of time
            tick_ns *= 2
        # from a question to the next: a tick of its own, as much longer as the courier's is now
        self._rest_ns = max(tick_ns, self.tick_ns) if is_short else tick_ns * self.tick_ns // longest_ns
        self._tick_of = self.tick_ns
        if tick_ns != self._own_tick_ns:
            self._own_tick_ns = tick_ns
            self._ttl_ns = max(5 * tick_ns, SECOND, min(self._fill_ns // 100, LONGEST_LEASE_NS))
            # no more than comes in meanwhile: a host that dies takes its lease with it
            self._spares = [min(int(wants.rate * self._ttl_ns / SECOND), wants.burst) for wants in self._wants]

    @property
    def ttl_ns(self) -> int:
        """
        The time that a lease lasts from its question on: five ticks, at least a second.

        Of a slow rate, a hundredth of the time in which its burst comes in: lost tokens are dear there.
        """
        if self._tick_of != self.tick_ns:
            self._find_times()
        return self._ttl_ns

    # ---- when

    def due_ns(self, now_ns: int) -> int:
        """Return when it next wants to ask: at once if a purse is low, each tick while there are calls."""
        if not self._leases.is_used:
            return now_ns + SECOND
        if self._asked_ns == 0:
            return now_ns if self.rings else self._dozes_ns
        lives_ns = self._asked_ns + self.ttl_ns // 2
        rests, leased = True, self._regime == LEASED
        for wants in self._wants:
            if wants.is_low(self._own_tick_ns, leased):
                return min(self._next_ns, lives_ns)
            rests = rests and wants.is_idle
        return lives_ns if rests or not leased else max(self._next_ns, self._asked_ns + self._rest_ns)

    # ---- what

    def ask(self, now_ns: int) -> Sequence[LimitAsk]:
        """Return the question of each rate, with the rest of its lease."""
        if not self._leases.is_used or self.cell is None:
            return ()
        seq, self._seen = self.cell.number()
        seen = 0 if self._is_forgotten(now_ns) else self._seen
        elapsed_ns = now_ns - self._asked_ns if self._asked_ns else self.own_tick_ns
        self._asked_ns, asker = now_ns, self.cell.asker
        return [self._ask(i, asker, seq, seen, elapsed_ns) for i in range(len(self._wants))]

    def _is_forgotten(self, now_ns: int) -> bool:
        """Return True after so long a rest that the store keeps nothing of it: its bucket is full again."""
        rest_ns = now_ns - self.cell.at_ns if self.cell is not None else 0
        return rest_ns > max(4 * self.ttl_ns, 2 * self._fill_ns)

    def _ask(self, i: int, asker: int, seq: int, seen: int, elapsed_ns: int) -> LimitAsk:
        wants = self._wants[i]
        left, kept, demand, want, least = wants.ask(
            elapsed_ns, self._own_tick_ns, self._rest_ns, self._regime == LEASED, self._holds
        )
        return LimitAsk(
            key=self._keys[i],
            asker=asker,
            seq=seq,
            seen=seen,
            amount=wants.amount,
            period_us=wants.period_us,
            burst=wants.burst,
            left=left,
            kept=kept,
            demand=demand,
            want=want,
            spare=0 if least or not want else self._spares[i],
            least=least,
            tick_us=self._own_tick_ns // 1000,
            ttl_us=self._ttl_ns // 1000,
            cost=wants.cost,
        )

    def take(self, asks: Sequence[LimitAsk], answers: Sequence[Answer | None], sent_ns: int, now_ns: int) -> None:  # type: ignore[override]
        """Put what was granted into the purses, and serve the calls that wait."""
        if not self._leases.is_used or self.cell is None:
            return
        came = [answer for answer in answers if isinstance(answer, LimitAnswer)]
        if came:
            if not self.cell.saw(self._seen, asks[0].seq):
                return  # another courier has had an answer since
            self._read(max([answer.peers for answer in came]))
            self.cell.answered(now_ns, sent_ns + self.ttl_ns)
        was_enough = True
        self._stock = min([answer.left for answer in came], default=0)
        for i, (ask, answer) in enumerate(zip(asks, answers, strict=True)):
            if isinstance(answer, LimitAnswer):
                was_enough &= answer.grant >= ask.want
                self._grant(i, ask, answer, sent_ns, now_ns)
            else:
                self._lose(i, now_ns)
        self._next_ns = self._after(came, was_enough, now_ns) if len(came) == len(asks) else now_ns + self.tick_ns
        self._leases.serve()

    def _after(self, came: Sequence[LimitAnswer], was_enough: bool, now_ns: int) -> int:
        """Return the earliest time of the next question after all answers have come."""
        if self._regime == ASKED:
            return now_ns + 1000 * max([answer.wait_us for answer in came])
        return now_ns + self._own_tick_ns // SOON if was_enough else self._asked_ns + self._rest_ns

    def _grant(self, i: int, ask: LimitAsk, answer: LimitAnswer, sent_ns: int, now_ns: int) -> None:
        leased, ends_ns = self._regime == LEASED, sent_ns + self._ttl_ns
        credit = answer.credit if leased else self._credit(answer)
        self._wants[i].take(answer, ask.want, credit, leased, self._own_tick_ns, sent_ns, ends_ns, now_ns)

    def _credit(self, answer: LimitAnswer) -> int:  # noqa: ARG002 - for a budget
        """Return what may be spent before it is asked for, where each call is."""
        return 0

    def _lose(self, i: int, now_ns: int) -> None:
        """Note that an answer is lost; if none has come since the start, the store is away at once."""
        self._wants[i].lose(now_ns + self.tick_ns)
        if self.cell is not None and self.cell.at_ns == self._before_ns:
            self._leases.end(i)
