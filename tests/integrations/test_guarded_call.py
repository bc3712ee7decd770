"""Requests through policies whose permits outlive them, without any client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio import Outcome
from resilio.integrations._grpc.exchange import Exchange, hand_over
from resilio.integrations._shared.guarded_call import GuardedCall
from resilio.integrations._shared.held_permits import Lease
from resilio.integrations._shared.replay import Once, Spent

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The clients that need it run on asyncio only."""
    return "asyncio"


class Answer:
    """What is answered; its lease ends by `close`."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.closed = False

    def close(self) -> None:
        self.closed = True
        self.lease.end("aborted")


class Tries(Exchange):
    """Each try is a function of the request; errors are what `verdict` says."""

    def __init__(self, *tries: Any, verdict: Any = None) -> None:
        super().__init__()
        self.tries = list(tries)
        self.verdict = verdict
        self.answers: list[Answer] = []

    async def attempt(self, request: Any) -> Any:
        outcome = self.tries.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            await outcome()
        lease = Lease("an answer")
        answer = Answer(lease)
        self.answers.append(answer)
        self.answered(answer, lease)
        return answer

    def close(self, answer: Any) -> None:
        answer.close()

    def blame(self, error: BaseException) -> Any:
        return error if self.verdict is None else self.verdict


def ends(policy: Any) -> tuple[int, int, int]:
    """Successes, failures, ignored; nothing is held."""
    found = policy.snapshot()
    assert found.inflight == 0
    return found.successes, found.failures, found.ignored


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (None, (0, 1, 0)),
        (Outcome.FAILURE, (0, 1, 0)),
        (Outcome.SUCCESS, (1, 0, 0)),
        (Outcome.IGNORED, (0, 0, 1)),
        (asyncio.CancelledError(), (0, 0, 1)),
    ],
)
async def test_what_an_error_says_is_the_clients_to_know(verdict: Any, expected: tuple[int, int, int]) -> None:
    """An outcome, or another error in its place, goes before what the gates would think."""
    policy = resilio.bulkhead(5)
    with pytest.raises(KeyError):
        await Tries(KeyError("a"), verdict=verdict).through(GuardedCall(policy, hand_over), "request")
    assert ends(policy) == expected


async def test_an_answer_that_comes_after_the_call_is_let_go_of() -> None:
    """A copy that answers when its caller has gone finds nobody, and holds nothing."""
    policy = resilio.bulkhead(5)
    exchange = Tries(None)
    exchange.finish()
    answer = await exchange.through(GuardedCall(policy, hand_over), "request")
    assert answer.closed
    assert ends(policy) == (0, 0, 1)


GATES: dict[str, Callable[[], Any]] = {
    "waits for nothing": lambda: resilio.bulkhead(1, max_queued=5, max_wait=10.0),
    "may be rejected": lambda: resilio.load_shed(max_concurrent=2),  # which keeps one free for what is more important
}
STACKS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "right below": lambda gate: (gate,),
    "below another gate and strategy": lambda gate: (resilio.bulkhead(10), resilio.timeout(10.0), gate),
    "below a retry": lambda gate: (resilio.retry(on=OSError), gate),
}


@pytest.mark.filterwarnings("ignore:hedge .* around retry")
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("stack", STACKS)
async def test_gates_see_the_copies_of_a_hedge(gate: str, stack: str) -> None:
    """A gate that has no room to spare rejects the copy at once; the primary's answer is what counts."""
    inner = GATES[gate]()
    hedge = resilio.hedge(idempotent=True, after=0.01)
    way = GuardedCall(resilio.pipeline(hedge, *STACKS[stack](inner)), hand_over)
    assert way.hedged
    for _ in range(20):
        (await Tries(None).through(way, "request")).close()
    exchange = Tries(lambda: asyncio.sleep(0.1), None)
    (await exchange.through(way, "request")).close()
    assert len(exchange.answers) == 1
    assert inner.snapshot().rejected == 1
    assert inner.snapshot().inflight == 0


async def test_only_copies_of_its_own_hedge_are_copies() -> None:
    """Who hedges around the client sends requests that are as good as any: to the policy inside they are no copies."""
    inner, outer = resilio.bulkhead(1, max_queued=5, max_wait=10.0), resilio.hedge(idempotent=True, after=0.01)
    call = GuardedCall(inner, lambda held: held.take().success())

    @outer
    async def ask(seconds: float) -> None:
        await call.send(asyncio.sleep, seconds)

    for _ in range(20):
        await ask(0.0)
    await ask(0.1)
    assert outer.snapshot().hedges == 1
    assert inner.snapshot().rejected == 0


async def test_the_answer_of_another_function_is_judged_by_the_gates() -> None:
    """A hedge's other target is no attempt of the request: it has no lease, and its permit ends with it."""
    policy = resilio.bulkhead(5)
    assert await GuardedCall(policy, hand_over).send(_upper, "good") == "GOOD"
    assert ends(policy) == (1, 0, 0)


async def _upper(request: str) -> str:
    return request.upper()


def test_what_stands_for_a_request_shows_it() -> None:
    """Keys are functions of the request, also where it is gone once sent."""

    class Request:
        host = "example.org"

    shown = Once(Request())
    assert shown.host == "example.org"
    shown.sent()
    assert type(shown) is Spent
    assert shown.host == "example.org"
    with pytest.raises(StopIteration):
        next(shown)
    shown.sent(undone=True)
    assert type(shown) is Once
