"""
The cost of an attempt at the spend limits around it.

An answer with usage costs that; an attempt that was not made, or that the provider answered with an error, nothing. One
that broke off, was cancelled or timed out, and an answer without usage, keep what was reserved: providers bill them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from resilio._native.core import current
from resilio._native.sse import members
from resilio._policies.spend_limit.bill import Bill, bill_for
from resilio._policies.spend_limit.offers import offer_at
from resilio._policies.spend_limit.prices import Usage

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.integrations.llm._call import ModelCall

__all__ = ["AttemptBill"]

_NOT_SENT = {"ConnectError", "ConnectTimeout", "InvalidURL", "LocalProtocolError", "PoolTimeout", "UnsupportedProtocol"}


class AttemptBill:
    """The bill of one attempt: a block around it. Its first step runs in the call's context."""

    __slots__ = ("_bill", "_call", "_endpoint")

    def __init__(self, call: ModelCall, endpoint: Endpoint | None) -> None:
        """
        Begin the attempt.

        Args:
            call: The call.

            endpoint: The endpoint that it goes to; None without a pool.
        """
        self._call = call
        self._endpoint = endpoint
        self._bill: Bill | None = None

    def __enter__(self) -> Self:
        number = None if current() is not None else self._call.exchange.attempts + 1
        self._bill = bill_for(offer_at(self._endpoint, self._call.model), number) or None
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Let an attempt whose cost did not become known keep what was reserved, unless it was not sent."""
        open_bill, self._bill = self._bill, None
        if open_bill is None:
            return
        if error is not None and _was_not_sent(error):
            open_bill.nothing()
        else:
            open_bill.keep()

    def used(self, usage: Mapping[str, float], model: str | None) -> None:
        """
        Charge the usage of an answer, once it is known.

        Args:
            usage: The usage.

            model: The name of the model in the answer; None: it has none.
        """
        if self._bill is None:
            return
        call = self._call
        billed = call.exchange.guard.dialect.billed(usage)
        if billed is not None:
            open_bill, self._bill = self._bill, None
            open_bill.use(Usage(**billed), model)
        elif call.streamed:
            call.exchange.guard.note_no_usage(call.model, may_ask=_may_ask(call))

    def nothing(self) -> None:
        """Charge nothing: the provider has answered with an error."""
        open_bill, self._bill = self._bill, None
        if open_bill is not None:
            open_bill.nothing()


def _may_ask(call: ModelCall) -> bool:
    """Return True if the request of a stream could have asked for its usage, and has not."""
    if call.provider != "openai" or not call.endpoint.endswith("/completions"):
        return False
    (options,) = members(call.exchange.request.content, b"stream_options")
    return type(options) is not bytes or members(options, b"include_usage")[0] is not True


def _was_not_sent(error: BaseException) -> bool:
    """Return True if a request did not leave this process, by the client's exception."""
    names = {cls.__name__ for one in (error, error.__cause__) for cls in type(one).__mro__}
    return not names.isdisjoint(_NOT_SENT)
