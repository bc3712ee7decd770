"""Finds the Pythons on this machine that can build and test resilio, and says why another was left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SUPPORTED = ((3, 11), (3, 12), (3, 13))

_PROBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
    "real": os.path.realpath(sys.executable),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that starts, makes virtual environments and has its headers."""

    path: str
    version: tuple[int, int, int]

    @property
    def minor(self) -> str:
        """`3.13`."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def full(self) -> str:
        """`3.13.5`."""
        return ".".join(map(str, self.version))


def find(say: bool = True) -> list[Interpreter]:
    """Return one working Python a supported minor version, oldest first, the first found of each."""
    found: dict[tuple[int, int], Interpreter] = {}
    skipped: dict[str, str] = {}
    for path in _candidates():
        facts, problem = _probe(path)
        if facts is not None and tuple(facts["version"][:2]) not in SUPPORTED:
            continue
        if facts is None or problem:
            skipped[path] = problem
            continue
        found.setdefault(tuple(facts["version"][:2]), Interpreter(path, tuple(facts["version"])))
    if say:
        _report(found, skipped)
    return [found[minor] for minor in sorted(found)]


def _candidates() -> list[str]:
    """Names on the path first, then Debian's own, then pyenv's: the user's order decides."""
    names = [f"python{major}.{minor}" for major, minor in SUPPORTED] + ["python3"]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [Path(folder) / name for name in names for folder in folders if folder]
    paths += [Path("/usr/bin") / name for name in names]
    paths += sorted(_pyenv_root().glob("versions/*/bin/python"))
    return list(dict.fromkeys(str(path) for path in paths if os.access(path, os.X_OK) and path.is_file()))


def _pyenv_root() -> Path:
    if "PYENV_ROOT" in os.environ:
        return Path(os.environ["PYENV_ROOT"])
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return Path.home() / ".pyenv"
    return Path(
        subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip() or os.devnull
    )


def _probe(path: str) -> tuple[dict | None, str]:
    """Return what the interpreter says of itself, and why it cannot be used."""
    try:
        answer = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False)
        facts = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None, "does not start"
    if facts["implementation"] != "cpython" or not facts["gil"]:
        return facts, "is no CPython with the GIL"
    if not facts["venv"]:
        return facts, "has no venv (apt install python3-venv)"
    if not facts["headers"]:
        return facts, "has no headers (apt install python3-dev)"
    return facts, ""


def _report(found: dict[tuple[int, int], Interpreter], skipped: dict[str, str]) -> None:
    for minor in SUPPORTED:
        if minor in found:
            print(f"python {found[minor].full:<8} {found[minor].path}", flush=True)
        else:
            print(f"python {minor[0]}.{minor[1]:<6} not found: SKIPPED", flush=True)
    for path, problem in skipped.items():
        print(f"  {path} {problem}: skipped", flush=True)
