"""
Endpoints from names: what a look-up answers is added to the pool, and what it leaves out stays while it is well.

Why: a resolver answers with some of the addresses, with none, or not at all, while the servers are well. So a failed or
empty answer changes nothing, and an address that vanished is removed once it fails, or after `keep` seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from resilio._events import log
from resilio._native import clock
from resilio._options.validators import positive_int, reject, seconds
from resilio._policies.pool.endpoint import Endpoint, endpoints_of
from resilio._policies.pool.rounds import Rounds, jittered
from resilio._policies.pool.subset import MOST_PLACES, subset

if TYPE_CHECKING:
    from resilio._policy.types import Time

__all__ = ["Dns", "Following", "Lookup", "dns"]

EVERY, KEEP = 30.0, 600.0
FIRST_ANSWER = 2.0
"""Seconds for which a new pool waits for its first endpoints."""
SOONEST = 0.5
"""Seconds after the first failed look-up; each further one doubles them, up to `every`."""

Lookup = Callable[[], Iterable[Endpoint]]


class _Pool(Protocol):
    """A pool, as the look-up of its endpoints needs it."""

    _unused_found: int
    """The endpoints of the latest answer that are left to other processes."""

    @property
    def name(self) -> str | None:
        """Its name."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints now."""
        raise NotImplementedError

    def add(self, endpoint: Endpoint, /) -> None:
        """Add an endpoint."""

    def remove(self, name: str, /) -> None:
        """Remove an endpoint."""

    def weigh(self, name: str, weight: float, /) -> None:
        """Change the weight of an endpoint."""

    def _is_well(self, name: str, /) -> bool: ...


@attrs.frozen(kw_only=True)
class Dns:
    """
    A look-up of a host's addresses, for the option `resolve` of a pool; see :func:`dns`, which makes one.

    Attributes:
        host: The host's name.

        port: The port of each endpoint.

        every: Seconds between two look-ups.

        keep: Seconds for which an address stays that is no longer among the answers.
    """

    host: str
    port: int
    every: float
    keep: float

    def __call__(self) -> tuple[Endpoint, ...]:
        """
        Return an endpoint for each address: its target is "10.0.0.7:443", its label `host` the name.

        Of a host with addresses of both families it takes those of the family that the system prefers: the two are
        mostly one server.

        Raises:
            OSError: There is no answer.
        """
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(address[0]) for family, *_, address in found if family == found[0][0])
        return tuple(Endpoint(self._target(one), host=self.host) for one in addresses)

    def _target(self, address: str) -> str:
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"


def dns(host: str, port: int, *, every: Time = EVERY, keep: Time = KEEP) -> Dns:
    """
    Return what a pool needs to follow the addresses of a host: `pool("nodes", resolve=dns("search.internal", 443))`.

    A thread looks them up; new ones are added and warm up. An answer that fails or is empty changes nothing.

    Args:
        host: The name to look up.

        port: The port of each endpoint, 1 to 65535.

        every: Seconds between two look-ups (`getaddrinfo` returns no time to live).

        keep: Seconds for which an address stays that is no longer among the answers, while calls to it succeed.

    Raises:
        TypeError: A value of a wrong type.

        ValueError: A value out of range.
    """
    if not isinstance(host, str):
        reject("host", host, "the name of a host, like 'search.internal'", TypeError)
    if not host or host != host.strip() or "/" in host or not host.isprintable():
        reject("host", host, "the name of a host, like 'search.internal', without scheme and port")
    port = positive_int("port", port, high=65535)
    return Dns(host=host, port=port, every=seconds("every", every), keep=seconds("keep", keep, zero_ok=True))


class Following:
    """The part of a pool's endpoints that follows the answers of a look-up."""

    def __init__(self, pool: _Pool, lookup: Lookup) -> None:
        """Prepare to follow; `begin` looks up for the first time."""
        self._pool = pool
        self._lookup = lookup
        self._every: float = getattr(lookup, "every", EVERY)
        self._keep_ns = round(getattr(lookup, "keep", KEEP) * 1e9)
        self._mine: dict[str, Endpoint] = {}
        self._absent: dict[str, int] = {}
        self._failures = 0
        self.rounds = Rounds(self.round, f"resilio names {pool.name}")

    def begin(self) -> None:
        """Look up, and go on in a thread; returns with the first answer, or after two seconds without one."""
        if clock.source() == "virtual":
            self.round()
        self.rounds.start()
        if clock.source() != "virtual":
            self.rounds.wait_first(FIRST_ANSWER)

    def refresh(self) -> None:
        """Look up once, in this thread."""
        self.round()

    def round(self) -> float:
        """Look up once, and return the seconds until the next time."""
        try:
            answer = endpoints_of("the answer of resolve", tuple(self._lookup()))
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            return self._failed(error)
        if not answer:
            return self._failed(None)
        if self._failures:
            self._say(log.INFO, "%s: names are resolved again, to %s endpoints", len(answer))
        self._failures = 0
        by_hand = sum(one.name not in self._mine for one in self._pool.endpoints)
        used = subset(answer, MOST_PLACES - by_hand)
        self._pool._unused_found = len(answer) - len(used)
        self._follow({one.name: one for one in used}, clock.now_ns())
        return jittered(self._every)

    def _follow(self, answer: dict[str, Endpoint], now_ns: int) -> None:
        present = {one.name for one in self._pool.endpoints}
        for name, endpoint in answer.items():  # before any is removed: a pool is never empty between two answers
            if name not in self._mine and name not in present:
                self._make_room(answer)
                self._pool.add(endpoint)
                self._mine[name] = endpoint
            elif name in self._mine:
                self._kept(endpoint, here=name in present)
        for name in [name for name in self._mine if name not in answer]:
            since = self._absent.setdefault(name, now_ns)
            if now_ns - since >= self._keep_ns or not self._pool._is_well(name):
                self._drop(name)

    def _make_room(self, answer: dict[str, Endpoint]) -> None:
        """Remove an endpoint that the answer leaves out, if all places are taken."""
        if len(self._pool.endpoints) >= MOST_PLACES:
            for name in [name for name in self._mine if name not in answer][:1]:
                self._drop(name)

    def _kept(self, endpoint: Endpoint, *, here: bool) -> None:
        self._absent.pop(endpoint.name, None)
        if here and endpoint.weight != self._mine[endpoint.name].weight:
            self._pool.weigh(endpoint.name, endpoint.weight)
        self._mine[endpoint.name] = endpoint

    def _drop(self, name: str) -> None:
        present = [one.name for one in self._pool.endpoints]
        if present == [name]:  # all others were removed by hand: better one that may be gone than none
            return
        del self._mine[name]
        self._absent.pop(name, None)
        if name in present:
            self._pool.remove(name)

    def _failed(self, error: Exception | None) -> float:
        if not self._failures:
            why = "no answer" if error is None else f"{type(error).__name__}: {error}"
            self._say(log.WARNING, "%s: names cannot be resolved (%s); its endpoints stay", why)
        self._failures += 1
        return jittered(min(self._every, SOONEST * 2 ** min(self._failures - 1, 16)))

    def _say(self, level: int, text: str, *args: Any) -> None:
        name = self._pool.name
        log.say(level, text, log.describe("pool", name), *args, fields={"policy": "pool", "policy_name": name})
