"""
`make free-threaded`: doctor and the tests of what threads share on a CPython without the GIL.

Each that is found is used. If there is none, 3.13 is built from the source package of Debian, once, under
~/.cache/resilio, which takes two minutes on two cores. `make free-threaded ARGS="tests/storm -k races"` goes to pytest.
What has no wheel for it is skipped out loud.
"""

from __future__ import annotations

import os
from pathlib import Path

import interpreters
from debian import Apt, UnavailableError, call, codename
from suite import Leg, run_legs

_TESTS = tuple(
    f"tests/{folder}"
    for folder in (
        "native",
        "policies",
        "storm",
        "scenarios",
        "backends",
        "context",
        "policy",
        "composition",
        "time_ledger",
        "testing",
        "metrics",
        "robustness",
        "sharing",
    )
)
_LEFT_OUT = ("--ignore=tests/sharing/interleave", "--ignore=tests/sharing/test_sanitized.py")  # C without a Python
_BUILDING = 3600.0  # seconds at most
_VERSION = "3.13"


def main(arguments: list[str]) -> int:
    """Run each free-threaded Python that is found, or the one that is built now; return 1 if one fails."""
    bring()
    pythons = interpreters.find(gil=False)
    if not pythons:
        print("no free-threaded Python was found: nothing is tested", flush=True)
        return 1
    chosen = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    legs = [Leg(python.minor, python, tests=() if chosen else _TESTS) for python in pythons]
    return run_legs(legs, [*([] if chosen else _LEFT_OUT), *arguments])


def bring() -> None:
    """Build one if none is found; one that cannot be had is skipped out loud."""
    try:
        if not interpreters.find(say=False, gil=False):
            _build()
    except UnavailableError as why:
        print(f"python {_VERSION}t cannot be built: {why}: SKIPPED", flush=True)
        return
    for python in interpreters.find(say=False, gil=False):
        print(f"python {python.minor}: {python.path}", flush=True)


def _build() -> None:
    """Build it from the sources of this Debian: without its own tests, and with little optimisation, which is quick."""
    prefix = interpreters.CACHE / f"python{_VERSION}t"
    print(f"building python {_VERSION}t in {prefix}: some two minutes", flush=True)
    with Apt(codename(), "deb-src") as apt:
        apt.get("source", "--download-only", "--tar-only", f"python{_VERSION}")
        (archive,) = apt.folder.glob("*.orig.tar.xz")
        call(["tar", "xf", archive.name], apt.folder)
        (source,) = apt.folder.glob("Python-*")
        options = ["--disable-gil", "--with-ensurepip=no", "--disable-test-modules", "CFLAGS=-O1 -g0"]
        for command in (
            ["./configure", "-q", *options, f"--prefix={prefix}"],
            ["make", "-s", f"-j{os.cpu_count() or 1}"],
            ["make", "-s", "install"],
        ):
            call(command, source, _BUILDING)
