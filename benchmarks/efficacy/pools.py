"""
`python -m benchmarks.efficacy.pools`: what callers see of servers in trouble, by the way they choose a server.

    Musts, with one retry elsewhere: one endpoint of twelve slow, failing, half failing or hanging at a load of 0.6
    fails at most 0.01 % of the calls, has a p99 of at most 1.1 times that without a fault, and gets half of its share
    again within 6.5 s; a third of them gone fails at most 0.6 %, with the retry 0.02 %; half of them half as fast at a
    load of 0.8: no failures, and a p99 of at most 85 ms; of two regions at 60 % one is lost: critical calls are served
    to 99.9 % from a second after, all calls to the capacity, and all of them when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.efficacy import _pool_picture, _results
from benchmarks.efficacy._pool_regions import Regions, regions
from benchmarks.efficacy._pool_runs import FAULTS, WAYS, Choose, Seen, fault_run, halves

__all__ = ["FAULT", "HALVES", "REGIONS", "fault_rows", "halves_rows", "main", "regions_rows"]

SEEDS = (1, 2, 3)
_STATIC = Path(__file__).resolve().parents[2] / "docs" / "_static"
Rows = Iterator[tuple[str, ...]]

FAULT = ("", "attempts", "no fault", *FAULTS)
HALVES = ("", "load 0.6", "load 0.8")
REGIONS = ("", "critical in the first second", "critical", "all, of the capacity", "all, after the return")


def fault_rows(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `FAULT`: the worst of the seeds."""
    for name, choose in WAYS.items():
        for attempts in (1, 2):
            cells = [
                _cell([fault_run(fault, choose, seed, attempts=attempts) for seed in seeds], faulty=fault is not None)
                for fault in (None, *FAULTS.values())
            ]
            yield name, str(attempts), *cells


def _cell(runs: Sequence[Seen], *, faulty: bool) -> str:
    tail = f"{max(run.p99 for run in runs) * 1e3:.0f} ms"
    if not faulty:
        return tail
    failed, share = max(run.failed for run in runs), max(run.share for run in runs)
    back = [run.back for run in runs]
    late = "never" if None in back else f"{max(each or 0.0 for each in back):.1f} s"
    return f"{failed:.3%}; {tail}; {share:.2%}; {late}"


def halves_rows(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `HALVES`: the worst of the seeds."""
    for name, choose in WAYS.items():
        yield name, *(_half([halves(choose, seed, load=load) for seed in seeds]) for load in (0.6, 0.8))


def _half(runs: Sequence[Seen]) -> str:
    return f"{max(run.failed for run in runs):.2%}; {max(run.p99 for run in runs) * 1e3:.0f} ms"


def regions_rows(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `REGIONS`: the worst of the seeds."""
    for name, choose, sheds in _region_ways():
        runs = [regions(choose, seed, sheds=sheds) for seed in seeds]
        figures: list[Callable[[Regions], float]] = [
            lambda run: run.early,
            lambda run: run.critical,
            lambda run: run.goodput,
            lambda run: run.after,
        ]
        yield name, *(f"{min(map(figure, runs)):.2%}" for figure in figures)


def _region_ways() -> Iterator[tuple[str, Choose, bool]]:
    for name in ("Envoy, all may be ejected", "pool"):
        yield name, WAYS[name], False
        yield f"{name}, load_shed", WAYS[name], True


_FAULT = (
    "Twelve endpoints of four workers, 10 ms each (exponential), ten clients, a load of 0.6, a timeout of 1 s; a fault "
    "of 15 s of one endpoint, or of a third of them. Failed calls, p99 of all calls, both from one second after the "
    "begin of the fault; the share of the attempts that the affected endpoints got; seconds after the fault until the "
    "first of them has half of its share again. The worst of the seeds 1 to 3."
)
_HALVES = (
    "The same endpoints, half of them half as fast; the load is a share of what they can do together. Failed calls and "
    "p99. The worst of the seeds 1 to 3."
)
_REGIONS = (
    "Two regions of six endpoints at 60 % of their capacity each, 40 % of the calls critical and the others in the "
    "background; one region is gone for 20 s. Critical calls answered within 500 ms in its first second, and from "
    "then on; calls served as a share of the capacity that is left; calls served from a second after its return. One "
    "retry. The worst of the seeds 1 to 3."
)
_TABLES: dict[str, tuple[Sequence[str], Callable[..., Rows], str]] = {
    "R14 a fault of an endpoint": (FAULT, fault_rows, _FAULT),
    "R14 slower endpoints": (HALVES, halves_rows, _HALVES),
    "R14 two regions": (REGIONS, regions_rows, _REGIONS),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("What callers see of servers in trouble.")
    parser.add_argument("--picture", action="store_true", help="draw the picture of the docs, and no tables")
    options = parser.parse_args(arguments)
    if options.picture:
        (_STATIC / _pool_picture.NAME).write_text(_pool_picture.drawn(), encoding="utf-8")
        return
    for title, (header, rows, about) in _TABLES.items():
        text = _results.section(about, header, rows())
        _results.show(title, text, recorded=options.record)


if __name__ == "__main__":
    main()
