"""
Interceptors for grpc.aio: a policy around each call of a channel, and one in front of each method of a server.

Why: the continuation of an interceptor returns at once, with a call that has only begun. A guard around it would count
every call as an immediate success. When not: to guard several calls as a unit, decorate the function that makes them.
What it is not: grpcio's own retries (service config), which happen inside one call and count as a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from resilio._options.validators import reject
from resilio._options.validators import seconds as checked_seconds
from resilio._policies.load_shed import load_shed
from resilio._policy.types import Time
from resilio.integrations._grpc.client import (
    Guarded,
    Outgoing,
    StreamStreamGuard,
    StreamUnaryGuard,
    UnaryStreamGuard,
    UnaryUnaryGuard,
)
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
from resilio.integrations._grpc.server import Incoming, ServerGuard
from resilio.integrations._servers.middleware import checked_policy
from resilio.integrations._shared.guarded_call import GuardedCall, reject_clocks_alone
from resilio.integrations._shared.headers import check_header_name
from resilio.integrations._shared.request import hand_over
from resilio.integrations._shared.safely import safely
from resilio.integrations._shared.trust import trust_of

if TYPE_CHECKING:
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
    "interceptors",
    "method",
    "preset",
    "server_interceptor",
]

HEALTH = ("/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha.")
"""Methods of health checks and reflection, which must be answered even under overload."""


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
) -> list[Any]:
    """
    Return interceptors for all kinds of calls: `grpc.aio.insecure_channel(target, interceptors=interceptors(policy))`.

    The ambient deadline bounds a call's time, and is sent to the server. The permit is held until the call has ended. A
    stream that the caller drops is cancelled when it is collected, which ends its permit.

    Args:
        policy: Any policy; its key, cost and weight functions receive an :class:`Outgoing`. A call with a streamed
            request has one attempt.

        failing: Statuses that are failures for the policy's gates. CANCELLED is ignored; all others are successes.
            None: the policy's own `on` judges the `grpc.aio.AioRpcError`, as it always does for retries.

        idempotent: Whether a call may be repeated, if the policy retries or hedges: True, False, or a function of the
            :class:`Outgoing`; a function that raises counts as False.

    Raises:
        TypeError: An option of a wrong type.
    """
    if not isinstance(idempotent, bool) and not callable(idempotent):
        reject("idempotent", idempotent, "True, False or a function of the call", TypeError)
    safe = safely("idempotent", idempotent, default=False) if callable(idempotent) else idempotent
    guarded = Guarded(GuardedCall(policy, hand_over), codes("failing", failing), safe)
    reject_clocks_alone(policy)
    kinds = (UnaryUnaryGuard, UnaryStreamGuard, StreamUnaryGuard, StreamStreamGuard)
    return [kind(guarded) for kind in kinds]


def server_interceptor(
    policy: Policy[Any] | None = None,
    *,
    failing: Iterable[Any] = FAILING,
    exempt: Iterable[str] | Callable[[str], object] | None = (),
    max_deadline: Time | None = None,
    priority_header: str | None = None,
    trust: bool | str | Iterable[str] | Callable[[Any], bool] = False,
) -> ServerGuard:
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
    return ServerGuard(
        checked_policy(load_shed(name="grpc") if policy is None else policy),
        failing=codes("failing", failing) or frozenset(),
        exempt=_exempt(exempt),
        max_deadline=checked_seconds("max_deadline", max_deadline, none_ok=True),
        priority_header=check_header_name("priority_header", priority_header, none_ok=True),
        trusts=trust_of("trust", trust, _address_of),
    )


def _exempt(value: Any) -> Callable[[str], object]:
    if callable(value):
        found: Callable[[str], object] = value
        return found
    if value is None:
        return lambda _: False
    prefixes = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not all(isinstance(one, str) and one.startswith("/") for one in prefixes):
        reject("exempt", value, "beginnings of full names, like ('/package.Service/',), a function, or None", TypeError)
    served = (*HEALTH, *prefixes)
    return lambda name: name.startswith(served)


def _address_of(context: Any) -> str | None:
    """Return the address of a peer like "ipv4:10.0.0.7:55555" or "ipv6:%5B::1%5D:55555"; None for other kinds."""
    family, _, rest = context.peer().partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    address, _, _ = rest.rpartition(":")
    return str(address.replace("%5B", "").replace("%5D", "").strip("[]"))
