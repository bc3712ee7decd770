"""The pictures of the laws: which cells they show, and which figures of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.efficacy.untuned._watched import Points
from resilio.simulation._chart import Shade

__all__ = ["PICTURES", "Panel", "Picture"]


@dataclass(frozen=True)
class Panel:
    """
    One chart of a picture.

    Attributes:
        title: Of its vertical axis, with the unit.

        cell: Of the run.

        quantity: That is drawn: see `curve`.

        slot: Seconds between two points.

        others: Stacks beside the library's.

        marks: Dashed lines for reference, by name.

        shade: The trouble, and when it is.

        begin: Where the axis of time begins.

        until: Where it ends.

        logarithmic: Whether the vertical axis is.

        seconds: Whether the quantity is a time.
    """

    title: str
    cell: str
    quantity: str
    slot: float
    others: tuple[str, ...] = ()
    marks: Mapping[str, Points] | None = None
    shade: Shade | None = None
    begin: float = 0.0
    until: float = 60.0
    logarithmic: bool = False
    seconds: bool = False


@dataclass(frozen=True)
class Picture:
    """
    A picture of one law.

    Attributes:
        title: Of the picture.

        notes: Lines below the title.

        ours: The stack of the library, one of `STACKS`.

        panels: From top to bottom.

        former: The stack with the former law; "": that of `before.json`; None: the law is as it was.
    """

    title: str
    notes: tuple[str, ...]
    ours: str
    panels: tuple[Panel, ...]
    former: str | None = ""


_BROWNOUT = Shade(20.0, 40.0, "40 % fail at once")
_GRAY = Shade(20.0, 50.0, "one of 8 replicas is ten times slow")
_SLOW = Shade(20.0, 60.0, "its dependency takes 2 s, not 20 ms")
_COLD = "cold: 1,000 workers, first 10 s"
_HERD = "herds: 1,000 clients are asked to come back in 1 s"
_RARE = "mixed costs: 0.1 % of the calls take 1 s, those"

PICTURES: dict[str, Picture] = {
    "law-breaker.svg": Picture(
        "The circuit breaker opens only where next to nothing works",
        (
            "standard(), as it comes: failures in a row by when calls began. Before: by when they ended, and open at a",
            "failure rate of a half.",
        ),
        "standard",
        (
            Panel(
                "calls answered, share of each batch: 100 calls at a time, 12 % of the attempts fail at once",
                "batches: 100 at a time, 12 % fail at once",
                "batches",
                1.0,
                ("nothing",),
                until=33.0,
            ),
            Panel(
                "calls of healthy tenants answered, share: 55 % of the calls are a broken tenant's",
                "tenants: 55 % of the calls are a broken tenant's: the others",
                "share",
                0.5,
                ("nothing",),
                until=40.0,
            ),
        ),
    ),
    "law-budget.svg": Picture(
        "The retry budget: a retry costs what its failed attempt cost the dependency",
        ("standard(), as it comes, 60 calls a second. Before: a token for each retry, whatever the failure was.",),
        "standard",
        (
            Panel(
                "calls answered, share",
                "budgets: brownout: 40 % fail for 20 s",
                "share",
                1.0,
                ("nothing", "naive"),
                shade=_BROWNOUT,
                until=50.0,
            ),
            Panel(
                "requests sent, a second",
                "budgets: brownout: 40 % fail for 20 s",
                "requests",
                1.0,
                ("nothing", "naive"),
                shade=Shade(20.0, 40.0, ""),
                until=50.0,
            ),
        ),
    ),
    "law-timeout.svg": Picture(
        "The learned timeout: three times the p99.9, at least a second",
        (
            "standard(), as it comes, 100 calls a second: 999 of 1,000 take 10 to 30 ms, the others a second.",
            "Before: three times the p99, at least 0.1 s, which timeout={'total': 'p99*3', 'floor': 0.1} gives today.",
        ),
        "standard",
        (
            Panel(
                "seconds after which an attempt is cut off",
                _RARE,
                "timeout",
                1.0,
                marks={"what a slow call takes": [(0.0, 1.0), (150.0, 1.0)]},
                until=150.0,
                logarithmic=True,
                seconds=True,
            ),
            Panel("slow calls lost so far", _RARE, "lost", 1.0, ("nothing",), until=150.0),
        ),
        former="standard, p99*3",
    ),
    "law-retry-after.svg": Picture(
        "Retry-After: never earlier, and not all at once",
        (
            "1,000 clients are rejected with a Retry-After of one second. The server takes 700 requests a second.",
            "standard(), as it comes. Before: each client waited for just the time that it was given.",
        ),
        "standard",
        (
            Panel(
                "requests that reach the server, a second",
                _HERD,
                "requests",
                0.05,
                marks={"what the server takes": [(0.8, 700.0), (4.2, 700.0)]},
                begin=0.8,
                until=4.2,
                logarithmic=True,
            ),
            Panel(
                "clients answered so far, share",
                _HERD,
                "answered",
                0.05,
                marks={"possible": [(0.8, 0.0), (1.02, 0.0), (1.03, 0.075), (2.35, 1.0), (4.2, 1.0)]},
                begin=0.8,
                until=4.2,
            ),
        ),
    ),
    "law-load-shed.svg": Picture(
        "load_shed(): latency that does not follow its own calls does not lower the limit",
        (
            "A service that only waits for its dependency: 40 calls a second, callers wait for 10 s.",
            "load_shed(), as it comes. Before: slow answers were taken for a queue, whatever made them slow.",
        ),
        "load_shed()",
        (
            Panel(
                "calls answered, share",
                "I/O-bound: its dependency goes from 20 ms to 2 s, 40/s",
                "share",
                1.0,
                ("nothing",),
                shade=_SLOW,
                until=60.0,
            ),
            Panel(
                "the limit, calls at a time",
                "I/O-bound: its dependency goes from 20 ms to 2 s, 40/s",
                "limit",
                0.25,
                marks={"calls at a time that the load needs": [(20.0, 80.0), (60.0, 80.0)]},
                shade=Shade(20.0, 60.0, ""),
                until=60.0,
            ),
        ),
    ),
    "law-adaptive-limit.svg": Picture(
        "adaptive_limit(): from cold it doubles until latency follows the calls in flight",
        (
            "1,000 workers that take 2 s a call, at a load of 0.8 from the first second on.",
            "adaptive_limit(), as it comes. Before: in ten seconds it saw too few answers to leave its start of 20.",
        ),
        "adaptive_limit()",
        (
            Panel("calls answered, share", _COLD, "share", 0.5, ("nothing",), until=10.0),
            Panel(
                "the limit, calls at a time",
                _COLD,
                "limit",
                0.1,
                marks={"workers": [(0.0, 1000.0), (10.0, 1000.0)]},
                until=10.0,
                logarithmic=True,
            ),
        ),
    ),
    "law-hedge.svg": Picture(
        "Hedges: what a cap of 5 % gives up, and what it saves",
        ("50 calls a second to eight replicas. hedge(idempotent=True), as it comes, and with max_extra=1.0.",),
        "hedge()",
        (
            Panel(
                "p99 of the answers",
                "gray: one of 8 is 10 x slow for 30 s",
                "p99",
                3.0,
                ("nothing", "hedge, no cap"),
                shade=_GRAY,
                until=60.0,
                seconds=True,
            ),
            Panel(
                "requests sent, a second",
                "gray: one of 8 is 10 x slow for 30 s",
                "requests",
                3.0,
                ("nothing", "hedge, no cap"),
                shade=Shade(20.0, 50.0, ""),
                until=60.0,
            ),
        ),
        former=None,
    ),
}
"""By the name of the file."""
