"""A storm over the permits of a host: thousands of processes are killed wherever they are (permit_storm.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src_c"
COMPILER = next(filter(shutil.which, [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]), None)
MUTANTS = {  # what a broken reaper does: the permits of the living are given out twice, or those of the dead are lost
    "twice": ("rs_owner_slot(owner) == slot", "slot < RS_WORKERS"),
    "lost": ("rs_owner_slot(owner) == slot", "slot >= RS_WORKERS"),
}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: the storm of permits, for want of a C compiler"),
    pytest.mark.skipif(not SOURCES.exists(), reason="NOT TESTED: the storm of permits, whose source is not here"),
    pytest.mark.once,
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory if the machine has such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def storm(place: Path, seconds: float, kills: int, source: Path = SOURCES) -> dict[str, int]:
    """Compile the storm, let it blow for so long and until so many were killed, and return what it counted."""
    program = place / "storm"
    options = ["-std=gnu11", "-O2", f"-I{source / 'algorithms'}", f"-I{source / 'include'}", "-lpthread", "-lm"]
    subprocess.run([str(COMPILER), str(HERE / "permit_storm.c"), *options, "-o", str(program)], check=True)
    ran = subprocess.run(
        [str(program), str(place / "region"), str(seconds), str(kills)], stdout=-1, text=True, check=True
    )
    return {name: int(number) for name, number in map(str.split, ran.stdout.splitlines())}


def check(counted: dict[str, int], kills: int) -> None:
    assert counted["twice"] == 0
    assert counted["lost"] == 0
    assert counted["kills"] >= kills
    assert counted["held_at_death"] > kills // 10  # the dead did hold permits,
    assert counted["watched"] > 0
    assert counted["left"] > 0
    assert counted["stopped"] > 0  # and some were stopped before


@pytest.mark.slow
def test_no_permit_is_lost_or_given_out_twice_however_workers_die(place: Path) -> None:
    """Six processes with SIGKILL and SIGSTOP at random instructions: all 20 permits are there again, each held once."""
    check(storm(place, seconds=3.0, kills=50), kills=50)


@pytest.mark.slow
@pytest.mark.parametrize("fault", MUTANTS)
def test_the_storm_finds_a_broken_reaper(fault: str, place: Path) -> None:
    """A storm that cannot fail would prove nothing: it finds permits that are lost, and those given out twice."""
    source = place / "src_c"
    shutil.copytree(SOURCES, source)
    broken = source / "algorithms" / "shared" / "permits.h"
    text = broken.read_text()
    assert text.count(MUTANTS[fault][0]) == 1
    broken.write_text(text.replace(*MUTANTS[fault]))
    assert storm(place, seconds=2.0, kills=50, source=source)[fault] > 0


@pytest.mark.soak
def test_ten_thousand_deaths_cost_no_permit(place: Path) -> None:
    """The same until 10,000 processes have died; what the dead held is free within a second."""
    counted = storm(place, seconds=60.0, kills=10_000)
    check(counted, kills=10_000)
    assert counted["watched"] > 100
