"""Envoy's ejection and priority levels, with their defaults."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from resilio.simulation._place import ClientPlace

__all__ = ["EnvoyHosts"]

CONSECUTIVE = 5
INTERVAL = 10.0  # seconds between two looks at success rates and ejection times
EJECTION = 30.0  # seconds, times the number of ejections
LONGEST_EJECTION = 300.0
FEWEST_HOSTS, FEWEST_CALLS = 5, 100  # with enough calls, for the success rates to be compared; of one host
DEVIATIONS = 1.9  # standard deviations below the mean
OVERPROVISION = 1.4
PANIC = 0.5  # below this share of hosts all of a level are used


@attrs.define(eq=False)
class _Host:
    number: int
    level: int
    failed_in_row: int = 0
    calls: int = 0
    good: int = 0
    ejections: int = 0
    until: float | None = None


class EnvoyHosts:
    """
    The hosts that one client may use, by Envoy's rules.

    A host is ejected after five failures in a row, or if its success rate is far below the others'. A level gets the
    share of calls that its usable hosts can take, 1.4 times over, and the next level gets the rest.

    Source: Envoy's documentation of ejection and of priority levels, with the defaults there.

    Args:
        place: The client's place.

        max_ejected: Maximum share of the hosts that are ejected; one may be ejected in any case.
    """

    def __init__(self, place: ClientPlace, max_ejected: float) -> None:
        self._most = max(1, int(max_ejected * place.server.replicas))
        self._random = place.random
        self._hosts = [_Host(number, _level(place, number)) for number in range(place.server.replicas)]
        levels = sorted({host.level for host in self._hosts})
        self._levels = [[host for host in self._hosts if host.level == level] for level in levels]
        self._next = 0.0

    def usable(self, now: float) -> Sequence[int]:
        """Return the numbers of the hosts of one level, drawn by the levels' loads."""
        self._look(now)
        of_level = self._level()
        well = [host.number for host in of_level if host.until is None]
        panics = len(well) < PANIC * len(of_level) and sum(self._health()) < 1.0
        return [host.number for host in of_level] if panics or not well else well

    def ended(self, number: int, now: float, *, good: bool) -> None:
        """Count the end of a call."""
        host = self._hosts[number]
        host.calls += 1
        host.good += good
        host.failed_in_row = 0 if good else host.failed_in_row + 1
        if host.failed_in_row >= CONSECUTIVE and host.until is None:
            self._eject(host, now)

    def _level(self) -> Sequence[_Host]:
        """Return the hosts of a random level, by the levels' loads."""
        healths = self._health()
        draw = self._random.random() * min(1.0, sum(healths))
        for hosts, health in zip(self._levels, healths, strict=True):
            draw -= health
            if draw < 0.0:
                return hosts
        return self._levels[0]

    def _health(self) -> list[float]:
        """Return for each level the share of all calls that its usable hosts can take."""
        shares = [sum(host.until is None for host in hosts) / len(hosts) for hosts in self._levels]
        return [min(1.0, OVERPROVISION * share) for share in shares]

    def _eject(self, host: _Host, now: float) -> None:
        if sum(each.until is not None for each in self._hosts) < self._most:
            host.ejections += 1
            host.failed_in_row = 0
            host.until = now + min(EJECTION * host.ejections, LONGEST_EJECTION)

    def _look(self, now: float) -> None:
        if now < self._next:
            return
        self._next = (now // INTERVAL + 1.0) * INTERVAL
        for host in self._hosts:
            if host.until is None:
                host.ejections = max(0, host.ejections - 1)
            elif host.until <= now:
                host.until = None
        self._compare(now)

    def _compare(self, now: float) -> None:
        """Eject hosts whose success rate is far below the mean."""
        rates = {host.number: host.good / host.calls for host in self._hosts if host.calls >= FEWEST_CALLS}
        if len(rates) >= FEWEST_HOSTS:
            least = statistics.mean(rates.values()) - DEVIATIONS * statistics.pstdev(rates.values())
            for number, rate in rates.items():
                if rate < least and self._hosts[number].until is None:
                    self._eject(self._hosts[number], now)
        for host in self._hosts:
            host.calls = host.good = 0


def _level(place: ClientPlace, replica: int) -> int:
    """Return the level of a replica: the server's, or 0 in the client's zone and 1 elsewhere."""
    given = place.server.level_of(replica)
    if given is not None:
        return given
    return 0 if place.zone is None else int(place.server.zone_of(replica) != place.zone)
