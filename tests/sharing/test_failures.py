"""Each row of the table "What fails, and what then" (docs/explanation/sharing.md), and the tests that show it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers_of_host import Asked, started, until

from resilio._native.shared import NotShared, Region
from resilio.sharing import _naming

linux = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
pytestmark = pytest.mark.once

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "sharing.md"
SHOWN_BY = {
    "a worker is killed, anywhere": ["test_host_storm.py", "test_permit_storm.py", "test_limit_storm.py"],
    "a worker is killed while its calls wait for a rate limit": [
        "test_places.py::test_the_dead_do_not_queue",
        "interleave/places.c::two workers wait, and one may die",
    ],
    "a worker is killed or stopped while its calls wait for a *fleet's* rate limit": [
        "fleet/test_limit_order.py::test_a_worker_that_stands_still_keeps_nothing_from_the_others",
    ],
    "a worker is stopped (SIGSTOP, a debugger)": [
        "test_region.py::test_a_stopped_worker_keeps_its_slot",
        "test_host_storm.py",
    ],
    "a worker closes all its files": ["test_failures.py::test_a_worker_that_closes_all_its_files_admits_what_it_held"],
    "a fork": [
        "test_region.py::test_a_child_of_a_fork_holds_nothing",
        "test_shared_bulkhead.py::test_a_child_of_a_fork",
    ],
    "more workers than slots": ["test_failures.py::test_a_worker_without_a_slot_has_a_limit_of_its_own"],
    "the host restarts": ["test_region.py::test_a_region_of_before_the_boot_is_replaced"],
    "the file is removed": ["test_host_storm.py", "test_host.py::test_a_file_that_is_removed_is_made_again"],
    "the file is truncated": ["test_failures.py::test_a_file_that_is_truncated_kills_its_workers"],
    "no memory, no directory, another user's file, a network file system": [
        "test_region.py::test_memory_that_is_not_there_is_refused",
        "test_region.py::test_a_directory_that_is_not_there",
        "test_region.py::test_what_others_can_write_to_is_refused",
        "test_region.py::test_a_file_system_that_is_not_known_to_be_local",
        "test_host.py::test_what_cannot_be_shared_from_the_beginning",
    ],
    "two versions during a deployment": ["test_failures.py::test_another_layout_is_another_file"],
    "other options of a stock (a rate, a capacity)": ["test_region.py::test_other_options_of_a_stock_are_another_cell"],
    "another time namespace": ["test_region.py::test_a_region_of_another_time_namespace_is_refused"],
    "clocks of two processes differ": ["interleave/limit.c::two clocks differ"],
    "a hostile process of the same user": [],  # out of scope
    "virtual time, tests": [
        "test_host.py::test_virtual_time_has_a_region",
        "test_host.py::test_under_the_plugin_a_host",
    ],
}


@pytest.mark.skipif(not PAGE.exists(), reason="NOT TESTED: the table of failures, whose page is not here")
def test_each_row_of_the_table_is_shown_by_a_test() -> None:
    """A failure that a page describes and no test shows is a hope."""
    section = PAGE.read_text().split("## What fails, and what then")[1].split("\n## ")[0]
    rows = [row for row in re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE) if row not in ("what", "---")]
    assert rows == list(SHOWN_BY)
    shown = (test.partition("::") for tests in SHOWN_BY.values() for test in tests)
    assert [(file, name) for file, _, name in shown if name not in (HERE / file).read_text()] == []


# ---- those that no other file shows ----------------------------------------------------------------------------------

HELD = 3
BULKHEAD = """
import os
from resilio import bulkhead
from resilio.sharing import host
limit = bulkhead(4, name="database", scope=host("test", workers=2))
held = []
def take(many):
    held.extend(permit for permit in (limit.try_acquire() for _ in range(many)) if permit)
    return len(held)
def give():
    while held:
        held.pop().success()
"""


@pytest.fixture
def two(resilio_shared_host: Path) -> Iterator[list[Asked]]:
    """Two workers of a host that has two slots."""
    with started(2, BULKHEAD) as workers:
        yield workers


@linux
def test_a_worker_that_closes_all_its_files_admits_what_it_held(two: list[Asked]) -> None:
    """It is taken for dead while its calls go on: too much by what it held, until these have ended."""
    first, second = two
    assert (first.ask(f"take({HELD})"), second.ask("take(4)")) == (HELD, 4 - HELD)
    first.begin("os.closerange(3, 256) or os.kill(os.getpid(), 19)")  # SIGSTOP: before its next beat
    until(lambda: second.ask("take(1)") == 4, "its permits are given to others")
    assert second.ask("take(9)") == 4  # and the first still has its three: seven calls of four
    first.signal(signal.SIGCONT)
    first.answer()
    until(lambda: first.ask("limit.snapshot().sharing.degraded") is None, "it has a slot again")
    first.ask("give()")
    second.ask("give()")
    assert (first.ask("take(9)"), second.ask("take(9)")) == (4, 0)


@linux
def test_a_worker_without_a_slot_has_a_limit_of_its_own(two: list[Asked]) -> None:
    """The third of two: each worker in excess adds a limit, and says so, until there is a slot for it."""
    first, second = two
    assert (first.ask("take(3)"), second.ask("take(9)")) == (3, 1)
    with started(1, BULKHEAD) as (third,):
        assert third.ask("take(9)") == 4
        assert third.ask("limit.snapshot().sharing.degraded") == "no_slot"
        third.ask("give()")
        first.signal(signal.SIGKILL)
        until(lambda: third.ask("limit.snapshot().sharing.degraded") is None, "it takes the dead worker's slot")
        until(lambda: third.ask("take(1)") == 3, "and what that held is free")
        assert third.ask("take(9)") == 3


@linux
def test_a_file_that_is_truncated_kills_its_workers(two: list[Asked]) -> None:
    """No library can prevent SIGBUS: that is why the directory is the user's own."""
    first, _ = two
    assert first.ask("take(1)") == 1
    os.truncate(first.ask("str(limit._link.host.path)"), 0)
    assert first.process.wait() == -signal.SIGBUS


@linux
def test_another_layout_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of the library never meet: the layout is in the name, and if a file lies, in its head as well."""
    path = tmp_path / _naming.file_name("shop")
    Region.open(path, 1 << 20).close()
    with path.open("r+b") as file:
        file.seek(8)
        layout = int.from_bytes(file.read(4), sys.byteorder)
        assert f"-h{layout}-" in path.name
        file.seek(8)
        file.write((layout + 1).to_bytes(4, sys.byteorder))
    with pytest.raises(NotShared, match="no region"):
        Region.open(path, 1 << 20)
    monkeypatch.setattr(_naming, "LAYOUT", f"h{layout + 1}")
    assert _naming.file_name("shop") != path.name
