"""The dashboard and the alerts ask for what is exported, by names and labels; promtool reads all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from measured import measured

from resilio import (
    Endpoint,
    RetryBudget,
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    cli,
    fallback,
    keyed,
    load_shed,
    pool,
    priority,
    rate_limit,
    registry,
    retry,
    spend_limit,
    timeout,
)
from resilio._policies.rate_limit.policy import Rate
from resilio.cost import charge
from resilio.integrations._shared import headers as _wire
from resilio.metrics._assets import text_of
from resilio.metrics._catalogue import CATALOGUE, DURATION
from resilio.metrics._numbers import ENDPOINT_STATES
from resilio.metrics._text import full_name

pytestmark = pytest.mark.once

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from resilio.metrics.prometheus import ResilioCollector, generate_latest  # noqa: E402
from resilio.sharing import Fleet, MemoryEngine  # noqa: E402

HERE = Path(__file__).parent
OF_A_SCRAPE = {"job"}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)"
)


def boom(*_: Any) -> None:
    raise OSError


@pytest.fixture
def text(vt: Any) -> Iterator[str]:
    """What a scrape gives after every kind of policy has done everything that is counted."""
    registry.clear()
    scraped = prometheus_client.CollectorRegistry()
    ResilioCollector(scraped)
    held = [*_gates(vt), *_strategies(vt), *_shared()]
    _wire.read_deadline("a stranger's")
    yield generate_latest(scraped).decode()
    del held
    registry.clear()


def _gates(vt: Any) -> Iterator[Any]:
    breaker = circuit_breaker("breaker", consecutive=1)
    for _ in range(3):
        breaker.try_call(boom)
    yield breaker
    shadow = bulkhead(1, name="pool", enforce=False)
    with shadow, shadow:
        pass
    yield shadow
    heavy = bulkhead(5, name="heavy", weight=lambda *_: 1 / 0)
    heavy.call(int)
    yield heavy
    limit = rate_limit(Rate("2/min", unit="tokens"), name="rate")
    for _ in range(5):
        limit.try_call(int)
    yield limit
    money = spend_limit("1 USD/day", reserve=0.1, name="money")
    money.call(charge, 0.2)
    yield money
    learned = adaptive_limit(law="vegas", name="learned", start=4, ceiling=8)
    for _ in range(300):
        with learned:
            vt.advance(0.01)
    yield learned
    shedder = load_shed(max_concurrent=1, name="shedder")

    @shedder
    async def serve() -> None:
        await anyio.sleep(0.1)

    async def asked() -> None:
        with suppress(Exception), priority("background"):
            await serve()

    async def crowd() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(asked)

    vt.run(crowd)
    yield shedder
    levels = Endpoint("one", level=0), Endpoint("two", level=1)
    replicas = pool("replicas", *levels, each=lambda _: bulkhead(5), affinity=lambda: "cart")
    replicas.call(lambda endpoint: None)
    replicas.try_call(lambda endpoint: 1 / 0)
    yield replicas
    hosts = keyed(circuit_breaker, key="host", max_keys=2, name="hosts")
    guarded = hosts(lambda host: host)
    for host in "abcd":
        guarded(host)
    yield hosts


def _shared() -> Iterator[Any]:
    for policy in (
        circuit_breaker("shared", scope="host"),
        bulkhead(3, name="shared", scope="host"),
        rate_limit(Rate("100/s", unit="tokens"), name="shared", scope="host"),
        adaptive_limit(name="shared", scope="host"),
    ):
        policy.call(int)
        yield policy
    shop = Fleet("shop", MemoryEngine(), is_stepped=True)
    model = rate_limit(Rate("100/s", unit="tokens"), name="of a fleet", scope=shop)
    shop.step()
    model.call(int)
    yield model


def _strategies(vt: Any) -> Iterator[Any]:
    again = retry(on=OSError, attempts=2, backoff=0.0, budget=RetryBudget("paying"), name="again")
    again.try_call(boom)
    yield again
    copied = measured(name="copied")

    @copied
    @timeout(0.5, name="timed")
    async def slow() -> None:
        await anyio.sleep(1.0)

    async def call() -> None:
        with suppress(TimeoutError):
            await slow()

    vt.run(call)
    yield slow
    elsewhere = fallback(lambda: 1, boom, on=OSError, default=None, name="elsewhere")
    elsewhere.try_call(boom)
    yield elsewhere


# ---- the exposition --------------------------------------------------------------------------------------------------

SELDOM = {"changes_lost", "shared_degraded"}
"""What the scene above need not show."""


def test_every_number_is_exported_with_its_labels(text: str) -> None:
    """The catalogue is true: each of its metrics has samples, and those have exactly its labels."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {one.prometheus for one in CATALOGUE.values()}
    for one in CATALOGUE.values():
        samples = families[one.prometheus].samples
        assert samples or one.name in SELDOM, one.name
        for sample in samples:
            assert set(sample.labels) - {"le"} == set(one.labels), sample


def test_labels_are_bounded(text: str) -> None:
    """No key, no lambda's name, no text of an exception: names from the code and closed sets."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(label, set()).add(value)
    assert found["target"] == {"unnamed", "boom"}
    assert found["clock"] == {"total", "first", "idle", "deadline"}
    assert found["unit"] == {"tokens", "USD"}
    assert found["part"] == {"answer"}
    assert found["model"] == {"none"}
    assert found["function"] == {"weight"}
    assert {"deadline"} <= found["header"] <= {"deadline", "priority", "tenant"}  # of the whole process
    assert not {"a", "b", "c", "d"} & set().union(*(found[label] for label in found if label != "le"))


def test_both_writers_say_the_same(text: str) -> None:
    """Ours, and that of prometheus_client, which sorts labels and knows floats only."""
    scraped = prometheus_client.CollectorRegistry()
    ResilioCollector(scraped)
    prometheus_client.Counter("somebody_elses", "Not ours", registry=scraped).inc()

    def read(written: bytes) -> Any:
        families = text_string_to_metric_families(written.decode())
        return {
            (sample.name, frozenset(sample.labels.items())): (sample.value, family.type, family.documentation)
            for family in families
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    ours, theirs = read(generate_latest(scraped)), read(prometheus_client.generate_latest(scraped))
    assert ours.keys() == theirs.keys()
    moving = {"resilio_exporter_errors_total", "resilio_retry_after_seconds"}
    assert {key: ours[key] for key in ours if key[0] not in moving} == {
        key: theirs[key] for key in theirs if key[0] not in moving
    }
    assert len(ours) > 400


@pytest.mark.untraced  # promtool reads what others trace
@needs_promtool
def test_promtool_finds_no_fault_in_the_metrics(text: str) -> None:
    """`promtool check metrics`: syntax, types, help, units and endings of names."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- the dashboard and the alerts ------------------------------------------------------------------------------------


def expressions() -> dict[str, str]:
    """Every PromQL expression that is handed out, by where it stands."""
    found = {}
    dashboard = json.loads(text_of("grafana"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        found[annotation["name"]] = annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
        if query:
            found[variable["name"]] = f"sum by ({query[2]}) ({query[1]})"
    alerts = re.findall(r"- alert: (\w+)\n +expr: (.*)\n", text_of("alerts"))
    return found | dict(alerts)


def without_variables(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "5m").replace("$kind", ".*").replace("$policy", ".*")


NAMES = {
    **{full_name(one): set(one.labels) for one in CATALOGUE.values() if one is not DURATION},
    f"{DURATION.prometheus}_bucket": {*DURATION.labels, "le"},
    f"{DURATION.prometheus}_count": set(DURATION.labels),
    f"{DURATION.prometheus}_sum": set(DURATION.labels),
}


def test_expressions_ask_for_what_there_is() -> None:
    """Each metric exists, with each label that is selected by, summed by or matched on."""
    found = expressions()
    assert len(found) > 50
    for where, expression in found.items():
        names = set(re.findall(r"\bresilio_\w+", expression))
        assert names, where
        for name in names:
            assert name in NAMES, f"{where}: {name}"
        for name, matchers in re.findall(r"(resilio_\w+)\{([^}]*)\}", expression):
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
                assert label in NAMES[name], f"{where}: {name} has no label {label}"
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            wanted = set(labels.split(", ")) - OF_A_SCRAPE
            assert wanted <= set.union(*(NAMES[name] for name in names)), f"{where}: {labels}"


def test_values_of_closed_labels_exist(text: str) -> None:
    """A state, reason, outcome, clock or class that nobody exports would never match: an alert that cannot fire."""
    closed = {
        "state": {"open", "half_open", "forced_open", "closed", "overloaded", *ENDPOINT_STATES},
        "outcome": {"success", "failure", "ignored", "rejected", "cancelled"},
        "priority": {"critical", "standard", "sheddable", "background"},
        "result": {"started", "defaulted", "exhausted"},
        "kind": {"circuit_breaker", "bulkhead", "pool", "retry", "timeout"},
        "level": {"0", "1"},
    }
    exported: dict[str, set[str]] = {label: set() for label in closed}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label in closed.keys() & sample.labels.keys():
                exported[label].add(sample.labels[label])
    assert all(closed[label] <= exported[label] for label in closed if label != "priority")
    from resilio._context.priority import CLASSES
    from resilio._native.strategies import STOP_REASONS

    assert closed["priority"] == set(CLASSES)
    closed |= {"reason": set(STOP_REASONS), "segment": set(circuit_breaker().call_seconds)}
    for where, expression in expressions().items():
        for label, values in re.findall(r'(\w+)(?:=~|=|!=)"([^"$]+)"', expression):
            known = closed[label]
            assert set(values.split("|")) <= known, f"{where}: {label}={values}"


def test_every_legend_names_labels_that_the_expression_keeps() -> None:
    """`{{policy}}` in a legend is empty where the expression sums it away."""
    for panel in json.loads(text_of("grafana"))["panels"]:
        for target in panel.get("targets", []):
            kept = set(re.search(r"by \(([^)]*)\)", target["expr"] + "by ()")[1].split(", "))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    """The picture that Grafana draws is the one that was meant."""
    panels = json.loads(text_of("grafana"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_panels_of_one_kind_look_alike() -> None:
    """Each target has the data source of the page and its own letter; panels of one kind have one set of options."""
    looks: dict[str, Any] = {}
    for panel in json.loads(text_of("grafana"))["panels"]:
        targets = panel.get("targets", [])
        assert {one["datasource"]["uid"] for one in targets} <= {"${datasource}"}
        assert "".join(one["refId"] for one in targets) == "ABCD"[: len(targets)], panel["title"]
        look = panel["gridPos"]["w"], panel["gridPos"]["h"], panel.get("options")
        assert looks.setdefault(panel["type"], look) == look, panel["title"]
    assert set(looks) == {"row", "stat", "timeseries"}


@pytest.mark.untraced  # promtool reads what others trace
@needs_promtool
def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    """Those of the dashboard as recording rules: the parser of Prometheus itself."""
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for at, expression in enumerate(expressions().values()):
        quoted = json.dumps(without_variables(expression))
        lines += [f"      - record: resilio:test{at}", f"        expr: {quoted}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{len(expressions())} rules found" in done.stdout


@pytest.mark.untraced  # promtool reads what others trace
@needs_promtool
def test_promtool_finds_no_fault_in_the_alerts_and_each_fires(tmp_path: Path) -> None:
    """`promtool check rules` and `promtool test rules`: on what each is about, and not for a healthy service."""
    (tmp_path / "alerts.yml").write_text(text_of("alerts"))
    shutil.copy(HERE / "alerts_test.yml", tmp_path)
    for what, file in (("check", "alerts.yml"), ("test", "alerts_test.yml")):
        command = ["promtool", what, "rules", str(tmp_path / file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
    tests = (HERE / "alerts_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", text_of("alerts")):
        fires = re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels", tests)
        assert fires, f"no test in which {alert} fires"


@pytest.mark.untraced  # promtool reads what others trace
@needs_promtool
def test_promtool_notices_an_alert_that_cannot_fire(tmp_path: Path) -> None:
    """The tests of the alerts test something."""
    (tmp_path / "alerts.yml").write_text(text_of("alerts").replace('state=~"open|half_open"', 'state="opened"'))
    shutil.copy(HERE / "alerts_test.yml", tmp_path)
    command = ["promtool", "test", "rules", str(tmp_path / "alerts_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ResilioBreakerOpen" in done.stderr + done.stdout


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["grafana", "alerts"])
def test_the_command_prints_them(what: str, capsys: Any) -> None:
    """As they are, to be sent into a file."""
    assert cli.main(["export", what]) == 0
    assert capsys.readouterr().out == text_of(what)


@pytest.mark.parametrize("arguments", [["dashboard"], ["dashboard", "--alerts"], ["export"], ["export", "--alerts"]])
def test_the_command_has_one_form(arguments: list[str], capsys: Any) -> None:
    """`resilio dashboard --alerts` printed no dashboard: what is exported is an argument, and the old name is gone."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
