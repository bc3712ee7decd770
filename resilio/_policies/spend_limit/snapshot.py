"""Snapshot of a spend limit: its money at one moment."""

from __future__ import annotations

import attrs

from resilio._policy.snapshot import Snapshot

__all__ = ["Spend", "SpendLimitSnapshot"]


@attrs.frozen(kw_only=True)
class Spend:
    """
    The money of a spend limit at one moment, in its currency.

    Attributes:
        currency: The currency.

        limit: The most that can be there: the amount of a period, or the burst.

        used: What has been spent of it in this period, and what calls in flight have reserved; above `limit`: an
            overspend, which the next period pays.

        reserved: What calls in flight of this process have reserved, as their cost is not known yet.

        at_risk: By how much those calls can still cost more than was reserved: no more than that is ever overspent.
            Infinity: the most that some of them can cost is not known.

        left: What new calls can reserve, >= 0.

        resets_in: Seconds until the next period; at a pace, until an empty limit would be full.

        charged: What calls have cost since the start, in this process.

        kept: Of it, what calls have kept of their reservation because their cost never became known.
    """

    currency: str
    limit: float
    used: float
    reserved: float
    at_risk: float
    left: float
    resets_in: float
    charged: float
    kept: float


@attrs.frozen(kw_only=True)
class SpendLimitSnapshot(Snapshot):
    """
    A spend limit at one moment.

    Attributes:
        spend: Its money.
    """

    spend: Spend
