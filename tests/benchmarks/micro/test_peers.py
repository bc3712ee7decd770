"""The adapters of the other libraries."""

import importlib
import math
import sys

import pytest

from benchmarks.micro._attempts import attempts
from benchmarks.micro._harness import Effort
from benchmarks.micro._results import Skip
from benchmarks.micro._runner import measure_comparisons

EFFORT = Effort(rounds=2, sample_ns=20_000)
KEYS = [comparison.key for comparison in attempts()]


@pytest.fixture
def peers():
    """The package of adapters, imported afresh: a test hides what an adapter imports."""
    yield importlib.import_module("benchmarks.peers")
    for name in [name for name in sys.modules if name.startswith("benchmarks.peers")]:
        del sys.modules[name]


def without(monkeypatch, *libraries):
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def test_a_library_that_is_not_installed_is_skipped_out_loud(peers, monkeypatch):
    """A missing library is named with the reason, and its rows are not silently absent."""
    without(monkeypatch, "tenacity", "asynchedging")
    missing = {skip.subject: skip.reason for skip in peers.peers().missing}
    assert "cannot be imported: ModuleNotFoundError" in missing["tenacity"]
    assert "cannot be imported: ModuleNotFoundError" in missing["asynchedging"]


def test_a_ratio_against_a_library_that_is_not_installed_is_skipped_out_loud(peers, monkeypatch):
    """A target that is about another library says that there was nothing to measure it against."""
    without(monkeypatch, "tenacity", "stamina")
    (table,) = measure_comparisons(EFFORT, peers.peers(), ["retried"]).tables
    skips = {skip.subject: skip.reason for skip in table.skips}
    assert skips["resilio retry / tenacity"].endswith("was not measured")
    assert skips["resilio retry / stamina"].endswith("was not measured")


@pytest.mark.filterwarnings("ignore")  # the other libraries' own
@pytest.mark.parametrize("key", KEYS)
def test_every_library_that_is_installed_does_the_work_of_its_rows(peers, key):
    """An adapter's function is a row, not a skip: none raises, and none returns anything but the callee's answer."""
    found = peers.peers()
    (table,) = measure_comparisons(EFFORT, found, [key]).tables
    rows = {row.subject: row.value for row in table.rows}
    unassembled = {skip.subject for skip in table.skips if "ModuleNotFoundError" in skip.reason}  # of several libraries
    for contributed in found.subjects(key):
        if isinstance(contributed, Skip):
            assert contributed in table.skips
        elif contributed.name not in unassembled:
            assert math.isfinite(rows[contributed.name])


def test_every_adapter_says_what_it_lacks_in_the_words_of_a_skip(peers):
    """Where a library has no part in a comparison its adapter's reason is in the table."""
    found = [what for key in KEYS for what in peers.peers().subjects(key) if isinstance(what, Skip)]
    assert all(skip.subject in peers.DISTRIBUTIONS.values() and skip.reason for skip in found)


def test_breakers_for_each_key_look_the_same_key_up_twice(peers):
    """A library's `keyed` gives one breaker a key."""
    for peer in peers.peers().keyed.values():
        lookup = peer.make(10)
        assert lookup("a") is lookup("a") is not lookup("b")
        module, _, name = peer.factory.partition(":")
        assert getattr(importlib.import_module(module), name)(1) is not None
