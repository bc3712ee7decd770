"""Runs of `pools`: a service of twelve endpoints, its faults, the ways to choose, and what callers see of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from resilio import Pool, pool, registry, retry, timeout
from resilio._native.clock import now_ns
from resilio._native.simulation import BEGIN_NS
from resilio._policy.base import Policy
from resilio.gates import GateCall, Outcome, custom_gate
from resilio.simulation import (
    Errors,
    Exponential,
    Fault,
    Load,
    Outage,
    Poisson,
    Scenario,
    Server,
    Slow,
    Stack,
    client_zone,
    endpoints,
    rival,
    simulate,
)

__all__ = ["FAULTS", "WAYS", "Seen", "calls_of", "fault_run", "halves"]

ENDPOINTS, WORKERS, SERVICE, CLIENTS = 12, 4, 0.01, 10
BEGIN, LASTS, END = 10.0, 15.0, 40.0
OVER = BEGIN + LASTS
CAPACITY = ENDPOINTS * WORKERS / SERVICE

FAULTS: dict[str, Fault] = {
    "10 x slow": Slow(at=BEGIN, lasts=LASTS, factor=10, replicas=0),
    "fails at once": Outage(at=BEGIN, lasts=LASTS, mode="error", latency=0.002, replicas=0),
    "half fails": Errors(at=BEGIN, lasts=LASTS, share=0.5, replicas=0),
    "hangs": Outage(at=BEGIN, lasts=LASTS, mode="hang", replicas=0),
    "a third fails": Outage(at=BEGIN, lasts=LASTS, mode="error", latency=0.002, replicas=tuple(range(4))),
}


def own_pool(**options: Any) -> Pool:
    """Return a pool of the client's own, although others have its name."""
    with registry.isolated():
        return pool("service", *endpoints(), zone=client_zone(), **options)


Choose = Callable[[], Policy[Any]]
WAYS: dict[str, Choose] = {
    "round robin": lambda: rival("round_robin"),
    "least in flight": lambda: rival("least"),
    "peak EWMA (Finagle)": lambda: rival("peak_ewma"),
    "Envoy": lambda: rival("envoy"),
    "Envoy, all may be ejected": lambda: rival("envoy", max_ejected=1.0),
    "pool": own_pool,
}


@attrs.frozen
class Call:
    """A call: its load, its begin in seconds of the run, its latency, its success, the replicas that it was sent to."""

    load: str
    begin: float
    seconds: float
    good: bool
    asked: tuple[int, ...]


class Log:
    """The outermost gate of a client: it notes each call at its end."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    def admit(self, call: GateCall, /) -> None:
        """Note the begin."""
        call.data = now_ns()

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        """Note the call."""
        begin = (call.data - BEGIN_NS) * 1e-9
        request = call.args[0]
        self._calls.append(Call(request.load, begin, seconds, outcome is Outcome.SUCCESS, request.asked))


@attrs.frozen
class Seen:
    """
    Figures of one run.

    Attributes:
        failed: Failed calls as a share of those begun in the fault, without its first second.

        early: The same, of its first second.

        p50: Their median latency in seconds.

        p99: The same for the quantile 0.99.

        share: Attempts sent to the affected endpoints, as a share of all in the fault.

        back: Seconds from the end of the fault until an affected endpoint gets half of its fair share again for a
            second; None: never.
    """

    failed: float
    early: float
    p50: float
    p99: float
    share: float
    back: float | None


def scenario(stack: Stack, *, load: float, faults: Sequence[Fault], duration: float = END) -> Scenario:
    """Return the scenario of twelve endpoints at a share of their capacity."""
    return Scenario(
        load=Load(arrivals=Poisson(load * CAPACITY)),
        server=Server(service=Exponential(SERVICE), workers=WORKERS, replicas=ENDPOINTS),
        stacks={"it": stack},
        faults=faults,
        clients=CLIENTS,
        deadline=5.0,
        duration=duration,
    )


def calls_of(choose: Choose, seed: int, *, attempts: int = 1, **options: Any) -> list[Call]:
    """Return the calls of a run, in the order of their begins."""
    calls: list[Call] = []

    def client() -> list[Policy[Any]]:
        again = [retry(on=Exception, attempts=attempts)] if attempts > 1 else []
        return [custom_gate(Log(calls)), *again, choose(), timeout(1.0)]

    simulate(scenario(Stack(client=client), **options), seed=seed)
    return sorted(calls, key=lambda call: call.begin)


def fault_run(fault: Fault | None, choose: Choose, seed: int, *, attempts: int = 1, load: float = 0.6) -> Seen:
    """Return what callers see of a fault of 15 s."""
    calls = calls_of(choose, seed, attempts=attempts, load=load, faults=[fault] if fault else [])
    hit = [number for number in range(ENDPOINTS) if fault and fault.hits(number, None)]  # type: ignore[attr-defined]
    return seen(calls, hit, load)


def halves(choose: Choose, seed: int, *, load: float) -> Seen:
    """Return what callers see if half of the endpoints are half as fast; `load` is a share of what they can do."""
    half = tuple(range(ENDPOINTS // 2))
    slow = Slow(at=0.0, lasts=END, factor=2.0, replicas=half)
    return seen(calls_of(choose, seed, load=0.75 * load, faults=[slow]), half, load)


def seen(calls: Sequence[Call], hit: Sequence[int], load: float) -> Seen:
    """Return the figures of a run's calls."""
    begins = [call.begin for call in calls]

    def between(begin: float, end: float) -> Sequence[Call]:
        return calls[bisect_left(begins, begin) : bisect_left(begins, end)]

    whole, late, early = between(BEGIN, OVER), between(BEGIN + 1.0, OVER), between(BEGIN, BEGIN + 1.0)
    waits = sorted(call.seconds for call in late)
    attempts = [number for call in whole for number in call.asked]
    after = [call.begin for call in between(OVER, END) for number in call.asked if number == min(hit, default=None)]
    return Seen(
        failed=_failed(late),
        early=_failed(early),
        p50=waits[len(waits) // 2],
        p99=waits[int(0.99 * len(waits))],
        share=sum(number in hit for number in attempts) / len(attempts),
        back=_back(after, load * CAPACITY / ENDPOINTS),
    )


def _failed(calls: Sequence[Call]) -> float:
    return sum(not call.good for call in calls) / len(calls)


def _back(times: Sequence[float], fair: float) -> float | None:
    """Return the seconds until half of the fair number of calls is sent within one second."""
    for step in range(round(4 * (END - OVER - 1.0))):
        at = OVER + step / 4
        if bisect_left(times, at + 1.0) - bisect_left(times, at) >= fair / 2:
            return at - OVER
    return None
