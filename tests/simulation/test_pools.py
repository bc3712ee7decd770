"""Clients of a simulation that choose the replica of each attempt by a pool of their own."""

from __future__ import annotations

import pytest

from resilio import circuit_breaker, pipeline, pool, registry, retry, timeout
from resilio.simulation import (
    Errors,
    Exponential,
    Kill,
    Load,
    Outage,
    Poisson,
    Scenario,
    Server,
    Slow,
    Stack,
    client_zone,
    endpoints,
    rival,
    simulate,
)
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once


def own(**options):
    """Return a pool of one client's own, although those of others have its name."""
    with registry.isolated():
        return pool("api", *endpoints(), zone=client_zone(), **options)


def run(faults=(), make=own, *, attempts=1, seed=1, **options):
    """Twelve replicas in three zones, and ten clients with pools, at half of the capacity."""

    def client():
        again = [retry(on=Exception, attempts=attempts)] if attempts > 1 else []
        return [*again, make(), timeout(1.0)]

    scenario = {
        "load": Load(arrivals=Poisson(1200)),
        "server": Server(service=Exponential(0.01), workers=2, replicas=12, zones=("eu-1a", "eu-1b", "eu-1c")),
        "stacks": {"it": Stack(client=client)},
        "clients": 10,
        "deadline": 2.0,
        "duration": 10.0,
        **options,
    }
    return simulate(Scenario(faults=faults, **scenario), seed=seed)["it"]


DEAD = Outage(at=2.0, lasts=8.0, replicas=3, mode="error", latency=0.002)


@pytest.mark.parametrize("fault", [DEAD, Errors(at=2.0, lasts=8.0, share=0.5, replicas=3)])
def test_a_replica_that_fails_gets_next_to_no_calls(fault):
    """Round robin fails at it for all the time; a pool's clients fail a few times each, and a retry hides that."""
    failed = run([fault]).failed
    assert 0 < failed < run([fault], lambda: rival("round_robin")).failed / 5
    assert run([fault], attempts=2).failed == 0


def test_a_slow_replica_gets_next_to_no_calls():
    """Nothing fails, and the tail is that of the others."""
    assert run([Slow(at=2.0, lasts=8.0, factor=10.0, replicas=3)]).p99 < 0.06


def test_calls_stay_in_the_zone_of_their_client():
    """A zone that nobody is in gets no calls, so that its loss is not seen."""
    lost = [Outage(at=0.0, lasts=10.0, zones="eu-1c")]
    light = {"load": Load(arrivals=Poisson(200))}
    assert run(lost, client_zones=("eu-1a", "eu-1b"), **light).in_outage == 0
    away = run(lost, client_zones=("eu-1a", "eu-1b", "eu-1c"), attempts=2, **light)
    assert away.in_outage > 0
    assert away.success > 0.98


def test_levels_of_the_server_are_those_of_the_pools():
    """Replicas of the second level are called when those of the first are out."""
    server = Server(service=Exponential(0.01), workers=20, replicas=4, levels=(0, 1))
    light = {"server": server, "load": Load(arrivals=Poisson(200))}
    assert run([Outage(at=0.0, lasts=10.0, replicas=[2, 3])], **light).in_outage == 0
    assert run([Outage(at=0.0, lasts=10.0, replicas=[0, 1])], attempts=2, **light).success > 0.95


def test_killed_clients_have_new_pools():
    """A process that starts anew calls the replicas that its new pool chooses."""
    outcome = run([Kill(at=2.0, lasts=1.0, clients=[0, 1])], load=Load(arrivals=Poisson(200)))
    assert outcome.success > 0.99
    assert dict(outcome.failures).keys() <= {"ClientKilled"}


def test_a_pool_repeats():
    """The same seed gives the same result."""
    light = {"load": Load(arrivals=Poisson(300))}
    assert run([DEAD], **light) == run([DEAD], **light) != run([DEAD], seed=2, **light)


def test_a_pool_with_policies_of_its_own():
    """What a pool makes for each endpoint is what its calls pass."""
    made = []

    def each(endpoint):
        made.append(endpoint["replica"])
        return pipeline(circuit_breaker(consecutive=3), timeout(0.5))

    assert run([DEAD], lambda: own(each=each), attempts=2, clients=1).failed == 0
    assert sorted(set(made)) == list(range(12))


def test_endpoints_are_for_the_clients_of_a_simulation():
    """Elsewhere there are none, and the message says where they belong."""
    with pytest.raises(RuntimeError, match=r"endpoints\(\) belongs into the function of a Stack"):
        endpoints()
    with pytest.raises(RuntimeError, match=r"client_zone\(\) belongs"):
        client_zone()


FILE = """\
duration = "5s"
deadline = "1s"
clients = 4

[load]
rate = 200

[server]
replicas = 4
workers = 4
service = "10ms"

[[faults]]
kind = "outage"
replicas = 1
at = "1s"
lasts = "2s"

[stacks.it]
client = [
    { policy = "retry", attempts = 2 },
    { policy = "pool", max_ejected = 0.25, each = [{ policy = "circuit_breaker", consecutive = 3 }] },
    { policy = "timeout", total = "1s" },
]
"""


def test_a_pool_in_a_file(loaded):
    """Its endpoints are the server's replicas, its options those of Python."""
    scenario = loaded(FILE)
    assert simulate(scenario)["it"].success == 1.0


def test_a_standard_stack_in_a_file_has_a_pool_of_the_replicas(loaded):
    """One of four replicas is down for two seconds: with the stack's one breaker and no pool callers see failures."""
    client = FILE.index("client = [")
    scenario = loaded(FILE[:client] + 'client = [{ policy = "standard", pool = true }]\n')
    assert simulate(scenario)["it"].success == 1.0
    with pytest.raises(ScenarioError, match="pool: must be true, and belongs to the clients"):
        loaded(FILE[:client] + 'client = [{ policy = "standard", pool = ["a"] }]\n')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_ejected = 0.25", "max_ejected = 7", r"client\[1\].max_ejected: max_ejected must be"),
        ("max_ejected = 0.25", 'balance = "latenc"', r"client\[1\].balance: .* did you mean 'latency'"),
        ("max_ejected = 0.25", 'zone = "eu"', r"client\[1\].zone: is not known here"),
        ("consecutive = 3", "consecutive = 0", r"client\[1\].each\[0\].consecutive: consecutive must be"),
        ('[{ policy = "circuit_breaker", consecutive = 3 }]', "[]", r"client\[1\].each: must not be empty"),
    ],
)
def test_a_mistake_about_a_pool_has_its_line(loaded, old, new, message):
    """The message names file, line and key."""
    assert old in FILE
    with pytest.raises(ScenarioError, match=message) as caught:
        loaded(FILE.replace(old, new, 1))
    assert caught.value.line == 22
