"""What is seen of sharing: explanations, numbers, the live page, the terminal."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from resilio import pipeline, rate_limit
from resilio.events import SharingChanged
from resilio.live._journal import Journal
from resilio.live._rows import Row
from resilio.metrics._read import read_policy
from resilio.sharing import Sharing, _report, host

pytestmark = pytest.mark.once


class Tie:
    """A tie of a policy to the group "shop", in a state that the test sets."""

    def __init__(self, degraded: str | None = None) -> None:
        self.now = Sharing(scope="host:shop", peers=1 if degraded else 8, degraded=degraded)

    def sharing(self) -> Sharing:
        return self.now


def shared(degraded: str | None = None) -> Any:
    limit = rate_limit("100/s", name="orders")
    limit._link = Tie(degraded)
    return limit


def test_a_snapshot_says_how_a_policy_is_shared() -> None:
    """None: its scope is the process."""
    assert shared().snapshot().sharing == Sharing(scope="host:shop", peers=8)
    assert rate_limit("1/s").snapshot().sharing is None


def test_an_explanation_has_the_workers_or_the_reason() -> None:
    """`explain()` describes the policy as it is now."""
    assert pipeline(shared()).explain().notes == ("rate_limit (1): shared by 8 of host:shop",)
    limit = shared()
    limit._link = Tie("no_slot")
    (note,) = pipeline(limit).explain().notes
    assert note == "rate_limit (1): the process's own for now (no_slot), not shared in host:shop"


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
    assert row.read(1)["shared"] == {"peers": 8, "degraded": None}
    limit._link = Tie("no_slot")
    assert row.read(2)["shared"] == {"peers": 1, "degraded": "no_slot"}
    limit._link = None
    assert row.read(3)["shared"] is None


def test_the_terminal_has_the_workers_of_a_policy() -> None:
    """A policy that is not shared needs a look."""
    pytest.importorskip("rich")
    from resilio.live._terminal import _who, severity

    row = {"kind": "rate_limit", "name": "orders", "calls_s": 1.0, "failures_s": 0.0}
    assert _who(row, "").plain == "orders  rate_limit"
    assert _who(row | {"shared": {"peers": 8, "degraded": None}}, "").plain == "orders  rate_limit  8 workers"
    alone = row | {"shared": {"peers": 1, "degraded": "no_slot"}}
    assert _who(alone, "  ").plain == "  orders  rate_limit  not shared: no slot"
    assert severity(alone) > 0


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
