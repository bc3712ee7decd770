"""Outcome of a call as the SDK receives it: a response, or an exception of the HTTP client, which it translates."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any, NoReturn

from resilio._failures.retry_after import FOR_CLIENT
from resilio._native import clock
from resilio.errors import CallTimeoutError, DeadlineExceededError, RateLimitedError, RejectedError
from resilio.integrations.llm._exchange import Exchange, NotSentError
from resilio.integrations.llm._incoming import decoded

__all__ = ["raise_outside", "surface", "whole"]


def whole(exchange: Exchange, response: Any) -> Any:
    """Return a response whose body was read here, in the state in which the SDK would have left it."""
    if exchange.request.headers.get("x-stainless-raw-response") == "stream":
        return decoded(response, exchange.guard.http.ByteStream(response.content))  # the caller iterates over it
    response.elapsed = timedelta(microseconds=(clock.now_ns() - exchange.begun_ns) / 1e3)
    return response


def surface(exchange: Exchange, error: Exception) -> Any:
    """Return the response, or raise the HTTP client's exception, that the SDK turns into its own exception."""
    exchange.details.ended_by(error)
    exchange.incoming = None
    if isinstance(error, NotSentError) and error.__cause__ is not None:
        raise error.__cause__
    if isinstance(error, RejectedError):
        return _rejected(exchange, error)
    if isinstance(error, exchange.guard.sdk.APIStatusError):
        return _answered(exchange, error)
    return raise_outside(exchange, error)


def raise_outside(exchange: Exchange, error: Exception) -> NoReturn:
    """Raise an exception as one that the HTTP client might have raised."""
    if isinstance(error, (CallTimeoutError, DeadlineExceededError)):
        raise exchange.guard.timed_out(error) from error
    if isinstance(error, exchange.guard.sdk.APIConnectionError) and error.__cause__ is not None:
        raise error.__cause__
    raise error


def _rejected(exchange: Exchange, error: RejectedError) -> Any:
    exchange.details.rejection = error
    status = 429 if isinstance(error, RateLimitedError) else 503
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    if error.retry_after is not None:
        headers["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
        headers["retry-after"] = str(math.ceil(error.retry_after))
    body = json.dumps(exchange.guard.dialect.rejection(str(error), status)).encode()
    http = exchange.guard.http
    return http.Response(status, headers=headers, stream=http.ByteStream(body), request=exchange.request)


def _answered(exchange: Exchange, error: Any) -> Any:
    came, byte_stream = getattr(error, "as_it_came", None), exchange.guard.http.ByteStream
    if came is not None:
        return decoded(came.response, byte_stream(came.tail))
    response = decoded(error.response, byte_stream(error.response.content))
    if exchange.guard.retries and response.headers.get("x-should-retry") != "false":
        response.headers["x-should-retry"] = "false"
        setattr(response, FOR_CLIENT, True)
    return response
