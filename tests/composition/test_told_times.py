"""Retries inside of a hedge: while an attempt waits for a time that the server has told, no copy is sent before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilio import (
    Hedge,
    RetryBudget,
    circuit_breaker,
    constant,
    current,
    deadline,
    fallback,
    hedge,
    keyed,
    pipeline,
    retry,
    retrying,
    timeout,
)
from resilio.testing import VirtualTime, assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

TOLD = 2.0
DELAY = 0.1
SERVED = 0.01


class RefusedError(Exception):
    """A refusal, with or without a time to come back."""

    def __init__(self, seconds: float | None) -> None:
        self.retry_after = seconds


def copying(max_hedges: int = 1) -> Hedge:
    """Return a hedge that copies after a tenth of a second."""
    return hedge(idempotent=True, on=RefusedError, after=DELAY, max_hedges=max_hedges, max_extra=1.0)


def again() -> Any:
    """Return a retry that a budget does not stop."""
    return retry(on=RefusedError, attempts=3, backoff=constant(0.5), budget=RetryBudget(cap=100, initial=100))


async def warm(policy: Hedge) -> None:
    """Let a hedge measure calls: before that it starts no copies."""
    for _ in range(30):
        await policy.acall(anyio.sleep, SERVED)


class Server:
    """A server whose answers are played in turn; `calls` has the time and the number of the copy of each call."""

    def __init__(self, vt: VirtualTime, *answers: RefusedError | float) -> None:
        self.vt = vt
        self.answers = list(answers)
        self.calls: list[tuple[float, int]] = []

    def begin(self) -> None:
        """Forget the time before now."""
        self.began = self.vt.now

    async def serve(self) -> str:
        ambient = current()
        self.calls.append((self.vt.now - self.began, 0 if ambient is None else ambient.hedge))
        answer = self.answers.pop(0) if self.answers else SERVED
        await anyio.sleep(answer if isinstance(answer, float) else SERVED)
        if isinstance(answer, RefusedError):
            raise answer
        return "answer"


def among_gates(copies: Hedge, server: Server) -> Any:
    """Breakers around the retry and inside of it."""
    return pipeline(copies, circuit_breaker(), again(), circuit_breaker())(server.serve)


def in_a_fallback(copies: Hedge, server: Server) -> Any:
    """A fallback for other errors."""
    return pipeline(copies, fallback(on=KeyError, default=""), again())(server.serve)


def nested(copies: Hedge, server: Server) -> Any:
    """A guarded function inside of a hedged one."""
    return copies(pipeline(again(), circuit_breaker())(server.serve))


def in_blocks(copies: Hedge, server: Server) -> Any:
    """A loop of retried blocks inside of a hedged function."""

    @copies
    async def call() -> str:
        async for attempt in retrying(
            on=RefusedError, attempts=3, backoff=constant(0.5), budget=RetryBudget(cap=100, initial=100)
        ):
            with attempt:
                answer = await server.serve()
        return answer

    return call


INSIDE: dict[str, Callable[[Hedge, Server], Any]] = {
    "a retry": lambda copies, server: pipeline(copies, again())(server.serve),
    "gates between": among_gates,
    "a timeout between": lambda copies, server: pipeline(copies, timeout(10.0), again())(server.serve),
    "a deadline outside": lambda copies, server: pipeline(deadline(20.0), copies, again())(server.serve),
    "a fallback between": in_a_fallback,
    "a retry of a key": lambda copies, server: pipeline(copies, keyed(again, key=lambda *_: "key"))(server.serve),
    "a guarded function": nested,
    "blocks": in_blocks,
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("inside", INSIDE)
def test_no_copy_is_sent_before_the_told_time(vt: VirtualTime, backend: str, inside: str) -> None:
    """The primary's retry slept for two seconds, and a copy of it was sent after a tenth of one."""
    server, copies = Server(vt, RefusedError(TOLD)), copying()

    async def play() -> None:
        await warm(copies)
        call = INSIDE[inside](copies, server)
        server.begin()
        assert await call() == "answer"

    vt.run(play, backend=backend)
    assert len(server.calls) == 2, server.calls
    assert server.calls[0][0] == pytest.approx(0)
    assert server.calls[1][0] >= SERVED + TOLD
    assert_no_leaks(copies)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_delay_of_a_copy_goes_on_after_the_told_time(vt: VirtualTime, backend: str) -> None:
    """A second attempt that takes long is copied as the first one would be."""
    server, copies = Server(vt, RefusedError(TOLD), 10.0), copying()

    async def play() -> None:
        await warm(copies)
        server.begin()
        assert await pipeline(copies, again())(server.serve)() == "answer"

    vt.run(play, backend=backend)
    (_, first), (resumed, second), (copied, third) = server.calls
    assert (first, second, third) == (0, 0, 1)
    assert resumed >= SERVED + TOLD
    assert resumed + DELAY / 2 < copied < resumed + 2 * DELAY


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_backoff_is_no_told_time(vt: VirtualTime, backend: str) -> None:
    """Without a time that the server has told, a copy may be the better second attempt."""
    server, copies = Server(vt, RefusedError(None)), copying()

    async def play() -> None:
        await warm(copies)
        server.begin()
        assert await pipeline(copies, again())(server.serve)() == "answer"

    vt.run(play, backend=backend)
    assert server.calls[1] == (pytest.approx(DELAY, abs=SERVED), 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_copy_was_told_holds_for_the_next_copy(vt: VirtualTime, backend: str) -> None:
    """The retry inside of a copy sleeps for a told time: the second copy is not sent before it."""
    server, copies = Server(vt, 30.0, RefusedError(TOLD)), copying(max_hedges=2)

    async def play() -> None:
        await warm(copies)
        server.begin()
        assert await pipeline(copies, again())(server.serve)() == "answer"

    vt.run(play, backend=backend)
    assert [number for _, number in server.calls] == [0, 1, 1]
    assert server.calls[2][0] >= server.calls[1][0] + SERVED + TOLD
