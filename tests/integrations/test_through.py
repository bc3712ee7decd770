"""Requests through policies whose permits outlive them, without any client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import resilio
from resilio import Outcome
from resilio.integrations._through import Exchange, Lease, Once, Route, Spent

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
    ("how", "expected"),
    [
        ("ended", (1, 0, 0)),
        ("failed", (0, 1, 0)),
        ("aborted", (0, 0, 1)),
        ("abandoned", (0, 0, 1)),
        ("success", (1, 0, 0)),
        ("failure", (0, 1, 0)),
        ("ignore", (0, 0, 1)),
    ],
)
async def test_a_lease_ends_all_its_permits_once(how: str, expected: tuple[int, int, int]) -> None:
    """The first end counts; what is added after it ends in the same way; one ended by hand stays as it is."""
    policy, late, own = resilio.bulkhead(5), resilio.bulkhead(5), resilio.bulkhead(5)
    lease = Lease("an answer")
    lease.take(policy.acquire(), "answer")
    by_hand = own.acquire()
    lease.take(by_hand, "answer")
    by_hand.success()
    assert not lease.over
    lease.end(how, KeyError("broken"))
    lease.end("success")
    lease.take(late.acquire(), "answer")
    assert lease.over
    assert ends(policy) == ends(late) == expected
    assert ends(own) == (1, 0, 0)
    assert policy.snapshot().abandoned == (how == "abandoned")


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
        await Route(policy).run(Tries(KeyError("a"), verdict=verdict), "request")
    assert ends(policy) == expected


async def test_an_answer_that_comes_after_the_call_is_let_go_of() -> None:
    """A copy that answers when its caller has gone finds nobody, and holds nothing."""
    policy = resilio.bulkhead(5)
    exchange = Tries(None)
    exchange.finish()
    answer = await Route(policy).run(exchange, "request")
    assert answer.closed
    assert ends(policy) == (0, 0, 1)


async def test_a_hedge_waits_for_nothing_and_may_be_shed() -> None:
    """A full bulkhead with a queue refuses the copy at once; the primary's answer is what counts."""
    inner = resilio.bulkhead(1, max_queued=5, max_wait=10.0)
    policy = resilio.pipeline(resilio.hedge(replay_safe=True, after=0.01), inner)
    route = Route(policy)
    assert route.hedged
    for _ in range(20):
        (await route.run(Tries(None), "request")).close()
    exchange = Tries(lambda: asyncio.sleep(0.1), None)
    (await route.run(exchange, "request")).close()
    assert len(exchange.answers) == 1
    assert inner.snapshot().rejected == 1
    assert inner.snapshot().inflight == 0


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
