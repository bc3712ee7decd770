"""Whose headers count: everybody's, nobody's, those of peers in known networks, or of whom a function says so."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from resilio._options.validators import function, refuse
from resilio.integrations._shared.safely import safely

__all__ = ["trust_of"]

MOST_PEERS = 4096
"""Addresses whose answer is remembered; then all are forgotten at once."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trust_of(name: str, value: object, address_of: Callable[[Any], str | None]) -> Callable[[Any], bool]:
    """
    Return a function that tells of a request whether its sender may say what happens here.

    Args:
        name: The parameter, for the message.

        value: True or False; addresses and networks as text, one or several ("10.0.0.0/8"); or a function of the
            request, which is not trusted if that raises.

        address_of: Gives the peer's address of a request, None if it has none, as on a Unix socket.

    Raises:
        TypeError: Anything else.

        ValueError: Text that is no network.
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
        refuse(name, value, "True, False, networks like '10.0.0.0/8', or a function of the request", TypeError)
    return _Networks([_network(name, one) for one in value], address_of)


def _everybody(request: Any) -> bool:  # noqa: ARG001
    return True


def _nobody(request: Any) -> bool:  # noqa: ARG001
    return False


def _network(name: str, value: object) -> _Network:
    if not isinstance(value, str):
        refuse(name, value, "an address or a network as text, like '10.0.0.0/8'", TypeError)
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        refuse(name, value, "an address or a network, like '10.0.0.0/8'")


class _Networks:
    """Who sits in one of the networks is trusted."""

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
        except ValueError:  # a name, as some test clients give
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
