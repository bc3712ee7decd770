"""What a call of the ASGI middleware gives: a coroutine, which may be awaited, closed, dropped and thrown into."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from serving.memory import Request

from resilio import bulkhead, circuit_breaker
from resilio.integrations.asgi import Middleware


def answers(status: int = 200) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    return app


def call_of(app: Any, gate: Any) -> Any:
    """Return the call of the middleware for a request."""
    request = Request()
    return Middleware(app, gate)(request.scope, request.receive, request.send)


def test_the_middleware_is_a_coroutine_function_to_all_who_look() -> None:
    """Servers and frameworks that tell ASGI from WSGI by looking see a coroutine function, and get a coroutine."""
    served = Middleware(answers(), bulkhead(1))
    assert inspect.iscoroutinefunction(served.__call__)
    assert asyncio.iscoroutinefunction(served.__call__)
    call = call_of(answers(), bulkhead(1))
    assert isinstance(call, Coroutine)
    assert asyncio.iscoroutine(call)
    call.close()


@pytest.mark.asyncio
async def test_a_subclass_with_a_call_of_its_own_is_asked() -> None:
    """Who overrides `__call__` is called, and gets from there to what the middleware does."""
    seen = []

    class Mine(Middleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await super().__call__(scope, receive, send)

    gate = bulkhead(1)
    assert (await Request("/here").to(Mine(answers(), gate))).status == 200
    assert (seen, gate.snapshot().successes) == (["/here"], 1)


def test_a_call_that_is_never_awaited_says_so_and_holds_nothing() -> None:
    """A call that nobody awaits is as that of a coroutine function: nothing was asked for, and there is a warning."""
    gate = bulkhead(1)
    with pytest.warns(RuntimeWarning, match=r"Middleware.__call__.* was never awaited"):
        call_of(answers(), gate)
    call = call_of(answers(), gate)
    call.close()
    call.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        call.send(None)
    with pytest.raises(KeyError, match="told"):
        call_of(answers(), gate).throw(KeyError("told"))
    assert gate.snapshot().calls == 0


class Pause:
    """Suspends once; for who drives by hand."""

    def __await__(self) -> Any:
        return (yield "suspended")


def test_ls01_a_call_that_is_dropped_ends_the_app_and_then_the_permit() -> None:
    """LS-01: of a task that is dropped in the middle of a request, the app cleans up inside its permit."""
    gate, held = bulkhead(1), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await Pause()
        finally:
            held.append(gate.snapshot().inflight)

    call = call_of(app, gate)
    assert call.send(None) == "suspended"
    assert call.cr_await is not None
    del call
    assert (held, gate.snapshot().inflight, gate.snapshot().abandoned) == ([1], 0, 1)
    call = call_of(app, gate)
    call.send(None)
    call.close()
    assert (held, gate.snapshot().inflight, gate.snapshot().abandoned) == ([1, 1], 0, 2)


def test_what_is_thrown_in_reaches_the_app_which_may_go_on() -> None:
    """A cancellation is the app's to handle, as in any coroutine; how it ends is how the request ends."""
    gate = circuit_breaker()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        with suppress(KeyError):
            await Pause()
        await Pause()

    call = call_of(stubborn, gate)
    call.send(None)
    assert call.throw(KeyError()) == "suspended"
    with pytest.raises(ZeroDivisionError):
        call.throw(ZeroDivisionError())
    assert (gate.snapshot().failures, gate.snapshot().inflight) == (1, 0)
    call = call_of(stubborn, gate)
    call.send(None)
    call.throw(KeyError())
    with pytest.raises(StopIteration):
        call.send(None)
    assert gate.snapshot().failures == 2  # it has returned without a response


@pytest.mark.asyncio
async def test_an_app_may_return_any_awaitable() -> None:
    """An app that is no coroutine function is served as well: whatever it returns is awaited."""
    gate = bulkhead(1)

    class Later:
        def __init__(self, *given: Any) -> None:
            self.given = given

        def __await__(self) -> Any:
            return answers()(*self.given).__await__()

    assert (await Request().to(Middleware(Later, gate))).status == 200
    assert gate.snapshot().successes == 1

    def broken(scope: Any, receive: Any, send: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Request().to(Middleware(broken, gate))
    assert (gate.snapshot().failures, gate.snapshot().inflight) == (1, 0)
