"""
A deterministic simulator on virtual time that runs the real policies, to compare stacks before production does.

Describe the loads, the server and its faults in a `Scenario`, name the stacks to compare, and `simulate` it. See
`resilio simulate --help` for the command.
"""

from __future__ import annotations

from resilio.simulation._arrivals import Arrivals, Bursty, Poisson, Regular, Trace
from resilio.simulation._faults import Cold, Delay, Errors, Fault, Kill, Outage, Shrink, Slow, Surge
from resilio.simulation._hosts import client_fleet
from resilio.simulation._laws import Constant, Empirical, Exponential, Law, Lognormal, Mixture, Pareto, Uniform
from resilio.simulation._pools import client_zone, endpoints
from resilio.simulation._queues import Queue
from resilio.simulation._results import Outcome, Result
from resilio.simulation._rivals import rival
from resilio.simulation._scenario import Load, Scenario, Stack
from resilio.simulation._server import Server
from resilio.simulation._simulate import Progress, simulate
from resilio.simulation._store import Evict, Failover, Partition, Store, StoreClock, StoreDown, StoreSlow
from resilio.simulation._work import ClientKilled, Job, Request, ServerBusy, ServerDown, ServerError, SimulatedError

__all__ = [
    "Arrivals",
    "Bursty",
    "ClientKilled",
    "Cold",
    "Constant",
    "Delay",
    "Empirical",
    "Errors",
    "Evict",
    "Exponential",
    "Failover",
    "Fault",
    "Job",
    "Kill",
    "Law",
    "Load",
    "Lognormal",
    "Mixture",
    "Outage",
    "Outcome",
    "Pareto",
    "Partition",
    "Poisson",
    "Progress",
    "Queue",
    "Regular",
    "Request",
    "Result",
    "Scenario",
    "Server",
    "ServerBusy",
    "ServerDown",
    "ServerError",
    "Shrink",
    "SimulatedError",
    "Slow",
    "Stack",
    "Store",
    "StoreClock",
    "StoreDown",
    "StoreSlow",
    "Surge",
    "Trace",
    "Uniform",
    "client_fleet",
    "client_zone",
    "endpoints",
    "rival",
    "simulate",
]
