"""Scenarios: loads, a server, faults on a schedule, and the stacks of policies to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs

from resilio._context.priority import CLASSES
from resilio._options.fields import option
from resilio._options.validators import choice, fraction, positive_int, reject, seconds
from resilio._policy.base import Policy
from resilio.simulation._arrivals import Arrivals
from resilio.simulation._checks import instance, names, text
from resilio.simulation._faults import AtServers, Fault, Kill, Surge
from resilio.simulation._server import Server, block, queue_maker
from resilio.simulation._store import Partition, Store

__all__ = ["LONGEST", "MOST_CALLS", "Load", "Policies", "Scenario", "Stack"]

LONGEST = 30 * 86_400.0
"""Maximum simulated time in seconds."""

MOST_CALLS = 20_000_000
"""Maximum number of calls of one run, which take minutes of real time."""

Policies = Callable[[], Policy[Any] | Sequence[Policy[Any]] | None]
"""Factory of the policies of one client or replica, outermost first."""


def _priority(name: str, value: object) -> str | None:
    return None if value is None else choice(name, value, CLASSES)


@attrs.frozen(kw_only=True)
class Load:
    """
    A stream of tasks of one kind.

    Args:
        arrivals: Arrival process of the tasks.

        name: Name in the results.

        calls: Number of calls that a task makes, one after the other; the task fails when one of them does.

        users: Number of users; each task belongs to a random one. None: each task has its own user.

        tenants: Number of tenants ("calls-0", ...); each task belongs to a random one. None: no tenants.

        priority: The ambient priority of its calls, as of :func:`resilio.priority`; None: the default.
    """

    arrivals: Arrivals = option(instance(Arrivals, "a process of arrivals, like Poisson(100)"))
    name: str = option(text, default="calls")
    calls: int = option(positive_int, default=1, high=1000)
    users: int | None = option(positive_int, none_ok=True, default=None)
    tenants: int | None = option(positive_int, none_ok=True, default=None)
    priority: str | None = option(_priority, default=None)


def _factory(name: str, value: Any) -> Any:
    if value is not None and (not callable(value) or isinstance(value, Policy)):
        right = "a function that makes the policies (each client has its own), like `lambda: [retry(...), bulkhead(9)]`"
        reject(name, value, right, TypeError)
    return value


@attrs.frozen(kw_only=True)
class Stack:
    """
    The policies to try: around the calls of each client, and around the work of each replica.

    Args:
        client: Factory of the policies of one client, outermost first; None: none.

        server: Factory of the policies of one replica, outermost first; None: none.

        queue: The replicas' queue with this stack; None: the server's `queue`.

        drop_expired: The same for the server's `drop_expired`.

        max_queued: The same for the server's `max_queued`.
    """

    client: Policies | None = option(_factory, default=None)
    server: Policies | None = option(_factory, default=None)
    queue: Any = None
    drop_expired: float | None = option(seconds, zero_ok=True, none_ok=True, default=None)
    max_queued: int | None = option(positive_int, zero_ok=True, none_ok=True, default=None)

    def __attrs_post_init__(self) -> None:
        if self.queue is not None:
            queue_maker("queue", self.queue)

    def changes(self, server: Server) -> Server:
        """Return the server with this stack's options."""
        own = {"queue": self.queue, "drop_expired": self.drop_expired, "max_queued": self.max_queued}
        changed = {name: value for name, value in own.items() if value is not None}
        return attrs.evolve(server, **changed) if changed else server


def _loads(name: str, value: Any) -> tuple[Load, ...]:
    found = (value,) if isinstance(value, Load) else value
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(load, Load) for load in found):
        reject(name, value, "a Load, or a list of one or more", TypeError)
    names = [load.name for load in found]
    if len(set(names)) < len(names):
        reject(name, names, "loads of different names")
    return tuple(found)


def _faults(name: str, value: Any) -> tuple[Fault, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(fault, Fault) for fault in value):
        reject(name, value, "a list of faults, like [Outage(at=10, lasts=5)]", TypeError)
    return tuple(value)


def _stacks(name: str, value: Any) -> dict[str, Stack]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(stack, Stack) for stack in value.values()):
        reject(name, value, "a mapping of one or more names to stacks, like {'bare': Stack()}", TypeError)
    return {text(f"a name in {name}", key): stack for key, stack in value.items()}


@attrs.frozen(kw_only=True)
class Scenario:
    """
    Description of a simulation, without the seed.

    Args:
        load: One load or several.

        server: The service that is called.

        stacks: The policies to compare, by name.

        deadline: Seconds after which an answer to a task is too late.

        duration: Seconds for which tasks arrive. Tasks in flight at the end have `deadline` seconds more.

        faults: Faults of the server, the network, the load, the clients and the store.

        store: What the policies of scope "fleet" are shared through; None: a store as `Store()` makes it. With one, the
            clients are processes, and a name is one policy of one process, as it is with several clients on a host.

        clients: Number of client processes that share the load, each with its own policies.

        clients_per_host: Number of those on one host, which share the policies of scope "host"; the last host may have
            fewer.

        client_zones: Names of the zones that the clients are in, which are divided among them in order, like the
            server's replicas; None: they are in no zone.

        patience: Seconds after which a caller gives up; None: it never does.

        warmup: Seconds at the beginning that are left out of the figures (not of the time line).

        window: Seconds of the window in which the success rate is measured, for the time to recover.

        recovered: Fraction of the success rate before the first fault that counts as recovered.

        title: Title of the results.
    """

    load: Load | Sequence[Load] = option(_loads)
    server: Server = option(instance(Server, "a Server"))
    stacks: Mapping[str, Stack] = option(_stacks)
    deadline: float = option(seconds, high=86_400.0)
    duration: float = option(seconds, high=LONGEST)
    faults: Sequence[Fault] = option(_faults, default=())
    store: Store | None = option(instance(Store, "a Store", none_ok=True), default=None)
    clients: int = option(positive_int, default=1, high=100_000)
    clients_per_host: int = option(positive_int, default=1, high=64)
    client_zones: str | Sequence[str] | None = option(names, default=None)
    patience: float | None = option(seconds, none_ok=True, default=None, high=LONGEST)
    warmup: float = option(seconds, zero_ok=True, default=0.0)
    window: float = option(seconds, default=2.0)
    recovered: float = option(fraction, default=0.95)
    title: str = option(text, default="simulation")

    def __attrs_post_init__(self) -> None:
        if self.warmup >= self.duration:
            reject("warmup", self.warmup, f"less than duration={self.duration:g}")
        if self.clients_per_host > self.clients:
            reject("clients_per_host", self.clients_per_host, f"at most clients={self.clients}")
        if len(self.client_zones or ()) > self.clients:
            reject("client_zones", self.client_zones, f"at most clients={self.clients} names")
        expected = self.expected_calls()
        if expected > MOST_CALLS:
            right = f"so short that at most {MOST_CALLS:,} calls are made; {expected:,.0f} would be"
            reject("duration", self.duration, right)
        loads = [load.name for load in self.loads]
        for number, fault in enumerate(self.faults):
            self._check_fault(f"faults[{number}]", fault, loads)

    def _check_fault(self, name: str, fault: Fault, loads: list[str]) -> None:
        if fault.at >= self.duration:
            reject(f"{name}.at", fault.at, f"less than duration={self.duration:g}: it never begins")
        if isinstance(fault, Surge) and fault.load not in (None, *loads):
            reject(f"{name}.load", fault.load, f"one of {', '.join(map(repr, loads))}, or None for all")
        if isinstance(fault, AtServers):
            self.server.check_place(name, fault)
        clients = fault.clients if isinstance(fault, (Kill, Partition)) else None
        if any(number >= self.clients for number in cast("tuple[int, ...]", clients or ())):
            reject(f"{name}.clients", clients, f"numbers below clients={self.clients}")

    @property
    def loads(self) -> tuple[Load, ...]:
        """All loads, as a tuple even if there is one."""
        return cast("tuple[Load, ...]", self.load)

    @property
    def hosts(self) -> int:
        """Number of hosts with clients."""
        return -(-self.clients // self.clients_per_host)

    def zone_of(self, client: int) -> str | None:
        """Return the zone of the client with this index, or None."""
        return block(client, self.clients, cast("tuple[str, ...] | None", self.client_zones))

    def expected_calls(self) -> float:
        """Return the mean number of calls of all tasks: without retries and hedges, and with surges."""
        total = 0.0
        for load in self.loads:
            surges = [each for each in self.faults if isinstance(each, Surge) and each.load in (None, load.name)]
            more = sum((each.factor - 1) * min(each.lasts, self.duration) for each in surges if each.factor > 1)
            total += load.calls * (load.arrivals.expected(self.duration) * (1 + more / self.duration))
        return total

    @property
    def recovery_from(self) -> float | None:
        """End of the last fault in seconds since the run began; None if no fault ends within the run."""
        ends = [fault.end for fault in self.faults if fault.end < self.duration]
        return max(ends, default=None)
