"""A million keys of one host: what they take, what they admit, and the region that grows for them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from workers_of_host import started

from resilio import keyed, rate_limit
from resilio._native.shared import Region, SharedFull
from resilio.sharing import host

HERE = Path(__file__).parent
ALGORITHMS = HERE.parents[1] / "src_c" / "algorithms"
COMPILER = next(filter(shutil.which, [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]), None)
MILLION = 1_000_000
MIB = 1 << 20

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: a million keys, for want of a C compiler")
@pytest.mark.skipif(not ALGORITHMS.exists(), reason="NOT TESTED: a million keys, whose source is not here")
def test_a_million_keys_have_a_limit_each(tmp_path: Path) -> None:
    """
    Four processes try each of a million keys: 48,000 keys a MiB, and each admits what it may, or one burst more.

    The table was a power of two in size, and half empty: 15,000 to 30,000 keys a MiB, and at most 65,000 in a region.
    """
    program = tmp_path / "keys"
    options = ["-std=gnu11", "-O2", f"-I{ALGORITHMS}", "-lm"]
    subprocess.run([str(COMPILER), str(HERE / "keys_of_host.c"), *options, "-o", str(program)], check=True)
    ran = subprocess.run([str(program), str(MILLION)], stdout=-1, text=True, check=True)
    found = {name: int(number) for name, number in map(str.split, ran.stdout.splitlines())}
    assert MILLION / (found["bytes"] / MIB) >= 48_000
    assert found["most"] <= 4  # a burst: of a key that two processes insert at once
    assert found["over"] <= 1000  # a thousandth, though all four are always at the same key
    assert found["less"] <= 1000  # of keys without a place, which share one


USERS = f"""
from resilio import circuit_breaker, keyed, rate_limit
breaker = circuit_breaker("before", scope="host")
def users():
    global keys
    keys = keyed(lambda: rate_limit("3/min"), key="user", name="users", scope="host", max_keys={MILLION})
    return keys["ada"].snapshot().sharing.degraded
take = lambda: sum(bool(keys["ada"].try_acquire()) for _ in range(2))
"""


def test_a_region_grows_for_a_million_keys(resilio_shared_host: Path) -> None:
    """The region is sized by the keys, also for the processes that have it open: they go on in the same memory."""
    with started(3, USERS) as workers:
        file = Path(workers[0].ask("str(breaker._link.host.path)"))
        assert file.stat().st_size == 4 * MIB
        assert [worker.ask("users()") for worker in workers] == [None] * 3
        assert {worker.ask("breaker._link.host.region.size") for worker in workers} == {file.stat().st_size}
        assert file.stat().st_size > 24 * MIB
        assert [worker.ask("take()") for worker in workers] == [2, 1, 0]
        with started(1, USERS) as (later,):
            assert later.ask("users()") is None
            assert later.ask("take()") == 0


def test_a_size_that_is_given_is_the_size(resilio_shared_host: Path) -> None:
    """An operator's number is a bound: the keys that have no room are the process's own, and say so."""
    group = host("small", size="4MiB")
    users = keyed(lambda: rate_limit("3/min"), key="user", name="users", scope=group, max_keys=MILLION)
    assert users["ada"].snapshot().sharing.degraded == "region_full"  # type: ignore[union-attr]
    assert group.region.size == 4 * MIB  # type: ignore[union-attr]


def test_a_region_grows_to_a_gibibyte_and_not_beyond(tmp_path: Path) -> None:
    """All workers have mapped it so far: a region that was larger could not be seen by those that are there."""
    region = Region.open(tmp_path / "region", 1 << 20)
    region.cell(1, "first", b"", 64)
    with pytest.raises(SharedFull, match="needs 1073741824 bytes"):
        region.cell(1, "large", b"", 1 << 30, grow=1 << 20)
    region.cell(1, "small", b"", 2 << 20, grow=1 << 20)
    assert 3 * MIB < region.size < 4 * MIB
    assert region.size == (tmp_path / "region").stat().st_size
    region.close()
