"""A keyed policy of many keys on the live page: read in slices, and each call counted once whatever goes meanwhile."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from resilio import bulkhead, keyed
from resilio._native.keyed import Sums
from resilio.live._details import details_of

KEYS = 2500


@pytest.fixture
def hosts() -> Any:
    """One with many keys, each of which has had a call."""
    hosts = keyed(lambda: bulkhead(5), key=lambda host: host, max_keys=KEYS)
    call = hosts(lambda host: None)
    for host in range(KEYS):
        call(host)
    return hosts


class Slices:
    """Sums, and the sizes of the slices in which they were added; between two of them something happens."""

    def __init__(self, gate: Any, meanwhile: Any) -> None:
        self.sums = Sums(gate)
        self.sizes: list[int] = []
        self.meanwhile = meanwhile

    def add(self, gates: list[Any]) -> None:
        """Add a slice."""
        self.sums.add(gates)
        self.sizes.append(len(gates))
        if len(self.sizes) == 3:
            self.meanwhile()


def test_keys_that_go_while_they_are_read_are_counted_once(hosts: Any) -> None:
    """Read already or not: what a key has counted goes to the stage, which was read before."""
    stage = hosts.gates[0]
    slices = Slices(stage, hosts.reset)
    stage.add_to(slices)
    assert len(hosts) == 0, "they went in the midst of it"
    assert sum(slices.sizes) == 1 + KEYS + 1  # the stage, the keys, and what keys share for which there is no room
    assert max(slices.sizes) <= 1000, "others wait for as long"
    assert slices.sums.counters() == hosts.gates[0].counters()
    assert slices.sums.counters()["successes"] == KEYS


def test_the_details_say_what_the_snapshot_says(hosts: Any) -> None:
    """Added up in slices they are the same numbers."""
    with pytest.raises(OSError, match="down"):
        hosts(fail)(7)
    with hosts[8]:
        told, seen = details_of(hosts, str), attrs.asdict(hosts.snapshot())
    assert told["numbers"]["calls"] == seen["calls"] == KEYS + 2
    numbers = {name: value for name, value in seen.items() if isinstance(value, int)}
    assert {name: told["numbers"][name] for name in numbers} == numbers
    assert told["numbers"]["states.admitting"] == KEYS
    assert set(told["latency"]) == {"p50", "p90", "p95", "p99", "p99.9", "max"}
    assert told["keys"] == []


def fail(host: object) -> None:
    """Be down."""
    raise OSError("down")
