"""Trust in request headers: of all peers, of none, of those in known networks, or by a user's function."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from resilio._options.validators import function, reject
from resilio.integrations._shared.safely import safely

__all__ = ["trust_of"]

MOST_PEERS = 4096
"""Size of the cache of addresses, which is cleared when it is full."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trust_of(name: str, value: object, address_of: Callable[[Any], str | None]) -> Callable[[Any], bool]:
    """
    Return a function that returns True for a request whose headers are trusted.

    Args:
        name: The parameter, for the message.

        value: True or False; addresses and networks as text, one or several ("10.0.0.0/8"); or a function of the
            request. If the function raises, the request is not trusted.

        address_of: Function that returns the peer's address of a request; None if it has none, as on a Unix socket.

    Raises:
        TypeError: Anything else.

        ValueError: Text that is not a network.
    """
    if isinstance(value, bool):
        return _everybody if value else _nobody
    if callable(value):
        return safely(
            name, function(name, value, takes=("request",)), default=False
        )  # a coroutine would be as good as True
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable):
        reject(name, value, "True, False, networks like '10.0.0.0/8', or a function of the request", TypeError)
    return _Networks([_network(name, one) for one in value], address_of)


def _everybody(request: Any) -> bool:  # noqa: ARG001
    return True


def _nobody(request: Any) -> bool:  # noqa: ARG001
    return False


def _network(name: str, value: object) -> _Network:
    if not isinstance(value, str):
        reject(name, value, "an address or a network as text, like '10.0.0.0/8'", TypeError)
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        reject(name, value, "an address or a network, like '10.0.0.0/8'")


class _Networks:
    """Trusts requests of peers inside one of the networks."""

    __slots__ = ("_address_of", "_known", "_networks")

    def __init__(self, networks: list[_Network], address_of: Callable[[Any], str | None]) -> None:
        self._networks = networks
        self._address_of = address_of
        self._known: dict[str, bool] = {}

    def __call__(self, request: Any) -> bool:
        peer = self._address_of(request)
        if peer is None:
            return False
        known = self._known.get(peer)
        return self._look_up(peer) if known is None else known

    def _look_up(self, peer: str) -> bool:
        if len(self._known) >= MOST_PEERS:
            self._known.clear()
        self._known[peer] = answer = self._is_inside(peer)
        return answer

    def _is_inside(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a name, as some test clients have
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
