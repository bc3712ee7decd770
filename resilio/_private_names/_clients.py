"""Private names of the clients and servers that have integrations."""

from __future__ import annotations

import socket
from typing import Any

from resilio._private_names._record import Private, State, attribute, of_module

__all__ = ["CLIENTS"]


def _httpx(found: Any) -> bool:
    with found.Client() as client:
        pool = client._transport._pool
        return isinstance(client._mounts, dict) and pool._network_backend is not None


def _either(*modules: str) -> State:
    states: list[State] = [of_module(module, _httpx)() for module in modules]
    return _of_either(states)


def _of_either(states: list[State]) -> State:
    if "failed" in states:
        return "failed"
    return "in use" if "in use" in states else "not applicable"


def _sdks() -> State:
    def holds(found: Any) -> bool:
        client = (getattr(found, "OpenAI", None) or found.Anthropic)(api_key="none")
        return hasattr(client._client, "_transport") and callable(client._make_status_error_from_response)

    states: list[State] = [of_module(module, holds)() for module in ("openai", "anthropic")]
    return _of_either(states)


def _requests(found: Any) -> bool:
    request = found.Request("GET", "http://localhost").prepare()
    return request._body_position is None and found.Response()._content is False


def _sqlalchemy(found: Any) -> bool:
    return "_max_overflow" in found.QueuePool(lambda: None).__dict__


def _valkey() -> State:
    def holds(found: Any) -> bool:
        return "_sock" in found.Connection().__dict__

    return _of_either([of_module(module, holds)() for module in ("valkey", "redis")])


def _aiohttp(found: Any) -> bool:
    reader, response = found.StreamReader, found.ClientResponse
    kept = reader.__init__.__code__.co_names
    return "_eof_callbacks" in kept and callable(response._response_eof)


def _aiohttp_headers(found: Any) -> bool:
    return "_cache" in found.ClientResponse.__init__.__code__.co_names and hasattr(found.ClientResponse, "_headers")


def _raw() -> State:
    def holds(found: Any) -> bool:
        return str(found._constants.RAW_RESPONSE_HEADER) == "X-Stainless-Raw-Response"

    states: list[State] = [of_module(module, holds)() for module in ("openai", "anthropic")]
    return _of_either(states)


def _urllib3(found: Any) -> bool:
    return found.HTTPResponse(original_response=None)._original_response is None


def _exchanges(_: Any) -> bool:
    with socket.socket() as sock:
        sock.__class__ = type("Timed", (socket.socket,), {"__slots__": ()})
    return True


CLIENTS = (
    Private(
        name="`_transport` and `_mounts` of a client of httpx",
        of="httpx, httpx2",
        words=("_transport", "_mounts"),
        where=(
            "resilio/integrations/httpx.py",
            "resilio/integrations/llm/_guard.py",
            "resilio/integrations/llm/_endpoints.py",
        ),
        versions="httpx 0.27 and 0.28, httpx2 2",
        check="when a client is guarded",
        otherwise="`guard_client` rejects; `Client(transport=Transport(policy))` needs neither",
        state=lambda: _either("httpx", "httpx2"),
    ),
    Private(
        name="`_pool` of its transport, `_network_backend` of httpcore's pool",
        of="httpx, httpx2",
        words=("_pool", "_network_backend"),
        where=("resilio/integrations/_shared/connecting.py",),
        versions="httpx 0.27 and 0.28, httpx2 2",
        check="when a transport is put under guard",
        otherwise="connecting counts as `first_byte` in the ledger",
        state=lambda: _either("httpx", "httpx2"),
    ),
    Private(
        name="`_send_request_body`, which httpcore's tracebacks show; `_request` of an exception of httpx",
        of="httpx, httpx2",
        words=("_send_request_body", "_request"),
        where=(
            "resilio/integrations/_httpx/common.py",
            "resilio/integrations/_shared/translate.py",
            "resilio/integrations/llm/_details.py",
        ),
        versions="httpx 0.27 and 0.28, httpx2 2",
        check="at each exception",
        otherwise="an error of the request's own body counts against the server; `e.resilio` has less",
        state=lambda: _either("httpx", "httpx2"),
    ),
    Private(
        name="`_client` of a client of openai or anthropic, `_make_status_error_from_response`",
        of="openai, anthropic",
        words=("_client", "_make_status_error_from_response"),
        where=(
            "resilio/integrations/llm/_guard.py",
            "resilio/integrations/llm/_exchange.py",
            "resilio/integrations/llm/_endpoints.py",
        ),
        versions="openai 1.54 to 3, anthropic 0.40 to 2",
        check="when a client is guarded",
        otherwise="`guard_client` rejects; a transport under `http_client=` needs neither",
        state=_sdks,
    ),
    Private(
        name="`X-Stainless-Raw-Response`, a header by which the SDKs leave the body of an answer unread",
        of="openai, anthropic",
        words=("X-Stainless-Raw-Response",),
        where=("resilio/integrations/llm/_endpoints.py",),
        versions="openai 1.54 to 3, anthropic 0.40 to 2",
        check="at each request to an endpoint of a pool",
        otherwise="the SDK reads the body: a streamed answer of an endpoint comes as a whole",
        state=_raw,
    ),
    Private(
        name="`_body_position` of a request, `_content` of a response; the local `chunks` in urllib3's `request`",
        of="requests",
        words=("_body_position", "_content", "chunks"),
        where=("resilio/integrations/requests.py",),
        versions="requests 2.31 to 2.34",
        check="at each request",
        otherwise="AttributeError from the adapter: nothing is sent unguarded",
        state=of_module("requests", _requests),
    ),
    Private(
        name="`_original_response` of a response, in which requests looks for cookies",
        of="urllib3",
        words=("_original_response",),
        where=("resilio/integrations/_shared/requests_body.py",),
        versions="urllib3 1.26 and 2",
        check="at each response, that it has one",
        otherwise="None; requests takes no cookies from such a response, as without a guard",
        state=of_module("urllib3", _urllib3),
    ),
    Private(
        name="A connected socket whose class is exchanged for a subclass: `sock.__class__ = ...`",
        of="CPython, urllib3",
        words=(),
        where=("resilio/integrations/_shared/urllib3_time.py",),
        versions="3.11 to 3.15; urllib3 1.26 and 2",
        check="at each connection, that the socket takes the class",
        otherwise="each wait is bounded by the time left when the request or its answer began, by the `timeout` of the "
        "connection; a line in the log names the class",
        state=of_module("urllib3", _exchanges),
    ),
    Private(
        name="`_response_eof` of a response; `_eof_callbacks` of its content",
        of="aiohttp",
        words=("_response_eof", "_eof_callbacks"),
        where=("resilio/integrations/_aiohttp/body.py",),
        versions="aiohttp 3.12 to 3.14",
        check="at each response",
        otherwise="a response that is dropped unread keeps its permit until its end",
        state=of_module("aiohttp", _aiohttp),
    ),
    Private(
        name="`_headers` of a response, and `_cache` of its attributes",
        of="aiohttp",
        words=("_headers", "_cache"),
        where=("resilio/integrations/_aiohttp/endpoints.py",),
        versions="aiohttp 3.12 to 3.14",
        check="at each redirect by an endpoint of a pool",
        otherwise="a redirect of an endpoint to itself is followed to its own address, past the pool",
        state=of_module("aiohttp", _aiohttp_headers),
    ),
    Private(
        name="`_timer._cancelled` of a request; functions of a traceback: `_wait_for_available_connection`",
        of="aiohttp",
        words=("_timer", "_cancelled", "_wait_for_available_connection"),
        where=("resilio/integrations/_aiohttp/blame.py",),
        versions="aiohttp 3.12 to 3.14",
        check="at each cancellation",
        otherwise="aiohttp's own total timeout counts as a cancellation, which is no evidence of the server",
        state=attribute("aiohttp.connector", "BaseConnector._wait_for_available_connection"),
    ),
    Private(
        name="`_proxy_writes_as_request_iterator`, a generator; `_context` of a servicer's context",
        of="grpc",
        words=("_proxy_writes_as_request_iterator", "_context"),
        where=("resilio/integrations/_grpc/relay.py", "resilio/integrations/_grpc/server.py"),
        versions="grpcio 1.62 to 1.85",
        check="at each stream, at each answer",
        otherwise="messages are passed on as they are; the status that a handler sets counts as not known",
        state=attribute("grpc.aio._interceptor", "_InterceptedStreamRequestMixin._proxy_writes_as_request_iterator"),
    ),
    Private(
        name="`_max_overflow` of a pool",
        of="sqlalchemy",
        words=("_max_overflow",),
        where=("resilio/integrations/sqlalchemy.py",),
        versions="SQLAlchemy 2.0.25 to 2.1",
        check="when a pool's size is asked",
        otherwise="the pool counts as one without overflow",
        state=of_module("sqlalchemy", _sqlalchemy),
    ),
    Private(
        name="`_sock` of a connection",
        of="valkey, redis",
        words=("_sock",),
        where=("resilio/integrations/_stores/valkey.py",),
        versions="valkey 6, redis 5 to 7",
        check="at each connection, once an answer has come over it; at each reply, that it is one text",
        otherwise="the client sends and reads; it asks again, over a new connection, where a reply is anything else",
        state=_valkey,
    ),
)
