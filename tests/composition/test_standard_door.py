"""The door of a standard stack: a refusal that names a time shuts it for that time."""

from __future__ import annotations

import asyncio
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from resilio import Endpoint, deadline, override, policy_of, pool, priority, standard
from resilio._failures.retry_after import LONGEST_PAUSE
from resilio.errors import DeadlineExceededError, RateLimitedError


class Server:
    """A server that answers 429 until a time, with the rest of it as Retry-After."""

    def __init__(self, vt: Any, until: float = 2.0, status: int = 429) -> None:
        self.vt, self.until, self.status = vt, until, status
        self.calls: list[float] = []

    def answer(self) -> Any:
        """Answer a request."""
        self.calls.append(self.vt.now)
        left = self.until - self.vt.now
        if left <= 0:
            return SimpleNamespace(status_code=200, headers={})
        return SimpleNamespace(status_code=self.status, headers={"retry-after": f"{left:g}"})

    async def later(self) -> Any:
        """Answer a request of an async client."""
        return self.answer()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_wait_at_the_door_until_the_server_wants_them(vt: Any, backend: str) -> None:
    """One call met the 429: of the fifty after it none goes out before its Retry-After, and all are served after it."""
    server = Server(vt)
    call = standard("door", on="http", attempts=1)(server.later)

    async def main() -> None:
        assert (await call()).status_code == 429
        results: list[int] = []

        async def one() -> None:
            results.append((await call()).status_code)

        import anyio

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one)
        assert results == [200] * 50

    vt.run(main, backend=backend)
    assert len(server.calls) == 51
    assert sum(at < 2.0 for at in server.calls) == 1
    assert max(server.calls) <= 4.0, "spread, at most twice the time"


def test_a_retry_comes_back_as_its_door_opens(vt: Any) -> None:
    """Retry and door each chose a time by chance, and the later one counted: clients came back in a heap."""
    servers = [Server(vt, 1.0) for _ in range(100)]

    async def main() -> None:
        await asyncio.gather(*(standard(f"door {i}", on="http")(one.later)() for i, one in enumerate(servers)))

    vt.run(main)
    again = [server.calls[1] for server in servers]
    assert min(again) >= 1.0
    assert max(again) <= 2.0
    assert 35 <= sum(at < 1.5 for at in again) <= 65, "of the later of two times a quarter would be"


def test_the_door_opens_before_the_deadline_of_the_call_that_was_refused(vt: Any) -> None:
    """The spread of the door had no bound: most such retries would have been rejected at it."""
    for i in range(50):
        server = Server(vt, vt.now + 1.0)
        with deadline(1.5):
            assert standard(f"short {i}", on="http")(server.answer)().status_code == 200


def test_a_call_without_the_time_is_rejected_at_once(vt: Any) -> None:
    """It gets the rejection of a paused limit, with the time; the server hears nothing of it."""
    server = Server(vt, 20.0)
    call = standard("door", on="http", deadline=5.0, attempts=1)(server.answer)
    call()
    with pytest.raises(RateLimitedError) as rejected:
        call()
    assert (rejected.value.reason, rejected.value.policy) == ("paused", "rate_limit")
    assert 20.0 <= rejected.value.retry_after <= 40.0
    assert rejected.value.limit == pytest.approx(5.0)
    with deadline(3.0), pytest.raises(RateLimitedError):
        call()
    assert (vt.now, len(server.calls)) == (0.0, 1)


def test_a_thread_waits_at_the_door(vt: Any) -> None:
    """A call of a plain function blocks its thread for the time, and counts it as a wait."""
    server = Server(vt)
    stack = standard("door", on="http", attempts=1)
    call = stack(server.answer)
    assert [call().status_code, call().status_code] == [429, 200]
    assert 2.0 <= vt.now <= 4.0
    door = stack.snapshot().parts[2]
    assert (door.kind, door.name, door.calls, door.rejected) == ("rate_limit", "door.rate_limit", 2, 0)
    assert stack.policies[2].waited_seconds == pytest.approx(vt.now)


def test_retries_of_others_keep_to_the_door_too(vt: Any) -> None:
    """A call that failed before the 429 tries again behind the door, not after its own backoff."""
    server = Server(vt)
    broken = [True]

    async def first() -> Any:
        if broken.pop() if broken else False:
            return SimpleNamespace(status_code=500, headers={})
        return server.answer()

    call = standard("door", on="http", idempotent=True, backoff=0.5)(first)

    async def main() -> None:
        one = asyncio.create_task(call())
        await asyncio.sleep(0.1)
        await asyncio.gather(call(), one)

    vt.run(main)
    assert sum(at < 2.0 for at in server.calls) == 1


@pytest.mark.parametrize(
    ("status", "holds"), [(429, True), (425, True), (503, True), (529, True), (500, False), (404, False)]
)
def test_refusals_alone_shut_the_door(vt: Any, status: int, holds: bool) -> None:
    """A failure's Retry-After is a matter of the breaker and the retry."""
    stack = standard("door", on="http", attempts=1)
    server = Server(vt, 9.0, status)
    stack.call(server.answer)
    assert (stack.policies[2].paused > 0) is holds


def test_the_pause_is_capped_and_ends_by_reset(vt: Any) -> None:
    """An absurd time of a server stops calls for a minute."""
    stack = standard("door", on="http", attempts=1)
    stack.call(Server(vt, 86400.0).answer)
    assert stack.policies[2].paused == pytest.approx(LONGEST_PAUSE)
    stack.reset()
    assert stack.policies[2].paused == 0.0


def test_a_refused_call_that_may_be_shed_speaks_for_its_like(vt: Any) -> None:
    """A server that sheds it still serves more important calls: the door stays open."""
    stack = standard("door", on="http", attempts=1)
    with priority("sheddable"):
        stack.call(Server(vt, 9.0).answer)
    assert stack.policies[2].paused == 0.0


def test_a_pool_leaves_one_server_alone_and_shuts_no_door(vt: Any) -> None:
    """Of two servers one refuses: the other gets the calls, at once."""
    servers = {"a": Server(vt, 60.0), "b": Server(vt, 0.0)}
    stack = standard("door", on="http", pool=[Endpoint(name) for name in servers], attempts=2, idempotent=True)

    async def call(endpoint: Any) -> Any:
        return await servers[endpoint.name].later()

    guarded = stack(call)

    async def main() -> None:
        assert {(await guarded()).status_code for _ in range(50)} == {200}

    vt.run(main)
    assert vt.now < 60.0
    assert len(servers["a"].calls) <= 2
    assert [part.kind for part in stack.policies].count("rate_limit") == 0


def test_a_limit_with_rates_is_the_door(vt: Any) -> None:
    """There is one gate for both: after the pause calls pass at the rate."""
    server = Server(vt)
    stack = standard("door", on="http", rates="10/s", attempts=1)
    call = stack(server.answer)
    call()
    assert stack.policies[2].paused >= 2.0
    assert [call().status_code for _ in range(3)] == [200, 200, 200]
    assert server.calls[-1] - server.calls[-2] == pytest.approx(0.1)


def test_a_copy_of_the_stack_has_the_same_door_or_none(vt: Any) -> None:
    """The door belongs to the dependency, as its breaker does; without the part there is none."""
    stack = standard("door", on="http", attempts=1)
    open_one = override(stack, rate_limit=None)
    patient = override(stack, timeout=20.0)
    open_one.call(Server(vt, 9.0).answer)
    assert patient.policies[2].paused == stack.policies[2].paused > 0
    assert open_one.call(Server(vt, 0.0).answer).status_code == 200
    fresh = override(stack, circuit_breaker={"min_calls": 5}, rate_limit={"max_wait": 2.0})
    fresh.call(Server(vt, 9.0).answer)
    assert fresh.policies[2].paused > 0


def test_shadow_mode_holds_nothing_and_counts_the_waits(vt: Any) -> None:
    """Enforcement would have made this call wait."""
    server = Server(vt)
    stack = standard("door", on="http", attempts=1, enforce=False)
    stack.call(server.answer)
    stack.call(server.answer)
    assert (vt.now, len(server.calls)) == (0.0, 2)
    assert stack.snapshot().parts[2].would_wait == 1


def test_what_is_cancelled_at_the_door_leaves_no_trace(vt: Any) -> None:
    """The next call is served all the same, and nothing is counted as in flight."""
    server = Server(vt)
    stack = standard("door", on="http", attempts=1)
    call = stack(server.later)

    async def main() -> None:
        await call()
        tasks = [asyncio.create_task(call()) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one).__name__ for one in done] == ["CancelledError", "SimpleNamespace", "SimpleNamespace"]

    vt.run(main)
    found = stack.snapshot().parts[2]
    assert (found.inflight, found.queued, found.cancelled) == (0, 0, 1)


def test_a_deadline_that_passes_at_the_door_ends_the_wait(vt: Any) -> None:
    """A second refusal has made the pause longer than the call can wait."""
    stack = standard("door", on="http", deadline=5.0, attempts=1)
    call = stack(Server(vt, 3.0).later)

    async def main() -> None:
        stack.policies[2].pause(3.0)
        waits = asyncio.create_task(call())
        await asyncio.sleep(1.0)
        stack.policies[2].pause(9.0)
        with pytest.raises(DeadlineExceededError):
            await waits
        assert vt.now == pytest.approx(5.0)

    vt.run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_keeps_the_pause(vt: Any) -> None:
    """The server's word holds for the child of a fork as well, and the door opens there when it ends."""
    server = Server(vt)
    stack = standard("door", on="http", attempts=1)
    stack.call(server.answer)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            served = stack.call(server.answer).status_code == 200
            code = 0 if served and vt.now >= 2.0 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_pass_the_door_together() -> None:
    """Real threads: each waits for the end of the pause, none passes before it, and none is left behind."""
    from time import monotonic

    stack, begun = standard("door", on="http", attempts=1), monotonic()
    stack.policies[2].pause(0.15)
    passed: list[float] = []
    guarded = stack(lambda: passed.append(monotonic() - begun))
    threads = [threading.Thread(target=guarded) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(passed) == 8
    assert min(passed) >= 0.15


def test_a_stack_explains_its_door() -> None:
    """The part has no rate, and a note says what it is there for."""
    stack = standard("door", on="http")
    text = str(stack.explain())
    assert "door.rate_limit" in text
    assert "holds all calls while a refusal's Retry-After lasts, at most 60 s" in text
    assert policy_of(stack(lambda: None)) is not None
    assert all(part.kind != "rate_limit" for part in standard("other", on=OSError).policies)


def test_one_pool_of_the_callers_has_no_door_either() -> None:
    """The endpoints of a caller's pool are held one by one."""
    endpoints = pool("door-pool", Endpoint("a"), Endpoint("b"), on="http")
    assert all(part.kind != "rate_limit" for part in standard("door", on="http", pool=endpoints).policies)
