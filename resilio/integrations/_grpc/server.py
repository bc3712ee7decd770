"""A server interceptor: a policy admits each call, which holds its permit until its end, or rejects it at once."""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from resilio._context.priority import priority
from resilio._options.fields import option, record
from resilio._options.validators import reject
from resilio._policies.deadline import deadline
from resilio._policies.load_shed import load_shed
from resilio._policy.base import Policy
from resilio._policy.types import Converted
from resilio._support.random_seed import seed64
from resilio.errors import CallTimeoutError, CircuitOpenError, DeadlineExceededError, RejectedError
from resilio.integrations._grpc.errors import FAILING, PUSHBACK, codes
from resilio.integrations._grpc.lib import Code, aio, grpc
from resilio.integrations._shared.headers import note_ignored, read_priority
from resilio.integrations._shared.server_options import HintOptions, policy_or_none
from resilio.integrations._shared.trust import trust_of

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Incoming", "ServerGuard", "ServerOptions"]

Behavior = Callable[[Any, Any], Any]
_LATE = (CallTimeoutError, DeadlineExceededError)
_REJECTIONS = (RejectedError, *_LATE)
HEALTH = ("/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha.")
"""Methods of health checks and reflection, which must be answered even under overload."""

_BY_NUMBER = {code.value[0]: code for code in Code}
_random = random.Random(seed64())  # noqa: S311 - spreads clients, keeps no secret


class Incoming:
    """
    A call as key, tenant, cost and weight functions see it.

    Attributes:
        method: Full name of the method, "/package.Service/Method".

        context: The `grpc.aio.ServicerContext`: `peer()`, `invocation_metadata()`, ...
    """

    __slots__ = ("context", "method")

    def __init__(self, method: str, context: Any) -> None:
        """Describe a call."""
        self.method: str = method
        self.context: Any = context


def _exempt(name: str, value: Any) -> Callable[[str], object]:
    """Return the function that returns True for methods that are always served, by their full names."""
    if callable(value):
        found: Callable[[str], object] = value
        return found
    if value is None:
        return lambda _: False
    prefixes = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not all(isinstance(one, str) and one.startswith("/") for one in prefixes):
        reject(name, value, "beginnings of full names, like ('/package.Service/',), a function, or None", TypeError)
    served = (*HEALTH, *prefixes)
    return lambda method: method.startswith(served)


def _failing(name: str, value: Any) -> frozenset[Any]:
    return codes(name, value) or frozenset()


Exempt = Converted[Iterable[str] | Callable[[str], object] | None, Callable[[str], object]]
Failing = Converted[Iterable[Any], frozenset[Any]]


@record
class ServerOptions(HintOptions):
    """The options of a server's interceptor, checked; :func:`resilio.integrations.grpc.server_interceptor` has each."""

    policy: Policy[Any] | None = option(policy_or_none, default=None, kw_only=False)
    failing: Failing = option(_failing, default=FAILING)
    exempt: Exempt = option(_exempt, default=())


class ServerGuard(aio.ServerInterceptor):  # type: ignore[misc]
    """Admits calls of a server by a policy; see :func:`resilio.integrations.grpc.server_interceptor`."""

    def __init__(self, options: ServerOptions) -> None:
        """Serve by these options."""
        self.policy = options.policy or load_shed(name="grpc")
        self._options = options
        self._trusts = trust_of("trust", options.trust, _address_of)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Put the policy around the call's handler."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or self._options.exempt(method):
            return handler
        return _rewrapped(handler, lambda behavior: self._around(behavior, method))

    def _around(self, behavior: Behavior, method: str) -> Behavior:
        runs = behavior if inspect.isroutine(behavior) else type(behavior).__call__
        for is_kind, wrap in _KINDS:
            if is_kind(behavior) or is_kind(runs):
                return wrap(self, behavior, method)
        return _sync(self, behavior, method)

    # ---- deadline and priority of a call

    def time(self, context: Any) -> AbstractContextManager[object]:
        """Return a block with the call's deadline; grpcio itself cancels calls that exceed it."""
        left, most = context.time_remaining(), self._options.max_deadline
        if most is not None and (left is None or left > most):
            left = most
        return nullcontext() if left is None else deadline(max(0.0, left))

    def rank(self, context: Any) -> AbstractContextManager[object]:
        """Return a block with the priority from the call's metadata, if its peer is trusted."""
        name = self._options.priority_header
        if name is None:
            return nullcontext()
        values = [value for key, value in context.invocation_metadata() or () if key == name]
        if values and not self._trusts(context):
            note_ignored("priority", "untrusted")
            return nullcontext()
        level = read_priority(values)
        return nullcontext() if level is None else priority(level)

    # ---- end of a call

    @contextmanager
    def serving(self, permit: Permit, context: Any) -> Iterator[None]:
        """Return a block around the serving of a call; its end ends the permit."""
        try:
            yield
        except BaseException as error:
            self.ended(permit, context, error)
            raise
        self.ended(permit, context)

    def ended(self, permit: Permit, context: Any, error: BaseException | None = None) -> None:
        """Settle a call by its status if it has one, else by its exception."""
        if permit.ended:
            return
        status = _status_of(context)
        if isinstance(error, Exception) and (status is None or not isinstance(error, aio.AbortError)):
            permit.raised(error)
        elif error is not None and not isinstance(error, Exception):
            permit.raised(error)  # cancelled: the client has left, or its time is up
        elif status is Code.RESOURCE_EXHAUSTED and status not in self._options.failing:
            permit.refused(error)
        elif status in self._options.failing:
            permit.failure(error)
        else:
            permit.success()


def _address_of(context: Any) -> str | None:
    """Return the address of a peer like "ipv4:10.0.0.7:55555" or "ipv6:%5B::1%5D:55555"; None for other kinds."""
    family, _, rest = context.peer().partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    address, _, _ = rest.rpartition(":")
    return str(address.replace("%5B", "").replace("%5D", "").strip("[]"))


def _status_of(context: Any) -> Any:
    """Return the status set so far, or None; the context of a handler in a thread wraps another one."""
    ask = getattr(context, "code", None) or getattr(getattr(context, "_context", None), "code", None)
    code = None if ask is None else ask()
    return _BY_NUMBER.get(code) if isinstance(code, int) else code


def answer_of(error: Exception) -> tuple[Any, str, tuple[tuple[str, str], ...]]:
    """Return status, text and trailing metadata of a rejection; its pushback is spread at random."""
    if isinstance(error, _LATE):
        return Code.DEADLINE_EXCEEDED, str(error), ()
    gone = isinstance(error, CircuitOpenError) or getattr(error, "reason", None) in ("draining", "drained")
    after = getattr(error, "retry_after", None) or 1.0
    spread = after * (1.0 + 0.5 * _random.random())
    pushback = ((PUSHBACK, str(max(1, round(spread * 1e3)))),)
    return Code.UNAVAILABLE if gone else Code.RESOURCE_EXHAUSTED, str(error), pushback


# A rejection comes after grpcio has received the message of a call with one request: only then is the deadline known,
# which queues ask for. `grpc-timeout` needs no trust: a short one harms its sender, `max_deadline` bounds a long one.


def _coroutine(guard: ServerGuard, behavior: Behavior, method: str) -> Behavior:
    async def serve(request: Any, context: Any) -> Any:
        try:
            with guard.time(context), guard.rank(context):
                permit = await guard.policy.aacquire(Incoming(method, context))
                with guard.serving(permit, context):
                    return await behavior(request, context)
        except _REJECTIONS as rejection:
            await context.abort(*answer_of(rejection))

    return serve


def _async_generator(guard: ServerGuard, behavior: Behavior, method: str) -> Behavior:
    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            with guard.time(context), guard.rank(context):
                permit = await guard.policy.aacquire(Incoming(method, context))
                with guard.serving(permit, context):
                    async for message in behavior(request, context):
                        permit.first_item()
                        yield message
        except _REJECTIONS as rejection:
            await context.abort(*answer_of(rejection))

    return serve


def _sync(guard: ServerGuard, behavior: Behavior, method: str) -> Behavior:
    """Wrap a handler that runs in one of grpcio's threads, which a wait for a permit blocks."""

    def serve(request: Any, context: Any) -> Any:
        try:
            with guard.time(context), guard.rank(context):
                permit = guard.policy.acquire(Incoming(method, context))
                with guard.serving(permit, context):
                    return behavior(request, context)
        except _REJECTIONS as rejection:
            context.abort(*answer_of(rejection))

    return serve


def _generator(guard: ServerGuard, behavior: Behavior, method: str) -> Behavior:
    def serve(request: Any, context: Any) -> Iterator[Any]:
        try:
            with guard.time(context), guard.rank(context):
                permit = guard.policy.acquire(Incoming(method, context))
                with guard.serving(permit, context):
                    for message in behavior(request, context):
                        permit.first_item()
                        yield message
        except _REJECTIONS as rejection:
            context.abort(*answer_of(rejection))

    return serve


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[ServerGuard, Behavior, str], Behavior]], ...] = (
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
)


def _rewrapped(handler: Any, around: Callable[[Behavior], Behavior]) -> Any:
    """Return a handler of the same kind, with its function wrapped by `around`."""
    kind = ("stream" if handler.request_streaming else "unary", "stream" if handler.response_streaming else "unary")
    name = "_".join(kind)
    make = getattr(grpc, f"{name}_rpc_method_handler")
    behavior = around(getattr(handler, name))
    return make(
        behavior, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )
