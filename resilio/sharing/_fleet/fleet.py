"""
A fleet: the processes of several hosts whose policies have one state together, through a store.

A `Fleet` has the engine, the courier and its thread, and ties policies to them. Its policies' cells are in the memory
of the host, where its processes draw on one lease and one of them makes the trips; or in that of this process alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from resilio._native import clock
from resilio._native.shared import Member, Region
from resilio._options.scope import PROCESS, Scope, fleets, is_private
from resilio._policy.snapshot import Sharing
from resilio._support.after_fork import free_lock, in_child
from resilio._support.random_seed import seed64
from resilio.sharing import _report
from resilio.sharing._fleet.courier import Courier
from resilio.sharing._fleet.engines import Engine
from resilio.sharing._fleet.keyed import FleetKeyedLink, shared_by_key
from resilio.sharing._fleet.links import FleetLink
from resilio.sharing._fleet.thread import CourierThread, trip
from resilio.sharing._fleet.tie import Tie
from resilio.sharing._host import Host
from resilio.sharing._links import shareable

__all__ = ["Fleet", "OnStoreDown", "move_all", "start_over"]

OnStoreDown = Literal["local", "open", "closed"]

OWN = 256 << 20
"""Bytes of a region of this process alone: memory that is not used is none."""
MOST_TOLD = 64
"""Kinds of problems that a fleet reports: an engine of a user's own may have another text each time."""


class Fleet(Scope):
    """
    The processes of several hosts whose policies share their state; :func:`resilio.sharing.fleet` makes one.

    Attributes:
        name: The name of the fleet: the same in all its processes.

        engine: The store.

        client: What the engine was made of.

        tick: Seconds between exchanges.

        timeout: Seconds for an exchange.

        peers: The number of hosts or processes that exchange, as given; None: as the store counts them.

        on_store_down: What policies do once what the store gave has ended.

        group: The processes of this host whose policies have a cell together; or this process alone.

        courier: What exchanges for this process.
    """

    __slots__ = (
        "__weakref__",
        "_degraded",
        "_is_stepped",
        "_lock",
        "_own",
        "_since_ns",
        "_thread",
        "_told",
        "client",
        "courier",
        "engine",
        "group",
        "name",
        "on_store_down",
        "peers",
        "tick",
        "timeout",
    )

    spans_hosts = True

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        client: object = None,
        tick: float = 0.25,
        timeout: float = 0.05,
        group: Host | None = None,
        peers: int | None = None,
        on_store_down: OnStoreDown = "local",
        is_stepped: bool = False,
    ) -> None:
        """
        Name a fleet; nothing is opened and no thread starts before its first policy.

        Args:
            name: Its name.

            engine: The store.

            client: What the engine was made of.

            tick: Seconds between exchanges.

            timeout: Seconds for an exchange.

            group: The processes that have cells together; None: this process alone.

            peers: How many exchange, until the store has answered.

            on_store_down: "local", "open", or "closed".

            is_stepped: True: no thread, its owner calls `step`, in tests and simulations.
        """
        self.name: str = name
        self.engine: Engine = engine
        self.client: object = client
        self.tick: float = tick
        self.timeout: float = timeout
        self.peers: int | None = peers
        self.on_store_down: OnStoreDown = on_store_down
        self.group: Host = _Process(name) if group is None else group
        self._is_stepped = is_stepped
        self._own: Region | None = None
        self._thread: CourierThread | None = None
        self._lock = threading.Lock()
        self._degraded: str | None = None
        self._told: set[str] = set()
        self._since_ns = clock.now_ns()
        self.courier: Courier = self._courier()
        free_lock(self, "_lock")

    def __repr__(self) -> str:
        return f"fleet({self.name!r})"

    def _courier(self) -> Courier:
        return Courier(round(self.tick * 1e9), peers=self.peers, seed=seed64())

    @property
    def is_alone(self) -> bool:
        """True if policies are the process's own, without a store: in tests, and in virtual time."""
        return not self._is_stepped and is_private()

    @property
    def has_host(self) -> bool:
        """True if processes of this host share their cells; False: each is on its own."""
        return not isinstance(self.group, _Process)

    def of_part(self, gate: Any) -> Any:
        """Return the scope of a part of a stack: the host's, or the process's, if a fleet does not share its gate."""
        if hasattr(gate, "share_fleet"):
            return self
        return self.group if self.has_host else PROCESS

    @property
    def degraded(self) -> str | None:
        """Why policies are not the fleet's now: "private", "store_down"; None: they are."""
        if self.is_alone:
            return "private"
        return "store_down" if self.courier.is_down else None

    def key(self, kind: str, name: str, stock: bytes) -> str:
        """
        Return where the store has the state of a policy: other options are another state.

        The braces are the hash tag of a cluster: what belongs to one policy is on one node.
        """
        digest = hashlib.sha256(stock).hexdigest()[:12]
        return f"{{resilio:{self.name}:{kind}:{name}:{digest}}}"

    def own_region(self) -> Region:
        """Return the memory of this process alone, for cells that find none in that of the host."""
        with self._lock:
            if self._own is None:
                self._own = Region.private(OWN)
            return self._own

    def sharing(self, tie: Tie | None) -> Sharing:
        """Return how this process shares now, by one policy's tie."""
        cell = None if tie is None else tie.cell
        now_ns, at_ns = clock.now_ns(), 0 if cell is None else cell.at_ns
        degraded = self.degraded
        if degraded is None and cell is not None and cell.is_silent:  # as another process of the host has found
            degraded = "store_down"
        known = 0 if cell is None else cell.peers
        return Sharing(
            scope=f"fleet:{self.name}",
            peers=1 if self.is_alone else known or self.courier.peers,
            leader=cell is not None and cell.claim(),
            degraded=degraded,
            since=max(0, now_ns - self._since_ns) / 1e9,
            regime=None if tie is None else tie.regime,
            age=max(0, now_ns - at_ns) / 1e9 if at_ns else None,
            outstanding=None if tie is None else tie.outstanding,
            trips=self.courier.trips,
            lost=self.courier.lost,
        )

    def not_shared_by_key(self, policy: Any) -> str | None:
        """Return the kind of a key's policy of which a fleet shares nothing; None: it shares a part."""
        if any(shared_by_key(policy.overflow)):
            return None
        return next(str(part.kind) for part, _ in shareable(policy.overflow))

    def keyed_link(self) -> FleetKeyedLink:
        """Return the tie of a keyed policy to this fleet."""
        return FleetKeyedLink(self)

    def link(self) -> FleetLink:
        """Return the tie of one policy to this fleet."""
        return FleetLink(self)

    # ---- the courier

    def start(self) -> None:
        """Let the courier's thread run, unless it does; in virtual time and for an owner that steps, none runs."""
        if self._is_stepped or self.is_alone:
            return
        with self._lock:
            if self._thread is None:
                self._thread = CourierThread(self.courier, self.engine, self.timeout, self._member, self._look)

    def step(self) -> None:
        """Make a trip if one is due, as the thread does."""
        now_ns = clock.now_ns()
        if self.courier.due_ns(now_ns) <= now_ns:
            self._look(trip(self.courier, self.engine, self.timeout))

    def stop(self) -> None:
        """Let the thread end, after the trip under way."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def close(self) -> None:
        """Let the thread end, and close what the engine has open."""
        self.stop()
        getattr(self.engine, "close", bool)()

    def move(self) -> None:
        """Go over to virtual or real time, or to a test of its own: policies are the fleet's again, or their own."""
        if self.is_alone:
            self.stop()
        if isinstance(self.group, _Process):  # others are moved by name
            self.group.move()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, which has a copy of the parent's leases."""
        self._thread = None
        self._own = None
        if isinstance(self.group, _Process):
            self.group.move()
        elif self.courier.has_ties:
            self.start()

    def _member(self) -> Member:
        region = self.group.region
        return (self.own_region() if region is None else region).member

    def _look(self, defect: Exception | None) -> None:
        """Report what has changed with the latest trip: that the store is away, or back, or has new errors of a key."""
        courier = self.courier
        before, self._degraded = self._degraded, self.degraded
        if before != self._degraded:
            self._since_ns = clock.now_ns()
            why = f"{courier.lost} of {courier.trips} exchanges with its store have failed"
            why += f"; the latest error: {courier.problem}" if courier.problem else ""
            _report.fleet_changed(self, before, self._degraded, why)
        if defect is not None and self._is_new(courier.problem):
            _report.engine_failed(self, defect)
        elif courier.broken and self._is_new(courier.broken.partition(": ")[2].partition(" ")[0]):
            _report.key_broken(self, courier.broken)

    def _is_new(self, problem: str) -> bool:
        """Return True if a problem of this kind has not been reported yet."""
        if problem in self._told or len(self._told) == MOST_TOLD:
            return False
        self._told.add(problem)
        return True


class _Process(Host):
    """A group that is this process alone: its memory has no file."""

    __slots__ = ()

    def __init__(self, fleet: str) -> None:
        super().__init__(f"of fleet {fleet}", Path("/"), 1, OWN)

    def _open(self) -> Region | None:
        self._region = Region.private(OWN)
        return self._region


def move_all() -> None:
    """Let all fleets go over to virtual or real time."""
    for one in _fleets():
        one.move()


def start_over(known: Collection[str]) -> None:
    """Forget all fleets but these; between two tests."""
    for one in [one for one in _fleets() if one.name not in known]:
        fleets.pop(one.name, None)
        one.close()


def _fleets() -> list[Fleet]:
    return [one for one in list(fleets.values()) if isinstance(one, Fleet)]


def _after_fork() -> None:
    for one in _fleets():
        one.after_fork()


in_child("threads", _after_fork)
