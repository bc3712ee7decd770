"""Pool x policy x answer: an endpoint that only refuses gets its fair share at most, and none while it said so."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from crossings.recipes import READY, STRATEGIES, Way
from crossings.server import ANSWERS, Server
from crossings.stacks import ROUNDING

from resilio import Endpoint, Pool, pipeline, pool, standard
from resilio.testing import VirtualTime, assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

CALLS = 100
UNSERVED = [name for name, answer in ANSWERS.items() if answer.status != 200]
AROUND = [kind for kind in READY if kind != "pool"]
WITHIN = [kind for kind in AROUND if kind not in STRATEGIES and kind != "keyed"]  # keys are chosen around a pool
THREADS, TASKS = Way(), Way(threads=False)
MORE = 0.05
"""What an endpoint may get beyond its fair share."""


class Replicas(Server):
    """Endpoints of which the first one gives a bad answer at once, always."""

    def __init__(self, vt: VirtualTime, bad: str, *, raising: bool) -> None:
        super().__init__(vt, raising=raising)
        self.bad = bad

    def serve(self, endpoint: Any = None) -> Any:
        if endpoint.name != "a":
            return super().serve(endpoint)
        self.script = [self.bad]
        call, answer = self._accept(endpoint)
        self.script = ["200"]
        return self._end(call, answer)

    async def aserve(self, endpoint: Any = None) -> Any:
        return self.serve(endpoint)


def fill(guard: Any, server: Replicas, way: Way) -> None:
    """Make calls, one after the other."""

    async def in_a_task() -> None:
        for _ in range(CALLS):
            server.begin(["200"])
            await guard.try_acall(server.aserve)

    if not way.threads:
        server.vt.run(in_a_task)
        return
    for _ in range(CALLS):
        server.begin(["200"])
        guard.try_call(server.serve)


def check(server: Replicas, size: int, *, heeds: bool) -> None:
    """The bad endpoint had no more than its share, and no call in the time for which it asked to be left alone."""
    calls = Counter(call.endpoint for call in server.calls)
    assert calls.total() >= CALLS / 2
    assert calls["a"] <= calls.total() * (1 / size + MORE), (server.bad, calls)
    told = ANSWERS[server.bad].told if heeds else None
    for earlier, later in pairwise(call for call in server.calls if call.endpoint == "a"):
        assert told is None or later.begun >= earlier.begun + told - ROUNDING, (server.bad, earlier, later)


def play(vt: VirtualTime, policy: Any, replicas: Pool, way: Way, bad: str, *, raising: bool) -> None:
    """Cross one policy with a pool whose first endpoint is bad."""
    server = Replicas(vt, bad, raising=raising)
    fill(policy, server, way)
    check(server, len(replicas.snapshot().endpoints), heeds=isinstance(replicas.config.on, str))
    assert_idle(policy)


def assert_idle(policy: Any) -> None:
    """No permit is held."""
    assert all(gate.counters().get("inflight", 0) == 0 for gate in policy.gates)


WAYS = [
    (kind, way) for kind in AROUND for way in (THREADS, TASKS) if not (way.threads and kind in ("hedge", "timeout"))
]
"""A thread has no copies; a timeout in threads is crossed with a pool in `test_policies.py`."""
PAIRS = (len(WAYS) + len(WITHIN)) * len(UNSERVED)


@pytest.mark.parametrize(
    ("outer", "way"), WAYS, ids=[f"{kind}-{'threads' if way.threads else 'tasks'}" for kind, way in WAYS]
)
def test_a_policy_around_a_pool_sends_no_calls_to_where_nothing_is_served(
    vt: VirtualTime, outer: str, way: Way
) -> None:
    """A 429 with Retry-After got up to 98 of 100 calls of two replicas, one that answers 404 at once all but one."""
    for place, bad in enumerate(UNSERVED):
        replicas = pool(None, *map(Endpoint, "abc"[: 2 + place % 2]), on="http")
        stack = pipeline(READY[outer](way), replicas)
        play(vt, stack, replicas, way, bad, raising=place % 3 == 0)
    assert_no_leaks()


@pytest.mark.parametrize("raising", [False, True], ids=["returned", "raised"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("on", ["http", "model", LookupError], ids=str)
def test_a_pool_alone_does_not_either(vt: VirtualTime, on: Any, size: int, raising: bool) -> None:
    """Each answer, returned and raised."""
    if on is LookupError and not raising:
        return  # without a preset a response is an answer, whatever its status is
    for bad in UNSERVED:
        replicas = pool(None, *map(Endpoint, "abc"[:size]), on=on)
        play(vt, replicas, replicas, THREADS, bad, raising=raising)


@pytest.mark.parametrize("size", [2, 3])
def test_a_stack_of_several_servers_does_not_either(vt: VirtualTime, size: int) -> None:
    """A refusal of one of them shuts no door of the others."""
    for bad in UNSERVED:
        stack = standard(f"no {bad}", on="http", pool=list("abc"[:size]), timeout=None, attempts=1)
        (replicas,) = (part for part in stack.policies if isinstance(part, Pool))
        play(vt, stack, replicas, THREADS, bad, raising=False)


@pytest.mark.parametrize("inner", WITHIN)
def test_nor_with_another_policy_for_each_endpoint(vt: VirtualTime, inner: str) -> None:
    """The policy of an endpoint decides when it is ejected, and not how fast it looks."""
    for place, bad in enumerate(UNSERVED):
        replicas = pool(None, *map(Endpoint, "abc"), on="http", each=lambda _: READY[inner](THREADS))
        play(vt, replicas, replicas, THREADS, bad, raising=place % 2 == 0)
