"""
One logical call: what a policy runs, as often as it says, and what the SDK gets of how that ended.

Inside of the policy an error is the SDK's own exception, so that rules like `on=openai.RateLimitError` mean what they
say. Outside it is a response, or an exception of the HTTP client, of which the SDK makes its exception itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from resilio._native import clock
from resilio._native.core import phase
from resilio._retry_after import retry_after_of
from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError
from resilio.integrations import _body
from resilio.integrations.llm import _limits
from resilio.integrations.llm._call import ModelCall, call_of
from resilio.integrations.llm._classify import is_local, meaning_by_codes, meaning_of
from resilio.integrations.llm._reader import Reader
from resilio.integrations.llm._said import KEY, Said
from resilio.integrations.llm._sync_clocks import SyncClocks

if TYPE_CHECKING:
    from resilio.integrations.llm._guard import ModelGuard

__all__ = ["Exchange", "answer", "answer_sync", "events", "events_sync", "shut"]

_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
_RAW_OF_THE_BODY = frozenset(name.encode() for name in _OF_THE_BODY)


class _NotSentError(RejectedError):
    """The client could not send the request, for a reason of its own: no policy learns from it, nothing is retried."""

    __slots__ = ()


class Exchange:
    """
    One logical call of an SDK.

    Attributes:
        call: What policies see of it.

        said: What its exception will tell.

        head: The response whose body is given to the SDK.

        tail: Of that body, what is left when the policy is done with the call.

        rest: What comes after it; nothing of the answer.
    """

    __slots__ = ("_attempts", "_begun_ns", "call", "guard", "head", "inner", "request", "rest", "said", "tail")

    def __init__(self, guard: ModelGuard, inner: Any, request: Any) -> None:
        """Have sent nothing."""
        if _body.untold():
            _body.tell()
        self._begun_ns = clock.now_ns()
        self.guard = guard
        self.inner = inner
        self.request = request
        self.said = request.extensions[KEY] = Said()
        self.call: ModelCall = call_of(guard.dialect.provider, request, guard.estimates, self)
        self.head: Any = None
        self.tail = b""
        self.rest: Any = None
        self._attempts = 0
        guard.count_inner_retry(request)

    # ---- within the policy

    def begin(self) -> Any:
        """Return the request of the next attempt, which begins."""
        phase("first_byte")
        self._attempts += 1
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
            raise _NotSentError("client", None, type(error).__name__) from error
        sdk = self.guard.sdk
        if isinstance(error, self.guard.http.TimeoutException):
            raise sdk.APITimeoutError(request=self.request) from error
        raise sdk.APIConnectionError(request=self.request) from error

    def refuse_status(self, response: Any) -> None:
        """Raise what a response says, if it is an error; its body must have been read."""
        if response.status_code < 400:
            if not self.call.whole:  # else once the answer is settled, on top of what it gives back
                self.observe(response, None)
            return
        error = self.guard.client._make_status_error_from_response(response)
        self.settle(_limits.nothing_spent())
        self.observe(response, error)
        raise error

    def observe(self, response: Any, error: Any) -> None:
        """Feed the limits by what a response says about them."""
        if error is None and not self.guard.limits:
            return
        left = self.guard.dialect.left(response.headers)
        wait = None
        if error is not None:
            wait = retry_after_of(response)
            if wait is None:
                resets = [seconds for count, seconds in left.values() if count == 0 and seconds]
                wait = max(resets, default=None)
            error.retry_after = wait
            wait = wait if meaning_of(error) == "rate" else None
        if left or wait is not None:
            most = self.guard.max_pause
            _limits.observe(self._limits(), left, None if wait is None else min(math.ceil(wait * 1e3) / 1e3, most))

    def settle(self, usage: Mapping[str, float]) -> None:
        """Correct what the attempt has reserved."""
        if usage:
            _limits.settle(self._limits(), self.call, usage)

    def learn(self, usage: Mapping[str, float]) -> None:
        """Take in what an answer has cost."""
        self.settle(usage)
        if usage:
            self.guard.estimates.learn(self.call.model, self.call.size, usage)

    def _limits(self) -> Iterator[Any]:
        return _limits.limits_for(self.guard.policy, self.call)

    def judge(self, response: Any) -> Any:
        """Return a response that was read, or raise the error that its body brings in spite of its status."""
        body = _object(response)
        response.json = _Parsed(body, response.content)
        error = body.get("error")
        if isinstance(error, dict) and (meaning_by_codes(error) or body.get("type") == "error"):
            self.raise_inside(error, response, raised=True)
        self.learn(self.guard.dialect.usage(body))
        self.observe(response, None)
        return response

    def raise_inside(self, error: Mapping[str, Any], response: Any, *, raised: bool) -> NoReturn:
        """Raise an error that came inside of a 200."""
        dialect = self.guard.dialect
        headers = [(name, text) for name, text in response.headers.items() if name not in _OF_THE_BODY]
        stands_for = self.guard.http.Response(
            dialect.status_of(error), headers=headers, json=dialect.error_body(error), request=self.request
        )
        found = self.guard.client._make_status_error_from_response(stands_for)
        found.as_it_came = not raised
        self.observe(stands_for, found)
        raise found

    def reader(self, response: Any) -> Reader:
        """Return what reads the body of a response."""
        events = response.headers.get("content-type", "").startswith("text/event-stream")
        return Reader(self.guard.dialect, events=events)

    def encoded(self, response: Any) -> bool:
        """Tell whether the body of a response has to be decoded; else its stream is read, which is shorter."""
        return "content-encoding" in response.headers

    def check(self, reader: Reader, response: Any) -> None:
        """Raise the error that a stream has brought; what was read of it until then is left for the SDK."""
        if reader.error is None:
            return
        self.head, self.tail = response, reader.take()
        error, raised = reader.error
        self.raise_inside(error, response, raised=raised)

    def give(self, reader: Reader, response: Any) -> bytes:
        """Return what the SDK gets next."""
        self.head = response
        self.said.partial = True
        return reader.take()

    def over(self, reader: Reader, response: Any, rest: Any) -> None:
        """The answer is whole: leave the last piece, and what comes after it, to the SDK."""
        self.head, self.tail, self.rest = response, reader.take(), rest
        self.learn(reader.usage)

    def end(self, reader: Reader, response: Any, rest: Any) -> None:
        """The body has ended: raise if the answer has not."""
        reader.end()
        self.check(reader, response)
        if reader.cut and self.guard.whole_answers:
            text = "the stream ended before the answer was whole"
            self.head, self.tail = response, reader.take()
            self.fail(self.guard.http.RemoteProtocolError(text, request=self.request))
        self.over(reader, response, rest)

    # ---- outside of it

    def whole(self, response: Any) -> Any:
        """Return a response that was read for the SDK, which has it like one that it has read by itself."""
        if self.request.headers.get("x-stainless-raw-response") == "stream":
            return self.response(response, response.content)  # the caller will iterate over it
        response.elapsed = timedelta(microseconds=(clock.now_ns() - self._begun_ns) / 1e3)
        return response

    def response(self, response: Any, content: bytes | None = None, stream: Any = None) -> Any:
        """
        Return a response that the SDK can have, with a body that is decoded.

        Args:
            response: The one that came.

            content: The body.

            stream: Or a stream that gives it.
        """
        headers = [header for header in response.headers.raw if header[0].lower() not in _RAW_OF_THE_BODY]
        return self.guard.http.Response(
            response.status_code,
            headers=headers,
            stream=self.guard.http.ByteStream(content) if stream is None else stream,
            extensions=response.extensions,
        )

    def surface(self, error: Exception) -> Any:
        """Return the response of which the SDK makes its exception, or raise what it makes one of."""
        self.said.ended_by(error)
        if isinstance(error, _NotSentError) and error.__cause__ is not None:
            raise error.__cause__
        if isinstance(error, RejectedError):
            return self._refused(error)
        if isinstance(error, self.guard.sdk.APIStatusError):
            return self._answered(error)
        return self.raise_outside(error)

    def raise_outside(self, error: Exception) -> NoReturn:
        """Raise an exception as one that the HTTP client might have raised."""
        if isinstance(error, (CallTimeoutError, DeadlineExceededError)):
            raise self.guard.timed_out(error) from error
        if isinstance(error, self.guard.sdk.APIConnectionError) and error.__cause__ is not None:
            raise error.__cause__
        raise error

    def _refused(self, error: RejectedError) -> Any:
        self.said.refusal = error
        status = 429 if error.policy == "rate_limit" else 503
        headers = {"content-type": "application/json", "x-should-retry": "false"}
        if error.retry_after is not None:
            headers["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
            headers["retry-after"] = str(math.ceil(error.retry_after))
        body = json.dumps(self.guard.dialect.refusal(str(error), status)).encode()
        http = self.guard.http
        return http.Response(status, headers=headers, stream=http.ByteStream(body), request=self.request)

    def _answered(self, error: Any) -> Any:
        if getattr(error, "as_it_came", False):
            return self.response(self.head, self.tail)
        response = self.response(error.response, error.response.content)
        if self.guard.retries:
            response.headers["x-should-retry"] = "false"
        return response


class _Parsed:
    """Stands for `response.json`: gives what was parsed to who asks first, which is the SDK, and parses anew then."""

    __slots__ = ("_bodies", "_content")

    def __init__(self, body: dict[str, Any], content: bytes) -> None:
        self._bodies = [body] if body else []
        self._content = content

    def __call__(self, **options: Any) -> Any:
        try:
            return json.loads(self._content, **options) if options else self._bodies.pop()
        except IndexError:
            return json.loads(self._content)


def _object(response: Any) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


# ---- what policies guard ---------------------------------------------------------------------------------------------


async def _open(exchange: Exchange) -> Any:
    try:
        response = exchange.has_come(await exchange.inner.handle_async_request(exchange.begin()))
        if response.status_code >= 400:
            await _read(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    exchange.refuse_status(response)
    return response


async def _read(response: Any) -> None:
    phase("body")
    try:
        await response.aread()
    finally:
        await response.aclose()


async def shut(chunks: Any, response: Any) -> None:
    """Close a response and the generator that reads it."""
    close = getattr(chunks, "aclose", None)
    if close is not None:
        with suppress(RuntimeError):  # a loop that shuts down closes all generators at once: it is at this one
            await close()
    await response.aclose()


async def answer(call: ModelCall) -> Any:
    """Return the whole response, read, or raise what it says."""
    exchange: Exchange = call.exchange
    response = await _open(exchange)
    try:
        await _read(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    return exchange.judge(response)


async def events(call: ModelCall) -> AsyncIterator[bytes]:
    """Give the pieces of an answer that make a difference; the first one has what the caller sees first."""
    exchange: Exchange = call.exchange
    response = await _open(exchange)
    reader = exchange.reader(response)
    chunks = response.aiter_bytes() if exchange.encoded(response) else aiter(response.stream)
    try:
        async for chunk in chunks:
            reader.feed(chunk)
            if reader.complete and reader.error is None:
                break
            if reader.moved:
                yield exchange.give(reader, response)
            exchange.check(reader, response)
        else:
            exchange.end(reader, response, chunks)
            return
        exchange.over(reader, response, chunks)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    finally:
        if exchange.rest is None:
            await shut(chunks, response)


def _open_sync(exchange: Exchange, clocks: SyncClocks) -> Any:
    try:
        request = exchange.begin()
        clocks.narrow(request, body=False)
        response = exchange.has_come(exchange.inner.handle_request(request))
        clocks.narrow(request, body=True)
        if response.status_code >= 400:
            _read_sync(response)
    except exchange.guard.http.HTTPError as error:
        clocks.check()
        exchange.fail(error)
    exchange.refuse_status(response)
    return response


def _read_sync(response: Any) -> None:
    phase("body")
    try:
        response.read()
    finally:
        response.close()


def answer_sync(call: ModelCall) -> Any:
    """Return the whole response, read, or raise what it says; see :func:`answer`."""
    exchange: Exchange = call.exchange
    response = _open_sync(exchange, SyncClocks(None))
    try:
        _read_sync(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    return exchange.judge(response)


def events_sync(call: ModelCall) -> Iterator[bytes]:
    """Give the pieces of an answer that make a difference; see :func:`events`."""
    exchange: Exchange = call.exchange
    clocks = SyncClocks(exchange.guard.clocks)
    response = _open_sync(exchange, clocks)
    reader = exchange.reader(response)
    chunks = response.iter_bytes() if exchange.encoded(response) else iter(response.stream)
    try:
        for chunk in chunks:
            reader.feed(chunk)
            clocks.saw(reader.moved)
            if reader.complete and reader.error is None:
                break
            if reader.moved:
                yield exchange.give(reader, response)
                clocks.resume()
            exchange.check(reader, response)
        else:
            exchange.end(reader, response, chunks)
            return
        exchange.over(reader, response, chunks)
    except exchange.guard.http.HTTPError as error:
        clocks.check()
        exchange.fail(error)
    finally:
        if exchange.rest is None:
            response.close()
