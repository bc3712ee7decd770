"""Keyed circuit breakers of a fleet: a key that is down is so for all, and keys without calls cost nothing."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from typing import Any

import anyio
import pytest
from breakers_of_fleet import Wire

from resilio import circuit_breaker, keyed, pipeline
from resilio._composition.keyed import Keyed, KeyedConfig
from resilio.errors import CircuitOpenError
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


class Process:
    """A process with a fleet, and a breaker for each of the hosts that it calls."""

    def __init__(self, store: MemoryEngine, **options: Any) -> None:
        self.wire = Wire(store)
        self.fleet = Fleet("shop", self.wire, is_stepped=True)
        self.hosts: Any = Keyed(KeyedConfig(factory=circuit_breaker, key="host", scope=self.fleet, **options), "hosts")

    def call(self, host: Any, sent: list[Any], *, fails: bool) -> str:
        """Call, and return "ok", "failed" or the reason of the rejection."""
        try:
            self.hosts[host].call(dependency, host, sent, fails)
        except CircuitOpenError as error:
            return f"{error.scope}: {error.reason}"
        except OSError:
            return "failed"
        return "ok"


def dependency(host: Any, sent: list[Any], fails: bool) -> None:
    sent.append(host)
    if fails:
        raise OSError(host)


class Processes:
    """Processes with one store, the hosts that are down, and the calls that reach any."""

    def __init__(self, vt: VirtualTime, n: int, **options: Any) -> None:
        self.vt = vt
        self.store = MemoryEngine()
        self.all = [Process(self.store, **options) for _ in range(n)]
        self.down: set[Any] = set()
        self.sent: list[Any] = []

    def call(self, *hosts: Any) -> list[str]:
        """Let each process call each of these hosts once."""
        return [one.call(host, self.sent, fails=host in self.down) for one in self.all for host in hosts]

    def play(self, seconds: float, *hosts: Any, each: float = 0.1) -> list[str]:
        """Let each process call each host once in a while; return how the last calls ended."""
        found: list[str] = []
        for _ in range(max(1, round(seconds / each))):
            found = self.call(*hosts)
            for _ in range(2):
                self.vt.advance(each / 2)
                for one in self.all:
                    one.fleet.step()
        return found

    def opened(self, host: Any) -> Processes:
        """Bring a host down, and let all find out."""
        self.down.add(host)
        for _ in range(40):
            if set(self.play(0.1, host)) <= {"fleet: open", "fleet: probing"}:
                return self
        raise AssertionError(f"{host} is not open for all")

    def exchanged(self, seconds: float, *hosts: Any) -> int:
        """Return how many keys are asked for in this time."""
        before: int = self.store.exchanged
        self.play(seconds, *hosts)
        return self.store.exchanged - before


@pytest.fixture
def vt() -> Any:
    with virtual_time() as vt:
        yield vt


# ---- what all have seen ----------------------------------------------------------------------------------------------


def test_a_host_that_is_down_is_so_for_all_and_no_other_is(vt: VirtualTime) -> None:
    """Twenty processes need ten failures of a host each; together they need ten, and the other host goes on."""
    them = Processes(vt, 20)
    them.play(1.0, "a", "b")
    them.down.add("a")
    them.sent.clear()
    them.play(0.5, "a", "b")
    assert set(them.call("a")) <= {"fleet: open", "fleet: probing"}
    assert set(them.call("b")) == {"ok"}
    assert them.sent.count("a") <= 3 * 20
    assert them.all[0].hosts.snapshot().states in ({"open": 1, "closed": 1}, {"half_open": 1, "closed": 1})


def test_one_call_of_all_probes_each_host(vt: VirtualTime) -> None:
    """Ten processes would probe each host that is down ten times; one lease for each key is the store's to give."""
    them = Processes(vt, 10).opened("a").opened("b")
    them.sent.clear()
    them.play(20.0, "a", "b")
    assert 2 <= them.sent.count("a") <= 20
    assert 2 <= them.sent.count("b") <= 20
    them.down.clear()
    them.play(8.0, "a", "b")
    assert set(them.call("a", "b")) == {"ok"}


def test_a_probe_of_a_killed_process_is_another_s(vt: VirtualTime) -> None:
    """Processes die with whatever lease they have: it ends, and the host is found to be up."""
    them = Processes(vt, 8).opened("a")
    them.down.clear()
    del them.all[:4]
    gc.collect()
    them.play(12.0, "a")
    assert set(them.call("a")) == {"ok"}


@pytest.mark.parametrize("seed", range(3))
def test_random_calls_with_losses(vt: VirtualTime, seed: int) -> None:
    """A third of the exchanges is lost: hosts that are down are open for all, those that are up for none."""
    draw, them = random.Random(seed), Processes(vt, 8)
    them.down.update("ab")
    for _ in range(300):
        for one in them.all:
            one.wire.loses = draw.choice(["", "", "", "", "asks", "answers"])
        for one in draw.sample(them.all, 4):
            host = draw.choice("abcd")
            how = one.call(host, them.sent, fails=host in them.down)
            assert how == "ok" or host in them.down
        vt.advance(0.05)
        for one in them.all:
            one.fleet.step()
    assert all(them.sent.count(host) <= 100 for host in "ab")
    assert all(them.sent.count(host) >= 200 for host in "cd")


def test_the_breaker_here_stays_in_front(vt: VirtualTime) -> None:
    """E1, E2: one process has its own trouble with a host. It opens for itself, and for no other."""
    them = Processes(vt, 10)
    (broken, *others) = them.all
    for _ in range(60):
        broken.call("a", them.sent, fails=True)
        assert all(one.call("a", them.sent, fails=False) == "ok" for one in others)
        vt.advance(0.05)
        for one in them.all:
            one.fleet.step()
    assert broken.hosts["a"].state == "open"


# ---- keys at rest ----------------------------------------------------------------------------------------------------


def test_keys_without_calls_are_not_asked_for(vt: VirtualTime) -> None:
    """A thousand hosts that have been called once are no exchanges, and no trips."""
    them = Processes(vt, 1)
    them.call(*range(1000))
    them.play(10.0)
    trips = them.all[0].fleet.courier.trips
    assert them.exchanged(20.0) == 0
    assert them.all[0].fleet.courier.trips == trips
    assert 0 < them.exchanged(5.0, 7) <= 5 * 5


def test_a_trip_has_a_bound(vt: VirtualTime) -> None:
    """All of 1,200 hosts are called at once: they go in trips of 500 keys, a tick's all within the tick."""
    them = Processes(vt, 1)
    largest, exchange = 0, them.all[0].wire.exchange

    def watched(asks: Any, timeout: float) -> Any:
        nonlocal largest
        largest = max(largest, len(asks))
        return exchange(asks, timeout)

    them.all[0].wire.exchange = watched  # type: ignore[method-assign]
    them.play(1.0, *range(1200))
    assert largest == 500
    assert them.store.exchanged >= 1200


def test_the_first_call_after_a_rest_brings_the_fleet_s_state(vt: VirtualTime) -> None:
    """While a process did not call, others have found the host to be down: its first call passes, and no second."""
    them = Processes(vt, 6)
    (late, *_) = them.all
    them.play(1.0, "a")
    them.play(10.0)
    them.all.remove(late)
    them.opened("a")
    them.all.append(late)
    assert late.call("a", them.sent, fails=True) == "failed"
    vt.advance(0.05)
    late.fleet.step()
    assert late.call("a", them.sent, fails=True) in ("fleet: open", "fleet: probing")


def test_failures_after_a_rest_count(vt: VirtualTime) -> None:
    """A call that was under way when its key went to rest, and those that wake it, are evidence as all others."""
    them = Processes(vt, 10)
    them.play(1.0, "a")
    them.play(10.0)
    them.down.add("a")
    them.sent.clear()
    them.play(1.0, "a")
    assert set(them.call("a")) <= {"fleet: open", "fleet: probing"}
    assert len(them.sent) <= 3 * 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_outlasts_the_rest_is_evidence(backend: str) -> None:
    """Its key has gone to rest meanwhile: its failure wakes it, and opens the host for all with those of others."""
    ended: list[str] = []

    async def slow(host: str) -> None:
        await anyio.sleep(5.0)
        raise OSError(host)

    async def stepping(them: Processes) -> None:
        while True:
            for one in them.all:
                one.fleet.step()
            await anyio.sleep(0.05)

    async def call(one: Process) -> None:
        with pytest.raises(OSError, match="a"):
            await one.hosts["a"].acall(slow, "a")
        ended.append("failed")

    async def main(them: Processes) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stepping, them)
            async with anyio.create_task_group() as calls:
                for one in them.all:
                    for _ in range(3):
                        calls.start_soon(call, one)
            await anyio.sleep(1.0)
            ended.extend(them.call("a"))
            group.cancel_scope.cancel()

    with virtual_time() as vt:
        them = Processes(vt, 6)
        vt.run(lambda: main(them), backend=backend)
        assert ended.count("failed") == 18
        assert sum(how.startswith("fleet: ") for how in ended[18:]) >= 5  # one may probe


def test_a_forgotten_key_is_forgotten_by_the_courier(vt: VirtualTime) -> None:
    """The tie of a key does not keep its policy; one that is as new at rest makes room for another."""
    them = Processes(vt, 1, max_keys=2)
    hosts = them.all[0].hosts
    them.play(1.0, "a", "b")
    policy = weakref.ref(hosts["a"])
    them.play(100.0)
    them.play(1.0, "c", "d")
    gc.collect()
    assert policy() is None
    assert set(hosts) == {"c", "d"}
    hosts.reset()
    gc.collect()
    them.play(1.0)
    assert them.exchanged(10.0) == 0


def test_a_key_that_is_open_keeps_its_place(vt: VirtualTime) -> None:
    """It is not as new: others share a policy until its open time is over."""
    them = Processes(vt, 3, max_keys=1).opened("a")
    them.call("b")
    assert "a" in them.all[0].hosts


# ---- without a store, and without a fleet ----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["local", "open", "closed"])
def test_the_store_is_away(vt: VirtualTime, rule: Any) -> None:
    """Each process is alone, whatever `on_store_down` names: its own breaker needs ten failures; then all is back."""
    them = Processes(vt, 4)
    for one in them.all:
        one.fleet.on_store_down = rule
    them.play(2.0, "a")
    for one in them.all:
        one.wire.loses = "asks"
    them.play(5.0, "a")
    assert them.all[0].hosts.snapshot().sharing.degraded == "store_down"
    them.down.add("a")
    them.sent.clear()
    assert set(them.play(1.3, "a")) == {"process: open"}
    assert 4 * 10 <= len(them.sent) <= 4 * 12
    for one in them.all:
        one.wire.loses = ""
    them.down.clear()
    them.play(30.0, "a")
    assert set(them.call("a")) == {"ok"}
    assert them.all[0].hosts.snapshot().sharing.degraded is None


def test_a_key_without_a_form_is_the_process_s_own(vt: VirtualTime) -> None:
    """Only keys that all processes write in the same way are shared."""
    them = Processes(vt, 3)
    key = frozenset({1})
    them.down.add(key)
    them.play(1.0, key)
    assert len(them.sent) == 3 * 10
    assert them.store.exchanged == 0


def test_a_scope_is_given_and_taken_back(vt: VirtualTime) -> None:
    """Keys that are there already move, and the courier forgets them."""
    them = Processes(vt, 6).opened("a")
    hosts = them.all[0].hosts
    hosts.reconfigure(scope="process")
    assert not them.all[0].fleet.courier.has_ties
    assert them.all[0].call("a", them.sent, fails=False) == "ok"
    hosts.reconfigure(scope=them.all[0].fleet)
    them.play(1.0, "a")
    assert hosts["a"].snapshot().sharing.state in ("open", "half_open")


def test_under_pytest_keys_are_the_process_s() -> None:
    """As any policy of a fleet, unless its owner steps it."""
    hosts = keyed(circuit_breaker, key="host", name="hosts", scope=Fleet("shop", MemoryEngine()))
    assert hosts["a"].call(int) == 0
    assert hosts.snapshot().sharing.degraded == "private"


def test_what_is_seen_of_it(vt: VirtualTime) -> None:
    """A key's state is the fleet's; limits have a regime and leases, breakers have none."""
    them = Processes(vt, 4).opened("a")
    hosts = them.all[0].hosts
    assert hosts["a"].snapshot().sharing.state in ("open", "half_open")
    sharing = hosts.snapshot().sharing
    assert (sharing.scope, sharing.peers, sharing.regime, sharing.outstanding) == ("fleet:shop", 4, None, None)
    notes = pipeline(hosts).explain().notes
    assert "all processes of the fleet by what they see together" in notes[0]
    assert notes[1] == "circuit_breaker (1): shared by 4 of fleet:shop"
