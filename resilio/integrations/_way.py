"""
The way of a request through a policy, with permits that outlive it: the one place where clients meet policies.

A native call drives strategies and gates as one, and what it holds ends with it. A client's call returns with the
headers; what comes then takes most of the time, and may fail. So gates are left otherwise: each run of neighbouring
ones gives one permit, which the client puts with the answer, until its body has ended. Strategies judge an attempt by
its headers, gates hold on to the end. In event loops that is one native call; for threads a policy is taken apart.

What differs from client to client is a `Sender`: how a request is sent, how a permit is put with an answer, and what an
error says. Where nothing of a request has to be remembered for that, it is made of functions (`SenderOf`); else each
request has an `Exchange` (`_exchange.py`). What holds the permits is in `_body.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from resilio._config import refuse
from resilio._native import core
from resilio._policy import Policy
from resilio._stand_in import mark_as_heeding_time
from resilio.integrations._body import tell, untold

if TYPE_CHECKING:
    from resilio._native.core import Gate, Permit
    from resilio._stand_in import StandIn
    from resilio.integrations._judges import Judges

__all__ = ["Sender", "SenderOf", "Way", "first_with", "gates_of", "one_of", "refuse_clocks_alone"]

Send = Callable[["Sender", Any], Any]
"""Sends a request by a sender. What it returns is awaited, but for threads."""


class Sender(Protocol):
    """What a client is to a policy."""

    @property
    def attempt(self) -> Callable[[Any], Any]:
        """Sends a request once, and returns the answer when its headers are here; awaited, but for threads."""
        ...

    @property
    def leases(self) -> Any:
        """None as long as nothing is to be held of its answer, which is whole: then `hold` is not asked."""
        ...

    @property
    def hold(self) -> Callable[[Permit, Any], None]:
        """Has the gates judge an answer by what there is of it, and puts their permit with it until it has ended."""
        ...

    @property
    def settle(self) -> Callable[[Permit, BaseException], None]:
        """Ends the permit of an attempt that has raised."""
        ...


@attrs.frozen
class SenderOf:
    """A sender made of functions."""

    attempt: Callable[[Any], Any]
    hold: Callable[[Permit, Any], None]
    settle: Callable[[Permit, BaseException], None]
    leases: Any = attrs.field(default=(), init=False)


class Way:
    """A policy taken apart: made once for a client, then bound to what sends its requests."""

    __slots__ = ("acquire", "begin", "hedged", "pipeline", "policy", "replays", "send_now")

    def __init__(
        self,
        policy: Policy[Any],
        *,
        sync: StandIn | None = None,
        hedged: bool = True,
        judges: Judges | None = None,
    ) -> None:
        """
        Take a policy apart.

        Args:
            policy: Any policy, pipeline, standard stack or keyed policy; `key` and cost functions get the request.

            sync: What stands for the client, where requests are sent by threads: a standard stack then leaves out what
                needs an event loop. None: they are awaited.

            hedged: Whether its hedges are wanted; they are left out for threads.

            judges: What the client's answers say, to policies that were not given a rule of their own; None: nothing.

        Raises:
            TypeError: No policy, or one that cannot guard such requests.

        Attributes:
            policy: The policy.

            hedged: Whether it may send copies of a request.

            replays: Whether it has strategies at all.

            acquire: Gives the one permit of a request, where it has not: for the client to be quick; else None.

            begin: Begins to, as `Pipeline._begin` does: not for threads.

            pipeline: Its gates, for native calls whose permits outlive them: not for threads.

            send_now: Sends as `send` does, for who has told the log what there is to tell.
        """
        if not isinstance(policy, Policy):
            refuse("policy", policy, "a policy, like `circuit_breaker()` or `standard(...)`", TypeError)
        gates = tuple(policy.gates if sync is None else policy._fit("sync", sync).gates)
        if sync is not None or not hedged:
            gates = tuple(gate for gate in gates if not _is_hedge(gate))
        runs = _runs_of(gates, judges)
        self.policy = policy
        self.hedged = any(map(_is_hedge, gates))
        self.replays = any(acts for acts, _ in runs)
        self.acquire: Callable[[Any], Any] | None = None
        self.begin: Callable[[Any], Any] | None = None
        if runs and not self.replays:
            only = runs[0][1]
            self.acquire = only.aacquire if sync is None else only.acquire
            self.begin = only._begin if sync is None else None
        self.pipeline = core.Pipeline(gates, holds=True, judges=judges)
        self.send_now: Send = self.pipeline._send if sync is None else _composed(runs)

    def send(self, sender: Sender, request: Any) -> Any:
        """Send a request through the policy; awaited, but for threads."""
        if untold():
            tell()
        return self.send_now(sender, request)

    def by(self, sender: Sender) -> Callable[[Any], Any]:
        """Return what sends a request through the policy; awaited, but for threads."""
        return partial(self.send, sender)


def _composed(runs: Iterable[tuple[bool, core.Pipeline]]) -> Send:
    """Return what sends by threads: neighbouring strategies are one call each, neighbouring gates give one permit."""
    send: Send = _attempt
    for acts, pipeline in reversed([*runs]):
        send = _strategies(pipeline, send) if acts else _gates(pipeline.acquire, send)
    return send


def _attempt(sender: Sender, request: Any) -> Any:
    return sender.attempt(request)


def _strategies(pipeline: core.Pipeline, inside: Send) -> Send:
    call, timed = pipeline.call, any(one_of(gate).kind == "timeout" for gate in pipeline.gates)

    def through(sender: Sender, request: Any) -> Any:
        def rest(request: Any) -> Any:  # a function: whether it is a coroutine function is seen at once
            return inside(sender, request)

        return call(mark_as_heeding_time(rest, to_headers=True) if timed else rest, request)

    return through


def _gates(acquire: Callable[[Any], Permit], inside: Send) -> Send:
    def through(sender: Sender, request: Any) -> Any:
        permit = acquire(request)
        try:
            answer = inside(sender, request)
        except BaseException as error:
            sender.settle(permit, error)
            raise
        sender.hold(permit, answer)
        return answer

    return through


def _runs_of(gates: Iterable[Gate], judges: Judges | None) -> tuple[tuple[bool, core.Pipeline], ...]:
    """Return neighbouring strategies (True) and neighbouring gates (False) as a pipeline each, outermost first."""
    runs = groupby(gates, _is_strategy)
    return tuple((acts, core.Pipeline(tuple(run), judges=judges)) for acts, run in runs)


def _is_strategy(gate: Gate) -> bool:
    return any(hasattr(one_of(gate), method) for method in ("stream", "astream", "run", "arun"))


def _is_hedge(gate: Gate) -> bool:
    return one_of(gate).kind == "hedge"


def one_of(gate: Any) -> Gate:
    """Return the gate, or of a keyed policy's stage the one that keys share: all are of one kind."""
    shown: Gate = gate.table.overflow.gates[gate.index] if hasattr(gate, "table") else gate
    return shown


def gates_of(policy: Policy[Any], kind: str) -> list[Any]:
    """Return the policy's stages of one kind."""
    return [gate for gate in map(one_of, policy.gates) if gate.kind == kind]


def first_with(gates: list[Any], clock: str) -> Any:
    """Return the first of these stages that has such a clock, "first" or "idle"; None if none has."""
    return next((gate for gate in gates if getattr(gate, clock) is not None), None)


def refuse_clocks_alone(policy: Policy[Any]) -> None:
    """
    Refuse timeouts that would limit nothing, for clients whose answers are not timed part by part.

    Args:
        policy: Checked.

    Raises:
        TypeError: One that has `first` or `idle`, and no `total`.
    """
    if any(gate.total is None for gate in gates_of(policy, "timeout")):
        raise TypeError("`first` and `idle` of a timeout do not limit calls of this client: give `total`")
