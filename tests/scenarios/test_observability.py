"""What one sees from outside: metrics (OB-01) and logs (OB-02)."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, pipeline
from resilio._events import subscriptions
from resilio.metrics import logging as rejection_logging

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from resilio.metrics.prometheus import ResilioCollector  # noqa: E402


def boom(secret: str = "") -> None:
    raise OSError(secret)


def scrape(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def sample(scraped: Any, name: str, /, **labels: str) -> float:
    return scraped[name, frozenset(labels.items())]


# ---- OB-01 --------------------------------------------------------------------------------------------------------


def test_ob01_two_registries_in_one_process_work() -> None:
    """OB-01: each has its own collector, and both see the same numbers."""
    first, second = CollectorRegistry(), CollectorRegistry()
    ResilioCollector(first)
    policy = circuit_breaker("payments")
    policy.call(int)
    ResilioCollector(second)
    policy.call(int)
    for registry in (first, second):
        scraped = scrape(registry)
        assert sample(scraped, "resilio_calls_total", kind="circuit_breaker", policy="payments", outcome="success") == 2
    with pytest.raises(ValueError, match="Duplicated"):
        ResilioCollector(first)


def test_ob01_labels_are_closed_sets() -> None:
    """OB-01: no exception text, no argument, no lambda's name ever becomes a label."""
    policy, anonymous = circuit_breaker("payments"), circuit_breaker(consecutive=1)
    registry = CollectorRegistry()
    ResilioCollector(registry, policies=[policy, anonymous])
    guarded = anonymous(lambda secret: boom(secret + "!"))
    for one in (policy, guarded.pipeline):
        for n in range(20):
            one.try_call(boom, f"password{n}")
    exposed = generate_latest(registry).decode()
    for leak in ("password", "OSError", "lambda", "boom", "<"):
        assert leak not in exposed
    scraped = scrape(registry)
    values: dict[str, set[str]] = {}
    for name, labels in scraped:
        for label, value in (
            labels if name != "resilio_ignored_headers_total" else ()
        ):  # of the process, not of a policy
            values.setdefault(label, set()).add(value)
    assert values["kind"] == {"circuit_breaker"}
    assert values["policy"] == {"payments", "unnamed"}
    assert values["outcome"] == {"success", "failure", "ignored", "rejected", "cancelled"}
    assert values["reason"] == {"open"}
    assert values["state"] == set(policy.gates[0].states)
    assert set(values) == {"kind", "policy", "outcome", "reason", "state", "segment", "le"}


def test_ob01_prometheus_is_imported_when_it_is_used() -> None:
    """OB-01: not by `import resilio`; without the extra one clear error names it."""
    script = """
        import sys, resilio
        print("prometheus_client" in sys.modules)
        sys.modules["prometheus_client"] = None
        try:
            import resilio.metrics.prometheus
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "False",
        "resilio.metrics.prometheus needs prometheus-client: pip install 'resilio-sdk[prometheus]'",
    ]


# ---- OB-02 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: Any) -> Iterator[Any]:
    """All that resilio logs, from DEBUG on."""
    caplog.set_level(logging.DEBUG, "resilio")
    yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "resilio"]
    rejection_logging.disable()


@pytest.fixture
def quiet(caplog: Any, monkeypatch: Any) -> Iterator[Any]:
    """All that resilio logs with the logger at INFO, and rejections not asked for, then and afterwards."""
    monkeypatch.setattr(subscriptions, "_rejections_logged", None)
    caplog.set_level(logging.INFO, "resilio")
    yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "resilio"]
    rejection_logging.disable()


def outage(policy: Any) -> None:
    for n in range(100):
        policy.try_call(boom, f"secret{n}")


def test_ob02_a_state_change_is_one_line(quiet: Any, vt: Any) -> None:
    """OB-02: an outage of a hundred calls is one warning, and recovery one line a step."""
    policy = circuit_breaker("payments", open_for=1)
    outage(policy)
    vt.advance(2)
    policy.call(int)
    policy.call(int)
    assert quiet() == [
        ("WARNING", "circuit_breaker 'payments': closed -> open (consecutive)"),
        ("INFO", "circuit_breaker 'payments': open -> half_open (elapsed)"),
        ("INFO", "circuit_breaker 'payments': half_open -> closed (probes_succeeded)"),
    ]


def test_ob02_ten_thousand_rejections_of_an_open_breaker_are_two_lines(quiet: Any, vt: Any) -> None:
    """OB-02: one warning when it opens, and one summary of all that was rejected; no traceback, no line a call."""
    stop = rejection_logging.summaries(every=3600)
    policy = circuit_breaker("payments", open_for=600, max_open_for=600)
    for _ in range(10_010):
        policy.try_call(boom)
    vt.advance(60)
    stop()
    assert quiet() == [
        ("WARNING", "circuit_breaker 'payments': closed -> open (consecutive)"),
        ("INFO", "circuit_breaker 'payments' rejected 10,000 calls in 60 s: open 10,000"),
    ]


def test_ob02_rejections_are_debug_and_only_when_enabled(quiet: Any, caplog: Any) -> None:
    """OB-02: enabled, each is a line at DEBUG; before and after, a rejection does no work for it."""
    pool = bulkhead(1, name="pool")
    caplog.set_level(logging.DEBUG, "resilio")

    def asked() -> bool:
        return subscriptions._REJECTIONS in subscriptions.covering(pool.gates[0])

    with pool:
        pool.try_call(boom)
        assert not asked()
        rejection_logging.enable()
        assert asked()
        pool.try_call(boom, "secret")
        rejection_logging.disable()
        assert not asked()
        pool.try_call(boom)
    assert quiet() == [("DEBUG", "bulkhead 'pool' rejected a call: full")]


def test_ob02_a_logger_at_debug_is_enough_for_policies_made_then(quiet: Any, caplog: Any) -> None:
    """OB-02: who turns DEBUG on before the policies are made need not know of anything else."""
    caplog.set_level(logging.DEBUG, "resilio")
    pool = bulkhead(1)
    with pool:
        pool.try_call(boom)
    assert quiet() == [("DEBUG", "bulkhead rejected a call: full")]
    rejection_logging.disable()
    other = bulkhead(1)
    with other:
        other.try_call(boom)
    assert len(quiet()) == 1


def test_ob02_no_argument_or_result_is_logged(lines: Any, caplog: Any, vt: Any) -> None:
    """OB-02: lines and their fields name the policy, states and reasons, nothing of the calls."""
    rejection_logging.enable()
    outage(circuit_breaker("payments"))
    assert len(lines()) == 91
    for record in caplog.records:
        assert "secret" not in repr(vars(record))
    fields = vars(caplog.records[0])
    assert {name: fields[name] for name in ("policy", "policy_name", "old_state", "new_state")} == {
        "policy": "circuit_breaker",
        "policy_name": "payments",
        "old_state": "closed",
        "new_state": "open",
    }


def test_ob02_draining_is_a_warning(quiet: Any) -> None:
    """OB-02: calls begin to be rejected, whoever asked for it."""
    both = pipeline(circuit_breaker("a"), name="service")
    both.drain()
    both.resume()
    assert quiet() == [
        ("WARNING", "pipeline 'service': serving -> draining (draining)"),
        ("INFO", "pipeline 'service': draining -> drained (draining)"),
        ("INFO", "pipeline 'service': drained -> serving (draining)"),
    ]


def test_ob02_a_program_without_logging_set_up_prints_nothing() -> None:
    """OB-02: a library is silent unless somebody listens."""
    script = """
        import resilio
        policy = resilio.circuit_breaker("payments")
        policy.force_open()
        policy.try_call(int)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
