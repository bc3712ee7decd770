"""The command: options, two workers, the report and the exit code."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import environments
import interpreters
from environments import ROOT
from suite import EXTRAS
from wheels import CACHE

from mutation.covers import all_tests
from mutation.faults import Fault, faults
from mutation.mutators import Mutant
from mutation.sample import draw, equivalents, every_mutant
from mutation.workspace import CAUGHT, HUNG, REDRAWN, SURVIVED, Workspace

M = TypeVar("M", Mutant, Fault)
EQUIVALENT = "equivalent"
WANTED = 95.0
"""Percent of the mutants that are not equivalent."""
MOST_EQUIVALENT = 10.0
"""Percent of the sample."""


@dataclass
class Report:
    """What became of the mutants of a sample, by their place in it."""

    wanted: int
    stopped: bool = False
    verdicts: dict[int, tuple[Mutant | Fault, str]] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def note(self, place: int, mutant: Mutant | Fault, verdict: str, seconds: float = 0.0) -> None:
        """Record and print a verdict, and how long it took."""
        self.verdicts[place] = (mutant, verdict)
        if verdict not in REDRAWN:
            print(
                f"{len(self._valid()):>4} {seconds:4.0f} s {verdict}: {mutant.id} {mutant.place}",
                flush=True,
            )

    def is_full(self) -> bool:
        """Return True if as many as wanted have a verdict that counts."""
        return self.stopped or len(self._valid()) >= self.wanted

    def of(self, *verdicts: str) -> list[Mutant | Fault]:
        """Return the mutants of the sample with one of these verdicts: two workers may have tried one too many."""
        return [mutant for mutant, verdict in self._valid()[: self.wanted] if verdict in verdicts]

    def _valid(self) -> list[tuple[Mutant | Fault, str]]:
        ordered = (self.verdicts[place] for place in sorted(self.verdicts))
        return [(mutant, verdict) for mutant, verdict in ordered if verdict not in REDRAWN]

    @property
    def caught(self) -> float:
        """Percent of those that are not equivalent."""
        caught = len(self.of(CAUGHT, HUNG))
        return 100.0 * caught / max(1, caught + len(self.of(SURVIVED)))

    @property
    def equivalent(self) -> float:
        """Percent of the sample."""
        return 100.0 * len(self.of(EQUIVALENT)) / max(1, len(self._valid()[: self.wanted]))

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        yield from (f"\nSURVIVED {mutant.diff()}" for mutant in self.of(SURVIVED))
        redrawn = sum(verdict in REDRAWN for _, verdict in self.verdicts.values())
        yield f"\nmutation: {self.wanted} mutants in {(time.monotonic() - self.begun) / 60:.1f} minutes"
        yield f"  caught       {len(self.of(CAUGHT, HUNG))}, {len(self.of(HUNG))} of them by the time limit"
        yield f"  survived     {len(self.of(SURVIVED))}: {self.caught:.1f} % caught, {WANTED:.0f} % are wanted"
        yield f"  equivalent   {len(self.of(EQUIVALENT))}: {self.equivalent:.1f} %, {MOST_EQUIVALENT:.0f} % at most"
        yield f"  drawn again  {redrawn}, which do not build or build the same"

    def failed(self) -> bool:
        """Return True if fewer are caught than wanted, or too many are listed as equivalent."""
        return self.caught < WANTED or self.equivalent > MOST_EQUIVALENT


def main(arguments: list[str]) -> int:
    """Try a sample, or the known faults, or list them."""
    options = _options(arguments)
    made = [] if options.known else every_mutant(ROOT)
    chosen = _of_ids(options.only, faults()) if options.known else _chosen(options, made)
    if options.list:
        print("\n".join(mutant.diff() for mutant in chosen[: options.count]))
        return 0
    report = Report(min(options.count, len(chosen)))
    _run(chosen, options, report)
    print("\n".join([*report.lines(), *([] if options.known else _stale(made))]), flush=True)
    if options.known:  # each of them is to be noticed, and to be built
        return int(len(report.of(CAUGHT, HUNG)) < len(chosen))
    return int(report.failed())


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutation ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--count", type=int, default=200, help="how many mutants are tried (200)")
    parser.add_argument("--after", type=int, default=0, help="pass over so many of the sample, tried before (0)")
    parser.add_argument("--list", action="store_true", help="print what would be tried first, and try nothing")
    parser.add_argument("--only", action="append", metavar="ID", help="try this mutant alone; may be repeated")
    parser.add_argument("--known", action="store_true", help="try the known faults instead, those of faults.toml")
    parser.add_argument("--under", default="", metavar="PATH", help="only files whose path begins with this")
    parser.add_argument("--workers", type=int, default=2, help="how many at once, each in a copy of the tree (2)")
    parser.add_argument("--python", help="an interpreter that has what is needed, instead of .venv/mutation")
    parser.add_argument("--narrow", action="store_true", help="run only the tests that are listed for the file")
    parser.add_argument("--limit", type=float, help="CPU seconds for the tests of a mutant (a multiple of the usual)")
    return parser.parse_args(arguments)


def _stale(made: list[Mutant]) -> list[str]:
    """Return a line for each change that is listed as equivalent, and whose code has gone."""
    gone = [one for one in equivalents() if not any(one.matches(mutant) for mutant in made)]
    return [f"  no such code any more, in equivalent.toml: {one.file}: {one.before}" for one in gone]


def _chosen(options: argparse.Namespace, made: list[Mutant]) -> list[Mutant]:
    if not options.only:
        return draw([mutant for mutant in made if mutant.path.startswith(options.under)], options.seed)[options.after :]
    return _of_ids(options.only, made)


def _of_ids(ids: list[str] | None, made: list[M]) -> list[M]:
    """Return the mutants with these IDs; None: all."""
    if missing := set(ids or ()) - {mutant.id for mutant in made}:
        raise SystemExit(f"no mutant has the ID {', '.join(sorted(missing))}: --list shows those of a sample")
    return [mutant for mutant in made if ids is None or mutant.id in ids]


def _run(chosen: Sequence[Mutant | Fault], options: argparse.Namespace, report: Report) -> None:
    """Try mutants until as many as wanted have a verdict; after Ctrl-C end those that are under way."""
    known, order, lock = equivalents(), iter(enumerate(chosen)), threading.Lock()

    def work(number: int) -> None:
        workspace = Workspace(ROOT, CACHE / f"mutation-{number}", python, options.limit, options.narrow)
        workspace.prepare()
        if not options.only and not options.known:
            workspace.measure(all_tests())
        while True:
            with lock:
                place, mutant = next(order, (-1, None))
            if mutant is None or report.is_full():
                return
            begun = time.monotonic()
            is_equivalent = isinstance(mutant, Mutant) and any(one.matches(mutant) for one in known)
            verdict = EQUIVALENT if is_equivalent else workspace.try_out(mutant)
            with lock:
                report.note(place, mutant, verdict, time.monotonic() - begun)

    python = options.python or _environment()
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            list(pool.map(work, range(options.workers)))
        except KeyboardInterrupt:
            report.stopped = True


def _environment() -> str:
    """Return the interpreter of an environment that holds what the tests of the core need, and not resilio."""
    python = interpreters.require(say=False)[0]
    return environments.ensure("mutation", python, "mutation", extras=EXTRAS, build=True).python
