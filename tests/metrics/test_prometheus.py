"""The Prometheus collector: what it reads at a scrape, and that totals never go back."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from resilio import RetryBudget, adaptive_limit, bulkhead, circuit_breaker, events, pipeline, registry, retry

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from prometheus_client.openmetrics import exposition, parser  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from resilio.metrics.prometheus import BUCKETS, ResilioCollector  # noqa: E402


def boom() -> None:
    raise OSError("boom")


@pytest.fixture(autouse=True)
def _nobody_else() -> None:
    """Unnamed policies of other tests may wait for the collector."""
    registry.clear()


class Scraped:
    """A registry with a collector, asked for one sample at a time."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.collector = ResilioCollector(self.registry, **options)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}

    def count(self, name: str) -> int:
        return len([key for key in self.samples() if key[0] == name])

    def __call__(self, name: str, /, **labels: str) -> Any:
        return self.samples().get((name, frozenset(labels.items())))


BREAKER = {"kind": "circuit_breaker", "policy": "payments"}
POOL = {"kind": "bulkhead", "policy": "pool"}
UNNAMED = {"kind": "circuit_breaker", "policy": "unnamed"}


def test_calls_are_counted_by_outcome() -> None:
    """Nothing is pushed: the numbers are those of the moment of the scrape."""
    scraped, policy = Scraped(), circuit_breaker("payments", consecutive=3)
    policy.call(int)
    for _ in range(7):
        policy.try_call(boom)
    policy.reset()
    with pytest.raises(KeyboardInterrupt), policy:
        raise KeyboardInterrupt
    counts = {
        outcome: scraped("resilio_calls_total", **BREAKER, outcome=outcome)
        for outcome in ("success", "failure", "ignored", "rejected", "cancelled")
    }
    assert counts == {"success": 1, "failure": 3, "ignored": 1, "rejected": 4, "cancelled": 0}
    assert scraped("resilio_rejected_total", **BREAKER, reason="open") == 4
    assert scraped("resilio_rejected_total", **BREAKER, reason="probing") is None


def test_gauges_show_what_is_going_on_now() -> None:
    """Calls under way, their limit, and one state of the closed set."""
    scraped, pool, policy = Scraped(), bulkhead(7, name="pool"), circuit_breaker("payments")
    with pool, policy:
        assert scraped("resilio_inflight", **POOL) == 1
        assert scraped("resilio_inflight", **BREAKER) == 1
    assert (scraped("resilio_inflight", **POOL), scraped("resilio_queued", **POOL)) == (0, 0)
    assert (scraped("resilio_limit", **POOL), scraped("resilio_limit", **BREAKER)) == (7, None)
    policy.force_open()
    states = {state: scraped("resilio_state", **BREAKER, state=state) for state in policy.gates[0].states}
    assert states["forced_open"] == 1
    assert sum(states.values()) == 1


def test_shadow_mode_has_its_own_counter() -> None:
    """What enforcement would have rejected is seen before it is turned on."""
    scraped, pool = Scraped(), bulkhead(1, name="pool", enforce=False)
    with pool, pool:
        pass
    assert scraped("resilio_would_reject_total", **POOL) == 1


def test_latencies_are_a_classic_histogram(vt: Any) -> None:
    """Cumulative buckets, sum and count, read from the native histogram."""
    scraped, policy = Scraped(), circuit_breaker("payments")
    for seconds in (0.0004, 0.003, 0.003, 0.7, 90.0):
        with policy:
            vt.advance(seconds)
    bounds = ("0.001", "0.005", "1.0", "60.0", "+Inf")
    buckets = {le: scraped("resilio_call_duration_seconds_bucket", **BREAKER, le=le) for le in bounds}
    assert buckets == {"0.001": 1, "0.005": 3, "1.0": 4, "60.0": 4, "+Inf": 5}
    assert scraped("resilio_call_duration_seconds_count", **BREAKER) == 5
    assert scraped("resilio_call_duration_seconds_sum", **BREAKER) == pytest.approx(90.7064)
    assert scraped.count("resilio_call_duration_seconds_bucket") == len(BUCKETS) + 1


def test_buckets_are_ones_own_choice() -> None:
    """Infinity is added, or may be given."""
    circuit_breaker("payments")
    for buckets in ((0.1, 1), (0.1, 1, float("inf"))):
        scraped = Scraped(buckets=buckets)
        assert scraped("resilio_call_duration_seconds_bucket", **BREAKER, le="+Inf") == 0
        assert scraped.count("resilio_call_duration_seconds_bucket") == 3


@pytest.mark.parametrize("buckets", [(), (0,), (-1, 1), (2, 1), (1, 1), (float("nan"),), (float("inf"),)])
def test_bad_buckets_are_rejected(buckets: Any) -> None:
    """They must ascend from above 0."""
    with pytest.raises(ValueError, match="buckets must be ascending"):
        ResilioCollector(CollectorRegistry(), buckets=buckets)


def test_a_pipeline_and_its_policies_are_shown() -> None:
    """A pipeline has numbers of its own; a stack of decorators has none."""
    scraped = Scraped()
    both = pipeline(circuit_breaker("payments"), bulkhead(3, name="pool"), name="both")
    both.call(int)
    circuit_breaker("outer")(bulkhead(3, name="inner")(lambda: 1))()
    shown = {dict(labels)["policy"] for name, labels in scraped.samples() if name == "resilio_inflight"}
    assert shown == {"payments", "pool", "both", "outer", "inner"}
    assert scraped("resilio_calls_total", kind="pipeline", policy="both", outcome="success") == 1


def test_a_collector_may_show_some_policies_only() -> None:
    """Given policies, and nothing else."""
    shown = circuit_breaker("payments")
    circuit_breaker("hidden")
    scraped = Scraped(policies=[shown])
    names = {dict(labels).get("policy") for _, labels in scraped.samples()}
    assert names == {"payments", None}


def test_policies_of_one_label_are_summed() -> None:
    """Unnamed policies of lambdas share a label: their counts add up, and their states are counted."""
    scraped = Scraped()
    policies = [circuit_breaker() for _ in range(3)]
    for policy in policies:
        policy(lambda: 1)()
    policies[0].force_open()
    assert scraped("resilio_calls_total", **UNNAMED, outcome="success") == 3
    assert scraped("resilio_call_duration_seconds_count", **UNNAMED) == 3
    assert scraped("resilio_state", **UNNAMED, state="closed") == 2
    assert scraped("resilio_state", **UNNAMED, state="forced_open") == 1


def test_totals_never_go_back_when_a_policy_is_gone() -> None:
    """What it had counted by its last scrape is kept, in each collector by itself, and gauges let it go."""
    first, second = Scraped(), Scraped()
    policy = circuit_breaker()
    policy(lambda: 1)()
    assert first("resilio_calls_total", **UNNAMED, outcome="success") == 1
    del policy
    gc.collect()
    again = circuit_breaker()
    again(lambda: 1)()
    assert first("resilio_calls_total", **UNNAMED, outcome="success") == 2
    assert first("resilio_state", **UNNAMED, state="closed") == 1
    assert second("resilio_calls_total", **UNNAMED, outcome="success") == 1


def test_totals_never_go_back_when_a_name_is_given_anew() -> None:
    """A test that clears the registry, or a reload, does not look like a counter reset."""
    scraped = Scraped()
    circuit_breaker("payments").call(int)
    assert scraped("resilio_calls_total", **BREAKER, outcome="success") == 1
    registry.clear()
    circuit_breaker("payments").call(int)
    assert scraped("resilio_calls_total", **BREAKER, outcome="success") == 2
    assert scraped("resilio_call_duration_seconds_count", **BREAKER) == 2


def test_retries_their_ends_and_their_budget_are_shown(vt: Any) -> None:
    """Attempts after the first, why there were no more, and the tokens there are; of a shared budget at each user."""
    budget = RetryBudget("shared", decay=None)
    scraped = Scraped()
    for name in ("one", "other"):
        policy = retry(on=OSError, backoff=0.0, attempts=2, budget=budget, name=name)
        policy.try_call(boom)
    policy.try_call(int, "x")
    one, other = ({"kind": "retry", "policy": name} for name in ("one", "other"))
    assert scraped("resilio_retries_total", **one) == scraped("resilio_retries_total", **other) == 1
    assert scraped("resilio_retry_stopped_total", **other, reason="attempts") == 1
    assert scraped("resilio_retry_stopped_total", **other, reason="not_retryable") == 1
    assert scraped("resilio_retry_stopped_total", **one, reason="not_retryable") is None
    assert scraped("resilio_retry_budget", **one) == scraped("resilio_retry_budget", **other) == 1.0
    retry(on=OSError, budget=None, name="free")
    assert scraped("resilio_retry_budget", kind="retry", policy="free") is None


def test_listener_errors_are_a_counter() -> None:
    """A failing listener is seen where somebody looks."""
    scraped, policy = Scraped(), circuit_breaker("payments")
    stop = policy.on_event(lambda event: 1 / 0)
    before = scraped("resilio_listener_errors_total")
    policy.force_open()
    stop()
    assert scraped("resilio_listener_errors_total") == before + 1 == events.listener_errors()


def test_the_exposition_is_valid_openmetrics() -> None:
    """A strict parser reads it, also with nothing to show, a name full of signs, and numbers of every kind."""
    scraped = Scraped()
    circuit_breaker('pay"ments\\ ü').try_call(boom)
    bulkhead(2, name="pool").call(int)
    text = exposition.generate_latest(scraped.registry).decode()
    families = {family.name for family in parser.text_string_to_metric_families(text)}
    assert {"resilio_calls", "resilio_call_duration_seconds", "resilio_state", "resilio_limit"} <= families
    assert list(Scraped(policies=[]).collector.describe())


@pytest.mark.untraced
def test_scrapes_while_calls_go_on_never_go_back() -> None:
    """No scrape sees a total smaller than one before it, from whichever thread."""
    scraped, policy, stop, wrong = Scraped(), circuit_breaker("payments"), threading.Event(), []

    def scrape() -> None:
        last = 0.0
        for _ in range(15):
            now = scraped("resilio_calls_total", **BREAKER, outcome="success") or 0.0
            if now < last:
                wrong.append((last, now))
            last = now

    def call() -> None:
        while not stop.is_set():
            policy.call(int)

    caller = threading.Thread(target=call)
    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in (caller, *scrapers):
        thread.start()
    for thread in scrapers:
        thread.join()
    stop.set()
    caller.join()
    assert wrong == []


def test_an_adaptive_limit_shows_what_it_has_learned() -> None:
    """The gauge of the limit is the one in force, and its rejections are counted by reason."""
    scraped, limit = Scraped(), adaptive_limit(name="db", start=1, ceiling=1)
    labels = {"kind": "adaptive_limit", "policy": "db"}
    with limit:
        assert not limit.try_acquire()
        assert (scraped("resilio_limit", **labels), scraped("resilio_inflight", **labels)) == (1, 1)
    assert scraped("resilio_rejected_total", **labels, reason="limit") == 1
