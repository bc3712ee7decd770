"""
The tie of a rate limit: what its courier asks for, and what its calls get.

The calls of this process, or of its host, draw on a purse for each rate (lease.h). With each question the tie offers
the rest of it, and asks for what callers want until the next answer, and half as much again; and for tokens to spare,
for a burst. Calls beyond them wait for an answer if the store had theirs at the latest one. Where the burst is less
than four calls of each asker, shares would be parts of a call: then the limit is asked for each call, and calls wait
for the answer, as they do in any case with `accuracy="exact"`. Then a rate that is a window in one process is a window
of the fleet: no call has a token before the store has granted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from resilio._native.gates import LeaseTie
from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import TOKEN, LimitAsk, WindowAsk
from resilio.sharing._fleet.store_keys import key_of
from resilio.sharing._fleet.tie import Tie

__all__ = ["ASKED", "EXACT", "LEASED", "LimitTie", "Stock"]

LEASED, ASKED, EXACT = "leased", "asked", "exact"
SECOND = 1_000_000_000

FEWEST_CALLS = 4
"""Calls of burst for each asker below which the limit is asked for each call."""
ENOUGH_CALLS = 6
"""... and from which it is leased again."""
TRIPS = 2
"""A call that asks waits for at most this many times the time of a trip."""

_NAMES: dict[type, str] = {WindowAsk: "window"}
"""In the keys of the store, of asks that another rule answers than the policy's."""

Stock = tuple[str, int, float, int, float]
"""What defines the stock of a rate: unit, place, tokens, the nanoseconds in which they come in, burst."""


class LimitTie(LeaseTie, Tie):
    """The tie of a rate limit; see the module. What it does at each trip is native."""

    KIND = "limit"
    """In the keys of the store."""
    LENDS = False
    """True if no call waits for an answer."""

    __slots__ = ("_fleet", "_is_exact")

    def __init__(
        self, policy: Any, gate: Any, cell: Cell, fleet: Any, *, name: str | None = None, key: bytes = b""
    ) -> None:
        """
        Tie a limit to its fleet.

        Args:
            policy: The limit; its options are read as they are at each answer.

            gate: Its gate, which draws on this cell.

            cell: The cell.

            fleet: The fleet.

            name: Of the policy in the store; None: its own.

            key: Of a keyed policy, in the form that all processes agree on.
        """
        self._fleet = fleet
        self._is_exact = False
        stocks, called = self._stocks(policy), name or policy.name
        kinds = [WindowAsk if is_exact else LimitAsk for is_exact in self._exact(policy.config)]
        keys = [
            key_of(fleet.name, _NAMES.get(kind, self.KIND), called, repr((part, key) if key else part))
            for kind, part in zip(kinds, stocks, strict=True)
        ]
        super().__init__(
            cell,
            gate,
            ref(policy),
            [(kind, stored, *part[2:]) for kind, stored, part in zip(kinds, keys, stocks, strict=True)],
            longest_ns=round(fleet.tick * SECOND),
            holds=not key,
            lends=self.LENDS,
        )

    def _read(self, config: Any, peers: int) -> None:
        """Take these options, and choose by them and the number of askers how to take from the fleet."""
        for wants, cost in zip(self.wants, self._costs(config), strict=False):
            wants.cost = cost
        fewest = min(wants.burst / wants.cost for wants in self.wants) / peers
        self._is_exact = self._is_each(config)
        if self._is_exact or fewest < FEWEST_CALLS:
            self.leased = False
        elif fewest >= ENOUGH_CALLS or self.asked_ns == 0:
            self.leased = True
        trip_ns = round(self._fleet.timeout * TRIPS * SECOND)
        down = config.on_store_down or ("closed" if any(self._exact(config)) else self._fleet.on_store_down)
        self.leases.use(on_store_down=down, peers=self._fleet.peers or 1, trip_ns=trip_ns, asks_each=not self.leased)

    def _stocks(self, policy: Any) -> list[Stock]:
        """Return what defines the stock of each rate."""
        native = [rate.native() for rate in policy.config.resolved()]
        return [(unit, i, amount, period_ns, burst) for i, (unit, amount, period_ns, burst, _, _) in enumerate(native)]

    def _costs(self, config: Any) -> Sequence[int]:
        """Return the cost of a call by each rate, in millionths."""
        return [TOKEN if callable(rate.cost) else max(1, round(rate.cost * TOKEN)) for rate in config.resolved()]

    def _exact(self, config: Any) -> Sequence[bool]:
        """Return for each rate whether it is an exact window of the fleet."""
        found: Sequence[bool] = config.exact()
        return found

    def _is_each(self, config: Any) -> bool:
        """Return True if the options want each call to be asked for."""
        return bool(config.accuracy == "exact")

    @property
    def regime(self) -> str:
        """Either LEASED, or for each call: ASKED, or EXACT, as its options want it."""
        if self._is_exact:
            return EXACT
        return LEASED if self.leased else ASKED
