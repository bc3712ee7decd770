"""Keyed policies of the host: how many keys have room, what is seen of it, and `reset()` for all processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from workers_of_host import started

from resilio import adaptive_limit, circuit_breaker, keyed, pipeline, rate_limit
from resilio._native.shared import Region, SharedFull
from resilio.metrics._read import read_policy
from resilio.sharing import host
from resilio.testing import VirtualTime

KIB = 1024


def of_keys(**options: Any) -> Any:
    """A breaker for each tenant, in a region with room for ten of them or so."""
    group = host("keys", size="256KiB")
    return keyed(circuit_breaker, key=lambda tenant: tenant, name="tenants", scope=group, **options)


# ---- room ------------------------------------------------------------------------------------------------------------


def test_a_region_keeps_half_of_its_bytes_from_keys() -> None:
    """Other cells get what keys do not, and a key that has a cell finds it again."""
    region = Region.private(128 * KIB)
    made = 0
    with pytest.raises(SharedFull, match="keys with a cell each leave 65536 to others"):
        while region.cell(6, f"users[{made}]", b"", 12 * KIB, leave=64 * KIB):
            made += 1
    assert 3 <= made <= 6
    assert region.cell(6, "users[0]", b"", 12 * KIB, leave=64 * KIB)
    assert region.cell(6, "payments", b"", 12 * KIB)


def test_a_region_keeps_half_of_its_entries_from_keys() -> None:
    """A large region has no more of them than a small one: keys could have taken all 1,024."""
    region = Region.private(16 << 20)
    with pytest.raises(SharedFull):
        for number in range(1024):
            region.cell(6, f"users[{number}]", b"", 64, leave=8 << 20)
    assert number == 512
    assert all(region.cell(6, f"other {number}", b"", 64) for number in range(500))


def test_a_key_beyond_the_bound_looks_at_no_other_cell(vt: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new key beyond it read the names of all cells, at 330 cells as much work as 50 new keys."""
    tenants = of_keys()
    for number in range(40):
        assert tenants[number]
    region = tenants._link.region
    listed = []
    monkeypatch.setattr(tenants._link, "region", _Watched(region, listed))
    for number in range(40, 60):
        assert tenants[number].snapshot().sharing.degraded == "region_full"
    assert listed == []


class _Watched:
    """A region that notes when its cells are listed."""

    def __init__(self, region: Region, listed: list[str]) -> None:
        self.cell = region.cell
        self._region, self._listed = region, listed

    def cells(self) -> Any:
        self._listed.append("cells")
        return self._region.cells()


def test_the_bound_is_seen(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """The whole looked as if no key was shared, and so did each of them; one log line has the number that is."""
    tenants = of_keys()
    with caplog.at_level(logging.WARNING, "resilio"):
        for number in range(40):
            assert tenants[number]
    shared = [number for number, one in tenants.items() if one.snapshot().sharing.degraded is None]
    assert 5 <= len(shared) <= 16
    assert shared == list(range(len(shared)))
    now = tenants.snapshot().sharing
    assert (now.alone, now.degraded, now.peers) == (40 - len(shared), "region_full", 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"keyed 'tenants': {len(shared) + 1} keys are shared, those beyond are each process's own")
    gauges = read_policy(tenants._metered()[0], lambda *_: (1.0,)).gauges
    assert gauges["shared_degraded", ("circuit_breaker", "tenants", "region_full")] == 1


def test_keys_that_are_shared_say_so_beside_keys_that_are_not(vt: VirtualTime) -> None:
    """Two workers: the peers of a policy are counted also where some keys have found no room."""
    tenants = of_keys()
    for number in range(40):
        assert tenants[number]
    host("keys", size="256KiB").region.join()
    now = tenants.snapshot().sharing
    assert (now.peers, now.degraded) == (2, "region_full")
    assert (tenants[0].snapshot().sharing.peers, tenants[39].snapshot().sharing.peers) == (2, 1)
    (_, note) = pipeline(tenants).explain().notes
    assert note == f"circuit_breaker (1): shared by 2 of host:keys, but for {now.alone} keys"


def test_a_key_without_a_form_is_the_process_s_own(vt: VirtualTime) -> None:
    """It has no form that other processes would know."""
    tenants = of_keys()
    own = object()
    assert tenants[own].snapshot().sharing.degraded == "no_form"
    assert tenants["ada"].snapshot().sharing.degraded is None
    now = tenants.snapshot().sharing
    assert (now.alone, now.degraded) == (1, None)


# ---- reset -----------------------------------------------------------------------------------------------------------


def limits() -> Any:
    return keyed(lambda: rate_limit("3/h"), key=lambda user: user, name="users", scope="host")


def test_a_reset_fills_the_limits_of_all_keys(vt: VirtualTime) -> None:
    """It forgot the keys of the process, and the host's table had their tokens still."""
    users = limits()
    for user in ("ada", "bob"):
        while users[user].try_acquire():
            pass
    users.reset()
    assert [users[user].available for user in ("ada", "bob")] == [{"requests": 3.0}] * 2


def test_a_reset_closes_the_breakers_of_all_keys(vt: VirtualTime) -> None:
    """An open breaker of a key was open again as soon as the key came back."""
    tenants = of_keys()
    tenants["ada"].force_open()
    tenants.reset()
    assert (tenants["ada"].state, tenants["ada"].snapshot().host_state) == ("closed", "closed")


def test_a_reset_is_for_each_stage_of_a_key_s_pipeline(vt: VirtualTime) -> None:
    """A pipeline for each key has a table for its limits, and cells for its breakers and laws."""
    of_all = keyed(
        lambda: pipeline(rate_limit("3/h"), circuit_breaker(), adaptive_limit(start=7)),
        key=lambda user: user,
        name="pipes",
        scope="host",
    )
    limit, breaker, _ = of_all["ada"].policies
    while limit.try_acquire():
        pass
    breaker.force_open()
    of_all.reset()
    limit, breaker, learned = of_all["ada"].policies
    assert (limit.available, breaker.state, learned.limit) == ({"requests": 3.0}, "closed", 7)


WORKER = """
from resilio import circuit_breaker, keyed, rate_limit
users = keyed(lambda: rate_limit("3/h"), key=lambda user: user, name="users", scope="host")
tenants = keyed(circuit_breaker, key=lambda tenant: tenant, name="tenants", scope="host")
def taken(user):
    n = 0
    while users[user].try_acquire():
        n += 1
    return n
"""


@pytest.mark.once
def test_a_reset_reaches_keys_that_only_other_processes_know(resilio_shared_host: Path) -> None:
    """One worker resets; the keys are those of another, whose own policies of them follow."""
    with started(2, WORKER) as (one, other):
        assert other.ask("taken('ada')") == 3
        other.ask("tenants['ada'].force_open()")
        assert other.ask("(taken('ada'), tenants['ada'].state)") == (0, "forced_open")
        one.ask("(users.reset(), tenants.reset())")
        assert other.ask("(taken('ada'), tenants['ada'].state)") == (3, "closed")
