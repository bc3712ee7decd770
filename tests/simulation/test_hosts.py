"""Clients on hosts: what their policies share, and processes that are killed."""

from __future__ import annotations

import contextlib
import io
import json
import re
import textwrap

import pytest

from resilio import bulkhead, cli, registry
from resilio.simulation import Constant, Kill, Load, Regular, Scenario, Server, Stack, Trace, simulate
from resilio.simulation._files import load
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once

SCENARIO = """\
duration = "10s"
deadline = "20s"
clients = 4
clients_per_host = 2

[load]
process = "regular"
rate = 100

[server]
workers = 100
service = "1s"

[stacks.it]
client = [
    { policy = "bulkhead", max_concurrent = 1 },
]
"""


@pytest.fixture
def outcome(tmp_path):
    """Run a scenario file."""

    def run(text: str):
        file = tmp_path / "shop.toml"
        file.write_text(textwrap.dedent(text))
        ((_, scenario),) = load(file).scenarios
        return simulate(scenario)["it"]

    return run


def changed(*pairs: tuple[str, str]) -> str:
    text = SCENARIO
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


ON_HOST = ("max_concurrent = 1", 'max_concurrent = 1, scope = "host"')


def test_the_processes_of_a_host_share_a_policy(outcome):
    """A bulkhead of one admits a call a second in each of four processes, or in each of two hosts."""
    assert 36 <= outcome(SCENARIO).good <= 40
    assert 18 <= outcome(changed(ON_HOST)).good <= 20
    assert 9 <= outcome(changed(ON_HOST, ("per_host = 2", "per_host = 4"))).good <= 10
    assert 18 <= outcome(changed(ON_HOST, ("per_host = 2", "per_host = 3"))).good <= 20  # the last host has one


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        ('{ policy = "rate_limit", rates = "1/s", SCOPE }', 11),
        ('{ policy = "keyed", key = "load", each = { policy = "rate_limit", rates = "1/s" }, SCOPE }', 11),
        ('{ policy = "standard", SCOPE }', 10_000),
        ('{ policy = "circuit_breaker", SCOPE }', 10_000),
        ('{ policy = "adaptive_limit", start = 1, ceiling = 1, SCOPE }', 10),
        ('{ policy = "retry", budget = { SCOPE } }', 10_000),
    ],
)
def test_each_policy_that_has_a_scope(outcome, policy, most):
    """A stock of one host is the stock of all its processes, whichever policy has it."""
    try:
        outcome(changed(('{ policy = "bulkhead", max_concurrent = 1 }', policy.replace("SCOPE", 'scope = "host"'))))
    except ScenarioError as error:
        if "cannot be shared" not in str(error):
            raise
        pytest.skip(str(error))
    process = outcome(
        changed(('{ policy = "bulkhead", max_concurrent = 1 }', policy.replace("SCOPE", 'scope = "process"')))
    )
    host = outcome(changed(('{ policy = "bulkhead", max_concurrent = 1 }', policy.replace("SCOPE", 'scope = "host"'))))
    assert 0 < host.good <= min(2 * most, process.good)
    if most < 10_000:
        assert process.good > 1.8 * host.good


def test_a_breaker_of_the_host_adds_up_what_its_processes_see(outcome):
    """Eight processes of two calls a second each see an outage; their one breaker opens in an eighth of the time."""
    text = changed(
        ("clients = 4\nclients_per_host = 2", "clients = 8\nclients_per_host = 8"),
        ("rate = 100", "rate = 16"),
        ('service = "1s"', 'service = "10ms"'),
        ("[load]", '[[faults]]\nkind = "outage"\nat = "1s"\nlasts = "8s"\n\n[load]'),
        ('{ policy = "bulkhead", max_concurrent = 1 }', '{ policy = "circuit_breaker", SCOPE }'),
    )
    process = outcome(text.replace("SCOPE", 'scope = "process"'))
    host = outcome(text.replace("SCOPE", 'scope = "host"'))
    assert 0 < 2 * host.in_outage < process.in_outage


@pytest.mark.parametrize(
    ("pairs", "line", "message"),
    [
        (
            [("per_host = 2", "per_host = 0")],
            4,
            "clients_per_host: clients_per_host must be an int from 1 to 64, not 0",
        ),
        ([("per_host = 2", "per_host = 65")], 4, "clients_per_host: clients_per_host must be an int from 1 to 64"),
        ([("per_host = 2", "per_host = 5")], 4, "clients_per_host: clients_per_host must be at most clients=4, not 5"),
        ([ON_HOST, ('"host"', '"hots"')], 16, "client.0..scope: must be one of .*host, process.*did you mean 'host'"),
        (
            [('"bulkhead", max_concurrent = 1', '"timeout", total = 1.0, scope = "host"')],
            16,
            "scope: is not known here",
        ),
        (
            [
                (
                    '{ policy = "bulkhead", max_concurrent = 1 }',
                    '{ policy = "keyed", key = "key", each = { policy = "rate_limit", scope = "host" } }',
                )
            ],
            16,
            "each.scope: belongs to the policy 'keyed'",
        ),
        (
            [('"bulkhead", max_concurrent = 1', '"retry", budget = { scope = "zone" }')],
            16,
            "budget.scope: must be one of fleet, host, process, not 'zone'",
        ),
        (
            [("[load]", '[[faults]]\nkind = "kill"\nat = 1\nlasts = 1\nclients = [0, 4]\n[load]')],
            10,
            r"faults\[0\].clients: faults\[0\].clients must be numbers below clients=4",
        ),
        (
            [("[load]", '[[faults]]\nkind = "kill"\nat = 1\nlasts = 1\nclients = []\n[load]')],
            10,
            "clients: clients must be the number of a client",
        ),
        ([("[load]", '[[faults]]\nkind = "kill"\nat = 1\n[load]')], 6, r"faults\[0\]: needs 'lasts'"),
    ],
)
def test_a_mistake_about_hosts(tmp_path, pairs, line, message):
    """The message names the file, the line and the key."""
    file = tmp_path / "shop.toml"
    file.write_text(changed(*pairs))
    with pytest.raises(ScenarioError) as caught:
        load(file)
    assert re.search(message, str(caught.value)), caught.value
    assert caught.value.line == line, caught.value


def test_a_result_says_on_how_many_hosts(tmp_path, monkeypatch):
    """Whoever reads the figures sees on how many hosts the clients were, in the text and in the JSON."""
    monkeypatch.chdir(tmp_path)
    for text, said in (
        (SCENARIO, "; 4 clients on 2 hosts\n"),
        (changed(("per_host = 2", "per_host = 4")), "on 1 host\n"),
    ):
        (tmp_path / "shop.toml").write_text(text)
        assert printed("shop.toml").endswith(said)
    found = json.loads(printed("shop.toml --json"))
    assert (found["clients"], found["hosts"]) == (4, 1)
    (tmp_path / "shop.toml").write_text(changed(("clients_per_host = 2\n", "")))
    assert "host" not in printed("shop.toml")


def printed(arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["simulate", *arguments.split(), "--quiet"]) == 0
    return out.getvalue()


# ---- death -----------------------------------------------------------------------------------------------------------

DEATH = """\
duration = "10s"
deadline = "20s"
clients = 2
clients_per_host = 2

[load]
process = "trace"
at = [0, 0, 1.2, 1.7, 2.1]

[server]
workers = 100
service = "5s"

[[faults]]
kind = "kill"
at = "1s"
lasts = "500ms"

[stacks.it]
client = [{ policy = "bulkhead", max_concurrent = 2, SCOPE }]
"""


def test_what_a_killed_process_held_of_its_host_is_free_after_a_second(outcome):
    """
    Both processes die with a permit each. A task that comes meanwhile has no process. One that comes to the new
    processes finds the permits taken still, and the next one does not.
    """
    found = outcome(DEATH.replace("SCOPE", 'scope = "host"'))
    assert found.failures == (("ClientKilled", 3),)
    assert found.rejections == (("bulkhead", "full", 1),)
    assert (found.failed, found.rejected, found.good) == (3, 1, 1)


def test_what_a_killed_process_held_alone_dies_with_it(outcome):
    """A new process has new policies."""
    found = outcome(DEATH.replace("SCOPE", 'scope = "process"'))
    assert (found.failed, found.rejected, found.good) == (3, 0, 2)


def test_the_living_take_the_tasks_of_the_dead(outcome):
    """A process of two is dead for most of the run: the other one takes all tasks, only calls under way are lost."""
    text = DEATH.replace(", SCOPE", "").replace("max_concurrent = 2", "max_concurrent = 1000")
    text = text.replace('process = "trace"\nat = [0, 0, 1.2, 1.7, 2.1]', 'process = "regular"\nrate = 100')
    text = text.replace('lasts = "500ms"', 'lasts = "8s"\nclients = 0').replace('service = "5s"', 'service = "100ms"')
    found = outcome(text)
    assert 2 <= found.failed <= 10
    assert found.failures == (("ClientKilled", found.failed),)
    assert found.good == found.offered - found.failed


def test_the_callee_sees_that_the_connection_is_closed(outcome):
    """A server that stops cancelled work stops the work for a dead process; another works on in vain."""
    text = DEATH.replace(", SCOPE", "").replace("[server]", "[server]\nstops_cancelled = true")
    assert outcome(text).served == 2
    assert outcome(text.replace("stops_cancelled = true", "")).served == 4


def test_deaths_that_overlap():
    """A process that is killed twice is dead until the end of both; all tasks have one fate."""
    scenario = Scenario(
        load=Load(arrivals=Trace([0.0, 1.5, 2.5, 3.5]), priority="critical", calls=2),
        server=Server(service=Constant(0.1), workers=10),
        stacks={"it": Stack()},
        faults=[Kill(at=1.0, lasts=2.0), Kill(at=2.0, lasts=0.5, clients=0)],
        deadline=1.0,
        duration=5.0,
    )
    found = simulate(scenario)["it"]
    assert (found.good, found.failed, found.offered) == (2, 2, 4)


def test_calls_of_the_dead_at_the_end_of_a_run():
    """A run that ends within the second after a death ends all calls, also those that nobody has found dead."""
    scenario = Scenario(
        load=Load(arrivals=Trace([0.0, 0.5])),
        server=Server(service=Constant(5.0), workers=10),
        stacks={"it": Stack()},
        faults=[Kill(at=1.0, lasts=1.0)],
        deadline=0.2,
        duration=1.1,
    )
    found = simulate(scenario)["it"]
    assert (found.failed, found.offered) == (2, 2)


def test_a_shared_scenario_repeats(outcome):
    """The memory of a host has a secret for hashes, which comes from the seed as all other random numbers do."""
    text = changed(
        ('{ policy = "bulkhead", max_concurrent = 1 }', '{ policy = "circuit_breaker", scope = "host" }'),
        ("[load]", '[[faults]]\nkind = "errors"\nshare = 0.9\nat = "1s"\nlasts = "8s"\n\n[load]'),
    )
    assert outcome(text) == outcome(text)


def test_stacks_in_python_share_by_scope_and_name():
    """Each client is a process: its policies of a name are its own, and those of the scope "host" its host's."""

    def both():
        return [bulkhead(100, name="own"), bulkhead(2, name="all", scope="host")]

    scenario = Scenario(
        load=Load(arrivals=Regular(100)),
        server=Server(service=Constant(1.0), workers=100),
        stacks={"it": Stack(client=both), "each": Stack(client=lambda: bulkhead(2, name="all"))},
        clients=4,
        clients_per_host=2,
        deadline=20.0,
        duration=10.0,
    )
    result = simulate(scenario)
    assert 36 <= result["it"].good <= 40
    assert 72 <= result["each"].good <= 80
    assert not {"own", "all"} & {policy.name for policy in registry.all()}


def test_servers_share_nothing_with_each_other(outcome):
    """A replica is a process on a host of its own."""
    text = changed(("[stacks.it]\nclient", "[stacks.it]\nserver"), ON_HOST, ("[server]", "[server]\nreplicas = 3"))
    assert 27 <= outcome(text).good <= 30
