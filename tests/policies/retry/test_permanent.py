"""Errors that the function itself declares permanent, and waits that depend on the error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from measured import measured

from resilio import circuit_breaker, events, fallback, permanent, pipeline, retry, retrying
from resilio.testing import VirtualTime

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Fails:
    """A function that raises these errors, one a call, the last one again and again."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = errors
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        raise self.errors[min(self.calls, len(self.errors)) - 1]

    async def later(self) -> None:
        await anyio.sleep(0.01)
        self()


def test_a_permanent_error_ends_the_attempts_and_arrives_as_it_is() -> None:
    """Only `on` decided, far from the place that knows: a full disk was an OSError like any other."""
    error = OSError("the disk is full")
    function = Fails(OSError(), permanent(error))
    with pytest.raises(OSError, match="the disk is full") as caught:
        retry(on=OSError, attempts=9, backoff=0, budget=None).call(function)
    assert caught.value is error
    assert (function.calls, caught.value.resilio.stop_reason) == (2, "not_retryable")  # type: ignore[attr-defined]


@BACKENDS
def test_a_permanent_error_ends_async_attempts(vt: VirtualTime, backend: str) -> None:
    """The same for async functions, also through two retries."""
    function = Fails(permanent(OSError()))
    stage = pipeline(retry(on=OSError, budget=None), retry(on=Exception, budget=None))

    async def main() -> None:
        with pytest.raises(OSError):
            await stage.acall(function.later)

    vt.run(main, backend=backend)
    assert function.calls == 1


def test_a_permanent_error_ends_a_loop_of_blocks() -> None:
    """And in `retrying`; in a group one such leaf is enough."""
    made = 0
    with pytest.raises(ExceptionGroup):
        for attempt in retrying(on=OSError, attempts=5, backoff=0):
            with attempt:
                made += 1
                raise ExceptionGroup("both", [OSError(), permanent(OSError())])
    assert made == 1


@BACKENDS
@pytest.mark.parametrize(("mark", "calls"), [(permanent, 1), (lambda error: error, 2)])
def test_a_permanent_error_starts_no_hedge(
    vt: VirtualTime, backend: str, mark: Callable[[Any], Any], calls: int
) -> None:
    """A primary that fails starts its hedge at once, unless the error is permanent."""
    function = Fails(mark(OSError()))
    stage = measured(5.0)

    async def main() -> None:
        with pytest.raises(OSError):
            await stage.acall(function.later)

    vt.run(main, backend=backend)
    assert function.calls == calls


def test_other_policies_judge_a_permanent_error_by_their_own_rules() -> None:
    """A breaker counts it if `on` says so, ignores it if `ignore` does; a fallback goes on."""
    counting, ignoring = circuit_breaker(on=OSError), circuit_breaker(ignore=OSError)
    for breaker in (counting, ignoring):
        with pytest.raises(OSError):
            breaker.call(Fails(permanent(OSError())))
    assert (counting.snapshot().failures, ignoring.snapshot().ignored) == (1, 1)
    assert fallback(on=OSError, default="instead").call(Fails(permanent(OSError()))) == "instead"


def test_only_exceptions_can_be_permanent() -> None:
    """A class, or a text, is a mistake that is seen at once."""
    for wrong in (OSError, "no"):
        with pytest.raises(TypeError, match="error must be an exception, like permanent"):
            permanent(wrong)  # type: ignore[type-var]

    class Closed(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with pytest.raises(TypeError, match="must be of a class that allows attributes, not Closed"):
        permanent(Closed())


# ---- waits of the error ----------------------------------------------------------------------------------------------


class Busy(OSError):
    def __init__(self, wait: float) -> None:
        super().__init__()
        self.wait = wait


def by_error(attempt: int, error: Any) -> float:
    """Wait for what the error says, longer from attempt to attempt."""
    return float(error.wait) * attempt


@BACKENDS
def test_a_backoff_may_depend_on_the_error(vt: VirtualTime, backend: str) -> None:
    """A function of the attempt alone could not tell a busy server from a broken connection."""
    function = Fails(Busy(1.0), Busy(5.0), Busy(0.0))

    async def main() -> None:
        with pytest.raises(Busy):
            await retry(on=OSError, backoff=by_error, budget=None).acall(function.later)

    vt.run(main, backend=backend)
    assert (function.calls, vt.now) == (3, pytest.approx(0.03 + 1.0 + 10.0))


def test_a_backoff_gets_a_failed_result_in_place_of_an_error(vt: VirtualTime) -> None:
    """In threads, and in blocks, where the attempt reports its result."""
    seen: list[Any] = []

    def backoff(attempt: int, error: Any) -> float:
        seen.append((attempt, error))
        return 1.0

    policy = retry(on=OSError, failed_if=lambda result: result == "bad", backoff=backoff, attempts=2, budget=None)
    assert policy.call(lambda: "bad") == "bad"
    for attempt in policy.retrying():
        with attempt:
            attempt.result("bad")
    assert seen == [(1, "bad"), (1, "bad")]
    assert vt.now == 2.0


@pytest.mark.parametrize(
    "backoff",
    [
        lambda attempt: 0,
        lambda attempt, base=0: base,
        lambda *attempt: 0,
        lambda attempt, error: 0 if isinstance(error, OSError) else 9,
        lambda attempt, error=None: 0 if isinstance(error, OSError) else 9,
        lambda attempt, *, error: 0 if isinstance(error, OSError) else 9,
        partial(lambda base, attempt, error: base if isinstance(error, OSError) else 9, 0),
    ],
)
def test_a_backoff_gets_the_error_by_the_name_of_its_parameter(vt: VirtualTime, backoff: Any) -> None:
    """A second parameter of another name is the function's own, as before."""
    function = Fails(OSError())
    with pytest.raises(OSError):
        retry(on=OSError, attempts=2, backoff=backoff, budget=None).call(function)
    assert (function.calls, vt.now) == (2, 0.0)


def test_a_backoff_of_more_arguments_is_rejected() -> None:
    """At the definition, with what it is called with."""
    with pytest.raises(TypeError, match=r"backoff is called as backoff\(attempt, error=\)"):
        retry(on=OSError, backoff=lambda attempt, error, more: 0)


# ---- listeners -------------------------------------------------------------------------------------------------------


def test_listeners_get_the_exception() -> None:
    """They had its type and text; what a listener needs of it, a code or a request, was lost."""
    seen: list[Any] = []
    first, last = OSError("first"), OSError("last")
    policy = retry(on=OSError, attempts=2, backoff=0, budget=None)
    policy.on_event(seen.append, kinds=[events.Retried, events.GaveUp, events.Settled])
    with pytest.raises(OSError, match="last"):
        policy.call(Fails(first, last))
    assert [(type(event), event.exception) for event in seen] == [
        (events.Retried, first),
        (events.GaveUp, last),
        (events.Settled, last),
    ]
    assert not any("first" in repr(event.exception) for event in seen[1:])
    assert "exception" not in repr(seen[0])


@BACKENDS
def test_listeners_of_any_policy_get_the_exception_of_its_calls(vt: VirtualTime, backend: str) -> None:
    """`Settled` of a breaker has it; that of a success has none."""
    seen: list[Any] = []
    breaker = circuit_breaker()
    breaker.on_event(seen.append, kinds=[events.Settled])
    error = OSError()

    async def main() -> None:
        with pytest.raises(OSError):
            await breaker.acall(Fails(error).later)
        await breaker.acall(anyio.sleep, 0)

    vt.run(main, backend=backend)
    assert [(event.outcome, event.exception) for event in seen] == [("failure", error), ("success", None)]


def test_cancelled_calls_have_their_cancellation(vt: VirtualTime) -> None:
    """What ends the call is its exception, whatever it is judged."""
    seen: list[Any] = []
    breaker = circuit_breaker()
    breaker.on_event(seen.append, kinds=[events.Settled])

    async def main() -> None:
        task = asyncio.ensure_future(breaker.acall(asyncio.sleep, 9))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    vt.run(main)
    assert [(event.outcome, type(event.exception)) for event in seen] == [("ignored", asyncio.CancelledError)]
