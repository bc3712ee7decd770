"""
`make free-threaded`: doctor and the tests of the compiled core on a CPython without the GIL.

One that is found is used. If there is none it is built from the source package of Debian, once, under ~/.cache/resilio,
which takes ten minutes on two cores. `make free-threaded ARGS="--build 3.14"` builds another version;
`ARGS="tests/storm -k races"` goes to pytest. What has no wheel for it is skipped out loud.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import interpreters
from debian import Apt, UnavailableError, call, codename
from suite import Leg, run_legs

_TESTS = ("tests/native", "tests/policies", "tests/storm", "tests/scenarios")
_MARKS = "not soak and not slow"
_BUILDING = 3600.0  # seconds at most
_STABLE = "3.13"


def main(arguments: list[str]) -> int:
    """Run each free-threaded Python found, or the one that is built now; return 1 if one fails."""
    parser = argparse.ArgumentParser(prog="tools/dev.py free-threaded", description=__doc__)
    parser.add_argument("--build", metavar="VERSION", help="build this version if it is not there, e.g. 3.14")
    options, rest = parser.parse_known_args(arguments)
    pythons = interpreters.find(gil=False)
    wanted = options.build or ("" if pythons else _STABLE)
    if wanted and f"{wanted}t" not in {python.minor for python in pythons}:
        try:
            _build(wanted)
        except UnavailableError as why:
            print(f"python {wanted}t cannot be built: {why}: SKIPPED", flush=True)
        pythons = interpreters.find(gil=False)
    if not pythons:
        print("no free-threaded Python was found: nothing is tested", flush=True)
        return 1
    os.environ["PYTHON_GIL"] = "0"  # an extension of a client that is not made for it does not switch the GIL on
    legs = [Leg(f"{python.minor} wheel", python, _MARKS, examples=30) for python in pythons]
    return run_legs(legs, [*_TESTS, *rest] if not any(Path(one.partition("::")[0]).exists() for one in rest) else rest)


def _build(version: str) -> None:
    """Build Debian's source of this version without the GIL."""
    prefix = interpreters.CACHE / f"python{version}t"
    suite = codename() if version == _STABLE else "sid"
    print(f"building python {version}t in {prefix}: some ten minutes", flush=True)
    with Apt(suite, "deb-src") as apt:
        apt.get("source", "--download-only", f"python{version}")
        (archive,) = apt.folder.glob(f"python{version}_*.orig.tar.xz")
        call(["tar", "xf", archive.name], apt.folder)
        (source,) = apt.folder.glob("Python-*")
        configure = ["./configure", "-q", "--disable-gil", "--with-ensurepip=install", f"--prefix={prefix}"]
        for command in (configure, ["make", "-s", f"-j{os.cpu_count() or 1}"], ["make", "-s", "install"]):
            call(command, source, _BUILDING)
