"""
The laws behind an adaptive limit, apart from the gate that admits: replay one on a recorded trace before you trust it.

Why: what a limiter would have done last Tuesday can be asked without a server. Record for each call that ended when it
ended, what it took, how many calls were in flight when it began (itself included), and whether it was dropped; `replay`
says what the limit would have been after each. What it is not: a simulation. A trace is as it was: under another limit
the latencies would have been others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from resilio._native.primitives import LAWS, Law

__all__ = ["LAWS", "Law", "Sample", "replay"]


class Sample(NamedTuple):
    """
    How one call ended, as a law sees it; a plain tuple of the four does as well.

    Attributes:
        now: When it ended, in seconds of any clock.

        latency: What it took, in seconds.

        inflight: Calls in flight when it was admitted, itself included.

        dropped: Whether it timed out or was refused.
    """

    now: float
    latency: float
    inflight: float
    dropped: bool = False


def replay(law: Law, trace: Iterable[Sample | tuple[float, float, float, bool]]) -> list[float]:
    """
    Return the limit after each sample of the trace, in order; the law has learned it then.

    Args:
        law: A law, which may have learned something before.

        trace: Samples in the order in which the calls ended.
    """
    limits: list[float] = []
    for sample in trace:
        law.learn(*sample)
        limits.append(law.limit)
    return limits
