"""
The tests in three sizes, each against the installed wheel.

`make test` is one Python, in minutes. `make test-others` is what can differ on the other Pythons; `.ci/run` is both.
`make test-all` is everything on each of them, with coverage: before a release.

The tests run in a copy of the source from which `resilio/` was taken away, so nothing but the wheel can be imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import c_coverage
import environments
import interpreters
import wheels
from coverage_gate import check_coverage
from environments import ROOT, Environment
from interpreters import Interpreter
from pytest_run import NO_TESTS, run_again, run_pytest

DAILY = "not soak and not slow"
WHOLE = "not soak"
_NOT_DAILY = ("tests/benchmarks", "tests/migration")
_UNPROTECTED = "resilio doctor says that something does not protect"
EXTRAS = ("prometheus", "httpx", "cli")
OPTIONAL = ("migration", "integrations")
WITHOUT_GIL = ("test", *OPTIONAL)  # many clients have no wheel for it; what the tests cannot do without is in test-core
MEASURING = ("3.11", "3.13")  # their tracers see lines of Cython: 3.11's costs least, 3.12's cannot
NEWEST = ("tests/native", "tests/policies", "tests/scenarios", "tests/integrations/test_smoke.py")
MIDDLE = ("tests/native",)
RACES = ("tests/native", "tests/storm")


@dataclass
class Leg:
    """One run of tests: which Python, build and tests, at most how many examples, and how it went."""

    title: str
    interpreter: Interpreter
    marks: str = DAILY
    tests: tuple[str, ...] = ()
    """Files and folders; none: all."""
    kind: str = "wheel"
    """`wheel`; `coverage`; `core`: without clients."""
    examples: int = 30
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    failed: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    wheel: Path = Path()
    environment: Environment | None = None

    @property
    def tag(self) -> str:
        """What its folder under .cache/ is named after."""
        return self.title.replace(" ", "-")

    def make_environment(self) -> Environment:
        """Return the environment of its Python and kind."""
        minor = self.interpreter.minor
        if self.kind == "core":
            return environments.ensure(f"core-{minor}", self.interpreter, "test-core", build=True)
        if not self.interpreter.gil:
            return environments.ensure(f"test-{minor}", self.interpreter, "test-core", build=True, optional=WITHOUT_GIL)
        options = {"extras": EXTRAS, "build": True, "optional": OPTIONAL}
        plain = environments.ensure(f"test-{minor}", self.interpreter, "test", **options)
        if self.kind == "wheel":
            return plain
        return environments.ensure(f"{self.kind}-{minor}", self.interpreter, "test", self.kind, like=plain, **options)


def run_one(arguments: list[str]) -> int:
    """Run the tests of every day on the Python that runs this; *arguments*: passed on to pytest, may choose tests."""
    python = interpreters.this()
    print(f"python {python.full:<8} {python.path}", flush=True)
    if _names_tests(arguments):
        return run_legs([Leg(python.minor, python, WHOLE)], arguments)
    return run_legs([Leg(python.minor, python)], [*(f"--ignore={folder}" for folder in _NOT_DAILY), *arguments])


def run_quick(arguments: list[str]) -> int:
    """Run the tests of policies and of the native core on one Python, without clients."""
    python = interpreters.this()
    tests = () if _names_tests(arguments) else ("tests/policies", "tests/native")
    return run_legs([Leg(f"{python.minor} quick", python, tests=tests, kind="core", examples=10)], arguments)


def run_others(arguments: list[str]) -> int:
    """Run what can differ on other Pythons: most of it on the newest, the core on the rest, races without the GIL."""
    mine = interpreters.this().minor
    others = [python for python in interpreters.require() if python.minor != mine]
    legs = [Leg(python.minor, python, tests=MIDDLE, kind="core", examples=10) for python in others]
    if legs:
        newest = others[-1]
        legs[-1] = Leg(newest.minor, newest, tests=NEWEST, examples=10)
    legs += [
        Leg(python.minor, python, tests=RACES, kind="core", examples=10) for python in interpreters.find(gil=False)
    ]
    return run_legs(legs, arguments) if legs else 0


def run_all(arguments: list[str], marks: str = WHOLE, kinds: tuple[str, ...] = ("wheel", "coverage")) -> int:
    """Run every test on every Python present, on one of them with coverage as well."""
    pythons = interpreters.require()
    measured = measured_python(pythons)
    once = "" if marks == "soak" else " and not once"
    legs = [Leg(measured.minor, measured, marks, examples=0)]
    legs += [Leg(python.minor, python, marks + once) for python in pythons if python is not measured]
    if measured.minor in MEASURING:
        traced = "not soak and not untraced and (covers or not slow)"  # see the markers in pyproject.toml
        legs.append(Leg(f"{measured.minor} coverage", measured, traced, kind="coverage", examples=20))
    else:
        print(f"coverage: Cython lines are traced on {' and '.join(MEASURING)} only: SKIPPED", flush=True)
    return run_legs([leg for leg in legs if leg.kind in kinds], arguments)


def run_legs(legs: list[Leg], arguments: list[str]) -> int:
    """Run the legs, the next one's environment and wheel made meanwhile; print the summary, return the exit code."""
    with ThreadPoolExecutor(1) as ahead:
        prepared = [ahead.submit(_prepare, leg) for leg in legs]
        for leg, source in zip(legs, prepared, strict=True):
            _run_leg(leg, source.result(), arguments)
    return _summary(legs)


def measured_python(pythons: list[Interpreter]) -> Interpreter:
    """Return the Python that measures Cython lines, or the first where none of these can."""
    return next((python for python in pythons if python.minor in MEASURING), pythons[0])


def _names_tests(arguments: list[str]) -> bool:
    return any(Path(argument.partition("::")[0]).exists() for argument in arguments)


def _prepare(leg: Leg) -> Path:
    """Fill the environment and compile at once, put the wheel in; return the unpacked sdist."""
    started = time.monotonic()
    traced = leg.kind == "coverage"
    source, leg.wheel, leg.environment = wheels.prepare(leg.interpreter, leg.make_environment, traced)
    if traced:
        leg.environment.bring(ROOT / "tools" / "kept_tracers.py")
    leg.seconds["build"] = time.monotonic() - started
    print(f"python {leg.title}: environment and wheel are ready after {leg.seconds['build']:.0f} s", flush=True)
    return source


def _run_leg(leg: Leg, source: Path, arguments: list[str]) -> None:
    started = time.monotonic()
    build = leg.wheel.parent / "tree"
    tree = _test_tree(source, leg.tag, build / "src_c")
    c_coverage.forget(build)
    print(f"\n=== {leg.title}: Python {leg.interpreter.full}, -m '{leg.marks}'\n{_doctor(leg, tree)}", flush=True)
    if not leg.problem:
        _pytest(leg, tree, arguments)
    leg.seconds["tests"] = time.monotonic() - started
    if leg.kind == "coverage" and leg.counts:
        leg.problem = "; ".join(filter(None, (leg.problem, check_coverage(leg.environment, tree, build))))


def _test_tree(source: Path, tag: str, native_sources: Path) -> Path:
    """
    Copy all but the package and its metadata, which would stand for those of the wheel.

    The native sources come from where they were built, with what coverage reads beside them.
    """
    tree = wheels.CACHE / f"run-{tag}"
    shutil.rmtree(tree, ignore_errors=True)
    unwanted = ["resilio", "resilio_sdk.egg-info", "src_c"]
    shutil.copytree(source, tree, ignore=lambda folder, _: unwanted if Path(folder) == source else [])
    shutil.copytree(native_sources, tree / "src_c")
    return tree


def _doctor(leg: Leg, tree: Path) -> str:
    """Ask the installed package whether it protects on this Python, and return its answer: the first test of a leg."""
    command = [leg.environment.python, "-m", "resilio", "doctor", "--patience=120"]
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tree, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        leg.problem = _UNPROTECTED
    return done.stdout + done.stderr


def _pytest(leg: Leg, tree: Path, arguments: list[str]) -> None:
    runner = ["-m", "coverage", "run", "-m", "pytest"] if leg.kind == "coverage" else ["-m", "pytest"]
    # One worker more than there are cores: tests of clients and servers wait for most of their time.
    workers = f"--numprocesses={(os.cpu_count() or 1) + 1}"
    command = [leg.environment.python, *runner, "-m", leg.marks, workers, "--dist=worksteal", "--durations=10"]
    settings = {**os.environ, "RESILIO_TEST_INSTALLED": "1", "RESILIO_SOURCE_TREE": str(ROOT)}
    settings["RESILIO_COVERAGE"] = "1" if leg.kind == "coverage" else "0"
    settings["RESILIO_TEST_EXAMPLES"] = str(leg.examples)
    settings.pop("PYTHONPATH", None)
    if not leg.interpreter.gil:
        settings["PYTHON_GIL"] = "0"  # an extension of a client that is not made for it does not switch the GIL on
    command += [*leg.tests, *arguments]
    run = run_pytest(command, tree, settings)
    if run.may_run_again:
        run = run_again(run, command, tree, settings)
    leg.seconds["their CPU"] = run.cpu_seconds
    leg.counts, leg.failed, leg.unsteady = run.counts, run.failed, run.unsteady
    if run.code == NO_TESTS and arguments:  # what was asked for may run on one Python only; the summary says if on none
        return
    if run.code:
        leg.problem = "no test was run" if run.code == NO_TESTS else f"pytest ended with exit code {run.code}"


def _summary(legs: list[Leg]) -> int:
    print("\n=== summary")
    for leg in legs:
        counts = ", ".join(f"{count} {what}" for what, count in leg.counts.items()) or "no report"
        times = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in leg.seconds.items())
        print(f"{leg.title:<14} {'FAILED' if leg.problem else 'ok':<7} {counts} ({times}) {leg.problem}")
    for leg in legs:
        for test in leg.failed:
            print(f"{leg.title}: {test}", flush=True)
        for test in leg.unsteady:
            print(f"{leg.title}: {test} (UNSTEADY: failed, and passed when it was run again)", flush=True)
    total = {what: sum(leg.counts.get(what, 0) for leg in legs) for what in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {what}" for what, count in total.items()), flush=True)
    return int(any(leg.problem for leg in legs) or not total["passed"])
