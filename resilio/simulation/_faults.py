"""What goes wrong, when and for how long: the faults that a scenario has on its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs

from resilio._options.fields import option
from resilio._options.validators import choice, fraction, number, positive_int, refuse, seconds

__all__ = ["Cold", "Delay", "Errors", "Fault", "Outage", "Shrink", "Slow", "Surge"]

_MODES = ("refuse", "error", "hang", "buffer")


def _replicas(name: str, value: object) -> tuple[int, ...] | None:
    """None is all; an index, or several."""
    if value is None:
        return None
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not values:
        refuse(name, value, "the number of a replica, from 0, a list of such, or None for all")
    return tuple(positive_int(name, each, zero_ok=True) for each in values)


@attrs.frozen(kw_only=True)
class Fault:
    """
    Something that begins at a time and ends after a while; the base of the others.

    Args:
        at: When it begins, in seconds since the run began, >= 0.

        lasts: For how long, in seconds, > 0.
    """

    at: float = option(seconds, zero_ok=True)
    lasts: float = option(seconds)

    @property
    def end(self) -> float:
        """When it ends."""
        return self.at + self.lasts


@attrs.frozen(kw_only=True)
class _AtServers(Fault):
    replicas: int | Sequence[int] | None = option(_replicas, default=None)

    def hits(self, replica: int) -> bool:
        """Tell whether it concerns a replica, by its number."""
        return self.replicas is None or replica in cast("tuple[int, ...]", self.replicas)


@attrs.frozen(kw_only=True)
class Slow(_AtServers):
    """
    Work takes `factor` times as long, if it is begun within that time.

    Args:
        factor: > 0; 10 leaves a tenth of the capacity.

        replicas: Which replicas, from 0; None for all.
    """

    factor: float = option(number, low=0.0, high=1e6, open_low=True)


@attrs.frozen(kw_only=True)
class Cold(_AtServers):
    """
    Work goes at `start` times the usual speed at first, and ever faster until it ends: caches that have to fill.

    Args:
        start: The share of the usual speed at the beginning, in (0, 1].

        replicas: Which replicas, from 0; None for all.
    """

    start: float = option(fraction, default=0.1)


@attrs.frozen(kw_only=True)
class Shrink(_AtServers):
    """
    Only a share of the workers take on work; those that are busy finish what they do.

    Args:
        share: Of the workers, in (0, 1]; at least one is left.

        replicas: Which replicas, from 0; None for all.
    """

    share: float = option(fraction)


@attrs.frozen(kw_only=True)
class Outage(_AtServers):
    """
    Nothing is served.

    Args:
        mode: What callers see: "refuse" (no connection: `ServerDown`), "error" (`ServerError`), "hang" (no answer,
            ever), or "buffer" (requests are held up on the way, and delivered all at once when it ends).

        latency: How long it takes until a caller sees a refusal or an error, seconds, >= 0.

        replicas: Which replicas, from 0; None for all.
    """

    mode: str = option(choice, default="refuse", options=_MODES)
    latency: float = option(seconds, zero_ok=True, default=0.0)


@attrs.frozen(kw_only=True)
class Errors(_AtServers):
    """
    A share of the requests gets an error (`ServerError`), at the price of the usual work.

    Args:
        share: Of the requests, in (0, 1].

        replicas: Which replicas, from 0; None for all.
    """

    share: float = option(fraction)


@attrs.frozen(kw_only=True)
class Delay(Fault):
    """
    The network is slow.

    Args:
        seconds: Added to each way, > 0.
    """

    seconds: float = option(seconds)


@attrs.frozen(kw_only=True)
class Surge(Fault):
    """
    More tasks arrive, or fewer.

    Args:
        factor: By which the rate is multiplied, > 0.

        load: The name of one load; None for all.
    """

    factor: float = option(number, low=0.0, high=1e6, open_low=True)
    load: Any = None

    def __attrs_post_init__(self) -> None:
        if self.load is not None and not isinstance(self.load, str):
            refuse("load", self.load, "the name of a load, or None for all", TypeError)
