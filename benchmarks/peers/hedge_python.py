"""hedge-python: transports of HTTP clients that hedge after a quantile; here the scheduler that all of them share."""

from __future__ import annotations

from typing import Any

from hedge import HedgeConfig
from hedge.transport._base import HedgeScheduler

DISTRIBUTION = "hedge-python"
NOTES = {
    "hedge": "its scheduler without the HTTP client around it; a task for the call; after p90, no earlier than 1 s"
}
CLOCK = {"hedge": "monotonic, loop.time"}


def hedge(f: Any) -> Any:
    scheduler = HedgeScheduler(HedgeConfig(min_delay=1.0))
    sketch = scheduler.sketch_for("host")

    def record(_result: Any, elapsed: float) -> None:
        sketch.add(elapsed)

    async def hedged() -> Any:
        return await scheduler.execute_with_hedge("host", f, f, record)

    return hedged
