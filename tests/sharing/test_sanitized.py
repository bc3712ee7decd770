"""The shared algorithms under ThreadSanitizer, where the compiler has it: each header in a scene of `sanitized/`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from thread_sanitizer import COMPILER, INCLUDES, SOURCES, built, folder_of_programs, printed

HERE = Path(__file__).parent
SCENES = HERE / "sanitized"
SHARED = SOURCES / "algorithms" / "shared"
CHECKS: dict[str, dict[str, Callable[[int], bool]]] = {
    "limits": {
        "bucket": lambda n: 0 < n <= 1200,  # the burst, and 200 ns at one a nanosecond
        "purses": lambda n: 0 < n <= 1200,
        "window": lambda n: 0 < n <= 50,
        "keys": lambda n: 3000 <= n <= 3600 + 1000,  # three keys; a key that two threads insert may be new twice
    },
    "permits": {"calls": lambda n: n > 0, "twice": lambda n: n == 0, "held": lambda n: n == 0},
    "breaker": {
        "changes": lambda n: n > 0,
        "probes": lambda n: n > 0,
        "together": lambda n: n == 0,
        "tokens": lambda n: n == 100,
    },
    "courier": {"trips": lambda n: n > 0, "together": lambda n: n == 0, "twice": lambda n: n == 0},
    "lease": {
        "taken": lambda n: n > 0,
        "nowhere": lambda n: n == 0,
        "deep": lambda n: n == 0,
        "alone": lambda n: n == 100,  # what has come in for one of four since the lease ended
    },
    "learning": {"turns": lambda n: n > 0, "limit": lambda n: 1 <= n <= 64},
    "slots": {
        "calls": lambda n: n > 0,
        "over": lambda n: n == 0,
        "trips": lambda n: n == 2000,
        "held": lambda n: n == 0,
    },
    "verdict": {
        "calls": lambda n: n == 3 * 20000 * 3 // 2,
        "missing": lambda n: n == 0,
        "probes": lambda n: n > 0,
        "together": lambda n: n == 0,
    },
    "region": {"lost": lambda n: n > 0, "cells": lambda n: n == 20, "without": lambda n: n > 0},
}
RACE = """
#include "threads.h"
static int plain;
static void *work(void *at) { return (void *)((uintptr_t)at + (uintptr_t)plain++); }
int main(void) { run(work); return 0; }
"""

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: ThreadSanitizer, for want of a C compiler"),
    pytest.mark.skipif(not SOURCES.exists(), reason="NOT TESTED: the shared algorithms, whose source is not here"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the programs are."""
    with folder_of_programs() as found:
        yield found


@pytest.mark.real(1.5)
@pytest.mark.parametrize("scene", CHECKS)
def test_threads_race_on_atomic_words_only(scene: str, folder: Path) -> None:
    """Four threads at once: no data race, nothing given out twice, no more admitted than the limits allow."""
    if scene == "region" and sys.platform != "linux":
        pytest.skip("shared memory of hosts is for Linux")
    assert built(SCENES / f"{scene}.c", folder / scene, f"-I{SCENES}")
    found = printed(folder / scene, str(folder / "memory"))
    assert found.keys() == CHECKS[scene].keys()
    assert {name: number for name, number in found.items() if not CHECKS[scene][name](number)} == {}


def test_a_race_is_found(folder: Path) -> None:
    """A sanitizer that finds nothing would prove nothing."""
    source = folder / "race.c"
    source.write_text(RACE)
    assert built(source, folder / "race", f"-I{SCENES}")
    ran = subprocess.run([str(folder / "race")], capture_output=True, text=True, check=False)
    assert "data race" in ran.stderr


def test_every_shared_header_is_in_a_scene() -> None:
    """A header that no scene includes would not be looked at."""
    command = [str(COMPILER), "-std=gnu11", "-MM", *INCLUDES, *map(str, sorted(SCENES.glob("*.c")))]
    included = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [header.name for header in SHARED.glob("*.h") if f"shared/{header.name}" not in included] == []
