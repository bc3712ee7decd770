"""What both transports of httpx and httpx2 share: their options, and the rules for a request and its answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from resilio._native.core import phase
from resilio._options.validators import choice
from resilio._support.client_target import StandIn
from resilio.errors import CallTimeoutError
from resilio.integrations._httpx import common, endpoints
from resilio.integrations._shared import replay
from resilio.integrations._shared.connecting import time_connects
from resilio.integrations._shared.endpoints import Service, service_of
from resilio.integrations._shared.guarded_call import GuardedCall, first_with, gates_of
from resilio.integrations._shared.judges import HTTP
from resilio.integrations._shared.socket_time import BodyTimes
from resilio.integrations._shared.translate import as_answer
from resilio.integrations._shared.upstream import upstream

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._native.core import Held, Permit
    from resilio._policy.base import Policy
    from resilio.integrations._httpx.common import Client

__all__ = ["GuardedTransport"]

_NO_BODY = frozenset({204, 304})
_UPGRADED = 101
_EMPTY = {"content-length": "0"}
OnReject = Literal["raise", "respond"]
Idempotent = replay.Rule


class _OneKind:
    """Base class of guarded transports: a client of the other kind, sync or async, gets an error that says so."""

    if not TYPE_CHECKING:  # for type checkers, an attribute that does not exist stays an error

        def __getattr__(self, name: str) -> Any:
            """Raise the AttributeError."""
            raise AttributeError(_missing(self, name), name=name, obj=self)


class GuardedTransport(_OneKind):
    """Base class of both transports: options, and the rules for a request and its answer."""

    _base: str
    _default: str
    _send_by: str
    _sync: bool
    _module: Client

    def __new__(cls, policy: Any, transport: Any = None, *, client: Any = None, **options: Any) -> Any:
        """Create a transport that is also an instance of the client's own base class."""
        del policy, options
        module = common.client_for(cls, transport, client)
        made: Any = object.__new__(_classes(cls, module))
        made._module = module
        return made

    def __init__(
        self,
        policy: Policy[Any],
        transport: Any = None,
        *,
        client: ModuleType | str | None = None,
        on_reject: OnReject = "raise",
        idempotent: Idempotent = None,
        send_deadline: bool | str = False,
        send_attempt: bool | str = False,
        origin: str | None = None,
        resume: Literal["range"] | None = None,
    ) -> None:
        """
        Put a policy around a transport.

        Args:
            policy: Any policy, pipeline, standard stack or keyed policy; `key` and cost functions get the request.
            transport: The transport inside, of httpx or httpx2; None: the client's own, with its defaults.
            client: `httpx` or `httpx2`; needed if both are imported and there is no transport that decides it.
            on_reject: The form of a rejection. "raise": an exception that is also the client's TransportError.
                "respond": a 503 (429 for rates, 504 for a deadline that has passed) with Retry-After and
                `x-should-retry: false`, for SDKs that would retry an exception.
            idempotent: The requests that retries and hedges may send again after they have reached the server: those
                of idempotent methods or with an `Idempotency-Key` (None), all (True), none (False), or those for which
                a function returns True.
            send_deadline: Send the time left in a header: True for `x-request-timeout`, or the header's name.
            send_attempt: Send the number of the attempt, 1 for the first, a hedge's copy counted too: True for
                `x-envoy-attempt-count`, or the header's name.
            origin: The URL by which callers name the policy's pool, like "https://api.example.com": its requests go to
                endpoints, all others where they say. None: any URL with the pool's name as its host.
            resume: What is done for a body that breaks off after its first byte. None: its reader gets the error.
                "range": a download with a strong ETag goes on by a range request, through the policy.

        Raises:
            TypeError: An option of a wrong type, an async transport in place of a sync one or vice versa, or a
                transport of neither client.
            ValueError: An option out of range.
            ImportError: Neither client is installed.
        """
        del client  # used by __new__
        self._respond = choice("on_reject", on_reject, ("raise", "respond")) == "respond"
        self._idempotent = replay.checked(idempotent)
        self._header = upstream(send_deadline, send_attempt)
        self._inner = getattr(self._module.module, self._default)() if transport is None else transport
        time_connects(self._inner, self._module.translated)
        self._request, self._bytes = self._module.module.Request, self._module.module.ByteStream
        sync = _client_of_threads(self._module.name) if self._sync else None
        self._call = self._unhedged = GuardedCall(policy, self._hand_over, sync=sync, judges=HTTP)
        if self._call.hedged:
            self._unhedged = GuardedCall(policy, self._hand_over, hedged=False, judges=HTTP)
        self._resumes = resume is not None and choice("resume", resume, ("range",)) == "range"
        self._service: Service | None = service_of(policy, origin)
        if self._service is not None:
            self._elsewhere = GuardedCall(policy, self._hand_over, sync=sync, hedged=False, pooled=False, judges=HTTP)
        self._repeats = bool(gates_of(policy, "retry"))
        clocks = gates_of(policy, "timeout")
        self._first, self._idle = first_with(clocks, "first"), first_with(clocks, "idle")
        self._policy, self._times = policy, BodyTimes(policy)
        self._body = self._body_of(policy.label)

    def _body_of(self, label: str) -> Any:
        """Return the class of the bodies of responses, which hold their permits to the end."""
        is_timed = self._times.acts if self._sync else self._idle is not None
        return self._module.body_of(self._base, self._idle, f"a response of {label}", is_timed=is_timed)

    @property
    def policy(self) -> Policy[Any]:
        """The policy that all requests go through."""
        return self._policy

    def _way(self, request: Any) -> GuardedCall:
        """Return the form of the policy for a request: with hedges or without, past its pool or not."""
        if self._service is not None and not self._is_pooled(request, self._service):
            return self._elsewhere
        return self._call if not self._call.hedged or self._hedges(request) else self._unhedged

    def _is_pooled(self, request: Any, service: Service) -> bool:
        url = request.url
        return service.has(url.scheme, url.host, url.port)

    def _at_endpoint(self, request: Any, service: Service) -> Any:
        """Return the request for the endpoint that this attempt has picked; past the pool, the request itself."""
        if not self._is_pooled(request, service):
            return request
        return endpoints.at(self._module, request, service.endpoint(self._call.pipe, self._unhedged.pipe))

    def _reject(self, request: Any) -> NoReturn:
        raise TypeError(
            f"this {type(self).__name__} is for {self._module.name}: it cannot serve a client of another module, "
            f"which has sent a {type(request).__module__}.{type(request).__qualname__}"
        )

    def _settle(self, permit: Permit, error: BaseException) -> None:
        """End the permit of an attempt that has raised: an error of the client's own making is no outcome."""
        if self._module.is_local(error):
            permit.ignore()
        else:
            permit.raised(error)

    def _once(self, request: Any) -> bool:
        """
        Forbid retries of a request that must not be sent twice, and return True if it is one.

        Before it is sent, because a timeout around the transport may end it.
        """
        if self._idempotent is None and request.method in replay.IDEMPOTENT and type(request.stream) is self._bytes:
            return False
        if self._is_safe(request) and self._module.is_replayable(request):
            return False
        replay.forbid(request)
        return True

    def _note_repeatable(self, request: Any, subject: Any) -> None:
        """Allow retries of such a request if its error or answer proves that it was not processed, else forbid them."""
        if replay.may_repeat(subject) and self._module.is_replayable(request):
            replay.allow(request)
        else:
            replay.forbid(subject)

    def _is_safe(self, request: Any) -> bool:
        return replay.is_safe(self._idempotent, request, request.method, request.headers)

    def _hedges(self, request: Any) -> bool:
        return self._is_safe(request) and self._module.is_replayable(request, at_once=True)

    def _hand_over(self, held: Held) -> None:
        """Let gates judge an answer by its headers, and put its permit into its body; on an error, end the permit."""
        if held.error is not None:
            self._settle(held.take(), held.error)
            return
        response = held.answer
        if response.is_closed:
            return
        body = response.extensions.get("resilio_held")
        if body is None and (body := self._around_body(None, response)) is None:  # a fallback's
            return
        permit = held.take()
        permit.answered(response)
        body.add(permit)

    def _around_body(self, request: Any, response: Any) -> Any:
        """
        Put the body of a response under guard, and return it; None if there is none.

        Args:
            request: The request of the response; None: unknown.

            response: The response, with its headers received.
        """
        phase("body")
        if _has_ended(response):
            return None
        is_empty = response.status_code == _UPGRADED or (request is not None and request.method == "HEAD")
        body = self._body(response.stream, _EMPTY if is_empty else response.headers)
        response.stream = response.extensions["resilio_held"] = body
        return body

    def _rejected(self, error: Exception, request: Any) -> Any:
        """Return the answer that stands for a rejection, or raise the rejection in the client's terms."""
        if not self._respond or isinstance(error, CallTimeoutError):
            translated = self._translated(error, request)
            raise translated from translated.__cause__
        status, headers = as_answer(error)
        text, extensions = str(error).encode(), {"resilio_rejection": error}
        return self._module.module.Response(status, headers=headers, content=text, extensions=extensions)

    def _translated(self, error: Exception, request: Any) -> Exception:
        """Translate an error of resilio into the client's terms, with its request."""
        translated: Any = self._module.translated(error)
        translated.request = request
        return translated  # type: ignore[no-any-return]


def _missing(transport: Any, name: str) -> str:
    of = type(transport).__name__
    if name not in ("__aenter__", "__enter__", "aclose", "close", "handle_async_request", "handle_request"):
        return f"{of!r} object has no attribute {name!r}"
    needs, other = ("Transport", "Client") if of == "AsyncTransport" else ("AsyncTransport", "AsyncClient")
    client = f"{transport._module.name}.{other}"
    return f"{of} has no {name}, which {client} calls: give {client} a transport of its kind, {needs}(policy)"


def _has_ended(response: Any) -> bool:
    """Return True if a response has no body to read."""
    return bool(response.is_closed) or response.status_code in _NO_BODY


@cache
def _client_of_threads(module: str) -> StandIn:
    """Return the placeholder for the requests of a Client in error messages."""
    return StandIn(f"{module}.Client", heeds_time=True, hedge=f"Use {module}.AsyncClient with AsyncTransport")


@cache
def _class_for(cls: Any, module: Client) -> type[Any]:
    base = getattr(module.module, cls._base)
    return cls if issubclass(cls, base) else type(cls.__name__, (cls, base), {"__module__": cls.__module__})


_classes: Callable[..., type[Any]] = _class_for  # checkers doubt that classes are hashable, as a cache requires
