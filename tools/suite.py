"""
`make test`: the suite against the installed wheel on every Python present, once more with coverage, and a summary.

The tests run in a copy of the source from which `resilio/` was taken away, so nothing but the wheel can be imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict
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
from what_failed import Failed

_PRINTING = threading.Lock()
_INSTALLING: dict[Path, threading.Lock] = defaultdict(threading.Lock)  # two legs may share an environment
_BUILDING: dict[str, threading.Lock] = defaultdict(threading.Lock)  # wheels of a kind share what Cython translates
_UNPROTECTED = "resilio doctor says that something does not protect"
EXTRAS = ("prometheus", "httpx", "cli")
OPTIONAL = ("migration", "integrations")
WITHOUT_GIL = ("test", *OPTIONAL)  # many clients have no wheel for it; what the tests cannot do without is in test-core
MEASURING = (
    "3.11",
    "3.13",
)  # their tracers see lines of Cython: 3.11's costs least, 3.12's cannot
QUICK = "not soak and not slow and not once"
SELDOM = "not soak and not slow and (once or untraced or hypothesis or wheel)"  # Hypothesis marks its tests itself


@dataclass
class Leg:
    """One run of the suite: which Python, which build, which tests, at most how many examples, and how it went."""

    title: str
    interpreter: Interpreter
    marks: str
    kind: str = "wheel"
    examples: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    failed: Failed = field(default_factory=Failed)
    unsteady: list[str] = field(default_factory=list)
    wheel: Path = Path()
    _environment: Environment | None = None

    @property
    def tag(self) -> str:
        """What its folders under .cache/ are named after."""
        return self.title.replace(",", "").replace(" ", "-")

    @property
    def environment(self) -> Environment:
        """One for its Python and build, made when it is first asked for; two legs may make theirs at once."""
        # Not a cached_property: before 3.12 all instances share its lock.
        if self._environment is None:
            self._environment = self._make_environment()
        return self._environment

    def _make_environment(self) -> Environment:
        if self.kind == "quick":
            return environments.ensure(
                f"quick-{self.interpreter.minor}", self.interpreter, "test-core", extras=("prometheus",), build=True
            )
        name = f"test-{self.interpreter.minor}"
        if not self.interpreter.gil:
            return environments.ensure(name, self.interpreter, "test-core", build=True, optional=WITHOUT_GIL)
        options = {"extras": EXTRAS, "build": True, "optional": OPTIONAL}
        plain = environments.ensure(name, self.interpreter, "test", **options)
        if self.kind == "wheel":
            return plain
        name = f"{self.kind}-{self.interpreter.minor}"
        return environments.ensure(name, self.interpreter, "test", self.kind, like=plain, **options)


def run_suite(marks: str | None, pytest_arguments: list[str], kinds: tuple[str, ...] = ("wheel", "coverage")) -> int:
    """
    Run every leg, print the summary and return the exit code.

    Args:
        marks: pytest's mark expression for every leg; None gives each leg its own.

        pytest_arguments: Passed on to pytest.

        kinds: Which legs to run.
    """
    pythons = interpreters.require()
    legs = [leg for leg in _plan(pythons, marks, split=not pytest_arguments) if leg.kind in kinds]
    return run_legs(legs, pytest_arguments)


def run_quick(pytest_arguments: list[str]) -> int:
    """Run the tests of policies and of the native core on one Python, without clients and coverage."""
    python = interpreters.require(say=False)[0]
    chosen = any(Path(argument.partition("::")[0]).exists() for argument in pytest_arguments)
    folders = [] if chosen else ["tests/policies", "tests/native"]
    leg = Leg(f"{python.minor} quick", python, QUICK, kind="quick", examples=10)
    return run_legs([leg], [*folders, *pytest_arguments])


def run_legs(legs: list[Leg], pytest_arguments: list[str]) -> int:
    """Make what the legs need, run them, print the summary and return the exit code."""
    pythons = list(dict.fromkeys(leg.interpreter for leg in legs))
    # Two more than there are cores: the tests of clients and servers wait for most of their time, all legs at once.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 2) as pool:
        list(pool.map(lambda python: [leg.environment for leg in legs if leg.interpreter is python], pythons))
        source = wheels.unpack_sdist(legs[0].environment)
        list(pool.map(lambda leg: _run_leg(leg, source, pytest_arguments), legs))
    return _summary(legs)


def measured_python(pythons: list[Interpreter]) -> Interpreter:
    """Return the Python that measures Cython lines, or the first where none of these can."""
    return next((python for python in pythons if python.minor in MEASURING), pythons[0])


def _plan(pythons: list[Interpreter], marks: str | None, *, split: bool) -> list[Leg]:
    """
    One Python in full; the others leave out what says the same on each, and are shorter where it is a matter of chance:
    3.14 and 3.15 too. Every leg begins with `resilio doctor`.

    Where coverage is measured the same sources run the same tests on that one. So its wheel is asked only what is not
    asked there: what is slow, what a tracer changes, and in full length what is a matter of chance; what says the same
    everywhere, since that is asked of no other wheel; and once more what tests the compiled core, since it has lines of
    its own for each Python, and a compiler that is asked for its best may get them wrong. If coverage is not measured,
    or there is no other Python, all of it is asked of this one.

    In the order in which they begin: what takes longest goes first.
    """
    measured = measured_python(pythons)
    traceable = measured.minor in MEASURING
    others = [python for python in pythons if python is not measured]
    legs, last = [], []
    if marks or not split:
        legs.append(Leg(f"{measured.minor} wheel", measured, marks or "not soak"))
    else:
        legs.append(Leg(f"{measured.minor} wheel, slow", measured, "not soak and slow"))
        rest = SELDOM if traceable and others else "not soak and not slow"
        last.append(Leg(f"{measured.minor} wheel", measured, rest))
    if traceable:
        traced = "not soak and not untraced and (covers or not slow)"  # see the markers in pyproject.toml
        legs.append(Leg(f"{measured.minor} coverage", measured, traced, kind="coverage", examples=20))
    else:
        print(f"coverage: Cython lines are traced on {' and '.join(MEASURING)} only: SKIPPED", flush=True)
    legs += [Leg(f"{python.minor} wheel", python, marks or QUICK, examples=0 if marks else 30) for python in others]
    return legs + last


def _build(leg: Leg, source: Path) -> None:
    started = time.monotonic()
    tag = f"{leg.interpreter.minor}-{leg.kind}"
    with _BUILDING[leg.kind]:
        leg.wheel = wheels.build_wheel(source, leg.environment, tag, coverage=leg.kind == "coverage")
    leg.environment.install_wheel(leg.wheel)
    if leg.kind == "coverage":
        leg.environment.bring(ROOT / "tools" / "kept_tracers.py")
    leg.seconds["build"] = time.monotonic() - started
    print(f"built for {leg.title} in {leg.seconds['build']:.0f} s", flush=True)


def _run_leg(leg: Leg, source: Path, pytest_arguments: list[str]) -> None:
    """Build and run one leg; what it says is printed as a whole at its end, since two run at once."""
    with _INSTALLING[leg.environment.path]:
        _build(leg, source)
    print(f"started: {leg.title}", flush=True)
    started = time.monotonic()
    build = leg.wheel.parent / "tree"
    tree = _test_tree(source, leg.tag, build / "src_c")
    c_coverage.forget(build)
    examined = _doctor(leg, tree)
    if not leg.problem:
        _pytest(leg, tree, pytest_arguments)
    leg.seconds["tests"] = time.monotonic() - started
    with _PRINTING:
        print(f"\n=== {leg.title}: Python {leg.interpreter.full}, -m '{leg.marks}'\n{examined}", flush=True)
        if leg.problem == _UNPROTECTED:
            return
        for log in filter(Path.exists, (tree / "pytest.log", tree / "again.log")):
            print(log.read_text(errors="replace"), flush=True)
        if leg.kind == "coverage":
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
    command = [leg.environment.python, "-m", "resilio", "doctor", "--patience=120"]  # all legs at once
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tree, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        leg.problem = _UNPROTECTED
    return done.stdout + done.stderr


def _pytest(leg: Leg, tree: Path, arguments: list[str]) -> None:
    runner = ["-m", "coverage", "run", "-m", "pytest"] if leg.kind == "coverage" else ["-m", "pytest"]
    command = [leg.environment.python, *runner, "-m", leg.marks, "--durations=10", *arguments]
    settings = {**os.environ, "RESILIO_TEST_INSTALLED": "1", "RESILIO_SOURCE_TREE": str(ROOT)}
    settings["RESILIO_COVERAGE"] = "1" if leg.kind == "coverage" else "0"
    settings["RESILIO_TEST_EXAMPLES"] = str(leg.examples)
    settings.pop("PYTHONPATH", None)
    run = run_pytest(command, tree, settings)
    if run.may_run_again and not arguments:
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
        print(f"{leg.title:<16} {'FAILED' if leg.problem else 'ok':<7} {counts} ({times}) {leg.problem}")
    total = {what: sum(leg.counts.get(what, 0) for leg in legs) for what in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {what}" for what, count in total.items()), flush=True)
    for leg in legs:
        for line in leg.failed.lines():
            print(f"{leg.title}: {line}", flush=True)
        for test in leg.unsteady:
            print(f"{leg.title}: {test} (UNSTEADY: failed, and passed when it was run again)", flush=True)
    return int(any(leg.problem for leg in legs) or not total["passed"])
