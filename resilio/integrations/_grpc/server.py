"""A server interceptor: a policy admits each call, which holds its permit until its end, or rejects it at once."""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from resilio._context.priority import priority
from resilio._policies.deadline import deadline
from resilio._support.random_seed import seed64
from resilio.errors import CallTimeoutError, CircuitOpenError, DeadlineExceededError, RejectedError
from resilio.integrations._grpc.errors import PUSHBACK
from resilio.integrations._grpc.lib import Code, aio, grpc
from resilio.integrations._shared.headers import note_ignored, read_priority

if TYPE_CHECKING:
    from resilio._native.core import Permit
    from resilio._policy.base import Policy

__all__ = ["Incoming", "ServerGuard"]

Behavior = Callable[[Any, Any], Any]
_LATE = (CallTimeoutError, DeadlineExceededError)
_REJECTIONS = (RejectedError, *_LATE)
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
        self.method = method
        self.context = context


class ServerGuard(aio.ServerInterceptor):  # type: ignore[misc]
    """Admits calls of a server by a policy; see :func:`resilio.integrations.grpc.server_interceptor`."""

    def __init__(
        self,
        policy: Policy[Any],
        *,
        failing: frozenset[Any],
        exempt: Callable[[str], object],
        max_deadline: float | None,
        priority_header: str | None,
        trusts: Callable[[Any], bool],
    ) -> None:
        """Keep the checked options."""
        self.policy = policy
        self._failing = failing
        self._exempt = exempt
        self._max_deadline = max_deadline
        self._priority_header = priority_header
        self._trusts = trusts

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Put the policy around the call's handler."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or self._exempt(method):
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
        left = context.time_remaining()
        if self._max_deadline is not None and (left is None or left > self._max_deadline):
            left = self._max_deadline
        return nullcontext() if left is None else deadline(max(0.0, left))

    def rank(self, context: Any) -> AbstractContextManager[object]:
        """Return a block with the priority from the call's metadata, if its peer is trusted."""
        name = self._priority_header
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
        elif status in self._failing:
            permit.failure(error)
        else:
            permit.success()


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
