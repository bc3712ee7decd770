"""What is seen of sharing: explanations, numbers, the live page, the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from resilio import RetryBudget, adaptive_limit, bulkhead, circuit_breaker, pipeline, rate_limit
from resilio.events import SharingChanged
from resilio.live._journal import Journal
from resilio.live._rows import Row
from resilio.metrics._read import read_policy
from resilio.metrics._sheet import Sheet
from resilio.sharing import Sharing, _report, host
from resilio.sharing._links import Link

pytestmark = pytest.mark.once


class Tie(Link):
    """A tie of a policy to the group "shop", in a state that the test sets."""

    fleet = None

    def __init__(self, degraded: str | None = None, scope: str = "host:shop") -> None:
        super().__init__(None)
        self.now = Sharing(scope=scope, peers=1 if degraded else 8, degraded=degraded)

    def sharing(self) -> Sharing:
        return self.now


def shared(degraded: str | None = None) -> Any:
    limit = rate_limit("100/s", name="orders")
    limit._link = Tie(degraded)
    return limit


def test_a_snapshot_says_how_a_policy_is_shared() -> None:
    """None: its scope is the process."""
    assert shared().snapshot().sharing == Sharing(scope="host:shop", peers=8, tokens={"requests": 100.0})
    assert shared("no_slot").snapshot().sharing == Sharing(scope="host:shop", degraded="no_slot")
    assert rate_limit("1/s").snapshot().sharing is None


def test_an_explanation_has_the_workers_or_the_reason() -> None:
    """`explain()` describes the policy as it is now."""
    assert pipeline(shared()).explain().notes == ("rate_limit (1): shared by 8 of host:shop",)
    limit = shared()
    limit._link.now = Sharing(scope="host:shop", peers=1)
    assert pipeline(limit).explain().notes == ("rate_limit (1): shared by 1 of host:shop",)
    limit._link = Tie("no_slot")
    (note,) = pipeline(limit).explain().notes
    assert note == "rate_limit (1): the process's own for now (no_slot), not shared in host:shop"


@pytest.mark.parametrize("degraded", [None, "no_region", "store_down"])
@pytest.mark.parametrize("scope", ["host:shop", "fleet:shop"])
@pytest.mark.parametrize("kind", [circuit_breaker, lambda **more: bulkhead(3, **more), adaptive_limit, shared])
def test_an_explanation_has_all_workers_only_where_they_share(
    kind: Callable[..., Any], scope: str, degraded: str | None
) -> None:
    """A breaker without a region was explained as that of all workers of the host."""
    policy = kind()
    policy._link = Tie(degraded, scope=scope)
    *law, sharing = pipeline(policy).explain().notes
    assert ("all " in " ".join(law)) is (degraded is None and policy.kind == "circuit_breaker")
    assert ("shared by 8" in sharing) is (degraded is None)


def test_numbers_have_the_peers_and_the_reason() -> None:
    """One gauge of the workers, and one that is there only while a policy is not shared."""
    read = read_policy(shared(), lambda *_: (1.0,))
    assert read.gauges["shared_peers", ("rate_limit", "orders")] == 8
    assert not [key for key in read.gauges if key[0] == "shared_degraded"]
    limit = shared()
    limit._link = Tie("no_region")
    read = read_policy(limit, lambda *_: (1.0,))
    assert read.gauges["shared_peers", ("rate_limit", "orders")] == 1
    assert read.gauges["shared_degraded", ("rate_limit", "orders", "no_region")] == 1


def test_the_live_page_has_the_workers_of_a_policy() -> None:
    """The field is sent when it changes, like every other."""
    journal, limit = Journal(show_keys=True, secret=b"x"), shared()
    row = Row(1, limit, journal.past_of(limit))
    none = {"used": None, "tokens": None, "state": None}
    assert row.read(1)["shared"] == {"peers": 8, "degraded": None, **none, "tokens": 100.0}
    limit._link = Tie("no_slot")
    assert row.read(2)["shared"] == {"peers": 1, "degraded": "no_slot", **none}
    limit._link.now = Sharing(scope="fleet:shop", peers=3, regime="leased")
    fleets = {"fleet": True, "regime": "leased", "peers": 3, "degraded": None}
    assert row.read(3)["shared"] == {**fleets, **none, "tokens": 100.0}
    limit._link = None
    assert row.read(4)["shared"] is None


def test_the_terminal_has_the_workers_of_a_policy() -> None:
    """A policy that is not shared needs a look."""
    pytest.importorskip("rich")
    from resilio.live._terminal import _who, severity

    row = {"kind": "rate_limit", "name": "orders", "calls_s": 1.0, "failures_s": 0.0}
    assert _who(row, "").plain == "orders  rate_limit"
    assert _who(row | {"shared": {"peers": 8, "degraded": None}}, "").plain == "orders  rate_limit  8 workers"
    for of_all, text in (({"used": 17}, "17 in flight"), ({"tokens": 2.5}, "2.5 tokens"), ({"state": "open"}, "open")):
        beside = row | {"shared": {"peers": 8, "degraded": None, **of_all}}
        assert _who(beside, "").plain == f"orders  rate_limit  8 workers, {text}"
    fleets = row | {"shared": {"peers": 3, "degraded": None, "fleet": True, "regime": "leased", "tokens": 12.0}}
    assert _who(fleets, "").plain == "orders  rate_limit  3 askers, leased, 12 tokens"
    alone = row | {"shared": {"peers": 1, "degraded": "no_slot"}}
    assert _who(alone, "  ").plain == "  orders  rate_limit  not shared: no slot"
    assert severity(alone) > 0


def with_another_worker(policy: Any, other: Any) -> Any:
    """Let `other` be the same policy in another worker, which makes a call; return that call's permit."""
    region = policy.config.scope.region
    kind, stock, size = other._gate.cell_wanted()
    other._gate.share(region.cell(kind, policy.name, stock, size, region.join()))
    return other.acquire()


def numbers_of(policy: Any) -> dict[str, float]:
    """The exported gauges of all workers, by name and further labels."""
    found = read_policy(policy, lambda *_: (1.0,)).gauges.items()
    return {"".join([name, *labels[2:]]): value for (name, labels), value in found if name.startswith("shared_")}


def test_permits_of_all_workers_stand_beside_the_process_s() -> None:
    """`limit` was added up over eight workers, beside permits that are the host's once: never nearly full."""
    pool = bulkhead(3, name="db", scope=host("shop"))
    held = with_another_worker(pool, bulkhead(3))
    now = pool.snapshot()
    assert (now.inflight, now.sharing.used, now.sharing.peers) == (0, 1, 2)
    gauges = read_policy(pool, lambda *_: (1.0,)).gauges
    assert ("limit", ("bulkhead", "db")) not in gauges
    assert gauges["permits_used", ("bulkhead", "db")] == 0
    assert numbers_of(pool) == {"shared_peers": 2, "shared_limit": 3, "shared_permits_used": 1}
    held.success()


def test_the_evidence_of_all_workers_stands_beside_the_process_s() -> None:
    """A breaker's window is its worker's; what the others have seen explains why it opens."""
    breaker = circuit_breaker("payments", scope=host("shop"))
    for _ in range(3):
        breaker.call(int)
    with_another_worker(breaker, circuit_breaker()).failure(OSError())
    now = breaker.snapshot()
    assert (now.window_calls, now.window_failures) == (3, 0)
    assert (now.host_state, now.host_window_calls, now.host_window_failures) == ("closed", 4, 1)
    assert now.sharing.state == "closed"
    shown = numbers_of(breaker)
    assert (shown["shared_window_calls"], shown["shared_window_failures"]) == (4, 1)
    assert [name for name in shown if name.startswith("shared_state") and shown[name]] == ["shared_stateclosed"]
    alone = circuit_breaker().snapshot()
    assert (alone.host_state, alone.host_window_calls, alone.host_window_failures) == (None, None, None)


def test_a_budget_has_the_savings_of_all_workers() -> None:
    """As tokens: they pay for retries of any worker."""
    budget = RetryBudget("common", initial=2, scope=host("shop"))
    assert budget.snapshot().sharing.tokens == {"retries": 2.0}
    assert RetryBudget().snapshot().sharing is None


def test_gauges_of_the_host_are_not_added_up() -> None:
    """Eight workers export the same tokens: those of the host are in the sum once."""
    limit = rate_limit("100/s", name="orders", scope=host("shop"))
    sheet = Sheet()
    for _ in range(8):
        sheet.add(read_policy(limit, lambda *_: (1.0,)))
    assert sheet.gauges["shared_tokens", ("rate_limit", "orders", "requests")] == 100.0


def test_the_live_page_lists_what_degrades(caplog: pytest.LogCaptureFixture) -> None:
    """The change belongs to no policy, and stands among the events."""
    journal = Journal(show_keys=True, secret=b"x")
    group = host("shop")
    _report.changed(group, None, "no_slot", "")
    _report.changed(group, "no_slot", None, "")
    listed = [
        (one["what"], one["kind"], one["name"], one["old"], one["new"], one["reason"]) for one in journal.since(0)
    ]
    assert listed == [
        ("sharing", "host", "shop", "shared", "alone", "no_slot"),
        ("sharing", "host", "shop", "alone", "shared", "no_slot"),
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_recorder_has_changes_of_sharing() -> None:
    """`kinds` names them, as it names those of limits."""
    from resilio.testing import record_events

    with record_events(kinds=[SharingChanged]) as recorded:
        _report.changed(host("shop"), None, "no_slot", "")
    assert [(event.old, event.new) for event in recorded.of(SharingChanged, "shop")] == [(None, "no_slot")]
    assert attrs.asdict(recorded[0])["kind"] == "host"
