"""asynchedging: one function that races copies of a call, each in a task, the later ones delayed."""

from __future__ import annotations

from typing import Any

import asynchedging

DISTRIBUTION = "asynchedging"
NOTES = {"hedge": "a task for the second copy from the start, asleep until its delay is over"}
CLOCK = {"hedge": "loop.time"}


def hedge(f: Any) -> Any:
    async def hedged() -> Any:
        result, _winner = await asynchedging.hedge(f, delays_s=[1.0])
        return result

    return hedged
