"""The stacks that cells compare: others' defaults, and the library's as they come."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, cast

from benchmarks.efficacy.untuned._baselines import PEERS, Naive, Nothing, OpenAI, Peer, Tenacity
from benchmarks.efficacy.untuned._cell import Cell, Send, Stack
from benchmarks.efficacy.untuned._fronts import SEVEN, fronted
from resilio import adaptive_limit, hedge, load_shed, standard

__all__ = ["OURS", "STACKS", "judged_in", "stacks_of"]

_names = itertools.count()


def _peer(peer: Peer) -> Stack:
    return lambda send, _cell, _seed: partial(peer, send)


def _made(kind: Any) -> Stack:
    return lambda send, cell, seed: _peer(kind(seed))(send, cell, seed)


def _naive(send: Send, cell: Cell, seed: int) -> Send:
    return partial(Naive(seed, cell.attempts, cell.cut), send)


def _standard(send: Send, cell: Cell, seed: int, **options: Any) -> Send:  # noqa: ARG001 - the run is seeded
    name = f"untuned-{next(_names)}"
    policy = standard(name, on=cast("Any", cell.on), idempotent=True, attempts=cell.attempts, **options)
    return policy(send)


def _policy(make: Any, **options: Any) -> Stack:
    return lambda send, _cell, _seed: make(**options)(send)


def _with_workers(make: Any, option: str) -> Stack:
    return lambda send, cell, _seed: make(**{option: cell.workers})(send)


OURS = (
    "standard",
    "standard, p99*3",
    "load_shed()",
    "hedge()",
    "adaptive_limit()",
    "load_shed(c)",
    "adaptive_limit(start=c)",
)
"""Stacks of the library, which are told the patience where the cell says so."""
STACKS: dict[str, Stack] = {
    "nothing": _made(Nothing),
    "naive": _naive,
    **{name: _made(kind) for name, kind in PEERS.items()},
    "OpenAI": _made(OpenAI),
    "tenacity": _made(Tenacity),
    **{name: fronted(name) for name in SEVEN},
    "standard": _standard,
    "standard, p99*3": partial(_standard, timeout={"total": "p99*3", "floor": 0.1}),
    "load_shed()": _policy(load_shed),
    "load_shed(c)": _with_workers(load_shed, "max_concurrent"),
    "adaptive_limit()": _policy(adaptive_limit),
    "adaptive_limit(start=c)": _with_workers(adaptive_limit, "start"),
    "hedge()": _policy(hedge, idempotent=True),
    "hedge, no cap": _policy(hedge, idempotent=True, max_extra=1.0),
}


def stacks_of(cell: Cell) -> tuple[str, ...]:
    """Return which stacks a cell compares, in the order of the table."""
    if cell.side == "server":
        seven = SEVEN if cell.overloaded else ()
        return ("nothing", *seven, "load_shed()", *cell.also)
    return ("nothing", "naive", *PEERS, "standard", *cell.also)


def judged_in(cell: Cell) -> tuple[str, ...]:
    """Return which stacks of a cell have to meet a must."""
    first = "load_shed()" if cell.side == "server" else "standard"
    return (first, "hedge()") if "hedge()" in cell.also else (first,)
