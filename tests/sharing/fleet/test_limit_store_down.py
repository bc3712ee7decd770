"""What calls of a fleet's rate limit give back that they took while the store was away."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from limits_of_fleet import Host, hosts, play

from resilio import Rate
from resilio.errors import RateLimitedError
from resilio.sharing import MemoryEngine
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

RULES = ["open", "local", "closed"]


def host_of(rule: str) -> Host:
    """Return a host with a slow limit of tokens, of which a call may need many."""
    rate = Rate("10/s", unit="tokens", burst=1000)
    return Host(MemoryEngine(), 0, (rate,), {"on_store_down": rule, "tick": 0.05})


def pass_time(vt: VirtualTime, host: Host, seconds: float) -> None:
    """Let time pass, in which the courier makes its trips."""
    for _ in range(round(seconds / 0.05)):
        vt.advance(0.05)
        host.fleet.step()


def reserved(host: Host, tokens: float, most: int = 1000) -> list[Any]:
    """Return the reservations of so many tokens each that are admitted now."""
    found: list[Any] = []
    while len(found) < most:
        try:
            found.append(host.limit.reserve(tokens=tokens).__enter__())
        except RateLimitedError:
            break
    return found


def asked(vt: VirtualTime, host: Host, tokens: float, n: int) -> list[Any]:
    """Return as many reservations as are admitted within three seconds, *n* at most."""
    found: list[Any] = []
    for _ in range(60):
        found += reserved(host, tokens, n - len(found))
        pass_time(vt, host, 0.05)
    return found


def ended(reservations: list[Any]) -> float:
    """End the calls of reservations, and return how many there were."""
    for one in reservations:
        one.__exit__(None, None, None)
    return len(reservations)


def drain(vt: VirtualTime, host: Host) -> None:
    """Use what there is up."""
    for _ in range(40):
        ended(reserved(host, 10))
        pass_time(vt, host, 0.05)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["settle", "cancel"])
def test_no_token_is_made_from_what_was_free(rule: str, how: str) -> None:
    """
    With "open" all calls pass while the store is away, and take nothing. When it was back they gave that back.

    Four calls reserved 500 tokens each, and used one: 1,996 tokens were new, of a limit of 10/s.
    """
    with virtual_time() as vt:
        host = host_of(rule)
        pass_time(vt, host, 1)
        drain(vt, host)
        host.wire.is_cut = True
        pass_time(vt, host, 5)
        held = reserved(host, 500, 4)
        assert len(held) == {"open": 4, "local": 0, "closed": 0}[rule]
        host.wire.is_cut = False
        pass_time(vt, host, 5)
        assert host.limit.snapshot().sharing.degraded is None
        drain(vt, host)
        for one in held:
            one.settle(tokens=1) if how == "settle" else one.cancel()
        assert asked(vt, host, 350, 1) == [], "in three seconds 30 tokens come in"


@pytest.mark.parametrize("rule", RULES)
def test_what_is_given_back_while_the_store_is_there_is_used_again(rule: str) -> None:
    """A store that was away once costs later calls nothing: what they give back is there for others."""
    with virtual_time() as vt:
        host = host_of(rule)
        pass_time(vt, host, 1)
        host.wire.is_cut = True
        pass_time(vt, host, 5)
        host.wire.is_cut = False
        pass_time(vt, host, 60)
        held = asked(vt, host, 400, 2)
        assert len(held) == 2
        drain(vt, host)
        for one in held:
            one.settle(tokens=1)
        ended(held)
        assert ended(asked(vt, host, 350, 3)) == 2


def test_a_correction_without_a_time_goes_to_the_lease() -> None:
    """What a provider reported later was taken for what is given back at the end of time, when no lease stands."""
    with virtual_time() as vt:
        host = host_of("local")
        pass_time(vt, host, 1)
        held = asked(vt, host, 400, 2)
        assert len(held) == 2
        drain(vt, host)
        host.limit._gate.adjust("tokens", -700.0)
        ended(held)
        assert ended(asked(vt, host, 350, 3)) == 2


@pytest.mark.parametrize("n", [1, 4, 16])
def test_at_half_of_the_load_the_first_second_without_a_store_costs_half_of_it(n: int) -> None:
    """What calls will need stays here while a host asks: it was offered with the lost ask, and lost with it."""
    with virtual_time() as vt:
        fleet = hosts(n, "400/s")
        play(vt, fleet, [200 / n] * n, 2)
        for one in fleet:
            one.wire.is_cut = True
        assert len(play(vt, fleet, [200 / n] * n, 1)) > 60, "of 200; there were 35 to 42, now 82 to 137"


def test_what_a_host_has_admitted_alone_is_no_second_burst() -> None:
    """The debt was paid with what had come in while the store's bucket was full, so it had its burst once more."""
    with virtual_time() as vt:
        (host,) = hosts(1, "400/s")
        play(vt, [host], [800], 2)
        host.wire.is_cut = True
        play(vt, [host], [800], 4)
        host.wire.is_cut = False
        assert 1000 < len(play(vt, [host], [800], 3)) <= 1200, "there were 1,550"
