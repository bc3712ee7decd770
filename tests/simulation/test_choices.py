"""Zones of replicas and clients, faults of a zone, and clients that choose a replica by published rules."""

from __future__ import annotations

from random import Random

import pytest

from resilio import retry, timeout
from resilio.simulation import (
    Constant,
    Errors,
    Exponential,
    Kill,
    Load,
    Outage,
    Poisson,
    Regular,
    Scenario,
    Server,
    Slow,
    Stack,
    rival,
    simulate,
)
from resilio.simulation._envoy import EnvoyHosts
from resilio.simulation._place import ClientPlace
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once

RULES = ("envoy", "least", "peak_ewma", "round_robin")
ZONES = ("eu-1a", "eu-1b", "eu-1c")


def run(rule, faults=(), *, attempts=1, rate=1200.0, seed=1, **options):
    """Twelve replicas in three zones, and ten clients that choose by one rule, at half of the capacity."""

    def client():
        again = [retry(on=Exception, attempts=attempts, budget=None)] if attempts > 1 else []
        return [*again, rival(rule), timeout(1.0)]

    scenario = {
        "load": Load(arrivals=Poisson(rate)),
        "server": Server(service=Exponential(0.01), workers=2, replicas=12, zones=ZONES),
        "stacks": {"it": Stack(client=client)},
        "clients": 10,
        "deadline": 2.0,
        "duration": 10.0,
        **options,
    }
    return simulate(Scenario(faults=faults, **scenario), seed=seed)["it"]


@pytest.mark.parametrize("rule", RULES)
def test_a_retry_goes_to_a_replica_that_the_call_has_not_been_sent_to(rule):
    """A replica is dead from the first call on: with one retry no call fails, whatever rule chooses."""
    dead = Outage(at=0.0, lasts=10.0, replicas=3)
    assert run(rule, [dead]).failed > 0
    again = run(rule, [dead], attempts=2)
    assert again.failed == 0 < again.in_outage


def test_round_robin_sends_each_replica_its_share():
    """A dead replica of twelve fails a twelfth of all calls."""
    outcome = run("round_robin", [Outage(at=0.0, lasts=10.0, replicas=3)])
    assert outcome.failed / outcome.offered == pytest.approx(1 / 12, rel=0.05)


def test_a_quick_failure_attracts_those_who_count_latency_alone():
    """A replica that fails at once has nothing in flight and the lowest latency, so it gets more than its share."""
    dead = [Outage(at=0.0, lasts=10.0, replicas=3, mode="error", latency=0.002)]
    failed = {rule: run(rule, dead).failed for rule in RULES}
    assert failed["envoy"] < failed["round_robin"] < failed["least"] < failed["peak_ewma"]


def test_a_slow_replica_is_avoided_by_its_latency():
    """Calls in turn time out at a replica that is ten times as slow; the peak EWMA sends next to nothing there."""
    slow = [Slow(at=0.0, lasts=10.0, factor=10.0, replicas=3)]
    assert run("peak_ewma", slow).p99 < 0.06
    assert run("least", slow).p99 > 0.3
    assert run("peak_ewma", slow).failed < run("least", slow).failed < 100 < run("round_robin", slow).failed


def test_a_zone_is_its_block_of_the_replicas():
    """A fault of a zone affects its replicas, those of an index and a zone both of them alone."""
    server = Server(service=Constant(1.0), replicas=5, zones=("a", "b"))
    assert [server.zone_of(number) for number in range(5)] == ["a", "a", "a", "b", "b"]
    assert Server(service=Constant(1.0), replicas=5).zone_of(1) is None
    fault = Errors(at=0, lasts=1, share=1.0, zones="b", replicas=[0, 3])
    assert [fault.hits(number, server.zone_of(number)) for number in range(5)] == [False, False, False, True, False]


def test_a_zone_is_lost():
    """A third of the replicas refuses all requests: that is a third of the calls in turn."""
    outcome = run("round_robin", [Outage(at=0.0, lasts=10.0, zones="eu-1b")])
    assert outcome.failed / outcome.offered == pytest.approx(1 / 3, rel=0.05)
    assert outcome.failed == outcome.in_outage


def test_envoys_levels_keep_calls_in_their_zone():
    """Clients of a zone call its replicas, and those of the others when theirs are ejected."""
    two = {"server": Server(service=Exponential(0.01), workers=4, replicas=4, zones=("eu", "us"))}
    lost = [Outage(at=0.0, lasts=10.0, zones="us")]
    assert run("envoy", lost, client_zones="eu", rate=100, **two).in_outage == 0
    away = run("envoy", lost, client_zones="us", rate=100, **two)
    assert away.failed > 0
    assert run("envoy", lost, client_zones=("eu", "us"), rate=100, **two).failed < away.failed


HOSTS = Server(service=Constant(1.0), replicas=10)


def hosts(server=HOSTS, zone=None, max_ejected=0.1):
    return EnvoyHosts(ClientPlace(server, zone, Random(1)), max_ejected)


def fail(found, number, times=5, now=0.0):
    for _ in range(times):
        found.ended(number, now, good=False)


def test_envoy_ejects_a_host_after_five_failures_in_a_row():
    """It is back after 30 s, at the next look, and stays away for twice as long the next time."""
    found = hosts()
    found.usable(0.0)
    fail(found, 4, times=4)
    found.ended(4, 0.0, good=True)
    fail(found, 4, times=4)
    assert 4 in found.usable(0.0)
    fail(found, 4, times=1)
    assert 4 not in found.usable(0.0)
    fail(found, 5)
    assert len(found.usable(0.0)) == 9  # no more than a tenth
    assert 4 not in found.usable(29.0)
    assert 4 in found.usable(31.0)
    fail(found, 4, now=31.0)
    assert 4 not in found.usable(89.0)
    assert 4 in found.usable(101.0)


def test_envoy_ejects_a_host_whose_success_rate_is_far_below_the_others():
    """Every fourth call fails, which is never five in a row; what counts is 1.9 deviations from the mean."""
    found = hosts()
    found.usable(0.0)
    for number in range(10):
        for call in range(100):
            found.ended(number, 1.0, good=number != 7 or call % 4 > 0)
    assert len(found.usable(9.0)) == 10
    assert 7 not in found.usable(10.0)


def test_envoys_levels_are_those_it_publishes():
    """With half of a level ejected, 70 % of the calls stay; with all ejected and no other level, panic uses all."""
    server = Server(service=Constant(1.0), replicas=20, levels=(0, 1))
    found = hosts(server, max_ejected=1.0)
    for number in range(5):
        fail(found, number)
    stays = sum(found.usable(0.0)[0] < 10 for _ in range(2000)) / 2000
    assert stays == pytest.approx(0.7, abs=0.03)
    alone = hosts(max_ejected=1.0)
    for number in range(6):
        fail(alone, number)
    assert len(alone.usable(0.0)) == 10


def test_killed_clients_choose_anew():
    """A process that starts anew knows nothing of the replicas, and its calls go where it chooses."""
    server = Server(service=Exponential(0.01), workers=4, replicas=4)
    outcome = run("least", [Kill(at=2.0, lasts=1.0, clients=[0, 1])], server=server, rate=200, clients=2)
    assert outcome.success > 0.7
    assert dict(outcome.failures).keys() == {"ClientKilled"}


def test_a_choice_repeats():
    """The same seed gives the same result."""
    assert run("least", rate=300) == run("least", rate=300) != run("least", rate=300, seed=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Server(service=Constant(1), replicas=2, zones=["a", "b", "c"]), "zones must be at most replicas=2"),
        (lambda: Server(service=Constant(1), replicas=2, zones=[]), "zones must be one name or more"),
        (lambda: Server(service=Constant(1), replicas=2, zones=["a", " "]), r"zones\[1\] must be a text"),
        (lambda: Server(service=Constant(1), replicas=2, levels=[0, -1]), r"levels\[1\] must be an int from 0"),
        (lambda: Server(service=Constant(1), replicas=2, levels=1), "levels must be a list of one or more levels"),
        (lambda: run("least", [Outage(at=0, lasts=1, zones="us")]), r"faults\[0\].zones must be zones of the server"),
        (lambda: run("least", client_zones=["a"] * 11), "client_zones must be at most clients=10"),
        (lambda: run("best"), "rule must be one of"),
        (lambda: rival("least"), r"rival\(\) belongs into the function of a Stack"),
    ],
)
def test_a_mistake_about_places_is_rejected(make, message):
    """The message names the parameter and the value."""
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        make()


FILE = """\
duration = "2s"
deadline = "1s"
clients = 4
client_zones = ["eu", "us"]

[load]
rate = 50

[server]
replicas = 4
zones = ["eu", "us"]
levels = [0, 1]
service = "10ms"

[[faults]]
kind = "outage"
zones = "us"
at = "1s"
lasts = "500ms"

[stacks.it]
client = [
    { policy = "retry", attempts = 2 },
    { policy = "pool", balance = "envoy", max_ejected = 0.5 },
]
"""


def test_a_file_says_all_of_it(loaded):
    """Zones, levels and rules are as in Python."""
    scenario = loaded(FILE)
    assert [scenario.zone_of(client) for client in range(4)] == ["eu", "eu", "us", "us"]
    assert [scenario.server.level_of(replica) for replica in range(4)] == [0, 0, 1, 1]
    assert scenario.faults[0].zones == ("us",)
    assert simulate(scenario)["it"].success == 1.0


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('balance = "envoy"', 'balance = "envy"', 24, r"client\[1\].balance: must be one of .* did you mean 'envoy'"),
        ("max_ejected = 0.5", "max_ejected = 5", 24, r"client\[1\].max_ejected: max_ejected must be"),
        ('zones = "us"', 'zones = "uk"', 17, r"faults\[0\].zones: .* must be zones of the server: 'eu', 'us'"),
        ("client = [", "server = [", 24, r"server\[1\]: belongs to the clients"),
        ('zones = ["eu", "us"]\nlevels', "zones = 3\nlevels", 11, "server.zones: zones must be one name or more"),
    ],
)
def test_a_mistake_in_a_file_has_its_line(loaded, old, new, line, message):
    """The message names file, line and key."""
    assert old in FILE
    with pytest.raises(ScenarioError, match=message) as caught:
        loaded(FILE.replace(old, new, 1))
    assert caught.value.line == line


def test_regular_calls_in_turn():
    """Clients begin their turns at different replicas, so that few calls at a time do not meet."""
    options = {"server": Server(service=Constant(0.05), replicas=4), "clients": 1}
    outcome = run("round_robin", load=Load(arrivals=Regular(79)), **options)
    assert outcome.p99 < 0.052
