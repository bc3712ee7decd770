"""Policy with `max_wait` x scope x event loop: a call that may not wait is admitted or rejected at once."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from crossings.recipes import READY, Way

from resilio import Rate, RejectedError, rate_limit
from resilio._policy.base import make
from resilio._registry.kinds import known_kinds, loaded
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime

WAITING = sorted(
    kind for kind in known_kinds() if "max_wait" in {field.name for field in attrs.fields(loaded[kind].Config)}
)
"""Kinds with the option `max_wait`, by their records."""
SMALL = {"rate_limit": lambda _: rate_limit(Rate("20/s", burst=3))}
"""Recipes of which a burst gets too little."""
BURST = 60
TRIP = 0.002
"""Seconds between two looks whether a courier is due: a trip takes as long."""


@pytest.fixture(params=["process", "fleet"])
def scope(request: pytest.FixtureRequest) -> Any:
    """This process, or a fleet."""
    return "process" if request.param == "process" else Fleet("crossings", MemoryEngine(), is_stepped=True)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", WAITING)
def test_a_call_that_may_not_wait_ends_at_once(vt: VirtualTime, scope: Any, kind: str, backend: str) -> None:
    """The store had said that there was nothing, and calls were held for a tenth of a second each."""
    plain = {**READY, **SMALL}[kind](Way(threads=False))
    config = attrs.evolve(plain.config, max_wait=0.0, scope=scope)
    if scope != "process" and not hasattr(plain.gates[0], "share_fleet"):
        with pytest.raises(TypeError, match="scope must be"):
            make(type(plain), f"crossing {kind}", config)
        return
    policy = make(type(plain), f"crossing {kind}", config)
    waited: list[float] = []
    ends: list[bool] = []

    async def call() -> None:
        asked = vt.now
        try:
            async with policy:
                waited.append(vt.now - asked)
                await anyio.sleep(1.0)
            ends.append(True)
        except RejectedError:
            waited.append(vt.now - asked)
            ends.append(False)

    async def stepping() -> None:
        while True:
            if scope != "process":
                scope.step()
            await anyio.sleep(TRIP)

    async def main() -> None:
        async with anyio.create_task_group() as steps:
            steps.start_soon(stepping)
            for calls in (1, 1, 1, 1, 1, BURST, BURST):  # a rest, a burst, and one after it
                async with anyio.create_task_group() as callers:
                    for _ in range(calls):
                        callers.start_soon(call)
            steps.cancel_scope.cancel()

    vt.run(main, backend=backend)
    assert set(ends) == {True, False}
    assert max(waited) <= 2 * TRIP
