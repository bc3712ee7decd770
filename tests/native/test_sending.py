"""`Admission`: a request is sent with a permit, which outlives it or ends with it, however that goes."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio._native import core
from resilio._native.core import Admission


class Ends:
    """What an admission has said of its permits."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, Any]] = []
        self.settled: list[tuple[Any, BaseException, Any]] = []
        self.instead: BaseException | None = None

    def hold(self, permit: Any, answer: Any) -> None:
        """Keep it."""
        self.held.append((permit, answer))

    def settle(self, permit: Any, error: BaseException, request: Any) -> BaseException | None:
        """End it."""
        self.settled.append((permit, error, request))
        if permit is not None:
            permit.raised(error)
        return self.instead


def admission(policy: Any, ends: Ends, **options: Any) -> Admission:
    """An admission by a policy of gates."""
    return Admission(core.Pipeline(policy.gates)._begin, ends.hold, ends.settle, **options)


async def echo(request: Any) -> Any:
    """Answer with the request."""
    await asyncio.sleep(0)
    return request


@pytest.mark.parametrize("answer", [None, "a", (1, 2), StopIteration(3), 0], ids=repr)
def test_the_answer_comes_out_and_its_permit_is_handed_on(answer: Any) -> None:
    """Whatever it is, a tuple or an exception as well; nothing is settled."""
    policy, ends = resilio.bulkhead(1), Ends()
    got = asyncio.run(_awaited(admission(policy, ends)(answer, echo)))
    assert got is answer
    (permit, held), *more = ends.held
    assert held is answer
    assert not more
    assert policy.snapshot().inflight == 1
    permit.success()
    assert policy.snapshot().inflight == 0


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def test_nothing_is_asked_before_it_is_awaited() -> None:
    """One that nobody awaits holds nothing, and warns as a coroutine does."""
    policy, ends = resilio.bulkhead(1), Ends()
    sending = admission(policy, ends)("a", echo)
    assert policy.snapshot().inflight == 0
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del sending
    assert policy.snapshot().calls == 0


def test_what_raises_is_settled_and_raised_or_replaced() -> None:
    """The error, with its traceback, or what `settle` answers in its place."""
    policy, ends = resilio.bulkhead(1), Ends()

    async def fail(request: Any) -> Any:
        raise KeyError(request)

    def at_once(request: Any) -> Any:
        raise IndexError(request)

    guard = admission(policy, ends)
    with pytest.raises(KeyError) as caught:
        asyncio.run(_awaited(guard("a", fail)))
    assert caught.traceback[-1].name == "fail"
    with pytest.raises(IndexError):
        asyncio.run(_awaited(guard("b", at_once)))
    ends.instead = OSError("instead")
    with pytest.raises(OSError, match="instead"):
        asyncio.run(_awaited(guard("c", fail)))
    assert [request for _, _, request in ends.settled] == ["a", "b", "c"]
    assert (policy.snapshot().inflight, policy.snapshot().failures) == (0, 3)


def test_a_refusal_is_settled_without_a_permit() -> None:
    """Nothing was sent."""
    policy, ends = resilio.circuit_breaker(), Ends()
    policy.force_open()
    with pytest.raises(resilio.CircuitOpenError):
        asyncio.run(_awaited(admission(policy, ends)("a", echo)))
    ((permit, error, _),) = ends.settled
    assert permit is None
    assert isinstance(error, resilio.CircuitOpenError)


def test_a_request_waits_for_its_permit() -> None:
    """It is sent once somebody else's has ended; one that is cancelled meanwhile leaves the queue."""

    async def main() -> None:
        policy, ends = resilio.bulkhead(1, max_queued=2, max_wait=60.0), Ends()
        guard = admission(policy, ends)
        first = policy.acquire()
        waits, given_up = (
            asyncio.create_task(_awaited(guard("a", echo))),
            asyncio.create_task(_awaited(guard("b", echo))),
        )
        await asyncio.sleep(0)
        assert policy.snapshot().queued == 2
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert policy.snapshot().queued == 1
        first.success()
        assert await waits == "a"
        assert [answer for _, answer in ends.held] == ["a"]

    asyncio.run(main())


async def hang(request: Any) -> Any:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("end", ["cancel", "close", "drop"])
def test_one_that_is_given_up_says_nothing(end: str) -> None:
    """Cancelled, closed or dropped in the middle: the sender's own cleanup runs within the permit, which then ends."""
    policy, ends, seen = resilio.bulkhead(1), Ends(), []

    async def cleaning(request: Any) -> Any:
        try:
            await hang(request)
        finally:
            seen.append(policy.snapshot().inflight)

    async def main() -> None:
        sending = admission(policy, ends)("a", cleaning)
        if end == "cancel":
            task = asyncio.create_task(_awaited(sending))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return
        sending.__await__().__next__()
        assert policy.snapshot().inflight == 1
        if end == "close":
            sending.close()
        del sending
        gc.collect()

    asyncio.run(main())
    found = policy.snapshot()
    assert (seen, found.inflight, found.ignored, found.abandoned) == ([1], 0, 1, 0)


def test_it_is_a_coroutine_to_others() -> None:
    """It can be a task, refuses a second await, and is driven by one at a time."""
    policy, ends = resilio.bulkhead(2), Ends()
    guard = admission(policy, ends)

    async def again(request: Any) -> Any:
        with pytest.raises(ValueError, match="already executing"):
            own[0].send(None)
        return await echo(request)

    async def main() -> None:
        own.append(guard("a", again))
        assert await asyncio.create_task(own[0]) == "a"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await own[0]
        with pytest.raises(KeyError):
            guard("b", echo).throw(KeyError("thrown"))

    own: list[Any] = []
    asyncio.run(main())


def test_within_a_guarded_call_and_with_news_another_way_is_taken() -> None:
    """`aside` sends then. News are asked about once something has been abandoned, and not each time."""
    policy, ends = resilio.bulkhead(1), Ends()
    asked: list[None] = []
    news = False

    def tell_news() -> bool:
        asked.append(None)
        return news

    async def aside(request: Any, send: Callable[[Any], Any]) -> Any:
        return "aside"

    guard = admission(policy, ends, aside=aside, news=tell_news)
    outer = resilio.circuit_breaker()
    assert asyncio.run(_awaited(guard("a", echo))) == "a"
    ends.held.pop()[0].success()
    asked.clear()
    assert asyncio.run(_awaited(guard("a", echo))) == "a"
    assert not asked
    assert asyncio.run(_awaited(outer.acall(lambda: guard("a", echo)))) == "aside"
    ends.held.clear()
    news = True
    assert policy.snapshot().abandoned == 1
    assert asyncio.run(_awaited(guard("a", echo))) == "aside"


class Answer:
    """As much of a response as is looked at."""

    content = None

    def __init__(self, status: int, connection: Any = None) -> None:
        self.status = status
        self._connection = connection


@pytest.mark.parametrize(
    ("answer", "held"), [(Answer(200), 0), (Answer(503), 1), (Answer(200, "a connection"), 1), ("?", 1)]
)
def test_an_answer_that_is_whole_and_good_ends_its_permit(answer: Any, held: int) -> None:
    """All others are asked about: failures, those with a body to come, and what is no response that is known."""
    policy, ends = resilio.bulkhead(1), Ends()
    asyncio.run(_awaited(admission(policy, ends, fails_from=500)(answer, echo)))
    assert (len(ends.held), policy.snapshot().inflight) == (held, held)


def test_what_is_not_awaitable_is_said_and_ends_the_permit() -> None:
    """A sender that returns something else is the caller's mistake."""
    policy, ends = resilio.bulkhead(1), Ends()
    with pytest.raises(TypeError, match="awaitable"):
        asyncio.run(_awaited(admission(policy, ends)("a", len)))
    assert policy.snapshot().inflight == 0


def test_requests_in_cycles_are_collected_with_their_permits() -> None:
    """One that knows itself holds nothing once it cannot be reached."""

    class Request:
        sending: Any = None

    policy, ends = resilio.bulkhead(1), Ends()

    def make() -> weakref.ref[Any]:
        request = Request()
        request.sending = admission(policy, ends)(request, hang)
        request.sending.__await__().__next__()
        return weakref.ref(request)

    async def main() -> None:
        known = make()
        gc.collect()
        assert known() is None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    assert policy.snapshot().inflight == 0


def test_a_request_that_is_sent_while_its_send_is_told_of_is_sent_once() -> None:
    """Whoever is told that there is a connection, and sends it then, was first; the request's own `send` is back."""

    class Request:
        def send(self, connection: str) -> str:
            return connection

    class Shown:
        got: str | None = None

        def __init__(self, request: Request) -> None:
            self.request = request

        def sent(self) -> None:
            if self.got is None:
                self.got = ""
                self.got = self.request.send("the one told")

    class Exchange(core.Exchange):
        def stand_in(self) -> Shown:
            shown.append(Shown(self.request))
            return shown[0]

        def settle(self, permit: Any, error: BaseException) -> None:
            permit.raised(error)

        def told(self, error: BaseException) -> BaseException:
            return error

        def finish(self, answer: Any) -> None:
            """Nothing is held."""

    async def sender(request: Request) -> str:
        return request.send("the one who tells")

    policy, request = resilio.bulkhead(1), Request()
    shown: list[Shown] = []
    sending = core.Exchanges(core.Pipeline(policy.gates, True), Exchange, None, frozenset(), 0)
    with pytest.raises(RuntimeError, match="has been sent"):
        asyncio.run(_awaited(sending(request, sender)))
    assert shown[0].got == "the one told"
    assert "send" not in vars(request)
    assert policy.snapshot().inflight == 0
