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
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from resilio._native.core import seconds_left
from resilio._options.validators import choice
from resilio._support.client_target import StandIn, mark_as_heeding_time
from resilio._support.extras import missing
from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError, ResilienceError
from resilio.integrations._shared import replay
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
    from types import FrameType

    from resilio._native.core import Held, Permit
    from resilio._policy.base import Policy

__all__ = ["Adapter", "host"]

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
            options: Options of `requests.adapters.HTTPAdapter`. `max_retries` is set to 0, with a warning, if the
                policy retries: retries inside of retries multiply.

        Raises:
            TypeError: An option of a wrong type, or a policy that can guard only async calls.
            ValueError: An option out of range.
        """
        self._guard_by(policy, on_reject, idempotent, upstream(send_deadline, send_attempt))
        super().__init__(**options)
        inner: Any = self.max_retries
        if self._repeats and inner.total:
            self.max_retries: Any = type(inner)(0, read=False)
            warnings.warn(
                "max_retries of the adapter is set to 0: the policy retries, and retries inside of retries multiply",
                RuntimeWarning,
                stacklevel=2,
            )

    def _guard_by(self, policy: Policy[Any], on_reject: Any, idempotent: replay.Rule, sends: Upstream | None) -> None:
        self._guarded = policy, on_reject, idempotent, sends
        self._respond = choice("on_reject", on_reject, ("raise", "respond")) == "respond"
        self._idempotent = replay.checked(idempotent)
        self._header = sends
        self._call = GuardedCall(policy, self._hand_over, sync=_SESSION, judges=HTTP)
        self._label = f"a response of {policy.label}"
        self._repeats = bool(gates_of(policy, "retry"))
        self._times = BodyTimes(policy)
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

        def attempt(request: Any) -> Any:
            return self._send_once(request, stream, timeout, verify, cert, proxies)

        try:
            return self._call.send(mark_as_heeding_time(attempt, to_headers=True), request)
        except (RejectedError, DeadlineExceededError, CallTimeoutError) as error:
            return self._rejected(error, request)

    def _send_on(self, request: Any, stream: bool, timeout: Any, *options: Any) -> Any:
        """Send a request as requests does, for no longer than the time left."""
        if seconds_left() is None:
            return super().send(request, stream, timeout, *options)
        try:
            given = timeout if self._has_timed_connections else narrowed(timeout, _TIMEOUT_OF_LOWER)
            return super().send(request, stream, given, *options)
        except Exception as error:
            late = late_of(error)
            if late is None:
                raise
            raise _in_terms(late) from error

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

    def _send_once(self, request: Any, *options: Any) -> Any:
        if self._header is not None:
            self._header.write(request.headers)
        if request._body_position is not None:
            _rewind(request)
        if not self._may_repeat(request) or not isinstance(request.body, (bytes, str, type(None))):
            replay.forbid(request)  # in advance: a timeout around this abandons a thread, which may still read a file
        try:
            response = self._send_on(request, *options)
        except Exception as error:
            self._veto(request, error)
            raise
        response.raw = RawBody(response.raw, self._label, request, _translated, _in_terms)
        response.raw.begin(self._times)
        if self._repeats:
            self._veto(request, response)
        return response

    def _hand_over(self, held: Held) -> None:
        """Put the permit of an answer into its body; end the permit of an attempt that has raised."""
        if held.error is not None:
            _settle(held.take(), held.error)
            return
        response = held.answer
        if response.status_code in _NO_BODY or response._content is not False:  # its maker has read it
            return
        if not isinstance(response.raw, RawBody):  # a fallback's
            response.raw = RawBody(response.raw, self._label, None, _translated, _in_terms)
        permit = held.take()
        permit.answered(response)
        response.raw.add(permit)

    def _may_repeat(self, request: Any) -> bool:
        """Return True if a request may be sent twice, whatever its outcome."""
        if self._idempotent is None and request.method in replay.IDEMPOTENT and request.body is None:
            return True
        safe = replay.is_safe(self._idempotent, request, request.method, request.headers)
        return safe and _is_replayable(request)

    def _veto(self, request: Any, subject: Any) -> None:
        """Forbid retries of a request that must not be sent twice, given its error or answer; else allow them."""
        safe = self._may_repeat(request) or (replay.may_repeat(subject) and _is_replayable(request))
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
