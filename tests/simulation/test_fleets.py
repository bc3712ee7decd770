"""Clients that share policies through a store, and what goes wrong with it: each row of the table of failures."""

from __future__ import annotations

import textwrap
from typing import Any

import attrs
import pytest

from resilio import bulkhead, rate_limit
from resilio._native.clock import now_ns
from resilio._native.simulation import BEGIN_NS
from resilio.gates import GateCall, Outcome, custom_gate
from resilio.simulation import (
    Constant,
    Evict,
    Failover,
    Fault,
    Kill,
    Load,
    Partition,
    Poisson,
    Scenario,
    Server,
    Stack,
    Store,
    StoreClock,
    StoreDown,
    StoreSlow,
    client_fleet,
    simulate,
)
from resilio.simulation._files import load
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once

RATE, BURST, CLIENTS, SECONDS = 100, 100, 10, 20.0
CREDIT = BURST / 4  # what all may spend beyond their leases, once


class Log:
    """A gate that notes when calls pass it, in seconds of the run."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def admit(self, call: GateCall, /) -> None:
        del call
        self.times.append((now_ns() - BEGIN_NS) * 1e-9)

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        """Do nothing."""


@attrs.frozen
class Run:
    """What came of a run, with the times of admitted calls."""

    outcome: Any
    times: list[float]

    def admitted(self, begin: float, end: float) -> int:
        return sum(begin <= each < end for each in self.times)

    @property
    def overdraft(self) -> float:
        """Tokens that one ideal bucket would be short of, if it had to admit the same calls."""
        tokens, before, worst = float(BURST), 0.0, 0.0
        for now in self.times:
            tokens = min(BURST, tokens + (now - before) * RATE) - 1
            before, worst = now, min(worst, tokens)
        return -worst

    @property
    def used(self) -> float:
        """Admitted calls as a share of what the limit has for the whole run."""
        return len(self.times) / (BURST + RATE * SECONDS)


def run(
    *faults: Fault,
    store: Store = Store(),  # noqa: B008 - it does not change
    times: float = 5.0,
    clients: int = CLIENTS,
    seed: int = 1,
    **options: Any,
) -> Run:
    """Run clients that make some times as many calls as they may, by one limit of their fleet."""
    log = Log()
    scenario = Scenario(
        load=Load(arrivals=Poisson(RATE * times)),
        server=Server(workers=1000, service=Constant(0.001)),
        stacks={
            "it": Stack(
                client=lambda: [
                    rate_limit(f"{RATE}/s", burst=BURST, name="limit", scope=client_fleet(), **options),
                    custom_gate(log),
                ]
            )
        },
        store=store,
        faults=faults,
        clients=clients,
        deadline=1.0,
        duration=SECONDS,
    )
    outcome = simulate(scenario, seed=seed)["it"]
    assert outcome.p999 is None or outcome.p999 < 2 * store.timeout + 0.002  # a trip, at most, and the server's answer
    assert outcome.failed == 0 or any(isinstance(fault, (Kill, Partition)) for fault in faults)
    return Run(outcome, log.times)


# ---- nothing wrong


def test_clients_use_the_limit_and_no_more():
    """Ten clients have one limit: what one of them leaves another one gets, and all of them get no more than it has."""
    found = run()
    assert found.overdraft == 0.0
    assert found.used >= 0.975
    assert found.outcome.trips <= 4.5 * CLIENTS * SECONDS  # a tick of a quarter of a second, and not one trip a call


def test_a_client_alone_gets_the_whole_limit():
    """One client of a fleet is not held to a share of the limit; before its first answer it has a call or two."""
    found = run(clients=1, times=0.9)
    assert found.outcome.rejected <= 3


def test_the_same_seed_gives_the_same_run():
    """Phases of couriers, ids of askers and lost messages come from the seed, too."""
    first, second = (run(store=Store(loss=0.1), seed=3) for _ in range(2))
    assert (first.times, first.outcome) == (second.times, second.outcome)
    assert first.times != run(store=Store(loss=0.1), seed=4).times


# ---- the store is away


@pytest.mark.parametrize("mode", ["refuse", "hang", "buffer"])
def test_while_the_store_is_away_each_has_its_share(mode):
    """Leases are spent to their end, then each client has a tenth: the fleet has the whole limit, and no more."""
    found = run(StoreDown(at=8.0, lasts=8.0, mode=mode), on_store_down="local")
    assert 0.85 * 6 * RATE <= found.admitted(10.0, 16.0) <= 6 * RATE + CLIENTS
    assert found.overdraft <= CREDIT


def test_a_closed_limit_admits_nothing_while_the_store_is_away():
    """Where no call may be one too many, the limit is closed once what was leased has ended."""
    found = run(StoreDown(at=8.0, lasts=8.0), on_store_down="closed")
    assert found.admitted(10.0, 16.0) == 0
    assert found.overdraft == 0.0
    assert found.admitted(18.5, 20.0) >= 0.9 * 1.5 * RATE


def test_an_open_limit_admits_all_while_the_store_is_away():
    """Where no call may be rejected for the store, the limit is open once what was leased has ended."""
    found = run(StoreDown(at=8.0, lasts=8.0), on_store_down="open")
    assert found.admitted(10.0, 16.0) >= 0.97 * 6 * 5 * RATE
    assert found.admitted(18.5, 20.0) <= 1.5 * RATE + CREDIT


def test_the_rule_of_the_fleet_is_that_of_policies_without_one():
    """`on_store_down` of the fleet is what a limit does that names none."""
    found = run(StoreDown(at=8.0, lasts=8.0), store=Store(on_store_down="closed"))
    assert found.admitted(10.0, 16.0) == 0


def test_a_slow_store_is_one_that_is_away():
    """A trip is given up after the timeout; ticks grow while the store is slow, so that it has less to do."""
    found = run(StoreSlow(at=8.0, lasts=8.0, seconds=0.2), on_store_down="local")
    assert 0.85 * 6 * RATE <= found.admitted(10.0, 16.0) <= 6 * RATE + CLIENTS
    assert found.overdraft <= CREDIT
    assert found.outcome.trips < run().outcome.trips * 0.9


def test_a_store_within_the_timeout_costs_nothing():
    """Trips of 40 ms are within the timeout; calls do not wait for them, and the limit is used."""
    found = run(store=Store(rtt=Constant(0.04)))
    assert found.overdraft <= CREDIT
    assert found.used >= 0.95


def test_peers_are_given_where_the_store_was_never_reached():
    """A store that is away from the start says nothing of how many clients there are; the fleet's option does."""
    away = StoreDown(at=0.0, lasts=15.0)
    found = run(away, store=Store(peers=CLIENTS))
    assert found.admitted(2.0, 15.0) <= 13 * RATE + CLIENTS
    assert found.overdraft <= BURST  # the store begins full, as it knows nothing
    assert run(away).admitted(2.0, 15.0) > 2 * 13 * RATE  # nothing is known: each has the whole limit


# ---- partitions


def test_a_client_that_is_cut_off_has_its_share():
    """One of ten that does not reach the store has a tenth of the limit, the others all of it."""
    found = run(Partition(at=8.0, lasts=8.0, clients=3), on_store_down="local")
    assert found.admitted(10.0, 16.0) <= 6 * RATE * 1.1 + CLIENTS


def test_a_closed_limit_holds_in_a_partition():
    """What a client that is cut off holds on lease counts as spent: the others get the rest, and never too much."""
    found = run(Partition(at=8.0, lasts=8.0, clients=[0, 1, 2, 3, 4]), on_store_down="closed")
    assert found.overdraft == 0.0
    assert found.admitted(10.0, 16.0) >= 0.95 * 6 * RATE


def test_two_masters_have_two_stocks():
    """While two halves have a store each, the fleet has twice the limit, and not more, as long as it lasts."""
    found = run(Partition(at=8.0, lasts=8.0, clients=[0, 1, 2, 3, 4], two_masters=True))
    assert 1.8 * 6 * RATE <= found.admitted(10.0, 16.0) <= 2 * 6 * RATE + BURST
    assert found.admitted(18.0, 20.0) <= 2 * RATE + BURST


# ---- what is lost


def test_a_replica_that_lags_loses_what_it_has_not_seen():
    """A failover to a replica that is behind by a time forgets the grants of that time: once, at most a burst more."""
    lag = 0.5
    found = run(Failover(at=10.0, lasts=0.5, loses=lag))
    assert found.overdraft <= RATE * lag + BURST


def test_a_lost_key_is_no_second_burst():
    """A store that has lost its keys begins empty for those that have been there: what is out on lease is not known."""
    found = run(Evict(at=10.0))
    assert found.overdraft <= CREDIT
    assert found.used >= 0.9  # at most one burst is lost


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lost_messages_are_never_too_many_calls(seed):
    """A question or an answer of ten is lost; what was granted and not heard of comes back with the next question."""
    found = run(store=Store(loss=0.05, peers=CLIENTS), on_store_down="closed", seed=seed)
    assert found.overdraft <= CREDIT
    assert found.used >= 0.9


def test_what_a_dead_process_held_comes_back():
    """A client is killed with its lease, which counts as spent; the others have the whole limit a moment later."""
    found = run(Kill(at=8.0, lasts=8.0, clients=[0, 1]))
    assert found.overdraft <= CREDIT
    assert found.admitted(10.0, 16.0) >= 0.95 * 6 * RATE


# ---- clocks


def test_a_clock_that_steps_forward_brings_no_more_than_a_burst():
    """The store's clock steps forward by a minute: what comes in at once is a burst, and leases have ended there."""
    found = run(StoreClock(at=10.0, lasts=10.0, seconds=60.0))
    assert found.overdraft <= BURST


def test_a_clock_that_steps_back_brings_nothing():
    """The store's clock steps back: nothing comes in until it is where it was, and nothing too much later."""
    found = run(StoreClock(at=10.0, lasts=9.9, seconds=-3.0))
    assert found.overdraft <= CREDIT
    assert found.used >= 0.8


# ---- all at once


def test_all_clients_begin_at_once():
    """A hundred processes that start together share a limit at once, with a trip each; no one of them has a burst."""
    found = run(clients=20, store=Store(tick=0.25))
    assert found.admitted(0.0, 1.0) <= BURST + RATE + CREDIT
    assert found.outcome.trips <= 4.5 * 20 * SECONDS


def test_other_options_are_another_stock():
    """While two versions of a service run, each has the limit that it knows; the sum is stated, not exceeded."""
    numbers = iter(range(100))

    def client() -> Any:
        rate = RATE if next(numbers) % 2 else RATE / 2
        return rate_limit(f"{rate:g}/s", burst=int(rate), name="limit", scope=client_fleet())

    scenario = Scenario(
        load=Load(arrivals=Poisson(RATE * 5)),
        server=Server(workers=1000, service=Constant(0.001)),
        stacks={"it": Stack(client=client)},
        store=Store(),
        clients=CLIENTS,
        deadline=1.0,
        duration=SECONDS,
    )
    good = simulate(scenario)["it"].good
    assert 0.95 * 1.5 * RATE * SECONDS <= good <= 1.5 * (RATE * SECONDS + BURST)


# ---- files

SCENARIO = """\
duration = "10s"
deadline = "1s"
clients = 8
clients_per_host = 4

[load]
rate = 400

[server]
workers = 100
service = "1ms"

[store]
rtt = "2ms"
tick = "100ms"

[stacks.it]
client = [{ policy = "rate_limit", rates = "100/s", scope = "fleet" }]
"""


def outcome_of(tmp_path, text: str) -> Any:
    file = tmp_path / "shop.toml"
    file.write_text(textwrap.dedent(text))
    ((_, scenario),) = load(file).scenarios
    return simulate(scenario)["it"]


def test_a_file_with_a_fleet(tmp_path):
    """The processes of two hosts share a limit; of each host one process makes the trips."""
    outcome = outcome_of(tmp_path, SCENARIO)
    assert 0.95 * 1100 <= outcome.good <= 1100
    assert outcome.trips <= 2 * 12 * 10


def test_the_limits_of_keys_are_shared(tmp_path):
    """Two tenants have a limit of their own each, whichever client calls for them."""
    each = '{ policy = "keyed", key = "tenant", each = { policy = "rate_limit", rates = "100/s" }, scope = "fleet" }'
    text = SCENARIO.replace("rate = 400", "rate = 400\ntenants = 2")
    start, _, _ = text.partition("client = ")
    outcome = outcome_of(tmp_path, f"{start}client = [{each}]\n")
    assert 0.9 * 2 * 1000 <= outcome.good <= 2 * 1100


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("", None),
        ('[[faults]]\nkind = "store_down"\nat = 2\nlasts = 2\nmode = "hang"\n', StoreDown),
        ('[[faults]]\nkind = "store_slow"\nat = 2\nlasts = 2\nseconds = "1s"\n', StoreSlow),
        ('[[faults]]\nkind = "store_clock"\nat = 2\nlasts = 2\nseconds = -1.5\n', StoreClock),
        ('[[faults]]\nkind = "failover"\nat = 2\nlasts = "500ms"\nloses = "100ms"\n', Failover),
        ('[[faults]]\nkind = "evict"\nat = 2\n', Evict),
        ('[[faults]]\nkind = "partition"\nat = 2\nlasts = 1\nclients = [0, 1]\nside = "both"\n', Partition),
    ],
)
def test_each_fault_of_the_store_has_a_name_in_files(tmp_path, fault, kind):
    """A file says what goes wrong with the store as Python does."""
    file = tmp_path / "shop.toml"
    file.write_text(SCENARIO.replace("[stacks.it]", f"{fault}\n[stacks.it]"))
    ((_, scenario),) = load(file).scenarios
    assert [type(each) for each in scenario.faults] == ([] if kind is None else [kind])
    assert simulate(scenario)["it"].good > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rtt = "2ms"', "loss = 1.5", "store.loss: loss must be"),
        ('rtt = "2ms"', 'rrt = "2ms"', "store.rrt: is not known here: did you mean 'rtt'"),
        (
            "[store]",
            '[[faults]]\nkind = "partition"\nat = 1\nlasts = 1\nclients = 8\n[store]',
            "numbers below clients=8",
        ),
        ("[store]", '[[faults]]\nkind = "store_dow"\nat = 1\nlasts = 1\n[store]', "did you mean 'store_down'"),
    ],
)
def test_a_mistake_about_a_store(tmp_path, old, new, message):
    """The message names the key, and what is meant."""
    file = tmp_path / "shop.toml"
    assert old in SCENARIO
    file.write_text(SCENARIO.replace(old, new, 1))
    with pytest.raises(ScenarioError, match=message.replace("[", r"\[")):
        load(file)


def test_a_partition_from_the_server_is_the_clients_trouble():
    """Clients that do not reach the server see failures only; the others see none."""
    scenario = Scenario(
        load=Load(arrivals=Poisson(200.0), users=CLIENTS),
        server=Server(workers=100, service=Constant(0.001)),
        stacks={"it": Stack()},
        faults=[Partition(at=5.0, lasts=5.0, clients=[0, 1], side="server")],
        clients=CLIENTS,
        deadline=1.0,
        duration=SECONDS,
    )
    outcome = simulate(scenario)["it"]
    assert dict(outcome.failures).keys() == {"ServerDown"}
    assert outcome.failed == pytest.approx(200 * 5 * 0.2, rel=0.2)


# ---- a bulkhead of all clients


class Flights:
    """A gate that counts the calls in flight of all clients."""

    def __init__(self) -> None:
        self.now = self.most = self.admitted = 0

    def admit(self, call: GateCall, /) -> None:
        del call
        self.now += 1
        self.admitted += 1
        self.most = max(self.most, self.now)

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        self.now -= 1


def flights(*faults: Fault, clients: int = CLIENTS, **options: Any) -> Flights:
    """Run clients that would have 80 calls in flight, of which their fleet's bulkhead admits 20."""
    seen = Flights()
    scenario = Scenario(
        load=Load(arrivals=Poisson(160)),
        server=Server(workers=1000, service=Constant(0.5)),
        stacks={
            "it": Stack(
                client=lambda: [
                    bulkhead(20, name="slots", scope=client_fleet(), on_store_down="closed", **options),
                    custom_gate(seen),
                ]
            )
        },
        store=Store(),
        faults=faults,
        clients=clients,
        deadline=2.0,
        duration=SECONDS,
    )
    simulate(scenario, seed=1)
    return seen


@pytest.mark.parametrize("clients", [3, 10])
def test_a_bulkhead_bounds_the_calls_of_all_clients(clients: int):
    """Ten clients with a bulkhead of 20 had up to 200 calls in flight; those of a fleet have 20, whatever is lost."""
    seen = flights(clients=clients)
    assert 18 <= seen.most <= 20 + clients  # a call of each before its first answer
    assert seen.admitted >= 0.7 * 40 * SECONDS


def test_a_bulkhead_whose_store_is_away_holds():
    """Leases last ten seconds, so an outage of eight is not seen."""
    seen = flights(StoreDown(at=4.0, lasts=8.0), clients=3)
    assert seen.most <= 20 + 3
    assert seen.admitted >= 0.7 * 40 * SECONDS


@pytest.mark.real(1.0)
def test_breakers_of_keys_and_a_standard_are_shared(tmp_path):
    """Each of three tenants has a breaker that opens for all clients; a standard exchanges with the store too."""
    start, _, _ = SCENARIO.replace("rate = 400", "rate = 400\ntenants = 3").partition("client = ")
    start = start.replace("[stacks.it]", '[[faults]]\nkind = "outage"\nat = 3\nlasts = 5\n[stacks.it]')
    each = '{{ policy = "keyed", key = "tenant", each = {{ policy = "circuit_breaker" }}, scope = "{}" }}'
    standard = '{{ policy = "standard", on = "error", scope = "{}" }}'

    def outcome(client: str, scope: str) -> Any:
        return outcome_of(tmp_path, f"{start}client = [{client.format(scope)}]\n")

    alone, shared = outcome(each, "process"), outcome(each, "fleet")
    assert (alone.trips, shared.trips > 0) == (0, True)
    assert shared.in_outage < alone.in_outage
    assert outcome(standard, "fleet").trips > 0
