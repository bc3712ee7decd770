"""The log of slow calls: with their ledger, so many a minute, and never anybody's trouble."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from anyio import sleep

import resilio
from resilio import bulkhead, circuit_breaker, pipeline, retry
from resilio.metrics.logging import slow_calls

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines of slow calls, as they come."""

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    kept: list[str] = []
    handler = Kept()
    logging.getLogger("resilio").addHandler(handler)
    yield kept
    logging.getLogger("resilio").removeHandler(handler)


async def failing_first(seconds: float, answers: list[Exception | None]) -> None:
    await sleep(seconds)
    error = answers.pop(0)
    if error is not None:
        raise error


async def test_a_slow_call_is_logged_with_its_ledger(vt: Any, lines: list[str]) -> None:
    """The line says whose call, how it ended and where the time went; faster ones are not told of."""
    whole = pipeline(retry(on=OSError, backoff=0.5, budget=None), circuit_breaker(), name="orders")
    stop = slow_calls(1.0, policy=whole)
    await whole.acall(failing_first, 0.4, [OSError(), None])
    await whole.acall(failing_first, 0.4, [None])
    with pytest.raises(KeyError):
        await whole.acall(failing_first, 1.0, [KeyError()])
    await circuit_breaker("other").acall(sleep, 5)
    stop()
    await whole.acall(sleep, 5)
    assert lines == [
        "pipeline 'orders': a slow call returned: 1.30s = attempt1 0.40 + retry_sleep 0.50 + attempt2 0.40",
        "pipeline 'orders': a slow call raised KeyError: 1.00s = attempt 1.00",
    ]


async def test_so_many_a_minute_are_logged(vt: Any, lines: list[str]) -> None:
    """What is left out is counted in the next line."""
    policy = bulkhead(5, name="many")
    stop = slow_calls(0, per_minute=2)
    for _ in range(5):
        await policy.acall(sleep, 1)
    await sleep(60)
    await policy.acall(sleep, 1)
    stop()
    assert [line.partition(": ")[2] for line in lines] == [
        "a slow call returned: 1.00s = attempt 1.00",
        "a slow call returned: 1.00s = attempt 1.00",
        "a slow call returned: 1.00s = attempt 1.00; 3 more were not logged",
    ]


async def test_the_least_threshold_of_several_holds(vt: Any, lines: list[str]) -> None:
    """Each has its own, and a keyed policy's are those of its keys."""
    policy = resilio.keyed(circuit_breaker, key=lambda *args: args[0], name="by length")
    stops = [slow_calls(2.0), slow_calls(1.0, policy=policy)]
    await policy.acall(sleep, 1.5)
    await policy.acall(sleep, 2.5)
    await circuit_breaker("short").acall(sleep, 1.5)
    stops[0]()
    await policy.acall(sleep, 3.5)
    stops[1]()
    assert len(lines) == 4


def test_of_threads_blocks_and_permits_too(vt: Any, lines: list[str]) -> None:
    """Whatever form the call has."""
    policy = circuit_breaker("forms")
    stop = slow_calls(1.0)
    policy.call(vt.advance, 1.0)
    with policy:
        vt.advance(1.0)
    permit = policy.acquire()
    vt.advance(1.0)
    permit.success()
    dropped = policy.acquire()
    vt.advance(1.0)
    del dropped, permit  # a finaliser tells nobody
    stop()
    assert len(lines) == 3


def test_a_handler_that_raises_fails_no_call(vt: Any) -> None:
    """The call has its result, or its own exception."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the disk is full")

    handler = Broken()
    logging.getLogger("resilio").addHandler(handler)
    stop = slow_calls(0)
    try:
        assert circuit_breaker("well").call(int) == 0
        with pytest.raises(ValueError, match="invalid literal"):
            circuit_breaker("ill").call(int, "x")
    finally:
        stop()
        logging.getLogger("resilio").removeHandler(handler)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"above": -1}, ValueError),
        ({"above": "1"}, ValueError),
        ({"above": 1, "policy": 3}, TypeError),
        ({"above": 1, "per_minute": 0}, ValueError),
    ],
)
def test_what_cannot_be_is_rejected(options: dict[str, Any], error: type[Exception]) -> None:
    """A wrong option is named."""
    with pytest.raises(error, match=list(options)[-1]):
        slow_calls(**options)
