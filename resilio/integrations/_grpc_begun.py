"""
Calls through strategies that are begun where they are made: the first try, nearly always the only one, needs no task.

grpcio begins a call when it is made, awaited or not. So its end is noted where grpcio notes it, and if it has ended
well that was all. Otherwise, or when the time of a strategy has come, a call with interceptors goes on with what was
begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import copy_context
from types import coroutine
from typing import TYPE_CHECKING, Any

from resilio._native import core
from resilio._native.core import seconds_left
from resilio.integrations._grpc_client import Guarded, Outgoing, Unary
from resilio.integrations._grpc_handed_over import Continued
from resilio.integrations._grpc_lib import aio
from resilio.integrations._replay import Once

if TYPE_CHECKING:
    from resilio._native.core import Call

__all__ = ["BegunCall"]

_phase = core.phase


class BegunCall(Unary, aio.UnaryUnaryCall):  # type: ignore[misc]
    """
    A call as its user holds it: that of its first try, or the intercepted one that has gone on with it.

    It lives as long as grpcio keeps the call that it is, whoever has dropped it, and goes on to its end like that.
    """

    __slots__ = ("_call", "_context", "_first", "_intercepted", "_is", "_last", "_make", "_options", "_waits")

    _call: Call[Any]
    _first: Any
    _is: Any
    _last: Any
    _waits: asyncio.Future[None] | None

    def __init__(
        self, guarded: Guarded, make: Callable[..., Any], intercepted: Any, message: Any, options: dict[str, Any]
    ) -> None:
        """
        Prepare.

        Args:
            guarded: The policy, and what statuses mean to it.

            make: Makes a call without interceptors.

            intercepted: Makes one with them.

            message: What is sent.

            options: What the call is made with.
        """
        self._guarded = guarded
        self._out_of_time = False
        self._request = message
        self.answers = []
        self._make = make
        self._intercepted = intercepted
        self._options = options
        self._context = copy_context()  # what strategies set holds for what is inside, and not for the caller
        self._first = self._is = self._last = self._waits = None

    def begin_as(self, asked: Outgoing) -> Any:
        """
        Begin, and return what the user gets: this, or what goes on where the first try was not made or came to nothing.

        Args:
            asked: The call as key, cost and weight functions see it.
        """
        guarded = self._guarded
        shown = asked if guarded.replay_safe is True else guarded.shown(asked, streams=False)
        call = guarded.way.send_now(self, shown)
        try:
            begun = self._context.run(call._begin) and self._first is not None
        except StopIteration as done:
            return self._go_on(_given(done.value))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it is awaited
            return self._go_on(_raised(error))
        if not begun:
            return self._go_on(call)
        self._call = call
        call._watch(self._first, self._ended)
        return self

    def attempt(self, shown: Any) -> Any:
        """Make the call once; it has no more time than the ambient deadline has left."""
        _phase("first_byte")
        options = self._options
        timeout, left = options.get("timeout"), seconds_left()
        if left is not None and (timeout is None or left < timeout):
            self._out_of_time = True
            options = {**options, "timeout": left}
        if isinstance(shown, Once):
            shown.sent()
        made = self._last = self._make(self._request, **options)
        if self._first is None:
            self._first = self._is = made
        return self._answer(made)

    @coroutine
    def _answer(self, made: Any) -> Generator[Any, Any, Any]:
        response = yield from made.__await__()
        self.answers.append((response, made))
        return response

    # ---- how the first try ends -------------------------------------------------------------------------------------

    def _ended(self, how: bool | None, first: Any) -> None:
        """
        Its first try has ended, in a finaliser too, cancelled by that; or it is to be awaited from now on.

        Args:
            how: True: it has ended well, and so has this; False: it has ended; None: it is under way.

            first: The first try's call.
        """
        if how is False and first.cancelled():
            self._call.close()
        elif not how:
            self._go_on(self._call)
        del self._call  # each knows the other
        waits, self._waits = self._waits, None
        if waits is not None and not waits.done():
            waits.set_result(None)

    def _go_on(self, rest: Any) -> Any:
        """Have an intercepted call go on with this, from `rest`; return it."""
        continued = Continued(self, rest)
        self._is = self._context.run(self._intercepted, continued, **self._options)
        self._is.add_done_callback(continued.give_up)
        return self._is

    def drop(self) -> None:
        """Cancel what is under way: nobody goes on with it."""
        if self._last is not None:
            self._last.cancel()

    # ---- as a call --------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Any]:
        first = self._first
        if self._is is first and not first.done():
            if self._waits is None:
                self._waits = asyncio.get_running_loop().create_future()
            try:
                yield from self._waits
            except asyncio.CancelledError:
                self.cancel()
                raise
        return (yield from self._is.__await__())

    async def _decision(self) -> Any:
        """Return the call that this is for good."""
        if self._is is self._first:
            await self._first.code()
        return self._is

    def cancel(self) -> bool:
        """Cancel the call; that says nothing about the service."""
        return bool(self._is.cancel())

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return bool(self._is.cancelled())

    def done(self) -> bool:
        """Return whether it is over."""
        return bool(self._is.done())

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline of its latest try."""
        left: float | None = self._last.time_remaining()
        return left

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Have `callback(call)` called when it is over."""
        ends = self._is

        def tell(_: Any) -> None:
            if self._is is ends:
                callback(self)
            else:
                self.add_done_callback(callback)

        ends.add_done_callback(tell)

    async def initial_metadata(self) -> Any:
        """Return the metadata that came first."""
        return await (await self._decision()).initial_metadata()

    async def trailing_metadata(self) -> Any:
        """Return the metadata that came last."""
        return await (await self._decision()).trailing_metadata()

    async def code(self) -> Any:
        """Return the status."""
        return await (await self._decision()).code()

    async def details(self) -> Any:
        """Return the status's text."""
        return await (await self._decision()).details()

    async def debug_error_string(self) -> Any:
        """Return what grpcio says of the status to people."""
        return await (await self._decision()).debug_error_string()

    async def wait_for_connection(self) -> None:
        """Return when there is a connection, which for such calls is their end; raise what they end with."""
        await (await self._decision()).wait_for_connection()

    def __repr__(self) -> str:
        return repr(self._is)


async def _given(value: Any) -> Any:
    return value


async def _raised(error: Exception) -> Any:
    raise error
