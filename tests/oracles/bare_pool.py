"""A pool without calls, for the upkeep of its endpoints."""

from __future__ import annotations

from typing import Any

import attrs

from resilio import Policy, circuit_breaker
from resilio._policies.pool.endpoint import Endpoint


class BarePool:
    """Endpoints, each with a circuit breaker, and a record of what was done to them."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.name = "nodes"
        self.done: list[tuple[str, str]] = []
        self._endpoints = {one.name: one for one in endpoints}
        self.breakers = {one.name: circuit_breaker(consecutive=1, open_for="1s") for one in endpoints}
        self.fewest = len(endpoints)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self._endpoints.values())

    @property
    def names(self) -> list[str]:
        return sorted(self._endpoints)

    def add(self, endpoint: Endpoint, /) -> None:
        assert endpoint.name not in self._endpoints, "a name is added once"
        self.done.append(("add", endpoint.name))
        self._endpoints[endpoint.name] = endpoint
        self.breakers[endpoint.name] = circuit_breaker(consecutive=1, open_for="1s")

    def remove(self, name: str, /) -> None:
        self.done.append(("remove", name))
        del self._endpoints[name], self.breakers[name]
        self.fewest = min(self.fewest, len(self._endpoints)) if self.fewest else len(self._endpoints)

    def weigh(self, name: str, weight: float, /) -> None:
        self.done.append(("weigh", name))
        self._endpoints[name] = attrs.evolve(self._endpoints[name], weight=weight)

    def fail(self, name: str) -> None:
        """Open the breaker of an endpoint."""
        permit: Any = self.breakers[name].acquire()
        permit.failure(OSError("down"))

    def _is_well(self, name: str, /) -> bool:
        return self.breakers[name].state == "closed"

    def _ejected(self) -> list[tuple[Endpoint, float]]:
        ejected = [one for one in self.endpoints if not self._is_well(one.name)]
        return [(one, self.breakers[one.name].snapshot().retry_after or 0.0) for one in ejected]

    def _probed(self, name: str, /, *, well: bool) -> None:
        self.done.append(("probed well" if well else "probed ill", name))

    def _breakers(self, name: str, /) -> list[Policy[Any]]:
        return [self.breakers[name]] if name in self.breakers else []
