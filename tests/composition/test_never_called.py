"""What a call takes at gates outside of a strategy, if a policy further in rejects it: the function is never called."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilio import (
    Hedge,
    RejectedError,
    bulkhead,
    circuit_breaker,
    constant,
    deadline,
    fallback,
    hedge,
    keyed,
    pipeline,
    rate_limit,
    retry,
    timeout,
)
from resilio.cost import charge, spend_limit
from resilio.testing import VirtualTime, assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

STRATEGIES: dict[str, Callable[[bool], Any]] = {
    "none": lambda threads: None,
    "retry": lambda threads: retry(on=OSError, budget=None),
    "retry of rejections": lambda threads: retry(on=RejectedError, budget=None, backoff=constant(0.01)),
    "timeout": lambda threads: timeout(5.0, thread=threads),
    "deadline": lambda threads: deadline(5.0),
    "hedge": lambda threads: hedge(idempotent=True, after=0.1),
    "fallback": lambda threads: fallback(on=OSError, default=[]),
    "default": lambda threads: fallback(on=Exception, default=[]),
    "handler": lambda threads: fallback(on=Exception, handler=lambda error: []),
    "retry and timeout": lambda threads: pipeline(retry(on=OSError, budget=None), timeout(5.0, thread=threads)),
}
THREADS = ("call", "try_call", "stream")
LOOPS = ("acall", "try_acall", "astream")
REJECTIONS = ("open", "full", "waits", "deadline", "leaves")
CALLS = 3


def cases() -> list[Any]:
    """Each strategy in each form of a call, with each rejection further in."""
    made = []
    forms = [(form, "threads") for form in THREADS]
    forms += [(form, backend) for form in LOOPS for backend in ("asyncio", "trio")]
    for strategy, (form, backend), rejection in itertools.product(STRATEGIES, forms, REJECTIONS):
        impossible = (
            (strategy == "hedge" and (form in THREADS or form == "astream"))  # copies are tasks, and none of streams
            or ("timeout" in strategy and form == "stream")  # no thread can stop a generator
            or (rejection == "leaves" and form in THREADS)
        )
        if not impossible:
            made.append(pytest.param(strategy, form, backend, rejection, id=f"{strategy}-{form}-{backend}-{rejection}"))
    return made


class Stack:
    """A spend limit and a rate limit around a strategy, around what rejects; `called` counts calls of the function."""

    def __init__(self, strategy: str, form: str, rejection: str) -> None:
        self.day, self.limit = spend_limit("5 USD/day", reserve=0.05), rate_limit("100/h")
        self.breaker = circuit_breaker()
        self.seats = bulkhead(1, **({} if rejection == "full" else {"max_queued": 9, "max_wait": 60.0}))
        self.called = 0
        policies = (self.day, self.limit, STRATEGIES[strategy](form in THREADS), self.breaker, self.seats)
        self.strategy = policies[2]
        self.pipe = pipeline(*(policy for policy in policies if policy is not None))
        self.taken = None if rejection == "open" else self.seats.acquire()
        if rejection == "open":
            self.breaker.force_open()

    def let_in(self) -> None:
        """End what rejects."""
        self.breaker.reset()
        if self.taken is not None:
            self.taken.success()

    @property
    def left(self) -> tuple[float, float, int]:
        """What was spent, the tokens left, and how often the function was called."""
        return self.day.snapshot().spend.used, self.limit.available["requests"], self.called

    def work(self) -> list[int]:
        self.called += 1
        charge(0.25)
        return [1]

    async def warm(self) -> None:
        """Let a hedge measure calls, without the limits: before that it starts no copies."""
        for _ in range(30 if isinstance(self.strategy, Hedge) else 0):
            await self.strategy.acall(anyio.sleep, 0.01)

    async def awork(self) -> list[int]:
        return self.work()

    def items(self) -> Any:
        yield from self.work()

    async def aitems(self) -> Any:
        for item in self.work():
            yield item

    def call(self, form: str) -> Any:
        """Make a call in a thread."""
        if form == "try_call":
            return self.pipe.try_call(self.work)
        return list(self.pipe(self.items)()) if form == "stream" else self.pipe.call(self.work)

    async def acall(self, form: str) -> Any:
        """Make a call in a task."""
        if form == "try_acall":
            return await self.pipe.try_acall(self.awork)
        if form == "astream":
            return [item async for item in self.pipe(self.aitems)()]
        return await self.pipe.acall(self.awork)

    def rejected(self, form: str, rejection: str) -> None:
        """Make a call that is rejected."""
        with contextlib.suppress(RejectedError, TimeoutError), deadline(1.0 if rejection == "deadline" else 100.0):
            self.call(form)

    async def arejected(self, form: str, rejection: str) -> None:
        """Make a call that is rejected, or whose caller leaves the queue."""
        with contextlib.suppress(RejectedError, TimeoutError):
            if rejection == "leaves":
                with anyio.move_on_after(1.0) as scope:
                    await self.acall(form)
                assert scope.cancelled_caught
                return
            async with deadline(1.0 if rejection == "deadline" else 100.0):
                await self.acall(form)


@pytest.mark.parametrize(("strategy", "form", "backend", "rejection"), cases())
def test_nothing_is_paid_for_a_call_that_was_never_made(
    vt: VirtualTime, strategy: str, form: str, backend: str, rejection: str
) -> None:
    """
    With any strategy between, money and tokens are given back as without one; a call that is made pays for itself.

    1,000 rejections by an open breaker used up "50 USD/day" at `reserve=.05`, and calls were rejected until midnight.
    """
    stack = Stack(strategy, form, rejection)

    async def in_tasks() -> None:
        await stack.warm()
        for _ in range(CALLS):
            await stack.arejected(form, rejection)
        assert stack.left == (0.0, 100.0, 0)
        stack.let_in()
        await stack.acall(form)

    if backend == "threads":
        for _ in range(CALLS):
            stack.rejected(form, rejection)
        assert stack.left == (0.0, 100.0, 0)
        stack.let_in()
        stack.call(form)
    else:
        vt.run(in_tasks, backend=backend)
    apart = backend == "threads" and "timeout" in strategy  # its charge does not reach the limits around
    assert stack.left == (0.05 if apart else 0.25, pytest.approx(99.0, abs=0.01), 1)
    if isinstance(stack.strategy, Hedge) and rejection in ("waits", "deadline"):
        assert stack.strategy.snapshot().hedges_rejected == CALLS
    assert stack.limit.snapshot().cancelled == stack.day.snapshot().cancelled == CALLS
    assert_no_leaks(stack.day, stack.limit, stack.breaker, stack.seats)


@pytest.mark.parametrize("backend", ["threads", "asyncio", "trio"])
@pytest.mark.parametrize("between", ["retry", "timeout"])
@pytest.mark.parametrize("limits", ["outside", "inside"])
def test_an_attempt_that_was_made_is_paid_once_though_the_next_one_is_rejected(
    vt: VirtualTime, backend: str, between: str, limits: str
) -> None:
    """The first attempt opens the breaker, the second finds it open: limits have paid for one, wherever they stand."""
    called = []

    def fails() -> None:
        called.append(1)
        raise OSError

    async def afails() -> None:
        fails()

    day, limit = spend_limit("5 USD/day", reserve=0.05), rate_limit("100/h")
    again = retry(on=(OSError, RejectedError), attempts=2, budget=None, backoff=constant(0.001))
    limited = pipeline(again, day, limit) if limits == "inside" else pipeline(day, limit, again)
    strategies = [timeout(5.0, thread=backend == "threads")] if between == "timeout" else []
    pipe = pipeline(limited, *strategies, circuit_breaker(consecutive=1, open_for=60.0))

    async def in_a_task() -> None:
        with pytest.raises(OSError):
            await pipe.acall(afails)

    if backend == "threads":
        with pytest.raises(OSError):
            pipe.call(fails)
    else:
        vt.run(in_a_task, backend=backend)
    assert len(called) == 1
    assert (day.snapshot().spend.used, limit.available["requests"]) == (0.05, pytest.approx(99.0, abs=0.01))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_copy_that_was_made_is_paid_though_its_primary_never_was(vt: VirtualTime, backend: str) -> None:
    """The primary waits in the queue of one key, and a copy of it gets past that of another."""
    day, copies = spend_limit("5 USD/day", reserve=0.05), hedge(idempotent=True, after=0.1)
    keys = iter(["taken", "free"])
    seats = keyed(lambda: bulkhead(1, max_queued=1, max_wait=60.0), key=lambda: next(keys))

    async def answer() -> str:
        return "answer"

    async def race() -> str:
        for _ in range(30):
            await copies.acall(anyio.sleep, 0.01)
        with seats["taken"]:
            return await pipeline(day, copies, seats).acall(answer)

    assert vt.run(race, backend=backend) == "answer"
    assert day.snapshot().spend.used == 0.05
    assert_no_leaks(day, seats["taken"], seats["free"])


@pytest.mark.parametrize("state", ["waiting", "asleep"])
def test_a_call_that_is_dropped_before_it_is_made_pays_nothing(vt: VirtualTime, state: str) -> None:
    """A coroutine that is never resumed, in a queue or between two rejected attempts, gives everything back."""
    day, seats = spend_limit("5 USD/day", reserve=0.05), bulkhead(1, max_queued=1, max_wait=60.0)
    again = retry(on=RejectedError, budget=None, backoff=constant(1.0))
    breaker = circuit_breaker()
    if state == "asleep":
        breaker.force_open()

    async def answer() -> str:
        return "answer"

    async def drop() -> None:
        with seats:
            call = pipeline(day, again, breaker, seats).acall(answer)
            call.send(None)
            assert day.snapshot().spend.used == 0.05
            del call
            gc.collect()

    vt.run(drop)
    assert day.snapshot().spend.used == 0.0
    assert_no_leaks(day, seats, breaker)


def test_what_a_handler_has_charged_stays_though_the_function_was_not_called(vt: VirtualTime) -> None:
    """A handler that asks a cheaper service charges that; without a charge it costs nothing."""
    day, breaker = spend_limit("5 USD/day", reserve=0.05), circuit_breaker()
    breaker.force_open()
    pipe = pipeline(day, fallback(on=Exception, handler=lambda error: charge(0.01)), breaker)
    pipe.call(print)
    assert pipe.snapshot().successes == 1  # at its door it was answered
    assert day.snapshot().spend.used == pytest.approx(0.01)
    assert day.snapshot().spend.reserved == 0


def test_a_rejection_from_the_function_itself_is_paid_for(vt: VirtualTime) -> None:
    """The function was called, and calls another guarded one in vain: it pays as it does without a strategy."""
    day, limit, breaker = spend_limit("5 USD/day", reserve=0.05), rate_limit("100/h"), circuit_breaker()
    breaker.force_open()
    guarded = pipeline(day, limit, retry(on=OSError))(lambda: breaker.call(print))
    with pytest.raises(RejectedError):
        guarded()
    assert (day.snapshot().spend.used, limit.available["requests"]) == (0.05, 99.0)


@pytest.mark.parametrize("strategy", [*STRATEGIES][:6])
def test_a_rejection_has_one_outcome_with_and_without_a_strategy(vt: VirtualTime, strategy: str) -> None:
    """`try_acall` returned "rejected" without a strategy between, and "ignored" with one."""
    stack = Stack(strategy, "try_acall", "open")
    result = vt.run(stack.acall, "try_acall")
    assert (result.outcome, result.called, result.ok, type(result.error).__name__) == (
        "rejected",
        False,
        False,
        "CircuitOpenError",
    )
    with pytest.raises(RejectedError):
        result.unwrap()
