"""
One logical call: what a policy runs, as often as it says, and what is kept of that for the SDK.

Inside of the policy an error is the SDK's own exception, so that rules like `on=openai.RateLimitError` mean what they
say. What it is outside is in `_outside.py`, how an attempt is made in `_attempts.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from resilio._failures.retry_after import retry_after_of
from resilio._native import clock
from resilio._native.core import phase
from resilio._native.sse import members, object_of
from resilio._policies.retry.backoff import spread
from resilio.errors import RejectedError
from resilio.integrations._shared.held_permits import log_abandoned
from resilio.integrations.llm import _limits
from resilio.integrations.llm._call import ModelCall, call_of
from resilio.integrations.llm._classify import is_local, meaning_by_codes, meaning_of
from resilio.integrations.llm._incoming import kept_headers
from resilio.integrations.llm._said import KEY, Said

if TYPE_CHECKING:
    from resilio.integrations.llm._guard_state import GuardState

__all__ = ["Exchange", "NotSentError"]


class NotSentError(RejectedError):
    """The client could not send the request, for a reason of its own: no policy learns from it, nothing is retried."""

    __slots__ = ()


class Exchange:
    """
    One logical call of an SDK.

    Attributes:
        said: What its exception will tell.

        begun_ns: When it has begun.

        incoming: The answer of the latest attempt, if a stream is asked for and one has come, until the SDK has it.

    What policies see of it, the call, leads to it, and not back: so all of it goes as soon as nobody needs it.
    """

    __slots__ = ("_attempts", "_timeout", "begun_ns", "guard", "incoming", "inner", "request", "said")

    def __init__(self, guard: GuardState, inner: Any, request: Any) -> None:
        """Have sent nothing."""
        log_abandoned()
        self.begun_ns = clock.now_ns()
        self.guard = guard
        self.inner = inner
        self.request = request
        self.said = request.extensions[KEY] = Said()
        self.incoming: Any = None
        self._attempts = 0
        self._timeout = request.extensions.get("timeout")
        guard.count_inner_retry(request)

    def call(self) -> ModelCall:
        """Return what policies see of it."""
        return call_of(self.guard.dialect.provider, self.request, self.guard.estimates, self)

    def begin(self) -> Any:
        """Return the request of the next attempt, which begins."""
        phase("first_byte")
        self._attempts += 1
        if self._timeout is not None:  # which the attempt before may have narrowed
            self.request.extensions["timeout"] = self._timeout
        if self._attempts > 1 and "x-stainless-retry-count" in self.request.headers:
            self.request.headers["x-stainless-retry-count"] = str(self._attempts - 1)
        return self.request

    def has_come(self, response: Any) -> Any:
        """Take in the head of a response."""
        response.request = self.request
        return response

    def fail(self, error: Exception) -> NoReturn:
        """Raise what an exception of the HTTP client is to policies."""
        if is_local(error):
            raise NotSentError("client", None, type(error).__name__) from error
        sdk = self.guard.sdk
        if isinstance(error, self.guard.http.TimeoutException):
            raise sdk.APITimeoutError(request=self.request) from error
        raise sdk.APIConnectionError(request=self.request) from error

    def refuse_status(self, call: ModelCall, response: Any) -> None:
        """Raise what a response says, if it is an error; its body must have been read."""
        if response.status_code < 400:
            if not call.whole:  # else once the answer is settled, on top of what it gives back
                self.observe(call, response, None)
            return
        error = self.guard.client._make_status_error_from_response(response)
        self.settle(call, _limits.nothing_spent())
        self.observe(call, response, error)
        raise error

    def observe(self, call: ModelCall, response: Any, error: Any) -> None:
        """Feed the limits by what a response says about them."""
        if error is None and not self.guard.limits:
            return
        left = self.guard.dialect.left(response.headers)
        pause = None
        if error is not None:
            said = retry_after_of(response)
            resets = [seconds for count, seconds in left.values() if count == 0 and seconds]
            error.retry_after = wait = max(resets, default=None) if said is None else said
            if wait is not None and meaning_of(error) == "rate":
                pause = self._pause(wait, spread_out=said is not None)
        if left or pause is not None:
            _limits.observe(_limits.limits_for(self.guard.policy, call), left, pause)

    def _pause(self, wait: float, spread_out: bool) -> float:
        """Return how long all calls stop; what was told to all callers ends for each at another time."""
        most = self.guard.max_pause
        rounded = min(math.ceil(min(wait, most) * 1e3) / 1e3, most)
        return spread(rounded, most) if spread_out else rounded

    def settle(self, call: ModelCall, usage: Mapping[str, float]) -> None:
        """Correct what the attempt has reserved."""
        if usage and self.guard.limits:
            _limits.settle(_limits.limits_for(self.guard.policy, call), call, usage)

    def learn(self, call: ModelCall, usage: Mapping[str, float]) -> None:
        """Take in what an answer has cost."""
        self.settle(call, usage)
        if usage:
            self.guard.estimates.learn(call.model, call.size, usage)

    def judge(self, call: ModelCall, response: Any) -> Any:
        """Return a response that was read, or raise the error that its body brings in spite of its status."""
        error, kind, usage = members(response.content, b"error", b"type", b"usage")
        if type(error) is bytes and (found := object_of(error)) and (meaning_by_codes(found) or kind == "error"):
            self.raise_inside(call, found, response.headers)
        if type(usage) is bytes:
            self.learn(call, self.guard.dialect.usage(usage))
        self.observe(call, response, None)
        return response

    def raise_inside(self, call: ModelCall, error: Mapping[str, Any], said: Any, *, as_it_came: Any = None) -> NoReturn:
        """
        Raise an error that came inside of a 200.

        Args:
            call: Which it has ended.

            error: Its JSON.

            said: The headers of what it came in.

            as_it_came: What the SDK is to read of that, where it does not raise such an error by itself.
        """
        dialect = self.guard.dialect
        stands_for = self.guard.http.Response(
            dialect.status_of(error),
            headers=kept_headers(said),
            content=_as_json(dialect.error_body(error)),
            request=self.request,
        )
        found = self.guard.client._make_status_error_from_response(stands_for)
        found.as_it_came = as_it_came
        self.observe(call, stands_for, found)
        raise found

    def fail_cut(self) -> NoReturn:
        """Raise what a stream is that ends before its answer does."""
        text = "the stream ended before the answer was whole"
        self.fail(self.guard.http.RemoteProtocolError(text, request=self.request))


def _as_json(body: Mapping[str, Any]) -> bytes:
    """Return the JSON of an error that came as JSON, in ASCII: what can be read need not be writable in UTF-8."""
    try:
        return json.dumps(body).encode()
    except RecursionError:  # it was read with less on the stack
        return b'{"error": {"message": "an error that is nested too deeply"}}'
