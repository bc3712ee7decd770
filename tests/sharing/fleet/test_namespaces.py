"""A fleet of hosts with a network each: links that are cut, slow and lossy between them and a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.namespaces import Network
from servers.processes import installed
from servers.valkey import Valkey
from workers_of_host import Asked, started, until

pytestmark = pytest.mark.untraced

HOSTS, EACH, BURST = 3, 2, 240

BEFORE = """
import time, valkey
from resilio import CircuitOpenError, circuit_breaker, rate_limit
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(host={address!r}, port={port}), tick=0.1, timeout={timeout})
limit = rate_limit("1/h", burst={burst}, name="orders", scope=everywhere)
steady = rate_limit("100/s", name="steady", scope=everywhere)
breaker = circuit_breaker("payments", scope=everywhere, open_for=3600, max_open_for=3600)

def tries(of, n):
    # Try for a while, so that a lease comes in between.
    found = 0
    for _ in range(n):
        found += bool(of.try_acquire())
        time.sleep(0.001)
    return found

def called(is_well):
    permit = breaker.try_acquire()
    if not permit:
        return permit.error.scope
    permit.success() if is_well else permit.failure(OSError())
    return "called"

def degraded():
    tries(steady, 1), breaker.state
    return [one.snapshot().sharing.degraded for one in (steady, breaker)]
"""


@pytest.fixture
def network() -> Iterator[Network]:
    pytest.importorskip("valkey")
    with Network(HOSTS) as made:
        yield made


@pytest.fixture
def server(network: Network) -> Iterator[Valkey]:
    server = installed(Valkey, options=["--bind", "0.0.0.0", "--protected-mode", "no"])
    with network.store.entered():
        server.__enter__()
    yield server
    server.close()


def hosts_of(
    stack: ExitStack, network: Network, server: Valkey, folder: Path, timeout: float = 1.0
) -> list[list[Asked]]:
    """Return the processes of each host."""
    found = []
    for n, (host, link) in enumerate(zip(network.hosts, network.links, strict=True)):
        place = folder / f"host{n}"
        place.mkdir(mode=0o700)
        before = BEFORE.format(address=link.address, port=server.port, burst=BURST, timeout=timeout)
        with host.entered():
            found.append(
                stack.enter_context(started(EACH, before, RESILIO_SHARED_DIR=str(place), RESILIO_HOST_NAME=f"shop{n}"))
            )
    return found


def are_shared(workers: list[Asked]) -> bool:
    """Do all have the fleet's state?"""
    return all(worker.ask("degraded()") == [None, None] for worker in workers)


def admitted(workers: list[Asked]) -> int:
    """Let all try at once for a while; return how many calls have passed."""
    for worker in workers:
        worker.begin("tries(limit, 200)")
    return sum(worker.answer() for worker in workers)


@pytest.mark.real(4.5)
def test_a_cut_link_takes_one_host_out_of_the_fleet(network: Network, server: Valkey, tmp_path: Path) -> None:
    """Row "this process partitioned" of the failure table: its lease is taken for spent, and no call waits."""
    with ExitStack() as stack:
        hosts = hosts_of(stack, network, server, tmp_path)
        everyone = [worker for host in hosts for worker in host]
        cut, *others = hosts
        until(lambda: are_shared(everyone), "the store answers all hosts")
        passed = sum(admitted(everyone) for _ in range(2))
        network.links[0].cut()
        until(lambda: all(worker.ask("degraded()") == ["store_down"] * 2 for worker in cut), "a host is cut off")
        assert are_shared([worker for host in others for worker in host])
        until(lambda: cut[0].ask("tries(steady, 10)"), "the host that is cut off has its share")
        passed += sum(admitted(everyone) for _ in range(3))
        network.links[0].mend()
        until(lambda: are_shared(everyone), "the host is back")
        passed += sum(admitted(everyone) for _ in range(3))
        assert 0 < passed <= BURST * 1.25 + len(everyone)


@pytest.mark.real(2.5)
def test_an_outage_is_known_on_all_hosts_that_have_a_link(network: Network, server: Valkey, tmp_path: Path) -> None:
    """What two hosts see opens on the third; not while its link is cut, and at once when that is mended."""
    with ExitStack() as stack:
        one, other, third = hosts_of(stack, network, server, tmp_path)
        everyone = [*one, *other, *third]
        assert [worker.ask("called(True)") for worker in everyone] == ["called"] * len(everyone)
        until(lambda: are_shared(everyone), "the store answers all hosts")
        network.links[2].cut()
        until(lambda: third[0].ask("degraded()") == ["store_down"] * 2, "the third host is cut off")

        def is_open() -> bool:
            for worker in (one[0], other[0]):
                worker.ask("called(False)")
            return {worker.ask("breaker.snapshot().sharing.state") for worker in (one[1], other[1])} == {"open"}

        until(is_open, "two hosts have opened for each other")
        assert {worker.ask("called(True)") for worker in third} == {"called"}
        network.links[2].mend()
        until(lambda: third[1].ask("breaker.state") == "open", "the third host adopts it")
        assert third[1].ask("called(True)") == "fleet"


@pytest.mark.real(3.5)
def test_slow_and_lossy_links_keep_the_bound(network: Network, server: Valkey, tmp_path: Path) -> None:
    """Answers that are late, lost and sent again by TCP: no token is given out twice."""
    with ExitStack() as stack:
        everyone = [worker for host in hosts_of(stack, network, server, tmp_path, 0.2) for worker in host]
        until(lambda: are_shared(everyone), "the store answers all hosts")
        for link in network.links:
            link.spoil()
        passed = 0

        def is_spoiled() -> bool:
            nonlocal passed
            passed += admitted(everyone)
            return all(link.spoiled() > 0 for link in network.links)

        until(is_spoiled, "answers are lost, or late")
        passed += sum(admitted(everyone) for _ in range(3))
        assert 0 < passed <= BURST * 1.25 + len(everyone)
