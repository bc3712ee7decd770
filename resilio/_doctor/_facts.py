"""Facts of the installation: versions, build of the core, clock and the reason for it, installed clients."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from resilio._context.process_switch import note
from resilio._native import clock, core

__all__ = ["facts"]

ZONE = "RESILIO_ZONE"
_DISTRIBUTION = "resilio-sdk"
_CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_NAME = re.compile(r"[\w.-]+")
_CALIBRATION = 0.02  # seconds between the two readings that measure the rate of the processor's counter


def facts() -> dict[str, Any]:
    """Return the facts for a bug report; the keys are those of `--json`."""
    source, why = _clock()
    return {
        "resilio": _version(_DISTRIBUTION) or "not installed: a source tree",
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        },
        "platform": platform.platform(),
        "disabled": note(),
        "sharing": _sharing(),
        "zone": os.environ.get(ZONE) or None,
        "build": core._build_facts(),
        "clock": {"source": source, "why": why},
        "loops": {"asyncio": platform.python_version(), **_versions(["uvloop", "trio"])},
        "needs": _versions(["anyio", "attrs"]),
        "clients": _versions(_optional()),
        "private": core._private_state(),
    }


def _sharing() -> dict[str, Any]:
    """Return where policies of `scope="host"` are shared, why they cannot be, and the workers of each group there."""
    from resilio.sharing._directory import type_of_disk
    from resilio.sharing._groups import groups, problem_of
    from resilio.sharing._naming import default_directory

    try:
        directory = default_directory()
    except ValueError as error:
        return {"directory": None, "problem": str(error), "groups": {}, "disk": None}
    found = {group.name: len(group.workers) for group in groups(directory)}
    disk = type_of_disk(directory)
    return {"directory": str(directory), "problem": problem_of(directory), "groups": found, "disk": disk}


def _clock() -> tuple[str, str]:
    """Return the source of the clock and the reason for it, after two readings, which it needs to choose."""
    clock.now_ns()
    time.sleep(_CALIBRATION)
    clock.now_ns()
    source = clock.source()
    if source == "tsc":
        return source, "the processor's counter runs evenly, and the kernel keeps time by it too"
    if os.environ.get("RESILIO_CLOCK") == "monotonic":
        return source, "RESILIO_CLOCK=monotonic chose it"
    if platform.machine() not in {"x86_64", "AMD64"}:
        return source, f"the counter of {platform.machine()} is not used"
    kernel = _CLOCKSOURCE.read_text(encoding="ascii").strip() if _CLOCKSOURCE.exists() else ""
    if kernel and kernel != "tsc":
        return source, f"the kernel keeps time by {kernel}, so it does not trust the processor's counter"
    return source, "nothing vouches for the processor's counter here"


def _optional() -> list[str]:
    """Return the distributions that this one's extras require, sorted."""
    try:
        required = distribution(_DISTRIBUTION).requires or []
    except PackageNotFoundError:
        return []
    names = [_NAME.match(requirement) for requirement in required if "extra ==" in requirement]
    return sorted({name.group() for name in names if name})


def _versions(names: list[str]) -> dict[str, str]:
    found = {name: _version(name) for name in names}
    return {name: number for name, number in found.items() if number}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
