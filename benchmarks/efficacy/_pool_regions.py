"""Runs of `pools`: two regions at 60 % of their capacity each, one of which goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from benchmarks.efficacy._pool_runs import Call, Log
from resilio import current_priority, load_shed, retry, timeout
from resilio._policy.base import Policy
from resilio.gates import custom_gate
from resilio.simulation import Exponential, Load, Outage, Poisson, Scenario, Server, ServerBusy, Stack, simulate

__all__ = ["Regions", "regions"]

REPLICAS, WORKERS, SERVICE = 6, 4, 0.01  # of one region
CAPACITY = REPLICAS * WORKERS / SERVICE
LOAD, CRITICAL = 0.6, 0.4  # of the capacity; of the calls
BEGIN, LASTS, END = 10.0, 20.0, 50.0
OVER = BEGIN + LASTS
DEADLINE = 0.5


@attrs.frozen
class Regions:
    """
    Figures of one run; a call is served if it is answered within half a second.

    Attributes:
        critical: Served critical calls, as a share of those begun from one second after the loss until it is over.

        early: The same, of those begun in the first second.

        goodput: Calls served from one second after the loss, as a share of the capacity that is left.

        after: Served calls of all classes as a share of those begun from one second after the region's return.
    """

    critical: float
    early: float
    goodput: float
    after: float


def worth_a_retry(error: Exception) -> bool:
    """Return True if a call that failed so is made again: critical ones always, others unless they were shed."""
    return current_priority() == "critical" or not isinstance(error, ServerBusy)


def regions(choose: Callable[[], Policy[object]], seed: int, *, sheds: bool = True) -> Regions:
    """Return what the callers of both regions see, with or without `load_shed` at the servers."""
    calls: list[Call] = []

    def client() -> list[Policy[object]]:
        return [custom_gate(Log(calls)), retry(on=worth_a_retry, attempts=2), choose(), timeout(DEADLINE)]

    rate = 2 * LOAD * CAPACITY
    scenario = Scenario(
        load=[
            Load(name="critical", arrivals=Poisson(CRITICAL * rate), priority="critical"),
            Load(name="background", arrivals=Poisson((1.0 - CRITICAL) * rate), priority="background"),
        ],
        server=Server(service=Exponential(SERVICE), workers=WORKERS, replicas=2 * REPLICAS, zones=("eu-1a", "us-1a")),
        stacks={"it": Stack(client=client, server=load_shed if sheds else None)},
        faults=[Outage(at=BEGIN, lasts=LASTS, zones="eu-1a")],
        clients=20,
        client_zones=("eu-1a", "us-1a"),
        deadline=DEADLINE,
        duration=END,
    )
    simulate(scenario, seed=seed)
    return _seen(calls)


def _seen(calls: Sequence[Call]) -> Regions:
    during = [call for call in calls if BEGIN + 1.0 <= call.begin < OVER]
    critical = [call for call in during if call.load == "critical"]
    early = [call for call in calls if BEGIN <= call.begin < BEGIN + 1.0 and call.load == "critical"]
    after = [call for call in calls if OVER + 1.0 <= call.begin < END - DEADLINE]
    return Regions(
        critical=_served(critical) / len(critical),
        early=_served(early) / len(early),
        goodput=_served(during) / (OVER - BEGIN - 1.0) / CAPACITY,
        after=_served(after) / len(after),
    )


def _served(calls: Sequence[Call]) -> int:
    return sum(call.good and call.seconds <= DEADLINE for call in calls)
