"""
State of one logical call of an SDK, which may take several attempts.

Inside the policy an error is the SDK's own exception, so that rules like `on=openai.RateLimitError` match.
`_outside.py` translates errors for the SDK, `_attempts.py` makes the attempts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from resilio._failures.retry_after import asked_by
from resilio._native import clock
from resilio._native.core import phase
from resilio._native.sse import members, model_of, object_of
from resilio._policies.server_pauses import MADE, pause_for
from resilio.errors import RejectedError
from resilio.integrations.llm import _limits
from resilio.integrations.llm._call import ModelCall, call_of
from resilio.integrations.llm._classify import is_local, meaning_by_codes, meaning_of
from resilio.integrations.llm._details import KEY, Details
from resilio.integrations.llm._incoming import kept_headers

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.integrations.llm._bill import AttemptBill
    from resilio.integrations.llm._guard_state import GuardState

__all__ = ["Exchange", "NotSentError"]


class NotSentError(RejectedError):
    """The client itself could not send the request: no policy learns from it, and nothing is retried."""

    __slots__ = ()


class Exchange:
    """
    One logical call of an SDK.

    Attributes:
        details: Details of the call for the exception that ends it.

        begun_ns: Start of the call on the native clock, in nanoseconds.

        attempts: The number of attempts so far.

        endpoint: The endpoint of the latest attempt; None without a pool.

        incoming: The streamed answer of the latest attempt, until the SDK takes it; otherwise None.

    The `ModelCall` that policies see refers to this object, but not the reverse. There is no cycle, so both are freed
    without the garbage collector.
    """

    __slots__ = ("_timeout", "attempts", "begun_ns", "details", "endpoint", "guard", "incoming", "inner", "request")

    def __init__(self, guard: GuardState, inner: Any, request: Any) -> None:
        """Begin a call that has sent nothing yet."""
        self.begun_ns: int = clock.now_ns()
        self.guard: GuardState = guard
        self.inner: Any = inner
        self.request: Any = request
        self.details: Details = Details()
        request.extensions[KEY] = self.details
        self.endpoint: Endpoint | None = None
        self.incoming: Any = None
        self.attempts: int = 0
        self._timeout = request.extensions.get("timeout")
        guard.count_inner_retry(request)
        guard.warn_of_no_usage()

    def call(self) -> ModelCall:
        """Return the `ModelCall` that policies see."""
        return call_of(self.guard.dialect.provider, self.request, self.guard.estimates, self)

    def begin(self) -> Any:
        """Begin the next attempt and return its request."""
        phase("first_byte")
        self.attempts += 1
        if self._timeout is not None:  # the previous attempt may have narrowed it
            self.request.extensions["timeout"] = self._timeout
        if self.attempts > 1 and "x-stainless-retry-count" in self.request.headers:
            self.request.headers["x-stainless-retry-count"] = str(self.attempts - 1)
        return self.request

    def has_come(self, response: Any) -> Any:
        """Bind a response to its request."""
        response.request = self.request
        return response

    def fail(self, error: Exception) -> NoReturn:
        """Raise the SDK's exception for an exception of the HTTP client, so that policies see the former."""
        if is_local(error):
            raise NotSentError("client", None, type(error).__name__) from error
        sdk = self.guard.sdk
        if isinstance(error, self.guard.http.TimeoutException):
            raise sdk.APITimeoutError(request=self.request) from error
        raise sdk.APIConnectionError(request=self.request) from error

    def reject_status(self, call: ModelCall, response: Any, bill: AttemptBill) -> None:
        """Raise the SDK's exception if the response is an error; the body must have been read."""
        if response.status_code < 400:
            if not call.whole:  # a whole answer: observed after its usage is settled, see `judge`
                self.observe(call, response, None)
            return
        error = self.guard.client._make_status_error_from_response(response)
        self.settle(call, _limits.nothing_spent())
        bill.nothing()
        self.observe(call, response, error)
        raise error

    def observe(self, call: ModelCall, response: Any, error: Any) -> None:
        """Pass the rate limits that a response reports, and its Retry-After, to the policy's limits."""
        if error is None and not self.guard.limits:
            return
        left = self.guard.dialect.left(response.headers)
        pause = None
        if error is not None:
            asked = asked_by(response)
            error.retry_after = None if asked is None else asked.seconds
            if asked is not None and meaning_of(error) == "rate":
                pause = pause_for(response, most=self.guard.max_pause)
                setattr(error, MADE, pause or 0.0)
        if left or pause is not None:
            _limits.observe(_limits.limits_for(self.guard.policy, call), left, pause)

    def settle(self, call: ModelCall, usage: Mapping[str, float]) -> None:
        """Replace the tokens that the attempt reserved by its real usage."""
        if usage and self.guard.limits:
            _limits.settle(_limits.limits_for(self.guard.policy, call), call, usage)

    def learn(self, call: ModelCall, usage: Mapping[str, float], model: str | None, bill: AttemptBill) -> None:
        """Settle the real usage of an answer of this model, charge its cost, and learn the estimate from it."""
        self.settle(call, usage)
        bill.used(usage, model)
        if usage:
            self.guard.estimates.learn(call.model, call.size, usage)

    def judge(self, call: ModelCall, response: Any, bill: AttemptBill) -> Any:
        """Return a response whose body was read, or raise the error inside the body of a successful status."""
        error, kind, usage = members(response.content, b"error", b"type", b"usage")
        if type(error) is bytes and (found := object_of(error)) and (meaning_by_codes(found) or kind == "error"):
            self.raise_inside(call, found, response.headers)
        if type(usage) is bytes:
            self.learn(call, self.guard.dialect.usage(usage), model_of(response.content, usage), bill)
        self.observe(call, response, None)
        return response

    def raise_inside(
        self, call: ModelCall, error: Mapping[str, Any], headers: Any, *, as_it_came: Any = None
    ) -> NoReturn:
        """
        Raise an error that arrived inside a 200.

        Args:
            call: The call that it ended.

            error: Its JSON.

            headers: The headers of the response that contained it.

            as_it_came: The incoming answer for the SDK to read, if the SDK does not raise such an error by itself.
        """
        dialect = self.guard.dialect
        stands_for = self.guard.http.Response(
            dialect.status_of(error),
            headers=kept_headers(headers),
            content=_as_json(dialect.error_body(error)),
            request=self.request,
        )
        found = self.guard.client._make_status_error_from_response(stands_for)
        found.as_it_came = as_it_came
        self.observe(call, stands_for, found)
        raise found

    def fail_cut(self) -> NoReturn:
        """Raise the error of a stream that ended before its answer did."""
        text = "the stream ended before the answer was whole"
        self.fail(self.guard.http.RemoteProtocolError(text, request=self.request))


def _as_json(body: Mapping[str, Any]) -> bytes:
    """Return an error as JSON in ASCII: JSON may contain lone surrogates, which UTF-8 cannot encode."""
    try:
        return json.dumps(body).encode()
    except RecursionError:  # the parser ran with a shallower stack
        return b'{"error": {"message": "an error that is nested too deeply"}}'
