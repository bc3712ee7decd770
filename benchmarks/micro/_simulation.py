"""What a guarded call costs in the simulator: all of it, from its arrival to its place in the results."""

from __future__ import annotations

from statistics import quantiles
from time import thread_time_ns
from typing import Any

import resilio
from benchmarks.micro._results import Row, Table
from resilio.simulation import Exponential, Load, Poisson, Scenario, Server, Stack, simulate

__all__ = ["ns_a_call", "simulation_table"]

_CAPACITY = 10_000  # requests a second of the simulated server
_LOAD = 0.9


def simulation_table(calls: int, rounds: int) -> Table:
    """
    Return the table of a simulated call's cost, in nanoseconds.

    Args:
        calls: Of one simulation.

        rounds: Simulations of each subject, in turns.
    """
    stacks = {"three gates": Stack(client=_three_gates), "no policy": Stack()}
    found: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(rounds):
        for name, stack in stacks.items():
            found[name].append(ns_a_call(stack, calls))
    rows = (
        _row("resilio simulate, rate limit, breaker and bulkhead", found["three gates"], "simulation"),
        _row("resilio simulate, no policy", found["no policy"]),
    )
    about = f"Processor time a call at a queue of ten workers under a load of {_LOAD:g}, all included."
    return Table("simulation", "Simulated calls", about, rows)


def ns_a_call(stack: Stack, calls: int) -> float:
    """Return the nanoseconds of this thread that a simulated call takes, of about `calls`."""
    rate = _LOAD * _CAPACITY
    scenario = Scenario(
        load=Load(arrivals=Poisson(rate)),
        server=Server(workers=10, service=Exponential(10 / _CAPACITY)),
        stacks={"it": stack},
        deadline=1.0,
        duration=calls / rate,
    )
    begin = thread_time_ns()
    outcome = simulate(scenario)["it"]
    return (thread_time_ns() - begin) / outcome.requests


def _three_gates() -> list[Any]:
    return [resilio.rate_limit(f"{100 * _CAPACITY}/s"), resilio.circuit_breaker(), resilio.bulkhead(_CAPACITY)]


def _row(subject: str, values: list[float], target: str | None = None) -> Row:
    low, median, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Row(subject, median, "ns", low, high, note=f"{1e9 / median:,.0f} calls/s", target=target)
