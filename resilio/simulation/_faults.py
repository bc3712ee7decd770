"""Faults on a scenario's schedule: their effect, start and duration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs

from resilio._options.fields import option
from resilio._options.validators import choice, fraction, number, reject, seconds
from resilio.simulation._checks import names, numbers_of

__all__ = ["AtServers", "Cold", "Delay", "Errors", "Fault", "Kill", "Outage", "Shrink", "Slow", "Surge"]

_MODES = ("refuse", "error", "hang", "buffer")


@attrs.frozen(kw_only=True)
class Fault:
    """
    Base of all faults: it begins at a time and ends after a while.

    Args:
        at: Start, in seconds since the run began, >= 0.

        lasts: Duration in seconds, > 0.
    """

    at: float = option(seconds, zero_ok=True)
    lasts: float = option(seconds)

    @property
    def end(self) -> float:
        """End of the fault, in seconds since the run began."""
        return self.at + self.lasts


@attrs.frozen(kw_only=True)
class AtServers(Fault):
    """
    Base of the faults of servers.

    Args:
        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all. With both, replicas in these zones are affected.
    """

    replicas: int | Sequence[int] | None = option(numbers_of("replica"), default=None)
    zones: str | Sequence[str] | None = option(names, default=None)

    def hits(self, replica: int, zone: str | None) -> bool:
        """Return True if the fault affects the replica with this index, in this zone."""
        of_zone = self.zones is None or (zone is not None and zone in self.zones)
        return of_zone and (self.replicas is None or replica in cast("tuple[int, ...]", self.replicas))


@attrs.frozen(kw_only=True)
class Slow(AtServers):
    """
    Work begun during the fault takes `factor` times as long.

    Args:
        factor: > 0; 10 leaves a tenth of the capacity.

        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all.
    """

    factor: float = option(number, low=0.0, high=1e6, open_low=True)


@attrs.frozen(kw_only=True)
class Cold(AtServers):
    """
    Speed drops to `start` times the usual one and rises steadily until the end, as when caches fill.

    Args:
        start: The share of the usual speed at the beginning, in (0, 1].

        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all.
    """

    start: float = option(fraction, default=0.1)


@attrs.frozen(kw_only=True)
class Shrink(AtServers):
    """
    Only a share of the workers take on work; busy ones finish their request.

    Args:
        share: The share of the workers, in (0, 1]; at least one is left.

        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all.
    """

    share: float = option(fraction)


@attrs.frozen(kw_only=True)
class Outage(AtServers):
    """
    Nothing is served.

    Args:
        mode: Result for callers: "refuse" (no connection: `ServerDown`), "error" (`ServerError`), "hang" (no answer,
            ever), or "buffer" (requests are held up on the way, and delivered all at once when it ends).

        latency: Seconds until a caller gets a rejection or an error, >= 0.

        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all.
    """

    mode: str = option(choice, default="refuse", options=_MODES)
    latency: float = option(seconds, zero_ok=True, default=0.0)


@attrs.frozen(kw_only=True)
class Errors(AtServers):
    """
    A share of the requests gets an error (`ServerError`), after the usual work.

    Args:
        share: The share of the requests, in (0, 1].

        replicas: Indexes of the affected replicas, from 0; None for all.

        zones: Names of the affected zones; None for all.
    """

    share: float = option(fraction)


@attrs.frozen(kw_only=True)
class Delay(Fault):
    """
    The network is slow.

    Args:
        seconds: Added to the latency of each direction, > 0.
    """

    seconds: float = option(seconds)


@attrs.frozen(kw_only=True)
class Kill(Fault):
    """
    Client processes die with what they hold, and start anew at the end of the fault, with new policies.

    Their calls end as failed with `ClientKilled`. Meanwhile other processes of the host take their tasks, if one lives,
    else those of other hosts.

    Args:
        clients: Indexes of the clients, from 0; those of one host follow each other. None for all.
    """

    clients: int | Sequence[int] | None = option(numbers_of("client"), default=None)


@attrs.frozen(kw_only=True)
class Surge(Fault):
    """
    More tasks arrive, or fewer.

    Args:
        factor: Factor on the rate, > 0.

        load: The name of one load; None for all.
    """

    factor: float = option(number, low=0.0, high=1e6, open_low=True)
    load: Any = None

    def __attrs_post_init__(self) -> None:
        if self.load is not None and not isinstance(self.load, str):
            reject("load", self.load, "the name of a load, or None for all", TypeError)
