"""
The way of a request through a policy, with permits that outlive it.

A call drives strategies and gates as one; a permit ends with the call then. Here it has to end with the body, so the
stages are taken apart: each run of strategies is a call, each run of gates gives a permit, which is put with the
answer. Strategies judge an attempt by its headers, gates hold on to the end of the body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from resilio._config import refuse
from resilio._native import core
from resilio._policy import Policy
from resilio.integrations import _body

if TYPE_CHECKING:
    from resilio._native.core import Gate, Permit

__all__ = ["Way", "gates_of", "one_of", "segments_of"]

Attach = Callable[[Any, "Permit"], None]
Send = Callable[[Any], Any]
Asend = Callable[[Any], Awaitable[Any]]


class Way:
    """What a policy is to the requests of one client: made once, then bound to what sends them."""

    __slots__ = ("_attach", "_local", "_segments", "_unhedged", "policy")

    def __init__(
        self, policy: Policy[Any], attach: Attach, *, local: tuple[type[BaseException], ...] = (), sync: bool = False
    ) -> None:
        """
        Take a policy apart.

        Args:
            policy: Any policy, pipeline, standard stack or keyed policy; `key` and cost functions get the request.

            attach: Puts a permit with an answer, which has been judged by its headers: until the body has ended.

            local: Errors of the client's own making: nothing was sent, so the dependency is not to blame.

            sync: Whether requests are sent by threads. A standard stack then leaves out what needs an event loop.

        Raises:
            TypeError: No policy, or one that cannot guard such requests.
        """
        if not isinstance(policy, Policy):
            refuse("policy", policy, "a policy, like `circuit_breaker()` or `standard(...)`", TypeError)
        self.policy = policy
        self._attach = attach
        self._local = local
        gates = tuple(policy._fit("sync", _request).gates if sync else policy.gates)
        self._segments = segments_of(gates)
        self._unhedged = segments_of(gate for gate in gates if one_of(gate).kind != "hedge")

    def abind(self, send: Asend, *, hedged: bool = True) -> Asend:
        """Return what sends a request through the policy by `send`, which returns when the headers are here."""
        for is_strategy, pipeline in reversed(self._segments if hedged else self._unhedged):
            send = partial(_acall(pipeline), send) if is_strategy else self._aheld(pipeline, send)
        return send

    def bind(self, send: Send) -> Send:
        """Return the same for threads."""
        for is_strategy, pipeline in reversed(self._unhedged):
            send = partial(_call(pipeline), send) if is_strategy else self._held(pipeline, send)
        return send

    def _aheld(self, pipeline: core.Pipeline, send: Asend) -> Asend:
        acquire, attach, settle, untold = pipeline.aacquire, self._attach, self.settle, _body.untold

        async def through(request: Any) -> Any:
            if untold():
                _body.tell()
            permit = await acquire(request)
            try:
                answer = await send(request)
            except BaseException as error:
                settle(permit, error)
                raise
            permit.answered(answer)
            attach(answer, permit)
            return answer

        return through

    def _held(self, pipeline: core.Pipeline, send: Send) -> Send:
        acquire, attach, settle, untold = pipeline.acquire, self._attach, self.settle, _body.untold

        def through(request: Any) -> Any:
            if untold():
                _body.tell()
            permit = acquire(request)
            try:
                answer = send(request)
            except BaseException as error:
                settle(permit, error)
                raise
            permit.answered(answer)
            attach(answer, permit)
            return answer

        return through

    @property
    def only_gates(self) -> Callable[[Any], Awaitable[Permit]] | None:
        """What gives the one permit of a request, where the policy has no strategies; else None."""
        if len(self._segments) != 1 or self._segments[0][0]:
            return None
        return self._segments[0][1].aacquire

    def settle(self, permit: Permit, error: BaseException) -> None:
        """End the permit of a request that was never answered, as its gates judge `error`."""
        if isinstance(error, self._local):
            permit.ignore()
        else:
            permit.raised(error)


def _acall(pipeline: core.Pipeline) -> Callable[..., Awaitable[Any]]:
    return pipeline.acall


def _call(pipeline: core.Pipeline) -> Callable[..., Any]:
    return pipeline.call


def _request(request: Any) -> Any:
    """Stand for a function of a request, where a policy asks what it guards."""
    return request


def segments_of(gates: Iterable[Gate]) -> tuple[tuple[bool, core.Pipeline], ...]:
    """Return neighbouring strategies (True) and neighbouring gates (False) as a pipeline each, outermost first."""
    return tuple((is_strategy, core.Pipeline(tuple(run))) for is_strategy, run in groupby(gates, _is_strategy))


def _is_strategy(gate: Gate) -> bool:
    return any(hasattr(one_of(gate), method) for method in ("stream", "astream", "run", "arun"))


def one_of(gate: Any) -> Gate:
    """Return the gate, or of a keyed policy's stage the one that keys share: all are of one kind."""
    shown: Gate = gate.table.overflow.gates[gate.index] if hasattr(gate, "table") else gate
    return shown


def gates_of(policy: Policy[Any], kind: str) -> list[Any]:
    """Return the policy's stages of one kind."""
    return [gate for gate in map(one_of, policy.gates) if gate.kind == kind]
