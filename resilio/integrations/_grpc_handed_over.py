"""What goes on in an interceptor of a call that was begun where it was made: its admission, or its strategies."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Begun", "Continued"]


class Begun:
    """A request whose admission has begun where its call was made, and was not over at once."""

    __slots__ = ("_got", "request")

    def __init__(self, request: Any, got: Exception | tuple[Any, Any]) -> None:
        """
        Take over.

        Args:
            request: The message.

            got: The refusal; or what `Pipeline._begin` gave.
        """
        self.request = request
        self._got: Exception | tuple[Any, Any] | None = got

    async def acquire(self, outgoing: object) -> Permit:  # noqa: ARG002 - which it has seen
        """Return the permit when it is granted."""
        got, self._got = self._got, None
        if not isinstance(got, tuple):
            raise got or RuntimeError("this admission has been given up")
        permit: Permit = await _go_on(*got)
        return permit

    def give_up(self, call: Any) -> None:  # noqa: ARG002 - which has ended
        """Leave the queue if nobody has gone on waiting: of a task cancelled before it ran, tracebacks hold this."""
        got, self._got = self._got, None
        if isinstance(got, tuple):
            got[0].close()


class Continued:
    """What goes on in here of a call through strategies that was begun where it was made."""

    __slots__ = ("_begun", "_rest")

    def __init__(self, begun: Any, rest: Any) -> None:
        """
        Take over.

        Args:
            begun: The call as its user holds it.

            rest: What awaits its response.
        """
        self._begun = begun
        self._rest: Any = rest

    async def go_on(self) -> Any:
        """Return the call that has given the response."""
        rest, self._rest = self._rest, None
        return self._begun.call_of(await rest)

    def give_up(self, call: Any) -> None:  # noqa: ARG002 - which has ended
        """End what was begun, if nobody has gone on with it: of a task cancelled before it ran."""
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.close()
            self._begun.drop()


@coroutine
def _go_on(call: Any, awaited: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that somebody else has begun, and that waits for `awaited`."""
    try:
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                call.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation
                awaited = call.throw(error)
            else:
                awaited = call.send(value)
    except StopIteration as done:
        return done.value
