"""View of a pool and its endpoints: snapshots and states, also for the live page, metrics, probes and look-ups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from resilio import events
from resilio._native.custom import latency_of
from resilio._policies.pool.config import PoolConfig
from resilio._policies.pool.prices import levels_of
from resilio._policies.pool.snapshot import EndpointSnapshot, EndpointState, PoolSnapshot
from resilio._policies.pool.zones import zone_here
from resilio._policy.base import Policy
from resilio._policy.snapshot import Health
from resilio.errors import NoEndpointError

if TYPE_CHECKING:
    from resilio._native.pool import PoolTable, Seat
    from resilio._native.primitives import LatencyHistogram
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.names import Following
    from resilio._policies.pool.probes import Probing

__all__ = ["EndpointView", "PoolView", "parts_of"]


LOAD = 1.25
"""The most calls in flight of an endpoint that affinity sends calls to, in means of its level: RS_POOL_LOAD."""


def parts_of(policy: Policy[Any]) -> tuple[Policy[Any], ...]:
    """Return the policies of a pipeline; of any other policy itself."""
    parts: tuple[Policy[Any], ...] = getattr(policy, "policies", (policy,))
    return parts


class EndpointView:
    """An endpoint in its pool, as the live page and metrics see it: much as a policy."""

    kind = "endpoint"
    _trouble: str | None = None
    seat: Seat
    policy: Policy[Any]
    weight: float
    drained: bool

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint."""
        return cast("Endpoint", self.seat.endpoint)

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self.seat.endpoint.name)

    @property
    def latency(self) -> LatencyHistogram:
        """Its latencies."""
        return latency_of(self.seat)

    @property
    def breakers(self) -> list[Policy[Any]]:
        """The circuit breakers of its policy."""
        return [part for part in parts_of(self.policy) if part.kind == "circuit_breaker"]

    @property
    def state(self) -> EndpointState:
        """Its state now."""
        if self.drained:
            return "drained"
        states = {one._state() for one in self.breakers if getattr(one.config, "enforce", 1.0) == 1.0}
        if not states.isdisjoint(("open", "forced_open")):
            return "ejected"
        if "half_open" in states:
            return "probing"
        if self.seat.share == 0.0:  # its Retry-After, or another gate that lets no call pass
            return "ejected"
        return "well" if self.share == 1.0 else "warming"

    @property
    def share(self) -> float:
        """The share of its calls that it gets now."""
        return 0.0 if self.drained else self.seat.share * self.seat.warmth

    @property
    def retry_after(self) -> float | None:
        """Seconds until its breakers admit a probe; None: they admit calls, or that is unknown."""
        found = (getattr(breaker.snapshot(), "retry_after", None) for breaker in self.breakers)
        return max((wait for wait in found if wait is not None), default=None)

    def snapshot(self) -> EndpointSnapshot:
        """Return the endpoint at this moment."""
        endpoint, counters = self.seat.endpoint, self.seat.counters()
        pool: Any = self.seat.policy
        latency, inflight = self.seat.latency_now, counters["inflight"]
        return EndpointSnapshot(
            name=endpoint.name,
            target=endpoint.target,
            zone=endpoint.zone,
            level=pool._level(endpoint),
            weight=self.weight,
            state=self.state,
            share=self.share,
            latency=self.seat.latency_good or None,
            inflight=inflight,
            price=latency * (inflight + 1) / self.weight if latency else None,
            calls=counters["calls"],
            successes=counters["successes"],
            failures=counters["failures"],
            retry_after=self.retry_after,
        )


_AT_ONE_ENDPOINT = {
    "retry": (
        "retry-in-each",
        "the retry in each=... tries again at the endpoint that has just failed; put it outside of the pool",
    ),
    "hedge": (
        "hedge-in-each",
        "the hedge in each=... sends its copies to the endpoint of their primary; put it outside of the pool",
    ),
}


class PoolView(Policy[PoolConfig]):
    """A pool as snapshots, metrics, the live page and probes see it."""

    _placed: dict[str, Any]
    _table: PoolTable
    _upkeep: list[Following | Probing]
    _unused = 0
    """The endpoints given by hand that are left to other processes."""
    _unused_found = 0
    """Those found by `resolve`."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints now."""
        return tuple(placed.endpoint for placed in list(self._placed.values()))

    def _any(self) -> Endpoint:
        """Return an endpoint for a call that passes no gates."""
        if not self._placed:
            raise NoEndpointError("pool", self.name, "empty")
        return self.endpoints[0]

    def _zone(self) -> str | None:
        return zone_here(self._config.zone)

    def _level(self, endpoint: Endpoint) -> int:
        """Return the level of an endpoint now."""
        endpoints = self.endpoints
        levels = levels_of(endpoints, self._zone(), self._config.cheaper)
        return next((level for one, level in zip(endpoints, levels, strict=True) if one.name == endpoint.name), 0)

    def snapshot(self) -> PoolSnapshot:
        """Return the endpoints and the counters now, summed over all endpoints."""
        return self._snapshot(None, self._gate.counters())

    def _snapshot(self, state: str | None, counters: Mapping[str, Any]) -> PoolSnapshot:
        common = attrs.asdict(super()._snapshot(state, counters), recurse=False)
        self._table.look()  # what was changed by hand is taken over by the next call at the latest
        seen = tuple(one.snapshot() for one in list(self._placed.values()))
        shares = zip(sorted({one.level for one in seen}), self._table.levels(), strict=False)  # one may be added now
        levels = {level: share / 100 for level, share in shares}
        with_key, at_home = self._table.at_home()
        return PoolSnapshot(
            **common,
            endpoints=seen,
            levels=levels,
            with_key=with_key,
            at_home=at_home,
            unused=self._left_to_others(),
        )

    def _left_to_others(self) -> int:
        return self._unused + self._unused_found

    def health(self) -> Health:
        """Return ready if a call made now can go to an endpoint."""
        states = {one.name: one.state for one in list(self._placed.values())}
        reasons = tuple(f"endpoint {name} of pool {self.label} is {state}" for name, state in _unwell(states))
        return Health(ready=any(state not in ("ejected", "drained") for state in states.values()), reasons=reasons)

    def refresh(self) -> None:
        """
        Look up names and probe ejected endpoints now, in this thread.

        The threads of a pool do so by themselves, but not while time is virtual.
        """
        for part in self._upkeep:
            part.refresh()

    def _kinds_of_each(self) -> list[str]:
        return [part.kind for one in list(self._placed.values())[:1] for part in parts_of(one.policy)]

    def _misplaced_within(self) -> list[tuple[str, str]]:
        return [_AT_ONE_ENDPOINT[kind] for kind in self._kinds_of_each() if kind in _AT_ONE_ENDPOINT]

    def _explained(self) -> str:
        """Return the endpoints by level, and the kinds of policies that each has."""
        placed = list(self._placed.values())
        levels: dict[int, list[str]] = {}
        for one in placed:
            levels.setdefault(self._level(one.endpoint), []).append(one.name)
        texts = [f"level {level}: {', '.join(names)}" for level, names in sorted(levels.items())]
        left = self._left_to_others()
        others = [f"{left} more endpoints are left to other processes"] if left else []
        each = [f"each: {' > '.join(self._kinds_of_each())}"] if placed else []
        return "; ".join([*(texts or ["no endpoints"]), *others, *each, *self._affinity()])

    def _affinity(self) -> list[str]:
        """Return what became of the calls with keys."""
        if self._config.affinity is None:
            return []
        with_key, at_home = self._table.at_home()
        share = f": {at_home / with_key:.0%} of {with_key} calls" if with_key else ""
        return [f"affinity: a key's calls go to its endpoint, within {LOAD:g} x the mean load{share}"]

    def _rows(self) -> list[Any]:
        """Return the endpoints in their order, as the live page reads them."""
        return list(self._placed.values())

    def _about(self) -> tuple[str, ...]:
        left, used = self._left_to_others(), len(self._placed)
        return (f"{used} of {used + left} endpoints" if left else f"{used} endpoints",)

    # ---- for probes and names

    def _reason_of(self, key: Any, reason: str) -> str:
        """Return the reason for which the policy of an endpoint has changed its state."""
        placed = self._placed.get(key)
        latest = () if placed is None else (part._latest_reason for part in parts_of(placed.policy))
        return next((one for one in latest if one is not None), reason)

    def _is_well(self, name: str) -> bool:
        placed = self._placed.get(name)
        return placed is not None and placed.state in ("well", "warming")

    def _breakers(self, name: str) -> list[Policy[Any]]:
        placed = self._placed.get(name)
        return [] if placed is None else placed.breakers

    def _probed(self, name: str, *, well: bool) -> None:
        placed = self._placed.get(name)
        if placed is not None:
            placed.seat.look(well)
            events.deliver(placed.seat)

    def _ejected(self) -> list[tuple[Endpoint, float]]:
        found = [one for one in list(self._placed.values()) if one.state in ("ejected", "probing")]
        return [(one.endpoint, one.retry_after or 0.0) for one in found]


def _unwell(states: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, state) for name, state in states.items() if state in ("ejected", "drained"))
