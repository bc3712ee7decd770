"""Policy x what servers advise: a time that is named keeps calls away until then, and a refusal without one none."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from crossings.recipes import READY, Way
from crossings.server import ANSWERS, SERVED, Server
from crossings.stacks import ROUNDING

from resilio import Hedge, constant, pipeline, retry
from resilio._failures.outcome_table import TABLE
from resilio.testing import VirtualTime

pytest.importorskip("httpx2")

from failures.test_server_advice import ANSWERS as RECORDED

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

TASKS = Way(threads=False)
LONGEST = 10.0
"""Of the times that are waited for here, in seconds: less than the deadline of the recipes."""
TIMES = {name: one[:2] for name, one in RECORDED.items() if one[1] and one[1] < LONGEST and one[2] is not False}
"""The recorded answers that name a time, by name: the error, and the seconds."""
HEEDING = [row.part for row in TABLE if "Retry-After" in row.refused + row.failure and row.part != "retry"]
"""Parts that keep all calls away for a time, by the table of outcomes; a retry only its own."""
EVERY, CALLS = 0.25, 20
MANY = 60
"""Calls that would open each breaker if they were failures."""
ONCE = {("fallback", 1), ("retry_budget", 0)}
"""Pairs that repeat not all: inside a retry a fallback answers, and the budget of an outer retry is empty."""


class Asking(Server):
    """A server whose first answer is an error that names a time; it notes the time of each call, and the endpoint."""

    def __init__(self, vt: VirtualTime, error: Exception | None = None) -> None:
        super().__init__(vt)
        self.error = error

    async def aserve(self, *asked: Any, endpoint: Any = None) -> Any:
        error, self.error = self.error, None
        if error is None:
            return await super().aserve(endpoint=endpoint)
        self._accept(endpoint)[0].ended = self.vt.now
        raise error

    def assert_heeded(self, seconds: float, *notes: str) -> None:
        """The endpoint of the first call had no other call in this time."""
        first, *later = self.calls
        times = [call.begun - first.begun for call in later if call.endpoint == first.endpoint]
        assert not [after for after in times if after < seconds - ROUNDING], (times, seconds, *notes)


async def made(kind: str) -> Any:
    """Return a policy of this kind; a hedge has measured calls."""
    policy = READY[kind](TASKS)
    for _ in range(30 if isinstance(policy, Hedge) else 0):
        await policy.acall(anyio.sleep, SERVED)
    return policy


@pytest.mark.parametrize("place", [0, 1], ids=["inside", "around"])
@pytest.mark.parametrize("kind", READY)
def test_a_retry_beside_each_policy_waits_as_long_as_the_server_asks(vt: VirtualTime, kind: str, place: int) -> None:
    """With AWS's header of 1.2 s it came after 0.11 s, with Google's of 2 s after 0.06 s."""

    async def call(server: Asking) -> None:
        parts = [await made(kind)]
        parts.insert(1 - place, retry(on=Exception, backoff=constant(0.01), budget=None))
        await pipeline(*parts).try_acall(server.aserve)

    repeated = 0
    for name, (error, seconds) in TIMES.items():
        server = Asking(vt, error)
        vt.run(lambda server=server: call(server))
        server.assert_heeded(seconds, name)
        repeated += len(server.calls) > 1
    assert repeated == len(TIMES) or (kind, place) in ONCE


@pytest.mark.parametrize("outer", READY)
@pytest.mark.parametrize("kind", HEEDING)
def test_what_keeps_calls_away_does_so_within_each_policy(vt: VirtualTime, kind: str, outer: str) -> None:
    """A stack sent 50 of 50 calls to a server that had refused the first one and named a time."""
    server = Asking(vt)

    async def play() -> None:
        heeding = await made(kind)
        if kind == "circuit_breaker":
            heeding.half_open()
        stack = pipeline(await made(outer), heeding)
        async with anyio.create_task_group() as callers:
            for place in range(CALLS):
                server.begin(["200" if place else "429 for 2 s"])
                callers.start_soon(stack.try_acall, server.aserve)
                await anyio.sleep(EVERY)

    if (outer, kind) != ("pool", "pool"):
        vt.run(play)
        told = ANSWERS["429 for 2 s"].told
        assert told is not None
        server.assert_heeded(told)
        assert len(server.calls) > 1


@pytest.mark.parametrize("kind", [kind for kind in READY if kind != "pool"])
def test_refusals_without_a_time_keep_no_call_away(vt: VirtualTime, kind: str) -> None:
    """They are no evidence that a server is down: no breaker opens. A pool holds the endpoint, see `test_pools.py`."""
    server = Asking(vt)

    async def play() -> None:
        policy = await made(kind)
        for _ in range(MANY):
            server.begin(["429"])
            await policy.try_acall(server.aserve)
            await anyio.sleep(EVERY)

    vt.run(play)
    assert server.reached() == MANY
