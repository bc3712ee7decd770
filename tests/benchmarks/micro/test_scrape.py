"""The benchmark of a scrape."""

from __future__ import annotations

import sys

import pytest

from benchmarks.micro import _scrape
from benchmarks.micro._targets import TARGETS


def test_the_table_compares_two_writers(monkeypatch):
    """Ours stands first and has the target; the number of lines is beside it."""
    pytest.importorskip("prometheus_client")
    monkeypatch.setattr(_scrape, "POLICIES", 10)
    table = _scrape.scrape_table(2)
    own, other = table.rows
    assert (own.unit, own.target, other.target) == ("ms", "scrape", None)
    assert own.low <= own.value <= own.high
    assert int(own.note.split()[0].replace(",", "")) > 200
    assert (TARGETS["scrape"].must, TARGETS["scrape"].unit) == (50, "ms")
    (once, _) = _scrape.scrape_table(1).rows
    assert once.low == once.value == once.high


def test_without_prometheus_it_says_so(monkeypatch):
    """A skip that names what is missing."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "resilio.metrics.prometheus", raising=False)
    table = _scrape.scrape_table(1)
    assert table.rows == ()
    assert "prometheus_client" in table.skips[0].reason


def test_policies_are_of_all_kinds_and_have_seen_calls():
    """So many as were asked for."""
    made = _scrape.policies(9)
    assert len(made) == 9
    assert len({policy.kind for policy in made}) == 7
    assert all(policy.snapshot().calls for policy in made)
