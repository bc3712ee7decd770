"""
Interceptors for grpc.aio: a policy around each call of a channel, and one in front of each method of a server.

Why: the continuation of an interceptor returns at once, with a call that has only begun. A guard around it would count
every call as an immediate success. When not: to guard several calls as a unit, decorate the function that makes them.
What it is not: grpcio's own retries (service config), which happen inside one call and count as a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from resilio._options.validators import function, reject
from resilio._policies.pool.chosen import pool_of
from resilio._policy.factory import makes
from resilio.integrations._grpc import threads
from resilio.integrations._grpc.channels import Channels, PoolChannel, connect
from resilio.integrations._grpc.client import Guarded, Outgoing, guards
from resilio.integrations._grpc.errors import (
    FAILING,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    codes,
    preset,
)
from resilio.integrations._grpc.exchange import hand_over
from resilio.integrations._grpc.lib import aio, grpc
from resilio.integrations._grpc.server import Incoming, ServerGuard, ServerOptions
from resilio.integrations._grpc.threads import SyncPoolChannel
from resilio.integrations._shared.guarded_call import GuardedCall, reject_clocks_alone
from resilio.integrations._shared.safely import safely
from resilio.integrations._shared.upstream import attempt_header

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policy.base import Policy

__all__ = [
    "FAILING",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "Incoming",
    "Outgoing",
    "OverloadedError",
    "RateLimitedError",
    "RejectedError",
    "channel",
    "interceptors",
    "method",
    "preset",
    "server_interceptor",
    "sync_channel",
]


def method(call: Outgoing | Incoming) -> str:
    """
    Return the full name of a call's method: `keyed(circuit_breaker, key=method)` has a breaker for each.

    Args:
        call: The call.
    """
    return call.method


def interceptors(
    policy: Policy[Any],
    *,
    failing: Iterable[Any] | None = FAILING,
    idempotent: Callable[[Outgoing], object] | bool = True,
    send_attempt: bool | str = False,
) -> list[Any]:
    """
    Return interceptors for all kinds of calls: `grpc.aio.insecure_channel(target, interceptors=interceptors(policy))`.

    The ambient deadline bounds a call's time, and is sent to the server. The permit is held until the call has ended. A
    stream that the caller drops is cancelled when it is collected, which ends its permit.

    Args:
        policy: Any policy; its key, cost and weight functions receive an :class:`Outgoing`. A call with a streamed
            request has one attempt.

        failing: Statuses that are failures for the policy's gates. CANCELLED is ignored; RESOURCE_EXHAUSTED, unless it
            is listed, and UNAVAILABLE with a pushback are refusals; all others are successes.
            None: the policy's own `on` judges the `grpc.aio.AioRpcError`, as it always does for retries.

        idempotent: Whether a call may be repeated, if the policy retries or hedges: True, False, or a function of the
            :class:`Outgoing`; a function that raises counts as False.

        send_attempt: Send the number of the attempt, 1 for the first, a hedge's copy counted too, in the metadata: True
            for `x-envoy-attempt-count`, or the key. gRPC keeps `grpc-previous-rpc-attempts` to itself.

    Raises:
        TypeError: An option of a wrong type.

        ValueError: `send_attempt` is not a valid key.
    """
    if pool_of(policy) is not None:
        reject(
            "policy", policy, "a policy without a pool: `channel(policy)` has a channel for each endpoint", TypeError
        )
    return guards(_guarded(policy, failing, idempotent, send_attempt))


def channel(
    policy: Policy[Any],
    connect: Callable[[Endpoint], Any] = connect,
    *,
    failing: Iterable[Any] | None = FAILING,
    idempotent: Callable[[Outgoing], object] | bool = True,
    send_attempt: bool | str = False,
) -> Any:  # grpcio has no types
    """
    Return a `grpc.aio.Channel` to a pool: `stub = SearchStub(channel(pipeline(retry(...), search)))`.

    Each call goes through the policy, and each attempt to the channel of the endpoint that it has picked. A stream
    keeps its endpoint, and its permit, to the end. Closing it closes the channels that were opened for it.

    Args:
        policy: A pool, or a pipeline with one.

        connect: Opens the `grpc.aio.Channel` of an endpoint, with its credentials and options. By default an insecure
            one to `endpoint.target`, without gRPC's own retries, which looks for a server that is gone every second. An
            endpoint whose `use` is a channel needs none; that channel stays open.

        failing: As for `interceptors`.

        idempotent: As for `interceptors`.

        send_attempt: As for `interceptors`.

    Raises:
        TypeError: An option of a wrong type, or a policy without a pool.

        ValueError: `send_attempt` is not a valid key.
    """
    guarded = _guarded(policy, failing, idempotent, send_attempt)
    return PoolChannel(guarded, _channels(policy, connect, aio.Channel))


def sync_channel(
    policy: Policy[Any],
    connect: Callable[[Endpoint], Any] = threads.connect,
    *,
    failing: Iterable[Any] | None = FAILING,
    idempotent: Callable[[Outgoing], object] | bool = True,
    send_attempt: bool | str = False,
) -> Any:  # grpcio has no types
    """
    Return a `grpc.Channel` to a pool, for threads: `stub = SearchStub(sync_channel(pipeline(retry(...), search)))`.

    Each attempt has no more time than timeouts and deadlines leave it. `future(...)` of a method is not available, and
    neither are hedges, which need an event loop.

    Args:
        policy: A pool, or a pipeline with one.

        connect: Opens the `grpc.Channel` of an endpoint; see :func:`channel`.

        failing: As for `interceptors`.

        idempotent: As for `interceptors`.

        send_attempt: As for `interceptors`.

    Raises:
        TypeError: An option of a wrong type, or a policy without a pool.

        ValueError: `send_attempt` is not a valid key.
    """
    guarded = _guarded(policy, failing, idempotent, send_attempt, sync=threads.CHANNEL)
    return SyncPoolChannel(guarded, _channels(policy, connect, grpc.Channel))


def _guarded(policy: Policy[Any], failing: Any, idempotent: Any, send_attempt: Any, *, sync: Any = None) -> Guarded:
    if not isinstance(idempotent, bool) and not callable(idempotent):
        reject("idempotent", idempotent, "True, False or a function of the call", TypeError)
    safe = safely("idempotent", idempotent, default=False) if callable(idempotent) else idempotent
    call = GuardedCall(policy, hand_over if sync is None else threads.hand_over_in_thread, sync=sync)
    guarded = Guarded(call, codes("failing", failing), safe, attempt_header(send_attempt))
    reject_clocks_alone(policy)
    return guarded


def _channels(policy: Policy[Any], connect: Callable[[Endpoint], Any], kind: Any) -> Channels:
    found = pool_of(policy)
    if found is None:
        reject("policy", policy, "a pool, or a pipeline with one; `interceptors(policy)` guard one channel", TypeError)
    return Channels(found, function("connect", connect, takes=("endpoint",)), kind)


@makes(ServerOptions)
def server_interceptor(options: ServerOptions, _: str | None) -> Any:
    """
    Return an interceptor that admits calls by a policy: `grpc.aio.server(interceptors=[server_interceptor(...)])`.

    A call is admitted before its handler runs, and holds its permit until its end. A rejected call is answered with
    RESOURCE_EXHAUSTED, or with UNAVAILABLE if a breaker is open or the pipeline drains, and `grpc-retry-pushback-ms`.
    The client's deadline is ambient in the handler, for its queues and guarded calls. If the timeout of a guarded call
    leaves the handler, the answer is DEADLINE_EXCEEDED.

    Args:
        policy: The policy that admits calls, made of gates: no retry, hedge, timeout or fallback. Its functions receive
            an :class:`Incoming`. None: `load_shed(name="grpc")`, which learns the server's capacity.

        failing: Statuses that are failures of a handler; an exception is judged by the policy's own `on`.

        exempt: Prefixes of full method names that are always served, in addition to health checks and reflection; or a
            function of the full name, which decides alone. None: no method is exempt.

        max_deadline: Upper bound, in seconds, on a call's time, also without a deadline; None: no bound.

        priority_header: The metadata with the call's priority ("critical", "standard", "sheddable", "background");
            None: not read.

        trust: Peers whose priorities are read: networks ("10.0.0.0/8"), a function of the `ServicerContext`, True or
            False.

    Raises:
        TypeError: An option of a wrong type, or a policy that would run a call again or interrupt it.

        ValueError: An option out of range.
    """
    return ServerGuard(options)
