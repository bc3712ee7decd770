"""What a courier asks for the money of a spend limit, and what it is answered."""

from __future__ import annotations

import attrs

from resilio.sharing._fleet.ask import RecordedAnswer, RecordedAsk

__all__ = ["SpendAnswer", "SpendAsk"]


@attrs.define
class SpendAnswer(RecordedAnswer):
    """
    Money of a spend limit in one period.

    Attributes:
        grant: Millionths that the asker may spend beyond those it has already, until the period ends.

        used: Millionths that are spent or reserved in the fleet.

        known: The same, and the money on lease that is not spent.

        left: Millionths that are neither.

        peers: Askers of the latest whole turn, at least 1.

        short: 1: there was too little for a call lately, so leases that are not used are wanted back; else 0.
    """

    grant: int
    used: int
    known: int
    left: int
    peers: int
    short: int
    at_us: int = 0


@attrs.define(kw_only=True)
class SpendAsk(RecordedAsk):
    """
    An ask for money of a spend limit in one period, whose number is a part of the key.

    Attributes:
        limit: Millionths of the period.

        total: What the asker has had in this period: spent, reserved, and on lease; less what it has given back.

        spent: The part of it that is spent or reserved.

        known: The store's `known` of the latest answer in this period; 0: none.

        debt: By how much the period before was overspent, as far as the asker knows.

        want: What it asks for, at most.

        least: With less than that nothing is served; 0: it takes what there is.

        stands: 1: it has been answered in this period, so the store has its row, unless that was lost.

        ttl_us: The time within which each asker asks; longer without an answer, and the store is away.

        keep_us: How long the state is of use.
    """

    kind = "spend"
    answer = SpendAnswer

    limit: int
    total: int = 0
    spent: int = 0
    known: int = 0
    debt: int = 0
    want: int = 0
    least: int = 0
    stands: int = 0
    ttl_us: int = 1_250_000
    keep_us: int = 1_000_000
