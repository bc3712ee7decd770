"""Published ways for a client to choose a replica, to compare a pool with: gates that choose and learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import attrs

from resilio._native.clock import now_ns
from resilio._options.validators import choice, fraction
from resilio.gates import CustomGate, GateCall, Outcome, custom_gate
from resilio.simulation._envoy import EnvoyHosts
from resilio.simulation._place import ClientPlace, client_place

__all__ = ["RIVALS", "Rival", "rival"]


@attrs.define(eq=False)
class Choice:
    """
    What a client knows of one replica.

    Attributes:
        number: Its index.

        inflight: The client's own calls in flight there.

        cost: The peak EWMA of latencies, in seconds, at the time `stamp`.

        stamp: See `cost`.
    """

    number: int
    inflight: int = 0
    cost: float = 0.0
    stamp: float = 0.0


Score = Callable[[Choice, float], float]


class Rival:
    """
    A gate that chooses a replica for each attempt, among those that the call has not been sent to if there are any.

    Args:
        place: The client's place.

        max_ejected: Maximum share of the replicas that are ejected, for rules that eject.
    """

    kind = "balance"

    def __init__(self, place: ClientPlace, max_ejected: float = 0.1) -> None:  # noqa: ARG002
        self._random = place.random
        self._choices = [Choice(number) for number in range(place.server.replicas)]

    def admit(self, call: GateCall, /) -> None:
        """Choose a replica; the request notes it."""
        request = call.args[0]
        now = now_ns() * 1e-9
        among = self.usable(now)
        chosen = self.choose([each for each in among if each.number not in request.asked] or among, now)
        chosen.inflight += 1
        request.asked = (*request.asked, chosen.number)
        call.data = chosen

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        """Learn from the end of an attempt."""
        call.data.inflight -= 1
        if outcome is not Outcome.IGNORED:
            self.learn(call.data, now_ns() * 1e-9, seconds, good=outcome is Outcome.SUCCESS)

    def cancel(self, call: GateCall, /) -> None:
        """Forget an attempt that was not made."""
        call.data.inflight -= 1

    def usable(self, now: float) -> Sequence[Choice]:  # noqa: ARG002
        """Return the replicas to choose from at a time in seconds."""
        return self._choices

    def choose(self, among: Sequence[Choice], now: float) -> Choice:
        """Return one of these replicas."""
        raise NotImplementedError

    def learn(self, choice: Choice, now: float, seconds: float, *, good: bool) -> None:
        """Learn from the latency and the success of an attempt."""


def two(random: Random, among: Sequence[Choice], score: Score, now: float) -> Choice:
    """Return the one with the lower score of two different random ones."""
    if len(among) == 1:
        return among[0]
    first, second = random.sample(among, 2)
    return first if score(first, now) <= score(second, now) else second


class RoundRobin(Rival):
    """Each replica in turn; clients begin at different ones."""

    def __init__(self, place: ClientPlace, max_ejected: float = 0.1) -> None:
        super().__init__(place, max_ejected)
        self._turn = self._random.randrange(place.server.replicas)

    def choose(self, among: Sequence[Choice], now: float) -> Choice:  # noqa: ARG002
        """Return the next one."""
        self._turn += 1
        return among[self._turn % len(among)]


class Least(Rival):
    """The one with fewer calls in flight of two random ones: gRPC's A48, Envoy's LEAST_REQUEST."""

    def choose(self, among: Sequence[Choice], now: float) -> Choice:
        """Return the less busy of two."""
        return two(self._random, among, lambda each, _now: each.inflight, now)


class PeakEwma(Rival):
    """
    The one with the lower peak EWMA of latencies times calls in flight, of two random ones; failures count as quick.

    Source: Finagle's `PeakEwma`, with its decay of 10 s. A higher latency is taken at once, a lower one with time.
    """

    DECAY = 10.0
    UNKNOWN = 1e9

    def choose(self, among: Sequence[Choice], now: float) -> Choice:
        """Return the one of two that is expected to answer sooner."""
        return two(self._random, among, self._score, now)

    def learn(self, choice: Choice, now: float, seconds: float, *, good: bool) -> None:  # noqa: ARG002
        """Take a higher latency at once, and a lower one with its weight."""
        weight = math.exp(-(now - choice.stamp) / self.DECAY)
        higher = seconds > choice.cost * weight
        choice.cost = seconds if higher else choice.cost * weight + seconds * (1.0 - weight)
        choice.stamp = now

    def _score(self, choice: Choice, now: float) -> float:
        if choice.cost == 0.0 and choice.inflight:
            return self.UNKNOWN + choice.inflight
        return choice.cost * math.exp(-(now - choice.stamp) / self.DECAY) * (choice.inflight + 1)


class Envoy(Least):
    """
    Envoy's: the one with fewer calls in flight of two, without those that are ejected.

    The levels are those of the zones. See `EnvoyHosts`.
    """

    def __init__(self, place: ClientPlace, max_ejected: float = 0.1) -> None:
        super().__init__(place, max_ejected)
        self._hosts = EnvoyHosts(place, max_ejected)

    def usable(self, now: float) -> Sequence[Choice]:
        """Return the replicas of one level that are not ejected."""
        return [self._choices[number] for number in self._hosts.usable(now)]

    def learn(self, choice: Choice, now: float, seconds: float, *, good: bool) -> None:  # noqa: ARG002
        """Count a success or a failure."""
        self._hosts.ended(choice.number, now, good=good)


RIVALS: dict[str, type[Rival]] = {
    "envoy": Envoy,
    "least": Least,
    "peak_ewma": PeakEwma,
    "round_robin": RoundRobin,
}


def rival(rule: str, *, max_ejected: float = 0.1) -> CustomGate:
    """
    Return a policy that chooses the replica of each attempt by a published rule, in place of a pool.

    It is for the clients of a simulation, inside of their retries and outside of their timeouts. An attempt prefers a
    replica that its call has not been sent to.

    Args:
        rule: "round_robin"; "least", the less busy of two; "peak_ewma", Finagle's; "envoy", the less busy of two with
            Envoy's ejection and levels.

        max_ejected: Maximum share of the replicas that are ejected; 0.1 is Envoy's default.

    Raises:
        ValueError: Another rule, or a share that is none.

        RuntimeError: Called outside of a simulation.
    """
    kind = RIVALS[choice("rule", rule, RIVALS)]
    return custom_gate(kind(client_place("rival()"), fraction("max_ejected", max_ejected)))
