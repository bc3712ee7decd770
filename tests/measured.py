"""Hedges that have measured enough to start copies at once, for tests of what happens then."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import resilio

__all__ = ["measured"]


def measured(
    after: Any = 0.05, *, typical: float = 0.01, samples: int = 40, saved: int = 0, **options: Any
) -> resilio.Hedge:
    """
    Return a hedge that starts a copy of every call which takes longer than `after`.

    Args:
        after: As that of `hedge`.

        typical: Seconds that its primaries have taken so far.

        samples: How many there were.

        saved: Copies that calls which needed none have paid for already.

        options: More options of `hedge`.
    """
    options = {"idempotent": True, "max_extra": 1.0} | options
    made = resilio.hedge(after=after, **options)
    for _ in range(samples):
        made._gate.learn(typical)
    for _ in range(saved):
        with suppress(StopIteration):
            made.acall(_nothing).send(None)
    return made


async def _nothing() -> None:
    """Take no time."""
