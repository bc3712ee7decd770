"""Whether the installed package is this one alone: another distribution installs a package of the same name."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

__all__ = ["mixture", "require_one_package"]

OURS = "resilio-sdk"
"""What `resilio.__distribution__` is; the other package has no such name, nor has a folder without `__init__.py`."""

_OTHER = re.compile(r"resilio-\d.*\.(dist|egg)-info")
_HOME = Path(__file__).parents[1]


def require_one_package() -> None:
    """
    Do nothing if the folder of the package holds one distribution.

    Raises:
        ImportError: It holds files of two, or what another one has left of this one.
    """
    problem = mixture()
    if problem is not None:
        raise ImportError(problem, name="resilio", path=str(_HOME))


def mixture() -> str | None:
    """Return the reason and the remedy if the folder of the package holds two distributions, else None."""
    if _has_other():
        why = f"holds files of `resilio` and of {OURS}"
        remedy = f"pip uninstall -y resilio {OURS} && pip install {OURS}"
    elif getattr(sys.modules.get("resilio"), "__distribution__", None) != OURS:
        why = "has lost its own __init__.py to another distribution"
        remedy = f"pip install --force-reinstall {OURS}"
    else:
        return None
    return f"{_HOME} {why}, two projects with one import name: run `{remedy}`"


def _has_other() -> bool:
    """Return True if the distribution `resilio` is beside the package; one look at a folder, no file is read."""
    try:
        with os.scandir(_HOME.parent) as entries:
            return any(_OTHER.fullmatch(entry.name) for entry in entries)
    except OSError:  # a zip file
        return False
