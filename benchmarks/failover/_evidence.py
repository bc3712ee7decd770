"""Evidence of one scenario: the caller's results, and the requests that arrived at the provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from benchmarks.failover._provider import Request
from benchmarks.failover._wire import ANSWER

__all__ = ["FALLBACK", "PRIMARY", "Answer", "Call", "Evidence"]

PRIMARY, FALLBACK = "primary", "fallback"
"""The provider's endpoints, and the models that are asked for there."""


@attrs.frozen
class Answer:
    """
    An answer as a caller has it.

    Attributes:
        text: Whole.

        model: That the answer names.

        tokens: Of the usage that the answer reports; None if it reports none.
    """

    text: str
    model: str
    tokens: int | None


@attrs.frozen
class Call:
    """
    One call of a system under test.

    Attributes:
        at: Seconds from the beginning of the scenario to the call.

        seconds: That it took.

        answer: If there was one.

        error: The exception's class and first line, if there was one.
    """

    at: float
    seconds: float
    answer: Answer | None = None
    error: str | None = None

    @property
    def outcome(self) -> Literal["answer", "error", "hang"]:
        """The end of the call, if it had one in the time that it was given."""
        if self.answer is not None:
            return "answer"
        return "hang" if self.error is None else "error"

    @property
    def is_whole(self) -> bool:
        """Whether the whole answer came."""
        return self.answer is not None and self.answer.text == ANSWER


@attrs.frozen
class Evidence:
    """
    The evidence of one scenario about one system.

    Attributes:
        calls: In their order.

        requests: That arrived at the provider, in their order.

        alive: The call that followed once all faults were gone.

        has_fallback: Whether the system can go to another endpoint at all.
    """

    calls: Sequence[Call]
    requests: Sequence[Request]
    alive: Call
    has_fallback: bool

    def at(self, endpoint: str) -> list[Request]:
        """
        Return the requests of one endpoint.

        Args:
            endpoint: Its name.
        """
        return [request for request in self.requests if request.endpoint == endpoint]

    @property
    def call(self) -> Call:
        """The only call, or the last one."""
        return self.calls[-1]

    @property
    def is_whole(self) -> bool:
        """Whether each call had the whole answer."""
        return all(call.is_whole for call in self.calls)
