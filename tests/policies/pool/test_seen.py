"""What is seen of a pool: snapshot, health, events, log lines, metrics, the live page, explain and warnings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

import resilio
from resilio import (
    Endpoint,
    NoEndpointError,
    PipelineWarning,
    bulkhead,
    circuit_breaker,
    events,
    hedge,
    keyed,
    pipeline,
    pool,
    probe_http,
    rate_limit,
    registry,
    retry,
    timeout,
)
from resilio.live._details import details_of
from resilio.live._journal import Journal
from resilio.live._sampler import Sampler
from resilio.metrics._book import Book
from resilio.metrics._buckets import BUCKETS, Chooser
from resilio.testing import VirtualTime, assert_no_leaks, record_events


@pytest.fixture
def vt(resilio_virtual_time: VirtualTime) -> Iterator[VirtualTime]:
    registry.clear()
    return resilio_virtual_time


def two(**options: Any) -> Any:
    """One endpoint of each level, so that it is known where a call goes."""
    return pool("search", Endpoint("https://a", name="a", zone="eu-1a"), Endpoint("b", level=1), **options)


def fail(endpoint: Endpoint) -> None:
    raise OSError(endpoint.name)


def eject(p: Any) -> None:
    """Let the endpoint of level 0 fail until its breaker opens."""
    for _ in range(5):
        assert not p.try_call(fail)


# ---- snapshot and health


@pytest.mark.parametrize(
    ("enforce", "state", "share", "calls"),
    [(True, "ejected", 0.0, 0), (0.5, "warming", 0.5, 33), (False, "well", 1.0, 50)],
)
def test_an_open_breaker_ejects_as_far_as_it_is_enforced(
    vt: VirtualTime, enforce: float, state: str, share: float, calls: int
) -> None:
    """In shadow mode an endpoint was shown as ejected though it got its calls; half enforced it got 1 in 1,000."""
    p = pool("search", Endpoint("a"), Endpoint("b"), each=lambda endpoint: circuit_breaker(enforce=enforce))
    p._placed["a"].breakers[0].force_open()
    for _ in range(100):
        p.call(lambda endpoint: vt.advance(0.001))
    a = p.snapshot()["a"]
    assert (a.state, a.share) == (state, pytest.approx(share))
    assert abs(a.calls - calls) <= 1
    assert p.health().ready


def test_a_snapshot_shows_each_endpoint(vt: VirtualTime) -> None:
    """An operator sees where calls go, and why not elsewhere."""
    p = two()

    def slow(endpoint: Endpoint) -> None:
        vt.advance(0.25)

    p.call(slow)
    snapshot = p.snapshot()
    a, b = snapshot.endpoints
    assert snapshot["a"] is a
    assert (a.target, a.zone, a.level, a.weight, a.state, a.share) == ("https://a", "eu-1a", 0, 1.0, "well", 1.0)
    assert (a.calls, a.successes, a.failures, a.inflight, a.retry_after) == (1, 1, 0, 0, None)
    assert a.latency == pytest.approx(0.25)
    assert a.price == pytest.approx(0.25)
    assert (b.level, b.calls, b.latency, b.price) == (1, 0, None, None)
    assert snapshot.levels == {0: 1.0, 1: 0.0}
    assert (snapshot.kind, snapshot.calls, snapshot.successes) == ("pool", 1, 1)
    with pytest.raises(KeyError, match=r"no endpoint is named 'c'; the endpoints: 'a', 'b'"):
        snapshot["c"]


def test_an_ejected_endpoint_is_seen_to_come_back(vt: VirtualTime) -> None:
    """Ejected while its breaker is open, probing while it is half open, well after two successes."""
    p = two()
    eject(p)
    snapshot = p.snapshot()
    assert (snapshot["a"].state, snapshot["a"].share) == ("ejected", 0.0)
    assert 0.0 < (snapshot["a"].retry_after or 0.0) <= 0.2
    assert snapshot.levels == {0: 0.0, 1: 1.0}
    assert p.health().ready
    assert p.health().reasons == ("endpoint a of pool search is ejected",)
    vt.advance(0.3)
    with p.pick() as endpoint:
        assert endpoint.name == "a", "one call is its probe"
        assert p.snapshot()["a"].state == "probing"
    p.call(lambda endpoint: endpoint)
    assert p.snapshot()["a"].state == "well"


def test_the_levels_of_a_snapshot_are_those_of_now(vt: VirtualTime) -> None:
    """A breaker that was opened by hand showed its endpoint as ejected, at a level that took all calls."""
    p = two()
    p["a"].force_open()
    assert (p.snapshot()["a"].share, p.snapshot().levels) == (0.0, {0: 0.0, 1: 1.0})
    p["a"].reset()
    assert (p.snapshot()["a"].share, p.snapshot().levels) == (1.0, {0: 1.0, 1: 0.0})


def test_a_pool_without_endpoints_to_call_is_not_ready(vt: VirtualTime) -> None:
    """A readiness check takes a process out of service that can reach nothing."""
    assert not pool("none").health()
    p = two()
    for name in ("a", "b"):
        p.drain(name)
    assert not p.health().ready
    assert p.snapshot()["a"].state == "drained"
    with pytest.raises(NoEndpointError, match="drained"):
        p.call(lambda endpoint: endpoint)


def test_a_call_under_way_is_no_leak_once_it_ends(vt: VirtualTime) -> None:
    """The check between two tests finds what an endpoint's bulkhead holds, whichever endpoint it is."""
    p = pool("limited", Endpoint("a"), each=lambda endpoint: bulkhead(2))
    with p.pick(), pytest.raises(AssertionError, match="pool 'limited': inflight 1"):
        assert_no_leaks(p)
    assert_no_leaks(p)


# ---- events and log lines


def test_ejection_and_return_are_events_of_the_pool(vt: VirtualTime) -> None:
    """They have the endpoint's name, and the reason for which its breaker opened and closed."""
    p = two()
    with record_events(kinds=[events.StateChanged]) as heard:
        eject(p)
        vt.advance(0.3)
        for _ in range(2):
            p.call(lambda endpoint: endpoint)
    assert [(one.key, one.old, one.new, one.reason) for one in heard.of(events.StateChanged, "pool:search")] == [
        ("a", "well", "ejected", "consecutive"),
        ("a", "ejected", "well", "probes_succeeded"),
    ]
    assert heard.states("circuit_breaker:search/a") == ["open", "half_open", "closed"]


def test_changes_by_hand_are_events_too(vt: VirtualTime) -> None:
    """An audit shows who was taken out of service, and that nothing failed."""
    p = two()
    with record_events(kinds=[events.StateChanged]) as heard:
        p.drain("a")
        p.drain("a")
        p.undrain("a")
        p.add(Endpoint("c"))
        p.remove("c")
        p.weigh("a", 2.0)
    assert [(one.key, one.old, one.new) for one in heard.of(events.StateChanged)] == [
        ("a", "well", "drained"),
        ("a", "drained", "well"),
        ("c", "absent", "well"),
        ("c", "well", "absent"),
    ]
    assert {(one.kind, one.name, one.reason) for one in heard} == {("pool", "search", "manual")}


def test_the_log_has_one_line_for_each_change(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """The line of the endpoint's breaker would say the same under another name."""
    p = two()
    with caplog.at_level(logging.INFO, "resilio"):
        eject(p)
        p.drain("b")
        p.remove("b")
    assert caplog.messages == [
        "pool 'search', endpoint 'a': well -> ejected (consecutive)",
        "pool 'search', endpoint 'b': well -> drained (manual)",
        "pool 'search', endpoint 'b': drained -> absent (manual)",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert caplog.records[0].endpoint == "a"


def test_listeners_of_a_pool_hear_its_endpoints_once(vt: VirtualTime) -> None:
    """
    The end of a call, with the endpoint that it went to.

    A listener of a keyed pipeline heard each event once for each of its stages.
    """
    p = two()
    hosts = keyed(lambda: pipeline(circuit_breaker(), bulkhead(2)), key=lambda *_: 1, name="hosts")
    with record_events(p, kinds=[events.Settled]) as heard, record_events(hosts, kinds=[events.Settled]) as of_keys:
        p.call(lambda endpoint: None)
        hosts.call(int)
    assert [(one.kind, one.key) for one in heard.of(events.Settled)] == [("pool", "a")]
    assert len(of_keys) == 3


# ---- metrics


def test_metrics_have_the_numbers_of_each_endpoint(vt: VirtualTime) -> None:
    """The series of an endpoint: state, calls, load, and by what it is chosen."""
    p = two()
    p.call(lambda endpoint: vt.advance(0.5))
    eject(p)
    sheet = Book(None, Chooser(BUCKETS)).read()
    of = ("pool", "search", "a")
    assert sheet.counters["endpoint_calls", (*of, "success")] == 1
    assert sheet.counters["endpoint_calls", (*of, "failure")] == 5
    assert sheet.gauges["endpoint_state", (*of, "ejected")] == 1
    assert sheet.gauges["endpoint_state", (*of, "well")] == 0
    assert (sheet.gauges["endpoint_inflight", of], sheet.gauges["endpoint_share", of]) == (0, 0.0)
    assert sheet.gauges["endpoint_latency_seconds", of] == pytest.approx(0.5)
    assert sheet.gauges["endpoint_price_seconds", of] >= 0.5
    assert sheet.gauges["level_share", ("pool", "search", "1")] == 1.0
    assert sheet.counters["calls", ("pool", "search", "failure")] == 5


# ---- the live page


def page() -> Sampler:
    return Sampler(Journal(show_keys=True, secret=b"secret"))


def test_the_page_has_a_row_for_each_endpoint(vt: VirtualTime) -> None:
    """Below its pool, with state, share, latency, in flight and price."""
    p, shown = two(), page()
    shown.read()
    p.call(lambda endpoint: vt.advance(0.5))
    eject(p)
    p.drain("b")
    shown.read()
    rows = {row["name"]: row for row in shown.snapshot()["policies"]}
    assert rows["search"]["parts"] == [rows["a"]["id"], rows["b"]["id"]]
    a, b = rows["a"], rows["b"]
    assert (a["kind"], a["state"], a["opened"], a["failures"], a["inflight"]) == ("endpoint", "ejected", 1, 5, 0)
    assert a["endpoint"] == {
        "level": 0,
        "zone": "eu-1a",
        "weight": 1.0,
        "share": 0.0,
        "latency": 500.0,
        "price": a["endpoint"]["price"],
    }
    assert a["endpoint"]["price"] >= 500.0
    assert (b["state"], b["endpoint"]["share"]) == ("drained_by_hand", 0.0)
    heard = shown.snapshot()["events"]
    assert [(one["name"], one["key"], one["new"]) for one in heard] == [
        ("search", "a", "ejected"),
        ("search", "b", "drained_by_hand"),
    ]


def test_an_endpoint_that_is_removed_leaves_the_page(vt: VirtualTime) -> None:
    """Its row goes, and an endpoint of the same name that is added later is another one."""
    p, shown = two(), page()
    shown.read()
    before = {row["name"]: row["id"] for row in shown.snapshot()["policies"]}
    p.remove("b")
    assert shown.read().removed == [before["b"]]
    p.add(Endpoint("b"))
    shown.read()
    after = {row["name"]: row["id"] for row in shown.snapshot()["policies"]}
    assert after["b"] != before["b"]


def test_an_endpoint_that_warms_up_is_seen_as_warming(vt: VirtualTime) -> None:
    """The ramp of `warm_up` was not shown: an operator wondered why a new server had a tenth of the calls."""
    rich = pytest.importorskip("rich.console", reason="`resilio top` needs the extra `cli`")
    from resilio.live._terminal import Screen

    p, shown = two(warm_up=10.0), page()
    p.add(Endpoint("new", level=0))
    shown.read()
    vt.advance(4.0)
    new = p.snapshot()["new"]
    assert (new.state, new.share) == ("warming", pytest.approx(0.4))
    assert p.snapshot()["a"].state == "well"
    shown.read()
    rows = {row["name"]: row for row in shown.snapshot()["policies"]}
    assert (rows["new"]["state"], rows["new"]["endpoint"]["share"]) == ("warming", 0.4)
    printed = StringIO()
    Screen("failures", "", rich.Console(file=printed)).print(shown.snapshot())
    (line,) = [line for line in printed.getvalue().splitlines() if " new " in line]
    assert "warming" in line
    assert "share 40 %" in line
    sheet = Book(None, Chooser(BUCKETS)).read()
    assert sheet.gauges["endpoint_state", ("pool", "search", "new", "warming")] == 1
    assert p.health().ready
    vt.advance(6.0)
    assert (p.snapshot()["new"].state, p.snapshot()["new"].share) == ("well", 1.0)


def test_the_details_of_an_endpoint_show_its_policies_and_no_label(vt: VirtualTime) -> None:
    """A label may be a key of an account."""
    p = pool("models", Endpoint("azure", api_key="secret"), each=lambda e: pipeline(circuit_breaker(), bulkhead(3)))
    shown = page()
    shown.read()
    ident = next(row["id"] for row in shown.snapshot()["policies"] if row["name"] == "azure")
    details = details_of(shown.find(ident), str)
    assert [step["kind"] for step in details["explain"]["steps"]] == ["circuit_breaker", "bulkhead"]
    assert "secret" not in str(details)
    assert "secret" not in str(details_of(p, str))


# ---- explain and warnings


def test_explain_names_the_endpoints_by_level(vt: VirtualTime) -> None:
    """What is read before a deployment: where calls go first, and what guards each endpoint."""
    p = two(each=lambda endpoint: pipeline(circuit_breaker(), bulkhead(3)))
    p.add(Endpoint("c"))
    plan = pipeline(retry(on=OSError), p, timeout(1.0)).explain()
    assert [step.kind for step in plan.steps] == ["retry", "pool", "timeout"]
    assert plan.steps[1].rejects_with == "NoEndpointError"
    assert plan.warnings == ()
    assert "pool (2): level 0: a, c; level 1: b; each: circuit_breaker > bulkhead" in plan.notes


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda p: (p, retry(on=OSError)), "retry-inside-pool"),
        (lambda p: (p, hedge(idempotent=True)), "hedge-inside-pool"),
        (lambda p: (circuit_breaker(), p), "breaker-outside-pool"),
        (lambda p: (p, circuit_breaker()), "breaker-inside-pool"),
        (lambda p: (p, bulkhead(3)), "limit-inside-pool"),
        (lambda p: (p, rate_limit("5/s")), "limit-inside-pool"),
    ],
)
def test_an_order_that_holds_a_call_to_one_endpoint_is_warned_of(vt: VirtualTime, make: Any, rule: str) -> None:
    """With the retry inside, each attempt went to the server that had just failed."""
    policies = make(two())
    with pytest.warns(PipelineWarning, match=rule):
        stack = pipeline(*policies)
    assert [warning.rule for warning in stack.explain().warnings] == [rule]


@pytest.mark.parametrize("rule", ["retry", "hedge"])
def test_a_repetition_in_each_is_warned_of_once(vt: VirtualTime, rule: str) -> None:
    """It is part of the pool, so that no order of the pipeline around it shows that it stays at one endpoint."""
    make = {"retry": lambda: retry(on=OSError), "hedge": lambda: hedge(idempotent=True)}[rule]
    with pytest.warns(PipelineWarning, match=rf"pool: the {rule} in each=.* outside of the pool \[{rule}-in-each\]"):
        p = two(each=lambda endpoint: make())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = pipeline(p, timeout(1.0))
    (warning,) = stack.explain().warnings
    assert (warning.rule, warning.outer, warning.inner) == (f"{rule}-in-each", 1, 1)


def test_the_recommended_order_is_not_warned_of(vt: VirtualTime) -> None:
    """Retry, hedge, then the pool, then the timeout of one attempt."""
    assert pipeline(retry(on=OSError), hedge(idempotent=True), two(), timeout(1.0)).explain().warnings == ()


# ---- options


def test_options_are_changed_by_name_and_keep_what_is_known(vt: VirtualTime) -> None:
    """`configure` reaches a pool as it reaches every policy."""
    p = two()
    eject(p)
    resilio.configure({"search": {"overprovision": 2.0, "balance": "order", "max_ejected": 0.3}})
    assert (p.config.overprovision, p.config.balance, p.config.max_ejected) == (2.0, "order", 0.3)
    assert p.snapshot()["a"].state == "ejected"
    with pytest.raises(TypeError, match="endpoints of a pool cannot be changed; endpoints are by add, remove, drain"):
        p.reconfigure(endpoints=())
    with pytest.raises(TypeError, match=r"pool: no option 'overprovison' \(did you mean 'overprovision'\?\)"):
        pool("other", Endpoint("a"), overprovison=2.0)


def test_a_pool_starts_over_between_two_tests(vt: VirtualTime) -> None:
    """A pool at module level is used by all tests: what one of them ejected, the next one finds well."""
    p = two()
    eject(p)
    p.drain("b")
    p.reset()
    assert {one.state for one in p.snapshot().endpoints} == {"well"}
    assert p.snapshot()["a"].price is None


def test_a_definition_that_is_run_again_keeps_what_is_known(vt: VirtualTime) -> None:
    """A notebook's cell with one more endpoint adds that one; the others keep their state."""
    code = "made = pool('again', *[Endpoint(name) for name in names], overprovision=over)"
    scope: dict[str, Any] = {"__name__": "__main__", "pool": pool, "Endpoint": Endpoint, "names": "ab", "over": 1.4}
    exec(compile(code, "/tmp/ipykernel_7/1.py", "exec"), scope)
    first = scope["made"]
    first.drain("a")
    scope |= {"names": "ac", "over": 2.0}
    exec(compile(code, "/tmp/ipykernel_7/2.py", "exec"), scope)
    assert scope["made"] is first
    assert [(one.name, one.state) for one in first.snapshot().endpoints] == [("a", "drained"), ("c", "well")]
    assert first.config.overprovision == 2.0


def test_a_probe_of_the_pool_closes_the_breaker_of_an_ejected_endpoint(vt: VirtualTime) -> None:
    """With a probe no caller has to find out whether the endpoint is back."""
    down = {"a"}
    p = two(probe=lambda endpoint: endpoint.name not in down)
    eject(p)
    for _ in range(3):
        vt.advance(5.0)
        p.refresh()
    assert p.snapshot()["a"].state == "ejected"
    down.clear()
    vt.advance(5.0)
    for _ in range(2):
        p.refresh()
    assert p.snapshot()["a"].state == "well"
    assert p.call(lambda endpoint: endpoint.name) == "a"
    assert p.snapshot()["a"].calls == 6, "five failures, and this one: no caller was a probe"


def test_names_are_followed_by_the_pool(vt: VirtualTime) -> None:
    """Endpoints of a function are added and removed, and a failing one leaves all as it is."""
    answer: list[Endpoint] = [Endpoint("a"), Endpoint("b")]
    p = pool("nodes", resolve=lambda: answer)
    assert [one.name for one in p.endpoints] == ["a", "b"]
    answer[:] = [Endpoint("b"), Endpoint("c")]
    p.refresh()
    assert [one.name for one in p.endpoints] == ["a", "b", "c"]
    vt.advance(601)
    p.refresh()
    assert [one.name for one in p.endpoints] == ["b", "c"]
    answer.clear()
    vt.advance(601)
    p.refresh()
    assert [one.name for one in p.endpoints] == ["b", "c"]


def test_a_probe_by_http_is_an_option(vt: VirtualTime) -> None:
    """It is compared by value: a module that is loaded twice defines the same pool."""
    assert two(probe=probe_http("/health")).config.probe == probe_http("/health")
