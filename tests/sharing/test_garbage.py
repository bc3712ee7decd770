"""Shared policies that are garbage while calls that they guard have not ended."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilio import adaptive_limit, bulkhead, circuit_breaker, rate_limit
from resilio.sharing import Host, host

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

POLICIES: dict[str, Callable[[Host], Any]] = {
    "adaptive limit": lambda group: adaptive_limit(name="a", scope=group),
    "bulkhead": lambda group: bulkhead(3, name="b", scope=group),
    "circuit breaker": lambda group: circuit_breaker("c", scope=group),
    "rate limit": lambda group: rate_limit("1000/s", name="r", scope=group),
    "window": lambda group: rate_limit("100/min", name="w", scope=group),
}


@types.coroutine
def suspended():
    yield


@pytest.mark.parametrize("kind", POLICIES)
def test_a_call_of_a_policy_that_is_garbage_ends_in_the_host_s_memory(
    kind: str, resilio_shared_host: Path, tmp_path: Path
) -> None:
    """
    The collector cleared a gate's reference to its cell before the call ended, and its permit went to freed memory.

    The region is in the same cycle, so that its memory goes with the last cell.
    """
    for _ in range(20):
        group = host("garbage", directory=tmp_path)
        policy = POLICIES[kind](group)

        @policy
        async def call() -> None:
            await suspended()

        running = call()
        running.send(None)
        assert policy.snapshot().sharing.degraded is None
        cycle: list[Any] = [policy, running, group, call]
        cycle.append(cycle)
        del policy, running, group, call, cycle
        gc.collect()
    policy = POLICIES[kind](host("garbage", directory=tmp_path))
    with policy:
        pass
    assert policy.snapshot().successes == 1
