"""
Brings Pythons under ~/.cache/resilio, where `make test-others` finds them; nothing is installed.

Those newer than this Debian's are Debian unstable's own packages: some 15 seconds each, once. The one without the GIL
is built. A Python that cannot be had is skipped out loud, which is no failure.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import free_threaded
import interpreters
from debian import Apt, UnavailableError, call

VERSIONS = ("3.14", "3.15")
_PACKAGES = tuple(f"{kind}python{{}}{part}" for kind in ("", "lib") for part in ("", "-minimal", "-dev"))
_LIBRARY = "libpython{}-stdlib"


def main(arguments: list[str]) -> int:
    """Bring each version that is not there yet, and say of each where it is or why it is missing."""
    for version in arguments or VERSIONS:
        try:
            print(f"python {version}: {bring(version)}", flush=True)
        except UnavailableError as why:
            print(f"python {version} cannot be unpacked: {why}: SKIPPED", flush=True)
    if not arguments:
        free_threaded.bring()
    return 0


def bring(version: str) -> str:
    """Return the path of a Python of this version: one that is here already, or one unpacked now."""
    for found in interpreters.find(say=False):
        if found.minor == version:
            return found.path
    target = interpreters.CACHE / f"debian-python-{version}"
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with Apt("sid") as apt:
        names = [name.format(version) for name in (*_PACKAGES, _LIBRARY)]
        apt.get("download", *names)
        for package in sorted(apt.folder.glob("*.deb")):
            call(["dpkg-deb", "-x", str(package), "root"], apt.folder)
        # Moved when it is whole: another run, or one after an interruption, never finds half of it.
        shutil.move(apt.folder / "root", target)
    return _working(target, version)


def _working(target: Path, version: str) -> str:
    """Return the path of the interpreter, or take it away if it does not work here: the C library may be too old."""
    python = target / "usr" / "bin" / f"python{version}"
    try:
        call([str(python), "-c", "import ctypes, ssl, sqlite3, venv"], target)
    except UnavailableError:
        shutil.rmtree(target)
        raise
    return str(python)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
