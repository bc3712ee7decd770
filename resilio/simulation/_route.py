"""The choice of a replica for each attempt: a load balancer's, or the client's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from resilio._composition.pipeline import Pipeline
from resilio._policies.pool.chosen import pool_of
from resilio._policy.base import Policy
from resilio.gates import CustomGate
from resilio.simulation._replica import Replica
from resilio.simulation._rivals import Rival
from resilio.simulation._work import Request

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.simulation._tasks import Send

__all__ = ["at_choice", "router"]

Router = Callable[[Request], Replica]


def router(balance: str, replicas: Sequence[Replica], random: Random) -> Router:
    """
    Return a function that chooses a replica for an attempt, and notes it on the request.

    Args:
        balance: "random", "round_robin", "least", "two" or "key".

        replicas: One or more.

        random: Source of random numbers.
    """
    if len(replicas) == 1:
        only = replicas[0]
        return lambda _request: only
    if balance == "key":
        return lambda request: replicas[request.shard]
    choose = _CHOICES[balance](random)

    def elsewhere(request: Request) -> Replica:
        others = [each for each in replicas if each.number not in request.asked] or replicas
        chosen = choose(others)
        request.asked = (*request.asked, chosen.number)
        return chosen

    return elsewhere


def _random(random: Random) -> Callable[[Sequence[Replica]], Replica]:
    uniform = random.random
    return lambda among: among[int(uniform() * len(among))]


def _round_robin(random: Random) -> Callable[[Sequence[Replica]], Replica]:  # noqa: ARG001
    turn = iter(range(1 << 62))
    return lambda among: among[next(turn) % len(among)]


def _least(random: Random) -> Callable[[Sequence[Replica]], Replica]:
    one = _random(random)

    def least(among: Sequence[Replica]) -> Replica:
        fewest = min(each.present for each in among)
        return one([each for each in among if each.present == fewest])

    return least


def _two(random: Random) -> Callable[[Sequence[Replica]], Replica]:
    one = _random(random)

    def two(among: Sequence[Replica]) -> Replica:
        first, second = one(among), one(among)
        return first if first.present <= second.present else second

    return two


_CHOICES = {"random": _random, "round_robin": _round_robin, "least": _least, "two": _two}


def at_choice(policy: Policy[Any], send: Send) -> Send:
    """Return what sends an attempt to the replica that this policy of a client chooses; `send` if it chooses none."""
    if pool_of(policy) is not None:

        async def to_endpoint(request: Request, *, endpoint: Endpoint) -> None:
            number = endpoint["replica"]
            request.asked = (*request.asked, number)
            await send(request, number)

        return to_endpoint
    if not any(isinstance(each, CustomGate) and isinstance(each.config.gate, Rival) for each in _parts(policy)):
        return send

    async def to_choice(request: Request) -> None:
        await send(request, request.asked[-1])

    return to_choice


def _parts(policy: Policy[Any]) -> Sequence[Policy[Any]]:
    return policy.policies if isinstance(policy, Pipeline) else (policy,)
