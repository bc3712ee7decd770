"""Whatever a snapshot tells is exported, or it is said why not: a new field cannot be forgotten."""

from __future__ import annotations

import attrs
import pytest

import resilio
from resilio._policy.snapshot import Snapshot
from resilio.metrics._catalogue import CATALOGUE

TOLD = {
    "state": "state",
    "inflight": "inflight",
    "queued": "queued",
    "limit": "limit",
    "calls": "calls",
    "disabled": "disabled",
    "successes": "calls",
    "failures": "calls",
    "ignored": "calls",
    "rejected": "rejected",
    "would_reject": "would_reject",
    "would_wait": "would_wait",
    "cancelled": "calls",
    "abandoned": "abandoned",
    "refused": "refused",
    # circuit breaker
    "window_calls": "window_calls",
    "window_failures": "window_failures",
    "window_slow": "window_slow",
    "consecutive": "consecutive_failures",
    "open_for": "open_seconds",
    "retry_after": "retry_after_seconds",
    "share": "admitted_share",
    "overdue": "overdue",
    "probes": "probes",
    "probes_lapsed": "probes_lapsed",
    "stale": "stale_results",
    "generation": "state_changes",
    # spend limit
    "spend": "spend_used",
    # adaptive limit
    "learned": "learned_limit",
    "baseline": "baseline_seconds",
    "passing": "passing",
    # retry and its budget
    "retries": "retries",
    "stopped": "retry_stopped",
    "balance": "retry_budget",
    "reserved": "retry_budget_events",
    "repaid": "retry_budget_events",
    # hedge
    "delay": "hedge_delay_seconds",
    "hedges": "hedges",
    "hedge_wins": "hedge_wins",
    "hedges_rejected": "hedges_rejected",
    "due": "hedges_due",
    # fallback
    "fell_back": "fallbacks",
    "targets": "fallback_targets",
    "defaulted": "fallbacks",
    "exhausted": "fallbacks",
    "sharing": "shared_peers",
    "host_state": "shared_state",
    "host_window_calls": "shared_window_calls",
    "host_window_failures": "shared_window_failures",
    # pool
    "endpoints": "endpoint_state",
    "levels": "level_share",
    "with_key": "affinity_calls",
    "at_home": "affinity_calls",
    # keyed
    "keys": "keys",
    "states": "state",
    "evicted": "keys_evicted",
    "overflowed": "keys_overflowed",
    "errors": "keyless",
}
"""The field of a snapshot, and the number that shows it."""

ELSEWHERE = {
    "kind": "a label of all numbers",
    "name": "a label of all numbers",
    "failing": "retry_budget_events says it of any time: what has failed beside what was deposited",
    "parts": "each part has numbers of its own",
    "unused": "endpoint_state has a series for each endpoint that the process uses; the others are used by other ones",
    "ramping": "admitted_share is between 0 and 1 then",
    "probes_succeeded": "of one round of half a second: a scrape would see it by chance",
}


def snapshots() -> set[type[Snapshot]]:
    """All classes of snapshots, with those of policies that are loaded when they are named."""
    for name in resilio.__all__:
        getattr(resilio, name)
    found, todo = set(), [Snapshot]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += one.__subclasses__()
    return {one for one in found if one.__module__.startswith("resilio.")}


@pytest.mark.parametrize("cls", sorted(snapshots(), key=lambda cls: cls.__name__))
def test_every_field_of_a_snapshot_is_exported(cls: type[Snapshot]) -> None:
    """By a number of the catalogue, or for a reason elsewhere."""
    for field in attrs.fields(cls):
        assert (field.name in TOLD) != (field.name in ELSEWHERE), f"{cls.__name__}.{field.name}"
        assert TOLD.get(field.name, "calls") in CATALOGUE
