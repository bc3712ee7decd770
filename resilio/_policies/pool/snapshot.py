"""A pool at one moment, and each of its endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from resilio._policy.snapshot import Snapshot

__all__ = ["EndpointSnapshot", "EndpointState", "PoolSnapshot"]

EndpointState = Literal["well", "warming", "ejected", "probing", "drained"]
"""
Well: it is called. Warming: it gets a share of the calls, by its breaker or `warm_up`. Ejected: its breaker is open,
and enforced. Probing: its breaker is half open. Drained: by hand.
"""


@attrs.frozen(kw_only=True)
class EndpointSnapshot:
    """
    An endpoint of a pool at one moment.

    Attributes:
        name: Its name.

        target: Its target.

        zone: Its zone; None if unknown.

        level: Its level, 0 is called first.

        weight: Its weight now.

        state: "well", "warming", "ejected", "probing" or "drained".

        share: Of the calls that would go to it, those that it gets now: 1, that of a ramp (of its breaker, or of
            `warm_up`), or 0.

        latency: The peak average of its latencies in seconds, which decays in 3 s; None: it was not called yet.

        inflight: Calls of this process under way at it.

        price: What a call costs there: latency x (in flight + 1) / weight, in seconds; the lower of two is taken. None:
            it was not called yet.

        calls: Calls that were sent to it.

        successes: Those of them that succeeded.

        failures: Those of them that failed.

        retry_after: Seconds until it may be called again; None: it may be called, or that is unknown.
    """

    name: str
    target: str
    zone: str | None = None
    level: int = 0
    weight: float = 1.0
    state: EndpointState = "well"
    share: float = 1.0
    latency: float | None = None
    inflight: int = 0
    price: float | None = None
    calls: int = 0
    successes: int = 0
    failures: int = 0
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class PoolSnapshot(Snapshot):
    """
    A pool at one moment: the counters are sums over its endpoints, removed ones included.

    Attributes:
        endpoints: Its endpoints, in the order in which they were added.

        levels: The share of the calls that each level gets now, by level.

        with_key: Calls that went by the key of `affinity`; a retry of one does not count.

        at_home: Those of them that were sent to their key's own endpoint; the others to the next one in its order.

        unused: Endpoints that this process leaves to others: of more than 64 it uses 32.
    """

    endpoints: tuple[EndpointSnapshot, ...] = ()
    levels: Mapping[int, float] = attrs.field(factory=dict)
    with_key: int = 0
    at_home: int = 0
    unused: int = 0

    def __getitem__(self, name: str, /) -> EndpointSnapshot:
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        known = ", ".join(repr(one.name) for one in self.endpoints) or "none"
        raise KeyError(f"no endpoint is named {name!r}; the endpoints: {known}")
