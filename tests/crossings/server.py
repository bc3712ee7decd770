"""One scripted server on the virtual clock: it gives all answers, and notes each call of it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import attrs

from resilio import Outcome, _backends, circuit_breaker, current
from resilio.cost import charge
from resilio.testing import VirtualTime

__all__ = ["ANSWERS", "PRICE", "SERVED", "TOLD", "Answer", "Call", "Reply", "Server", "StatusError"]

SERVED = 0.01
"""Seconds that an answer takes."""
TOLD = 2.0
"""Seconds of a Retry-After."""
PRICE = 0.01
"""What each call costs, whatever the answer is."""


class Reply:
    """A response with a status."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        self.status_code = status
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class StatusError(Exception):
    """The exception of a client that raises by status."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status_code)
        self.response = reply


@attrs.frozen
class Answer:
    """
    What the server does once.

    Attributes:
        outcome: What the preset "http" judges it to be.

        status: Of a response; None: there is none.

        told: The seconds of its Retry-After.

        seconds: How long it takes.

        error: What ends the call instead of a response.
    """

    outcome: Outcome
    status: int | None = None
    told: float | None = None
    seconds: float = SERVED
    error: str | None = None

    def give(self, *, raising: bool) -> Reply:
        """Return a response, or raise as a client does."""
        if self.error == "lost":
            raise ConnectionResetError("the connection was lost")
        if self.error == "rejected":
            inside = circuit_breaker()
            inside.force_open()
            inside.call(int)
        assert self.status is not None
        reply = Reply(self.status, self.told)
        if raising and self.status >= 400:
            raise StatusError(reply)
        return reply


ANSWERS = {
    "200": Answer(Outcome.SUCCESS, 200),
    "404": Answer(Outcome.SUCCESS, 404),
    "429": Answer(Outcome.REFUSED, 429),
    "429 for 2 s": Answer(Outcome.REFUSED, 429, TOLD),
    "503 for 2 s": Answer(Outcome.REFUSED, 503, TOLD),
    "500": Answer(Outcome.FAILURE, 500),
    "lost": Answer(Outcome.FAILURE, error="lost"),
    "slow": Answer(Outcome.SUCCESS, 200, seconds=30.0),
    "rejected inside": Answer(Outcome.IGNORED, error="rejected"),
}
"""All that a server may do, but for a caller that goes away in the middle."""


@attrs.define
class Call:
    """One call of the server; `answer` is None if its caller went away, `copy` true of a hedge's copies."""

    number: int
    endpoint: str | None
    begun: float
    answer: Answer | None = None
    ended: float | None = None
    copy: bool = False
    cost: float = PRICE


class Server:
    """The server; `script` answers the calls of one logical call, the last answer stays."""

    def __init__(self, vt: VirtualTime, *, raising: bool = False) -> None:
        self.vt = vt
        self.owner = threading.get_ident()
        self.raising = raising
        self.script: list[str] = ["200"]
        self.number = 0
        self.calls: list[Call] = []

    def begin(self, script: list[str]) -> None:
        """Begin a logical call."""
        self.script = list(script)
        self.number += 1

    def reached(self) -> int:
        """Return how many logical calls have come here."""
        return len({call.number for call in self.calls})

    def answers(self) -> list[Answer]:
        """Return the answers of the calls whose callers have waited for them."""
        return [call.answer for call in self.calls if call.answer is not None]

    def _accept(self, endpoint: Any) -> tuple[Call, Answer]:
        name = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        ambient = current()
        call = Call(self.number, getattr(endpoint, "name", None), self.vt.now)
        call.copy = ambient is not None and ambient.hedge > 0
        self.calls.append(call)
        self._charge(call)
        return call, ANSWERS[name]

    def _charge(self, call: Call) -> None:
        charge(call.cost)

    def _end(self, call: Call, answer: Answer) -> Reply:
        is_left = threading.get_ident() != self.owner and answer.seconds > SERVED  # its timeout has gone on without it
        call.ended, call.answer = self.vt.now, None if is_left else answer
        return answer.give(raising=self.raising)

    def serve(self, *asked: Any, endpoint: Any = None) -> Reply:
        """Answer a thread."""
        call, answer = self._accept(endpoint)
        if threading.get_ident() == self.owner:
            self.vt.advance(answer.seconds)
        else:
            _backends.sleep(answer.seconds)  # a thread of a timeout
        return self._end(call, answer)

    async def aserve(self, *asked: Any, endpoint: Any = None) -> Reply:
        """Answer a task."""
        call, answer = self._accept(endpoint)
        try:
            await anyio.sleep(answer.seconds)
        finally:
            call.ended = self.vt.now
        return self._end(call, answer)

    def stream(self, *asked: Any, endpoint: Any = None) -> Any:
        """Answer a thread with a stream of one item."""
        yield self.serve(endpoint=endpoint)

    async def astream(self, *asked: Any, endpoint: Any = None) -> Any:
        """Answer a task with a stream of one item."""
        yield await self.aserve(endpoint=endpoint)
