"""Finds the Pythons on this machine that can build and test resilio, and says why another was left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SUPPORTED = ((3, 11), (3, 12), (3, 13), (3, 14), (3, 15))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resilio"
"""Where tools/newer_pythons.py and tools/free_threaded.py put Pythons: `make clean` leaves them alone."""

_PROBE = """
import importlib.util, json, os, sys, sysconfig
include = sysconfig.get_path("include")
headers = os.path.dirname(include)
part = os.path.join(sysconfig.get_config_var("MULTIARCH") or "", os.path.basename(include), "pyconfig.h")
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
    "venv": importlib.util.find_spec("venv") is not None,
    "headers": os.path.exists(os.path.join(include, "Python.h")),
    "elsewhere": headers if headers != "/usr/include" and os.path.exists(os.path.join(headers, part)) else "",
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """
    A Python that starts, makes virtual environments and has its headers.

    `headers` is a folder that a compiler does not search by itself: that of a Debian Python which was unpacked, whose
    Python.h includes files by their place below /usr/include.
    """

    path: str
    version: tuple[int, int, int]
    headers: str = ""
    gil: bool = True

    @property
    def minor(self) -> str:
        """`3.13`, or `3.13t` of a free-threaded one."""
        return f"{self.version[0]}.{self.version[1]}{'' if self.gil else 't'}"

    @property
    def full(self) -> str:
        """`3.13.5`."""
        return ".".join(map(str, self.version))

    @property
    def unpacked(self) -> bool:
        """Whether it was brought for the tests; what a person runs is run on a Python of the machine's own."""
        return Path(self.path).is_relative_to(CACHE)

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment variables of a process that compiles against it, beside those of this one."""
        return {**os.environ, "CPATH": self.headers} if self.headers else dict(os.environ)


def find(say: bool = True, *, gil: bool = True) -> list[Interpreter]:
    """
    Return one working Python a supported minor version, oldest first, the first found of each.

    Args:
        say: Print what was found, what is missing, and what was found and cannot be used.

        gil: False looks for free-threaded builds instead.
    """
    found: dict[tuple[int, int], Interpreter] = {}
    skipped: dict[str, str] = {}
    for path in _candidates(gil):
        facts, problem = _probe(path)
        if facts is not None and (tuple(facts["version"][:2]) not in SUPPORTED or (facts["gil"] and not gil)):
            continue
        if facts is not None and gil and not facts["gil"]:
            problem = "is free-threaded (make free-threaded)"
        if facts is None or problem:
            skipped[path] = problem
            continue
        version = tuple(facts["version"])
        found.setdefault(version[:2], Interpreter(path, version, facts["elsewhere"], gil))
    if say:
        _report(found, skipped, SUPPORTED if gil else tuple(sorted(found)))
    return [found[minor] for minor in sorted(found)]


def this() -> Interpreter:
    """Return the Python that runs this, or end the program with why it cannot build and test resilio."""
    facts, problem = _probe(sys.executable)
    if facts is None or problem:
        raise SystemExit(f"{sys.executable} {problem}: make PYTHON=/path/to/another/python3")
    return Interpreter(sys.executable, tuple(facts["version"]), facts["elsewhere"], facts["gil"])


def require(say: bool = True) -> list[Interpreter]:
    """Return what `find` finds, or end the program with what to install."""
    pythons = find(say)
    if not pythons:
        if not say:
            find()  # what cannot be used, and why
        oldest, newest = (".".join(map(str, minor)) for minor in (SUPPORTED[0], SUPPORTED[-1]))
        raise SystemExit(f"no Python of {oldest} to {newest} with headers: apt install python3-dev python3-venv")
    return pythons


def _candidates(gil: bool) -> list[str]:
    """The Python that runs this, then those on the path, the system's, pyenv's, unpacked ones: the user decides."""
    suffix = "" if gil else "t"
    names = [f"python{major}.{minor}{suffix}" for major, minor in SUPPORTED] + ["python3"]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [Path(sys.executable)]
    paths += [Path(folder) / name for name in names for folder in folders if folder]
    paths += [Path("/usr/bin") / name for name in names]
    paths += sorted(_pyenv_root().glob("versions/*/bin/python"))
    paths += [place / name for name in names for place in sorted(CACHE.glob("*python*/bin"))]
    paths += [place / name for name in names for place in sorted(CACHE.glob("*python*/usr/bin"))]
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
    if facts["implementation"] != "cpython":
        return facts, "is no CPython"
    if not facts["venv"]:
        return facts, "has no venv (apt install python3-venv)"
    if not facts["headers"]:
        return facts, "has no headers (apt install python3-dev)"
    return facts, ""


def _report(
    found: dict[tuple[int, int], Interpreter], skipped: dict[str, str], expected: tuple[tuple[int, int], ...]
) -> None:
    for minor in expected:
        if minor in found:
            print(f"python {found[minor].full:<8} {found[minor].path}", flush=True)
        else:
            print(f"python {minor[0]}.{minor[1]:<6} not found: SKIPPED", flush=True)
    for path, problem in skipped.items():
        print(f"  {path} {problem}: skipped", flush=True)
