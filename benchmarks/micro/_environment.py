"""Where a run takes place: what a reader needs to judge a figure."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.micro._results import Environment
from resilio._native import clock

__all__ = ["describe", "settle_clock", "versions"]

_SETTLING = 3
_SETTLE_SECONDS = 0.02


def settle_clock() -> str:
    """Read the library's clock until it knows the rate of the processor's counter, and return the source it chose."""
    for _ in range(_SETTLING):
        clock.now_ns()
        time.sleep(_SETTLE_SECONDS)
    return clock.source()


def describe(distributions: Iterable[str] = ()) -> Environment:
    """Return the Python, the machine, the clock, the date, and the versions of resilio and *distributions*."""
    return Environment(
        python=platform.python_version(),
        build=f"{platform.python_implementation()}, {_threading()}, {platform.python_compiler()}",
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        processors=os.cpu_count() or 1,
        clock=clock.source(),
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        versions=versions(["resilio-sdk", *distributions]),
        timer=time.get_clock_info("thread_time").implementation,
    )


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed versions; a distribution that is not installed is left out."""
    found: dict[str, str] = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _threading() -> str:
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and not getattr(sys, "_is_gil_enabled", lambda: True)()
    return "free-threaded" if free else "GIL"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
