"""
An adapter for requests under guard: `session.mount("https://", Adapter(policy))`.

Why here: an adapter sees each request on the wire, redirects included, and its body to the last byte, with
`stream=True` too. When not: a policy around a function that reads the whole answer needs no adapter. It is not a way to
interrupt a thread; timeouts and deadlines bound each wait of its socket instead.
"""

from __future__ import annotations

import importlib
import io
import warnings
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from resilio._options.validators import choice
from resilio._support.client_target import StandIn, mark_as_heeding_time
from resilio._support.extras import missing
from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError, ResilienceError
from resilio.integrations._shared import replay
from resilio.integrations._shared import requests_endpoints as endpoints
from resilio.integrations._shared.endpoints import Service, service_of
from resilio.integrations._shared.guarded_call import GuardedCall, gates_of
from resilio.integrations._shared.judges import HTTP
from resilio.integrations._shared.raised_in import module_of, ways_of
from resilio.integrations._shared.requests_body import RawBody
from resilio.integrations._shared.socket_time import BodyTimes, end_late, late_of
from resilio.integrations._shared.translate import as_answer, in_terms_of
from resilio.integrations._shared.upstream import Upstream, upstream
from resilio.integrations._shared.urllib3_time import narrowed, use_timed_connections

try:
    requests: Any = importlib.import_module("requests")
except ImportError as _error:
    raise missing("requests", "requests", _error) from _error
lower: Any = importlib.import_module("urllib3.exceptions")
exceptions: Any = requests.exceptions
_TIMEOUT_OF_LOWER: Any = importlib.import_module("urllib3").Timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from resilio._native.core import Held, Permit
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policy.base import Policy

__all__ = ["Adapter", "endpoint_of", "host"]

_BASE = ("requests.exceptions", "RequestException")
_TIMEOUT = ("requests.exceptions", "Timeout")
_LOCAL: tuple[type[BaseException], ...] = (
    exceptions.InvalidURL,
    exceptions.InvalidSchema,
    exceptions.UnrewindableBodyError,
)
_WIRE: tuple[type[BaseException], ...] = (OSError, lower.HTTPError, ResilienceError)  # requests' own are OSErrors
_NO_BODY = frozenset({204, 304})
_SESSION = StandIn(
    "requests.Session",
    heeds_time=True,
    hedge="Use a client that is async, like httpx.AsyncClient",
)


def host(request: Any) -> str:
    """
    Return the host of a request, with its port unless it is the scheme's default: `keyed(circuit_breaker, key=host)`.

    Args:
        request: A prepared request.
    """
    scheme, _, rest = str(request.url).partition("://")
    address = rest.partition("/")[0].partition("?")[0].rpartition("@")[2].lower()
    return address.removesuffix(":443" if scheme == "https" else ":80")


def endpoint_of(response: Any) -> Endpoint | None:
    """
    Return the endpoint of a pool that has sent a response; None if it came past the pool.

    Args:
        response: A `requests.Response`.
    """
    found: Endpoint | None = getattr(response, "_resilio_endpoint", None)
    return found


_TRANSLATIONS: tuple[tuple[Any, Any], ...] = (
    (lower.ProtocolError, exceptions.ChunkedEncodingError),
    (lower.DecodeError, exceptions.ContentDecodingError),
    (lower.SSLError, exceptions.SSLError),
    (lower.HTTPError, exceptions.ConnectionError),
)


def _translated(error: BaseException) -> BaseException:
    """Translate an error of urllib3 into that of requests, for which rules are written."""
    theirs: Any = next((make(error) for kind, make in _TRANSLATIONS if isinstance(error, kind)), error)
    return theirs  # type: ignore[no-any-return]


class _Body(RawBody):
    """The body of a response of requests."""

    __slots__ = ()

    @staticmethod
    def _translate(error: BaseException) -> BaseException:
        return _translated(error)

    @staticmethod
    def _in_terms(error: Exception) -> Exception:
        return _in_terms(error)


class Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]
    """An HTTPAdapter of requests whose requests go through a policy."""

    _has_timed_connections = False

    def __init__(
        self,
        policy: Policy[Any],
        *,
        on_reject: Literal["raise", "respond"] = "raise",
        idempotent: replay.Rule = None,
        send_deadline: bool | str = False,
        send_attempt: bool | str = False,
        origin: str | None = None,
        **options: Any,
    ) -> None:
        """
        Put a policy around an adapter.

        Args:
            policy: Any policy, pipeline, standard stack or keyed policy; `key` and cost functions get the prepared
                request. A standard stack is used without its hedge, which needs an event loop.
            on_reject: The form of a rejection. "raise": an exception that is also a RequestException. "respond": a 503
                (429 for rates, 504 for a deadline that has passed) with Retry-After.
            idempotent: The requests that retries may send again after they have reached the server: those of
                idempotent methods or with an `Idempotency-Key` (None), all (True), none (False), or those for which a
                function returns True.
            send_deadline: Send the time left in a header: True for `x-request-timeout`, or the header's name.
            send_attempt: Send the number of the attempt, 1 for the first: True for `x-envoy-attempt-count`, or the
                header's name.
            origin: The URL by which callers name the policy's pool, like "https://api.example.com": its requests go to
                endpoints, all others where they say. None: any URL with the pool's name as its host.
            options: Options of `requests.adapters.HTTPAdapter`. `max_retries` is set to 0, with a warning, if the
                policy retries: retries inside of retries multiply.

        Raises:
            TypeError: An option of a wrong type, or a policy that can guard only async calls.
            ValueError: An option out of range.
        """
        self._guard_by(policy, on_reject, idempotent, upstream(send_deadline, send_attempt), origin)
        super().__init__(**options)
        inner: Any = self.max_retries
        if self._repeats and inner.total:
            self.max_retries: Any = type(inner)(0, read=False)
            warnings.warn(
                "max_retries of the adapter is set to 0: the policy retries, and retries inside of retries multiply",
                RuntimeWarning,
                stacklevel=2,
            )

    def _guard_by(
        self, policy: Policy[Any], on_reject: Any, idempotent: replay.Rule, sends: Upstream | None, origin: str | None
    ) -> None:
        self._guarded = policy, on_reject, idempotent, sends, origin
        self._respond = choice("on_reject", on_reject, ("raise", "respond")) == "respond"
        self._idempotent = replay.checked(idempotent)
        self._header = sends
        self._call = self._elsewhere = GuardedCall(policy, self._hand_over, sync=_SESSION, judges=HTTP)
        self._service: Service | None = service_of(policy, origin)
        if self._service is not None:
            self._elsewhere = GuardedCall(policy, self._hand_over, sync=_SESSION, pooled=False, judges=HTTP)
            build: Any = getattr(self, "build_connection_pool_key_attributes", None)  # since requests 2.32.2
            self.build_connection_pool_key_attributes: Any = partial(endpoints.with_tls_name, build)
        self._label = f"a response of {policy.label}"
        self._repeats = bool(gates_of(policy, "retry"))
        self._is_usual = (self._service, sends, self._idempotent) == (None, None, None)
        self._times = BodyTimes(policy)
        self._limits_bodies = self._times.acts or not (self._call.holds and self._elsewhere.holds)
        self._send = self._call.send if self._service is None else self._send_to
        self._policy = policy

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy, the policy by name: sessions are copied, and sent to other processes."""
        return {**super().__getstate__(), "_guarded": self._guarded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy."""
        self._guard_by(*state["_guarded"])
        super().__setstate__(state)

    @property
    def policy(self) -> Policy[Any]:
        """The policy that all requests go through."""
        return self._policy

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        """Send a prepared request through the policy; its permits end with the body of the response."""
        try:
            return self._send(_Sending((self, stream, timeout, verify, cert, proxies)).attempt, request)
        except (RejectedError, DeadlineExceededError, CallTimeoutError) as error:
            return self._rejected(error, request)

    def _send_to(self, attempt: Callable[[Any], Any], request: Any) -> Any:
        """Send a request to an endpoint of the pool, or past it."""
        is_ours = self._service is not None and endpoints.is_for(self._service, request)
        return (self._call if is_ours else self._elsewhere).send(attempt, request)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Create the pools, of connections whose waits take no longer than the time left."""
        super().init_poolmanager(*args, **options)
        self._has_timed_connections = use_timed_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        """Return the pools of a proxy, with connections of the same kind."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not known:
            use_timed_connections(manager)
        return manager

    def _at_endpoint(self, request: Any, service: Service) -> Any:
        """Return the request for the endpoint that this attempt has picked; past the pool, the request itself."""
        if not endpoints.is_for(service, request):
            return request
        return endpoints.at(request, service.endpoint(self._call.pipe))

    def _hand_over(self, held: Held) -> None:
        """Put the permit of an answer into its body; end the permit of an attempt that has raised."""
        if held.error is not None:
            _settle(held.take(), held.error)
            return
        response = held.answer
        if response.status_code in _NO_BODY or response._content is not False:  # its maker has read it
            return
        permit = held.take()
        permit.answered(response)
        raw = response.raw
        if type(raw) is _Body:
            raw.add(permit)
        else:
            response.raw = _Body(raw, self._label, response.request, None, [permit])

    def _prepared(self, request: Any) -> tuple[Any, bool]:
        """Return a request as this attempt sends it, and whether it may be sent twice, whatever its outcome."""
        sent = request if self._service is None else self._at_endpoint(request, self._service)
        if self._header is not None:
            self._header.write(sent.headers)
        safe = replay.is_safe(self._idempotent, request, request.method, request.headers) and _is_replayable(request)
        _prepare(request, request.body, safe)
        return sent, safe

    def _veto(self, request: Any, subject: Any, safe: bool) -> None:
        """Forbid retries of a request that must not be sent twice, given its error or answer; else allow them."""
        safe = safe or (replay.may_repeat(subject) and _is_replayable(request))
        if safe and not (isinstance(subject, Exception) and _is_of_the_body(subject)):  # would fail again
            replay.allow(request)
        else:
            replay.forbid(subject)

    def _rejected(self, error: Exception, request: Any) -> Any:
        if not self._respond or isinstance(error, CallTimeoutError):
            translated: Any = in_terms_of(error, _BASE, _TIMEOUT)
            translated.request, translated.response = request, None
            raise translated from error.__cause__
        response: Any = requests.Response()
        response.status_code, headers = as_answer(error)
        response.headers.update(headers)
        response._content = str(error).encode()
        response.raw, response.url, response.request = io.BytesIO(), request.url, request
        response.resilio_rejection = error
        return response


class _Sending(tuple[Any, ...]):
    """The adapter and the options of a request: each attempt of the policy sends it once."""

    __slots__ = ()

    def attempt(self, request: Any) -> Any:
        """Send the request, for no longer than the time left, and return its response with a guarded body."""
        adapter: Adapter
        adapter, stream, timeout, verify, cert, proxies = self
        sent, safe = request, True
        is_plain = adapter._is_usual and request.body is None and request.method in replay.IDEMPOTENT
        if not is_plain:
            sent, safe = adapter._prepared(request)
        if not adapter._has_timed_connections:
            timeout = narrowed(timeout, _TIMEOUT_OF_LOWER)
        try:
            response = super(Adapter, adapter).send(sent, stream, timeout, verify, cert, proxies)
        except Exception as error:
            late = late_of(error)
            if late is None:
                adapter._veto(request, error, safe)
                raise
            shown = _in_terms(late)
            shown.__cause__ = error
            adapter._veto(request, shown, safe)
            raise shown from error
        if sent is not request:
            endpoints.answered(request, sent, response, requests.cookies.extract_cookies_to_jar)
        if adapter._limits_bodies:  # else `_hand_over` makes the body
            time = adapter._times.begin() if adapter._times.acts else None
            response.raw = _Body(response.raw, adapter._label, request, time, [])
        if adapter._repeats and not is_plain:
            adapter._veto(request, response, safe)
        return response


mark_as_heeding_time(_Sending.attempt, to_headers=True)


def _prepare(request: Any, body: Any, safe: bool) -> None:
    """Rewind a request's body, and forbid further attempts while it is read, unless it can be read again."""
    if request._body_position is not None:
        _rewind(request)
    if not safe or not isinstance(body, (bytes, str, type(None))):
        replay.forbid(request)  # in advance: a timeout around this abandons a thread, which may still read a file


def _in_terms(error: Exception) -> Exception:
    """Translate an error of resilio into the terms of requests."""
    return in_terms_of(error, _BASE, _TIMEOUT)


def _settle(permit: Permit, error: BaseException) -> None:
    """End the permit of an attempt that has raised; the caller's own errors, like one in a body, are no outcome."""
    if end_late(permit, error):
        return
    if isinstance(error, _LOCAL) or (isinstance(error, Exception) and not _is_of_the_wire(error)):
        permit.ignore()
    else:
        permit.raised(error)


def _is_of_the_wire(error: Exception) -> bool:
    """Return True if an error arose in the exchange with the server; a missing certificate raises a bare OSError."""
    if not isinstance(error, _WIRE) or (type(error) is OSError and error.errno is None):
        return False
    return not _is_of_the_body(error)


def _is_of_the_body(error: Exception) -> bool:
    """Return True if the source of a request's body raised an error: urllib3 raises it as one of the connection."""
    return any(map(_came_of_chunks, ways_of(error)))


def _came_of_chunks(frames: list[FrameType]) -> bool:
    for frame, inside in pairwise([*frames, None]):
        if frame is not None and frame.f_code.co_name == "request" and module_of(frame) == "urllib3.connection":
            if inside is None:  # an iterator in C; a body that is bytes is a tuple there, and cannot raise
                return not isinstance(frame.f_locals.get("chunks", ()), tuple)
            return module_of(inside) not in ("http.client", "urllib3.connection")
    return False


def _is_replayable(request: Any) -> bool:
    body = request.body
    if body is None or isinstance(body, (str, bytes)):
        return True
    return isinstance(request._body_position, int) and hasattr(body, "seek")


def _rewind(request: Any) -> None:
    """Rewind a file to its position at the creation of the request."""
    if isinstance(request._body_position, int) and hasattr(request.body, "seek"):
        request.body.seek(request._body_position)
