"""
The laws of an adaptive limit, apart from its gate: replay one on a recorded trace before you trust it.

Why: the limit of last Tuesday can be computed without a server. Record for each call its end, its latency, the number
of calls in flight when it began (itself included), and if it was dropped. `replay` returns the limit after each call.
It is not a simulation: under another limit the recorded latencies would have been different.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from resilio._native.primitives import LAWS, Law

__all__ = ["LAWS", "Law", "Sample", "replay"]


def __dir__() -> list[str]:
    return sorted(__all__)


class Sample(NamedTuple):
    """
    The end of one call, as input of a law; a plain tuple of the four works too.

    Attributes:
        now: The time of its end, in seconds of any clock.

        latency: Its duration in seconds.

        inflight: Calls in flight when it was admitted, itself included.

        dropped: True if it timed out or was rejected.

        present: Calls in flight at its end, itself included; 0: unknown.
    """

    now: float
    latency: float
    inflight: float
    dropped: bool = False
    present: float = 0.0


def replay(law: Law, trace: Iterable[Sample | tuple[float, float, float, bool]]) -> list[float]:
    """
    Return the limit after each sample of the trace, in order; the law learns from the samples.

    Args:
        law: A law, which may have learned from other samples before.

        trace: Samples in the order in which the calls ended.
    """
    limits: list[float] = []
    for sample in trace:
        law.learn(*(sample if isinstance(sample, Sample) else Sample(*sample)))
        limits.append(law.limit)
    return limits
