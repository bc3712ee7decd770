"""What a courier asks for the slots of a bulkhead, and what it is answered."""

from __future__ import annotations

import attrs

from resilio.sharing._fleet.ask import RecordedAnswer, RecordedAsk

__all__ = ["SlotsAnswer", "SlotsAsk"]


@attrs.define
class SlotsAnswer(RecordedAnswer):
    """
    Slots of a bulkhead.

    Attributes:
        held: Slots that the asker has until its lease ends.

        fair: Its share of all, by need, as far as there are slots for it; if that is less than what it has, it takes no
            more calls than that.

        peers: Askers, this one included.

        left: Slots that no asker has.

        ends_us: When the asker's lease ends, by the store's clock.
    """

    held: int
    fair: int
    peers: int
    left: int
    ends_us: int
    at_us: int = 0


@attrs.define(kw_only=True)
class SlotsAsk(RecordedAsk):
    """
    An ask for slots of a bulkhead; it renews the lease of those that it keeps.

    Attributes:
        capacity: Slots of the fleet.

        kept: Those that the asker keeps, whatever the answer: its calls use them, or may until the answer comes.

        want: Those that it would use.

        sure: Those of them that it keeps by a lease; calls that have outlived theirs have slots of others.

        ends_us: When its lease ends, as the store has answered; 0: it has ended by the asker's clock. The store has the
            row of one that stands, unless it was lost. An ask may arrive when the lease has ended: the store was
            stopped, and the ask lay in its socket.

        ttl_us: The time that a lease lasts, from when it is granted.
    """

    kind = "slots"
    answer = SlotsAnswer

    capacity: int
    kept: int = 0
    want: int = 0
    sure: int = 0
    ends_us: int = 0
    ttl_us: int = 10_000_000
