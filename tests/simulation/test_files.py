"""Scenario files: what they can say, and what an error in one looks like."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from resilio.simulation import _laws, simulate
from resilio.simulation._arrivals import Bursty, Poisson, Trace
from resilio.simulation._faults import Outage, Slow
from resilio.simulation._files import load
from resilio.simulation._lines import lines_of, nearest_line
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once

SCENARIO = """\
duration = "2s"
deadline = 0.5
faults = [{ kind = "slow", at = "1s", lasts = "500ms", factor = 2 }]

[load]
rate = 50

[server]
workers = 4
service = { law = "exponential", mean = "10ms" }

[stacks.bare]

[stacks.guarded]
client = [
    { policy = "retry", attempts = 3 },
    { policy = "circuit_breaker", window = [200, "60s"] },
]
"""


@pytest.fixture
def write(tmp_path):
    """Write a scenario file."""

    def write(text: str, name: str = "shop.toml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


def changed(old: str, new: str) -> str:
    assert old in SCENARIO
    return SCENARIO.replace(old, new, 1)


def test_a_file_is_a_scenario(write):
    """Tables become records; a time may be text; the title is the file's name unless it has one."""
    plan = load(write(SCENARIO))
    ((value, scenario),) = plan.scenarios
    assert (value, plan.seed, plan.sweep) == (None, 1, None)
    assert scenario.title == "shop"
    assert (scenario.duration, scenario.deadline) == (2.0, 0.5)
    assert scenario.load[0].arrivals == Poisson(50)
    assert scenario.server.service == _laws.Exponential(0.01)
    assert scenario.faults == (Slow(at=1.0, lasts=0.5, factor=2.0),)
    assert list(scenario.stacks) == ["bare", "guarded"]
    assert scenario.stacks["bare"].client is None
    assert [policy.kind for policy in scenario.stacks["guarded"].client()] == ["retry", "circuit_breaker"]
    assert simulate(scenario).complete


def test_all_that_a_file_can_say(write):
    """Several loads, each law, data in files beside it, each fault, and policies with tables of their own."""
    write("0.1\n0.2\n\n0.5\n", "arrivals.txt")
    write("0.01\n0.02\n", "times.txt")
    plan = load(
        write(
            """
            title = "all of it"
            seed = 7
            duration = "3s"
            deadline = "1s"
            patience = "2s"
            clients = 3

            [[load]]
            name = "steady"
            process = "bursty"
            rate = 10
            burst_rate = 100
            calm = "1s"
            burst = "100ms"
            users = 50
            tenants = 2

            [[load]]
            name = "recorded"
            process = "trace"
            file = "arrivals.txt"
            calls = 2

            [server]
            replicas = 2
            balance = "key"
            workers = 3
            queue = "lifo"
            drop_expired = true
            network = "1ms"
            [server.service]
            law = "mixture"
            parts = [
                { share = 0.4, law = "lognormal", mean = "10ms", cv = 0.5 },
                { share = 0.2, law = "pareto", minimum = "1ms", shape = 1.5, maximum = "1s" },
                { share = 0.2, law = "uniform", low = 0, high = "10ms" },
                { share = 0.1, law = "empirical", file = "times.txt" },
                { share = 0.1, law = "constant", mean = 0.01 },
            ]

            [[faults]]
            kind = "outage"
            at = 1
            lasts = "500ms"
            mode = "error"
            replicas = [1]

            [stacks.all]
            queue = "fifo"
            drop_expired = false
            max_queued = 50
            client = [
                { policy = "fallback", on = ["error", "busy"], default = "nothing" },
                { policy = "deadline", seconds = 1.0 },
                { policy = "retry", backoff = { base = "10ms", cap = "1s" }, budget = { ratio = 0.2 }, on = "any" },
                { policy = "hedge", after = 0.05 },
                { policy = "rate_limit", rates = ["1000/s"], burst = 10, cost = 1 },
                { policy = "keyed", key = "tenant", each = { policy = "circuit_breaker", ignore = ["rejected"] } },
                { policy = "keyed", key = "shard", each = [
                    { policy = "bulkhead", max_concurrent = 9 },
                    { policy = "timeout", total = 5.0 },
                ] },
                { policy = "timeout", total = 0.5 },
            ]
            server = { policy = "bulkhead", max_concurrent = 20 }

            [stacks.standard]
            client = [{ policy = "standard" }]

            [stacks.free]
            client = [
                { policy = "retry", budget = false, backoff = { kind = "constant", seconds = "1ms" } },
                { policy = "rate_limit", rates = "10/s" },
            ]
            server = []
            """
        )
    )
    ((_, scenario),) = plan.scenarios
    assert plan.seed == 7
    assert scenario.load[0].arrivals == Bursty(10, 100, 1.0, 0.1)
    assert scenario.load[1].arrivals == Trace([0.1, 0.2, 0.5])
    assert scenario.server.drop_expired == 0.0
    assert scenario.server.network == _laws.Constant(0.001)
    assert scenario.server.service.parts[3] == (0.1, _laws.Empirical([0.01, 0.02]))
    assert scenario.faults == (Outage(at=1.0, lasts=0.5, mode="error", replicas=(1,)),)
    assert scenario.stacks["all"].drop_expired is None
    assert [policy.kind for policy in scenario.stacks["all"].client()] == [
        *("fallback", "deadline", "retry", "hedge", "rate_limit", "keyed", "keyed", "timeout")
    ]
    first, second = (scenario.stacks["all"].client()[2].config.budget for _ in range(2))
    assert first is not second
    assert scenario.stacks["free"].server is None
    result = simulate(scenario, seed=plan.seed)
    assert result.complete
    assert all(outcome.good for outcome in result.values())


def test_a_key_is_swept(write):
    """A file with a sweep is several scenarios, one for each value."""
    plan = load(write(SCENARIO + '[sweep]\nkey = "load.rate"\nvalues = [10, 20]\n'))
    assert plan.sweep == "load.rate"
    assert [(value, scenario.load[0].arrivals) for value, scenario in plan.scenarios] == [
        (10, Poisson(10)),
        (20, Poisson(20)),
    ]
    deep = load(write(SCENARIO + '[sweep]\nkey = "server.service.mean"\nvalues = ["1ms"]\n'))
    assert deep.scenarios[0][1].server.service.mean == 0.001
    assert load(write(SCENARIO + '[sweep]\nkey = "deadline"\nvalues = [1]\n')).scenarios[0][1].deadline == 1.0


def test_a_python_file_sets_a_scenario(write):
    """What TOML cannot say, Python can; the seed is there too."""
    path = write(
        """
        from resilio.simulation import *

        scenario = Scenario(
            load=Load(arrivals=Poisson(10)),
            server=Server(service=Constant(0.01)),
            stacks={"bare": Stack()},
            deadline=1.0,
            duration=1.0,
        )
        seed = 3
        """,
        "shop.py",
    )
    plan = load(path)
    assert (plan.seed, plan.scenarios[0][1].duration) == (3, 1.0)


PYTHON = """
from resilio.simulation import *
load, server = Load(arrivals=Poisson(1)), Server(service=Constant(1))
scenario = Scenario(load=load, server=server, stacks={"bare": Stack()}, duration=1, deadline=1)
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PYTHON + "seed = '1'\n", r"shop\.py: seed must be an int from 0"),
        ("scenario = 3\n", r"shop\.py: must set `scenario` to a Scenario, not 3"),
        ("x = 1\nscenario = (\n", r"shop\.py:2: .*never closed"),
    ],
)
def test_a_python_file_with_a_mistake(write, text, message):
    """The message names the file, and the line where there is one."""
    with pytest.raises(ScenarioError, match=message):
        load(write(text, "shop.py"))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("rate = 50", "rte = 50", 6, "load.rte: must be called 'rate': tasks a second"),
        ("rate = 50", "speed = 50", 5, "load: needs 'rate'"),
        ("rate = 50", "rate = -1", 6, "load.rate: rate must be a number > 0"),
        ("rate = 50", 'process = "posson"', 6, "load.process: must be one of .* did you mean 'poisson'"),
        ("rate = 50", 'process = "trace"\nfile = "none.txt"', 7, "load.file: .*none.txt cannot be read"),
        ("rate = 50", 'process = "trace"\nat = [1, 0]', 7, r"load.at\[1\]: at\[1\] must be at least"),
        ("rate = 50", 'process = "trace"', 5, "load: needs 'at': a list of seconds"),
        ("workers = 4", "workers = 0", 9, "server.workers: workers must be an int from 1"),
        ("workers = 4", "worker = 4", 9, "server.worker: is not known here: did you mean 'workers'"),
        ("workers = 4", 'queue = "sorted"', 9, "server.queue: must be one of fifo, lifo"),
        ("workers = 4", 'drop_expired = "soon"', 9, "server.drop_expired: drop_expired must be a time like"),
        ("workers = 4", "network = -1", 9, "server.network: mean must be"),
        ('mean = "10ms"', 'mean = "ten"', 10, "server.service.mean: mean must be a time like"),
        ('law = "exponential"', 'law = "normal"', 10, "server.service.law: must be one of"),
        ('law = "exponential", mean', "mean", 10, "server.service: needs 'law'"),
        (', mean = "10ms"', "", 10, "server.service: needs 'mean'"),
        ('law = "exponential", mean = "10ms"', 'law = "empirical", samples = [-1]', 10, "server.service.samples"),
        ('law = "exponential", mean = "10ms"', 'law = "mixture", parts = 3', 10, "server.service.parts: must be a"),
        (
            'law = "exponential", mean = "10ms"',
            'law = "mixture", parts = [{ share = 0.5, law = "constant", mean = 1 }]',
            10,
            "server.service.parts: parts must be pairs whose shares add up to 1",
        ),
        (
            'law = "exponential", mean = "10ms"',
            'law = "mixture", parts = [{ share = 2, law = "constant", mean = 1 }]',
            10,
            r"server.service.parts\[0\].share: share must be a number > 0 and <= 1, not 2",
        ),
        ('kind = "slow"', 'kind = "slo"', 3, r"faults\[0\].kind: must be one of .* did you mean 'slow'"),
        (", factor = 2", "", 3, r"faults\[0\]: needs 'factor'"),
        ("factor = 2", "factor = 0", 3, r"faults\[0\].factor: factor must be"),
        ("factor = 2", "factor = 2, share = 1", 3, r"faults\[0\].share: is not known here"),
        ('at = "1s"', "at = 7", 3, r"faults\[0\].at: .* must be less than duration=2"),
        ('[{ kind = "slow", at = "1s", lasts = "500ms", factor = 2 }]', "3", 3, "faults: must be a table or a list"),
        ('duration = "2s"\n', "", 1, "needs 'duration': .* a simulation without an end is not begun"),
        ('duration = "2s"', "duration = inf", 1, "duration: duration must be a time in seconds"),
        ('duration = "2s"', 'duration = "30d"', 1, "duration: duration must be so short"),
        ("deadline = 0.5", "deadline = true", 2, "deadline: deadline must be a time"),
        ("deadline = 0.5", "deadline = 0.5\nseed = -1", 3, "seed: seed must be an int"),
        ("deadline = 0.5", "deadline = 0.5\nwarmup = 3", 3, "warmup: warmup must be less than duration"),
        ("[stacks.bare]\n", "[stacks.bare]\nclent = []\n", 13, "stacks.bare.clent: is not known here: did you mean 'c"),
        ("attempts = 3", 'on = [["any"]]', 16, r"client\[0\].on: must be one or more of any, busy, down"),
        ("attempts = 3", "attemts = 3", 16, r"stacks.guarded.client\[0\].attemts: is not known .* did you mean 'at"),
        ("attempts = 3", "attempts = 0", 16, r"stacks.guarded.client\[0\].attempts: attempts must be"),
        ("attempts = 3", 'on = "eror"', 16, r"client\[0\].on: must be one or more of any, busy, down"),
        ("attempts = 3", "budget = 3", 16, r"client\[0\].budget: must be a table"),
        ("attempts = 3", "budget = { ratio = 7 }", 16, r"client\[0\].budget.ratio: ratio must be"),
        ("attempts = 3", "budget = { ration = 7 }", 16, r"client\[0\].budget.ration: is not known here"),
        ("attempts = 3", 'backoff = { kind = "odd" }', 16, r"client\[0\].backoff.kind: must be one of"),
        ("attempts = 3", 'backoff = { kind = "constant" }', 16, r"client\[0\].backoff: .*missing"),
        ('policy = "circuit_breaker"', 'policy = "breaker"', 17, r"client\[1\].policy: must be one of"),
        ('policy = "circuit_breaker", window', "window", 17, r"client\[1\]: needs 'policy'"),
        ('[200, "60s"]', "2.5", 17, r"client\[1\].window: window must be an int"),
        ('policy = "circuit_breaker", window = [200, "60s"]', 'policy = "keyed"', 17, r"client\[1\]: needs 'each'"),
        (
            'policy = "circuit_breaker", window = [200, "60s"]',
            'policy = "keyed", key = "shart", each = []',
            17,
            r"client\[1\].key: must be one of call, key,",
        ),
        (
            'policy = "circuit_breaker", window = [200, "60s"]',
            'policy = "keyed", key = "shard", each = []',
            17,
            r"client\[1\].each: must not be empty",
        ),
        (
            'policy = "circuit_breaker", window = [200, "60s"]',
            'policy = "keyed", key = "shard", each = { policy = "bulkhead", max_concurrent = 0 }',
            17,
            r"client\[1\].each.max_concurrent: max_concurrent must be",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(write, old, new, line, message):
    """Who reads the message knows where to look, and often what was meant."""
    with pytest.raises(ScenarioError) as caught:
        load(write(changed(old, new)))
    error = caught.value
    assert re.search(message, str(error)), error
    assert error.line == line, error
    assert str(error).startswith(f"{error.file}:{line}: ")
    assert error.key is None or error.key in str(error)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("sweep = 3\n", "sweep: must be a table"),
        ("[sweep]\nvalues = [1]\n", "sweep: needs 'key'"),
        ('[sweep]\nkey = "load.rate"\nvalues = []\n', "sweep.values: must be a list of one or more"),
        (
            '[sweep]\nkey = "load.speed"\nvalues = [1]\n',
            "sweep.key: must be a key of this file, like 'load.rate', not 'load.speed'",
        ),
        ('[sweep]\nkey = "lod.rate"\nvalues = [1]\n', "sweep.key: must be a key of this file"),
        ('[sweep]\nkey = "load.rate"\nvalues = [1]\nstep = 2\n', "sweep.step: is not known here"),
    ],
)
def test_a_sweep_with_a_mistake(write, sweep, message):
    """It is told as any other."""
    text = sweep + SCENARIO if sweep.startswith("sweep") else SCENARIO + sweep
    with pytest.raises(ScenarioError, match=re.escape(message)):
        load(write(text))


def test_stacks_that_are_none(write):
    """There is something to simulate, or nothing is begun."""
    with pytest.raises(ScenarioError, match="stacks: must have one stack or more"):
        load(write(SCENARIO.partition("[stacks.bare]")[0] + "[stacks]\n"))


def test_a_syntax_error_has_its_line(write):
    """tomllib's own errors are told in the same form."""
    with pytest.raises(ScenarioError, match=r"shop\.toml:6: "):
        load(write(changed("rate = 50", "rate = ")))
    with pytest.raises(ScenarioError, match=r"shop\.toml:\d+: "):
        load(write(SCENARIO + 'x = """'))


def test_a_file_that_is_no_text(tmp_path):
    """So is a file in another encoding."""
    path = tmp_path / "shop.toml"
    path.write_bytes(b"title = '\xff'\n")
    with pytest.raises(ScenarioError, match="is not UTF-8"):
        load(path)


def test_a_file_with_a_byte_order_mark(write):
    """Some editors begin every file with one."""
    assert load(write("\ufeff" + SCENARIO)).scenarios[0][1].deadline == 0.5


def test_a_file_nested_without_end(write):
    """Its reader gives up, and the message says why."""
    with pytest.raises(ScenarioError, match=r"shop\.toml: is nested too deeply to be read"):
        load(write("x = " + "[" * 5000 + "]" * 5000))


def test_data_files_have_lines_too(write):
    """A line that is no number is named."""
    write("0.1\nsoon\n", "arrivals.txt")
    with pytest.raises(ScenarioError, match=r"arrivals\.txt:2: must be a time in seconds, not 'soon'"):
        load(write(changed("rate = 50", 'process = "trace"\nfile = "arrivals.txt"')))


def test_lines_of_everything_that_toml_can_hold():
    """Quoted and dotted keys, strings of all kinds, nested tables and arrays: each has its line."""
    text = textwrap.dedent(
        '''\
        # a comment
        a.b = 1
        "c d" = """
        text with = and [brackets]
        """
        e = [
            [1, 2],  # a comment, with a comma
            { f = 'x', g = { h = "]" } },
        ]
        'q' = \'\'\'
        more\'\'\'
        [t."u v"]
        w = 1979-05-27T07:32:00Z
        [[x]]
        y = 1
        [x.z]
        k = true
        [[x]]
        y = -1.5e3
        [[x.l]]
        m = 2
        '''
    )
    import tomllib

    tomllib.loads(text)
    lines = lines_of(text)
    assert [lines[path] for path in (("a", "b"), ("c d",), ("e",), ("e", 0), ("e", 0, 1), ("e", 1, "g", "h"))] == [
        *(2, 3, 6, 7, 7, 8)
    ]
    assert [lines[path] for path in (("q",), ("t", "u v", "w"), ("x", 0, "y"), ("x", 0, "z", "k"))] == [10, 13, 15, 17]
    assert [lines[path] for path in (("x", 1), ("x", 1, "y"), ("x", 1, "l", 0, "m"))] == [18, 19, 21]
    assert nearest_line(lines, ("x", 1, "y", 3, "unknown")) == 19
    assert nearest_line(lines, ("unknown",)) == 1


def test_a_spend_limit_is_a_policy(write):
    """A stack may have one: each call costs what it reserves, and the minute's money is all that is spent."""

    def with_money(more: str = "") -> str:
        money = f'    {{ policy = "spend_limit", limit = "1 USD/minute", reserve = 0.05{more} }},\n'
        return changed("client = [\n", "client = [\n" + money)

    ((_, scenario),) = load(write(with_money())).scenarios
    outcome = simulate(scenario, seed=1)["guarded"]
    assert 10 < outcome.good <= 20
    assert outcome.rejected > 50
    with pytest.raises(ScenarioError, match="timezone: must be 'UTC'"):
        load(write(with_money(', timezone = "CET"')))
