"""
`python -m benchmarks.efficacy.outage`: R13, what goes into an outage, and how soon the dependency is served after it.

The library's breaker in both modes, and published designs beside it (see `_guards`), before one dependency that gets
100 calls a second: it is down for minutes; comes back cold; has lost a shard of ten, or half; has too much to do.
Calls arrive as a Poisson process. No event loop and no sleep: permits on a virtual clock.

Recovery is the time from the end of the outage to the first two seconds of whose calls 95 % are served.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.efficacy import _results
from benchmarks.efficacy._guards import ClientThrottle
from benchmarks.efficacy._outage import GUARDS, MODES, OURS, RATE, Make, cold, ours, outage, overload, partial, shards

__all__ = ["GUARDS", "OURS", "RATE", "cold", "main", "ours", "outage", "overload", "partial", "shards", "tables"]


def _outages(runs: int) -> Iterator[tuple[str, ...]]:
    published = {
        "client throttle, K=2": "9,061; 1,550",
        "Kratos": "278; 13",
        "go-zero": "941; 37",
        "classic": "505; at most 30",
    }
    for latency in (0.001, 0.1, 1.0, 5.0):
        for name, make in OURS.items():
            for length in (60.0, 240.0):
                seen = [outage(make, latency, seed, length=length) for seed in range(1, runs + 1)]
                must = f"{100 + RATE * latency:.0f}; {3 + latency:g}" if length == 240 else "-"
                yield _outage_row(name, latency, length, runs, must, "-", seen)
    few = max(1, runs // 20)
    for name, make in GUARDS.items():
        if name not in OURS:
            seen = [outage(make, 0.01, seed, before=130.0, longest=20_000.0) for seed in range(1, few + 1)]
            yield _outage_row(name, 0.01, 240.0, few, "-", published.get(name, "-"), seen)


def _outage_row(
    name: str, latency: float, length: float, runs: int, must: str, published: str, seen: list[tuple[int, float]]
) -> tuple[str, ...]:
    sent, recoveries = [calls for calls, _ in seen], [recovery for _, recovery in seen]
    figures = (
        f"{statistics.mean(sent):,.0f} ({max(sent):,}); "
        f"{_seconds(statistics.median(recoveries))} ({_seconds(max(recoveries))})"
    )
    return name, f"{length:g}", f"{latency:g}", str(runs), must, published, figures


def _seconds(time: float) -> str:
    return f"{time:,.0f}" if time >= 100 else f"{time:.2f}"


def _cold_rows(runs: int) -> Iterator[tuple[str, ...]]:
    rows: list[tuple[str, str, Make]] = [("nothing", "-", lambda seed: ClientThrottle(seed, 1e9))]
    for mode in MODES:
        rows += [(f"{mode}, no ramp", "-", ours(mode)), (f"{mode}, ramp=30", "0 re-trips", ours(mode, ramp=30.0))]
    for name, must, make in rows:
        seen = [cold(make, seed) for seed in range(1, runs + 1)]
        trips, goodput = zip(*seen, strict=True)
        yield name, str(runs), must, f"{statistics.mean(trips):.2f} ({max(trips)})", f"{statistics.mean(goodput):.3f}"


def _shard_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for mode in MODES:
        seen = [shards(mode, seed) for seed in range(1, runs + 1)]
        served, dead = (statistics.mean(values) for values in zip(*seen, strict=True))
        yield mode, str(runs), "89.9 %; 0.5 %", f"{served:.2%}; {dead:.2%}"


def _partial_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for name, make in GUARDS.items():
        cells = []
        for failing in (0.1, 0.3, 0.5, 0.6, 0.8):
            seen = [partial(make, failing, seed) for seed in range(1, runs + 1)]
            cells.append(f"{statistics.mean(good for good, _ in seen):.1%}")
        yield name, str(runs), *cells


def _overload_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for name, make in GUARDS.items():
        cells = []
        for times in (1.5, 2.0, 4.0):
            seen = [overload(make, times, seed) for seed in range(1, runs + 1)]
            cells.append(" / ".join(f"{statistics.mean(values):.2f}" for values in zip(*seen, strict=True)))
        yield name, str(runs), *cells


def tables(runs: int) -> Iterator[str]:
    """
    Yield the tables in Markdown.

    Args:
        runs: Seeds of an outage; the other tables get by with fewer.
    """
    some, few = max(1, runs // 5), max(1, runs // 25)
    outage_header = (
        "guard",
        "outage, s",
        "a failure takes, s",
        "runs",
        "must: calls; s",
        "published",
        "calls, mean (max); s, median (max)",
    )
    yield _results.section(ABOUT, outage_header, _outages(runs))
    yield _results.section(COLD, ("breaker", "runs", "must", "opened again, mean (max)", "served"), _cold_rows(some))
    yield _results.section(SHARDS, ("mode", "runs", "must", "served; to the dead shard"), _shard_rows(some))
    yield _results.section(PARTIAL, ("guard", "runs", "10 % fail", "30 %", "50 %", "60 %", "80 %"), _partial_rows(few))
    yield _results.section(OVERLOAD, ("guard", "runs", "load 1.5", "2", "4"), _overload_rows(few))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("What goes into an outage, and how soon it is over.")
    parser.add_argument("--runs", type=int, default=100, help="seeds of an outage (100)")
    options = parser.parse_args(arguments)
    text = "\n\n".join(tables(options.runs))
    _results.show("R13 outage and recovery", text, recorded=options.record)


ABOUT = (
    "One client of 100 calls/s, a total outage of so many seconds and up to 4 more. Must: of 240 s at most 100 calls "
    "on average, and those of a failure's time, and recovery within 3 s and a failure's time; from the end of the "
    "outage to the first 2 s of whose calls 95 % are served. The published designs run with failures of 10 ms after "
    "130 s in which all is well, and their published figures are those of the study that chose the defaults, one seed "
    "each. Of the client throttle it gives 1,550 s, of which 1,040 by the formula W / (K - 1) ln(W r / K); that takes "
    "no account of the successes that leave the window while it recovers. They grow as exp(g t) with g W = K (1 - "
    "exp(-g W)), which for K = 2 makes 655 s, and for K = 1.1 5,900 s. Kratos and go-zero are back sooner here than "
    "there: 95 % of 2 s come sooner than 95 % for good."
)
COLD = (
    "A backend that comes back with a tenth of its capacity of 125 calls/s and takes 30 s to warm up, after 30 s of "
    "outage; calls wait in its queue, for a second at most, and it works on all of them to the end. Served: of what "
    "it could have served in those 30 s. Without a ramp the openings cost less than the ramp does, which stays below "
    "what the backend can do, but they are what it promises not to do."
)
SHARDS = (
    "One shard of ten is dead for 240 s, a breaker for each with `keyed`. Must: at least 89.9 % served, at most 0.5 % "
    "sent there."
)
PARTIAL = (
    "A share of shards is lost for ten minutes, one guard before all of them: the share rejected of the calls that "
    "would have succeeded. Up to the limit of 50 % the probabilistic mode rejects next to none; above it in "
    "proportion to what fails beyond it, where the others end by rejecting nearly all. The wish was at most 1 % at 50 "
    "%."
)
OVERLOAD = (
    "The price of that: a server that rejects at once what is above its capacity, at so many times the capacity. "
    "Calls sent / served, over the capacity. Here rejecting is what helps, and the share of those sent cannot know; so "
    "the probabilistic mode sends the square root of twice the load, the client throttle twice the capacity. A limit "
    "or a shedder is what such a server needs."
)

if __name__ == "__main__":
    main()
