"""One policy on the page: a description made once, and fields that are sent only when they change."""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from resilio._composition.keyed import Keyed
from resilio._native.keyed import KeyedGate, News, Sums
from resilio._policies.spend_limit.policy import SpendLimit
from resilio.live._journal import Past

if TYPE_CHECKING:
    from resilio._native.core import Gate
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.base import Policy

__all__ = ["OPERATIONS", "Row", "counted", "operations_of"]

OPERATIONS = ("force_open", "half_open", "force_closed", "disable", "reset", "resume", "reconfigure")
"""Operations, each the name of a method that some policies have."""

_COSTLY_NS = 1_000_000  # processor time; a row that takes longer to read is read less often
_SELDOM = 30  # maximum number of readings that a costly row skips

Fields = dict[str, Any]


def operations_of(policy: Policy[Any]) -> list[str]:
    """Return the operations that this policy supports, in the order of `OPERATIONS`."""
    no_options = policy.kind == "pipeline"
    return [
        name
        for name in OPERATIONS
        if callable(getattr(policy, name, None)) and not (name == "reconfigure" and no_options)
    ]


class Row:
    """
    Fields of one policy as last read; it does not keep the policy alive.

    Args:
        ident: Id of the policy in this process.

        policy: The policy.

        past: Its history in the journal.
    """

    __slots__ = ("_face", "_numbers", "_past", "_pause", "_policy", "fields", "ident")

    def __init__(self, ident: int, policy: Policy[Any], past: Past) -> None:
        self.ident = ident
        self.fields: Fields = {}
        self._policy = weakref.ref(policy)
        self._past = past
        self._face: Fields = {}
        self._numbers = News()
        self._pause = 0

    @property
    def latency(self) -> LatencyHistogram | None:
        """Latencies of the last interval; None if no call ended in it."""
        return self._numbers.latency

    @property
    def policy(self) -> Policy[Any] | None:
        """The policy; None if it was garbage collected."""
        return self._policy()

    def describe(self) -> Fields:
        """Return the fields that never change."""
        policy = self._policy()
        if policy is None:
            return {"id": self.ident}
        described = {"id": self.ident, "kind": policy.kind, "ops": operations_of(policy)}
        return described | ({"of": policy.gates[0].kind} if policy.kind == "keyed" else {})

    def read(self, now_ns: int, parts: Collection[int] = ()) -> Fields:
        """
        Return the fields that changed since the last reading; the first time, all of them.

        Args:
            now_ns: On resilio's clock; rates and quantiles cover the time since the last reading.

            parts: Ids of the policies inside this one; of a stack of decorators they become more as it is made.
        """
        policy = self._policy()
        if policy is None or self._is_paused():
            return {}
        begun = thread_time_ns()
        try:
            news, trouble = self._news(policy, now_ns, [*parts]), policy._trouble
        except Exception as error:  # noqa: BLE001 - a user-defined policy may raise; the others are still shown
            news, trouble = {}, type(error).__name__
        self._pause = min(_SELDOM, (thread_time_ns() - begun) // _COSTLY_NS)
        if trouble != self.fields.get("trouble"):
            news["trouble"] = trouble
        if news:
            self.fields.update(news)
        return news

    def _is_paused(self) -> bool:
        self._pause -= 1
        return self._pause >= 0

    def _news(self, policy: Policy[Any], now_ns: int, parts: list[int]) -> Fields:
        face = self._face_of(policy, parts)
        news = self._numbers.read(counted(policy.gates[0]), now_ns)
        if face != self._face:  # nearly never
            before, self._face = self._face, face
            news.update({name: value for name, value in face.items() if name not in before or before[name] != value})
        return news

    def _face_of(self, policy: Policy[Any], parts: list[int]) -> Fields:
        """Return the fields other than counters, rates and quantiles."""
        past = self._past
        return {
            "name": policy.name or "unnamed",
            "state": _state_of(policy),
            "limit": _finite(policy._limit()),
            "shared": _shared(policy),
            "since": past.since,
            "opened": past.opened,
            "why": past.why,
            **({"spend": _spend(policy)} if isinstance(policy, SpendLimit) else {}),
            **({"keys": len(policy)} if isinstance(policy, Keyed) else {}),
            **({"parts": parts} if parts or "parts" in self._face else {}),
        }


def counted(gate: Gate) -> Gate:
    """Return a gate with this one's counters; for a keyed gate, the sums over all keys."""
    if not isinstance(gate, KeyedGate):
        return gate
    sums = Sums(gate)
    gate.add_to(sums)
    return sums


def _state_of(policy: Policy[Any]) -> Any:
    """Return the state; for a keyed policy the number of keys by state; None for a policy without states."""
    states = getattr(policy, "_states", None)
    return states(policy.gates[0]) if states is not None else policy._state()


def _shared(policy: Policy[Any]) -> Fields | None:
    """Return how the state is shared with other processes; None if it is not."""
    sharing = policy._sharing()
    if sharing is None:
        return None
    tokens = None if sharing.tokens is None else min(sharing.tokens.values(), default=None)
    about: Fields = {"peers": sharing.peers, "degraded": sharing.degraded}
    if sharing.scope.startswith("fleet:"):
        about |= {"fleet": True, "regime": sharing.regime}
    return about | {"used": sharing.used, "tokens": _finite(tokens), "state": sharing.state}


def _spend(policy: SpendLimit) -> Fields:
    """Return how much of its money a spend limit has left."""
    spend = policy.spend_now()
    return {"left": _finite(spend.left), "limit": _finite(spend.limit), "currency": spend.currency}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 1 if value >= 100 else 2)
