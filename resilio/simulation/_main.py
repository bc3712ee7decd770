"""`resilio simulate`: put stacks of policies through load and trouble on virtual time, and compare what comes of it."""

from __future__ import annotations

import argparse
import importlib.resources
import json
import signal
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

from resilio._options.validators import parse_duration, reject
from resilio._policy.misordered import PipelineWarning
from resilio.simulation._files import Plan, load
from resilio.simulation._picture import picture
from resilio.simulation._report import rows_of, show, sweep_rows
from resilio.simulation._results import Result
from resilio.simulation._simulate import Progress, simulate
from resilio.simulation._table import ScenarioError

__all__ = ["main"]

_INTERRUPTED = 130  # the exit code that shells give to Ctrl-C
_QUIET = 10  # reports of progress, ten a second, before the first is shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resilio simulate", description=__doc__)
    parser.add_argument("scenario", nargs="?", metavar="FILE|NAME", help="a .toml or .py file, or a name from --list")
    parser.add_argument("--list", action="store_true", help="name the scenarios that come with resilio")
    parser.add_argument("--show", action="store_true", help="print the scenario's file instead of running it")
    parser.add_argument("--seed", type=int, help="of all random numbers (default: the file's, or 1)")
    parser.add_argument("--duration", help="how long tasks arrive, like 60s (default: the file's)")
    parser.add_argument("--stack", action="append", help="only this stack; may be given several times")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="write the curves as SVG")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a simulation from the command line.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code: 0; 1 for a scenario with a mistake, or one stopped because it would never end; 130 after Ctrl-C,
        with a partial result.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.list:
        print(_listing())
        return 0
    if options.scenario is None:
        parser.error("which scenario? give a file, or a name from --list")
    if options.svg is not None and not options.svg.parent.is_dir():  # fail now, not after a minute of simulation
        parser.error(f"argument --svg: there is no folder {options.svg.parent}")
    if options.svg is not None and options.svg.is_dir():
        parser.error(f"argument --svg: {options.svg} is a folder: name a file in it")
    try:
        file = _find(options.scenario)
        text = file.read_text(encoding="utf-8") if options.show else None
        plan = None if options.show else _changed(_loaded(file), options, parser)
    except (OSError, ScenarioError) as error:
        print(f"resilio simulate: {error}", file=sys.stderr)
        return 1
    if plan is not None:
        return _run(plan, options)
    print(text, end="")
    return 0


# ---- which scenario --------------------------------------------------------------------------------------------------


def _loaded(file: Path) -> Plan:
    """Read a scenario, and print the warnings of its policies."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PipelineWarning)
        plan = load(file)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"resilio simulate: {file}: warning: {text}", file=sys.stderr)
    return plan


def _shipped() -> dict[str, Path]:
    folder = Path(str(importlib.resources.files("resilio.simulation") / "scenarios"))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _listing() -> str:
    shipped = _shipped()
    width = max(map(len, shipped))
    titles = {name: tomllib.loads(file.read_text(encoding="utf-8"))["title"] for name, file in shipped.items()}
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())


def _find(name: str) -> Path:
    file = Path(name)
    if file.suffix in (".toml", ".py") or file.exists():
        return file
    shipped = _shipped()
    if name not in shipped:
        known = ", ".join(shipped)
        raise ScenarioError(name, None, None, f"no such file (.toml or .py), and no such scenario: there are {known}")
    return shipped[name]


def _changed(plan: Plan, options: argparse.Namespace, parser: argparse.ArgumentParser) -> Plan:
    """Apply the command line's options for the seed, the duration and the stacks."""
    changes: dict[str, Any] = {}
    try:
        if options.duration is not None:
            changes["duration"] = _duration(plan, options.duration)
        if options.stack:
            changes["stacks"] = {name: plan.scenarios[0][1].stacks[name] for name in options.stack}
        scenarios = tuple((value, attrs.evolve(scenario, **changes)) for value, scenario in plan.scenarios)
    except KeyError as error:
        parser.error(f"argument --stack: no stack {error}; there are: {', '.join(plan.scenarios[0][1].stacks)}")
    except ValueError as error:
        parser.error(f"argument --duration: {str(error).removeprefix('duration ')}")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        parser.error(f"argument --seed: must be from 0 to 2**63 - 1, not {options.seed}")
    return attrs.evolve(plan, scenarios=scenarios, seed=plan.seed if options.seed is None else options.seed)


def _duration(plan: Plan, text: str) -> float:
    """Return the seconds of --duration, in which each fault of the scenario must begin."""
    duration = parse_duration("duration", text)
    begins = [fault.at for _, scenario in plan.scenarios for fault in scenario.faults]
    if begins and duration <= max(begins):
        reject("duration", text, f"more than the {max(begins):g} s after which the last fault of the scenario begins")
    return duration


# ---- running it ------------------------------------------------------------------------------------------------------


def _run(plan: Plan, options: argparse.Namespace) -> int:
    results: list[tuple[Any, Result]] = []
    with _interrupts() as interrupted, warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)  # each client would warn again
        for number, (value, scenario) in enumerate(plan.scenarios):
            teller = _Teller(interrupted, number, len(plan.scenarios), quiet=options.quiet)
            results.append((value, simulate(scenario, seed=plan.seed, progress=teller)))
            teller.clear()
            if interrupted:
                break
    drawn = _finish(results, plan, options, interrupted=bool(interrupted))
    return _INTERRUPTED if interrupted else 0 if drawn and all(result.complete for _, result in results) else 1


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Note the first Ctrl-C in the list that is yielded; the second one interrupts at once."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        if len(noted) > 1:
            signal.default_int_handler(number, frame)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread, the only one that gets signals
        yield noted
        return
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


class _Teller:
    """Progress of a long run on standard error, and its end after a Ctrl-C."""

    def __init__(self, interrupted: list[int], number: int, runs: int, *, quiet: bool) -> None:
        self._interrupted = interrupted
        self._before, self._runs = number, runs
        self._silent = quiet
        self._terminal = sys.stderr.isatty()
        self._calls = 0
        self._shown = False

    def __call__(self, progress: Progress) -> bool:
        self._calls += 1
        every = 2 if self._terminal else 50
        if not self._silent and self._calls > _QUIET and self._calls % every == 0:
            self._say(progress)
        return not self._interrupted

    def _say(self, progress: Progress) -> None:
        done = (progress.number + progress.elapsed / progress.duration) / progress.stacks
        share = (self._before + min(done, 1.0)) / self._runs
        line = (
            f"{100 * share:3.0f} %  {progress.stack}: {progress.elapsed:.1f} of {progress.duration:g} simulated seconds"
        )
        print(
            f"\r\x1b[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
        self._shown = True

    def clear(self) -> None:
        """Clear the line of progress."""
        if self._shown and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _finish(
    results: Sequence[tuple[Any, Result]], plan: Plan, options: argparse.Namespace, *, interrupted: bool
) -> bool:
    """Print the figures and write the picture; return False if it could not be written."""
    drawn = True
    scenario = results[0][1].scenario
    notes = [f"seed {plan.seed}; an answer is in time within {scenario.deadline:g} s"]
    if scenario.clients_per_host > 1:
        notes[0] += f"; {scenario.clients} clients on {scenario.hosts} host{'s' * (scenario.hosts > 1)}"
    partial = _partial(results, plan, interrupted=interrupted)
    if partial is not None:
        notes.insert(0, f"PARTIAL RESULT: {partial}")
    if options.svg is not None:
        try:
            options.svg.write_text(picture(results, plan.sweep), encoding="utf-8")
            notes.append(f"Picture: {options.svg}")
        except OSError as error:
            print(f"resilio simulate: no picture: {error}", file=sys.stderr)
            drawn = False
    if options.json:
        print(json.dumps(_data(results, plan, partial), indent=2))
    else:
        show(rows_of(results[0][1]) if plan.sweep is None else sweep_rows(results, plan.sweep), notes)
    return drawn


def _partial(results: Sequence[tuple[Any, Result]], plan: Plan, *, interrupted: bool) -> str | None:
    """Return why and where the simulation ended early; None if it did not."""
    for _, result in results:
        for name, outcome in result.items():
            if outcome.ended_early is not None:
                why = "interrupted" if interrupted else outcome.ended_early
                return f"{why}, {outcome.elapsed:.1f} s into {name!r}"
    return "interrupted" if interrupted and len(results) < len(plan.scenarios) else None


def _data(results: Sequence[tuple[Any, Result]], plan: Plan, partial: str | None) -> dict[str, Any]:
    if plan.sweep is None:
        return {**results[0][1].to_dict(), "ended_early": partial}
    runs = [{"value": value, **result.to_dict()} for value, result in results]
    return {"sweep": plan.sweep, "complete": partial is None, "ended_early": partial, "runs": runs}
