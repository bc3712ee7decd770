"""
The processes of a host that share, and the policies of this process that do.

A `Host` opens its region with its first policy, and gives each policy a cell in it. If that is not possible, or not any
more, the policy is the process's own, and the reason is kept. The native housekeeper notices changes, and they are
handled here: another file, another slot, the way back.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from resilio._events.delivery import postponed
from resilio._native import clock
from resilio._native.shared import NotShared, Region, on_trouble
from resilio._options.scope import Scope, is_private
from resilio._policy.snapshot import Sharing
from resilio._support.after_fork import free_lock
from resilio.sharing import _report
from resilio.sharing._directory import cleared, prepared
from resilio.sharing._links import KeyedLink, Link
from resilio.sharing._naming import file_name

__all__ = ["Host", "hosts", "move_all", "start_over"]

PRIVATE = 256 << 20
"""Bytes of a region of this process alone that need not end: memory that is not used is none."""

hosts: dict[Path, Host] = {}
"""The hosts of this process by the paths of their files."""


class Host(Scope):
    """
    A group of processes of this host whose policies share their state; :func:`resilio.sharing.host` makes one.

    Attributes:
        name: The name of the group.

        path: The file of its memory.

        workers: The most processes that share.

        size: Bytes of a new file.

        grows: True if the file grows when policies need more; False: the size was given.

        lock: Held while its region changes.
    """

    __slots__ = (
        "__weakref__",
        "_degraded",
        "_left",
        "_links",
        "_region",
        "_since_ns",
        "_why",
        "grows",
        "lock",
        "name",
        "path",
        "size",
        "workers",
    )

    def __init__(
        self, name: str, directory: Path, workers: int, size: int, region: Region | None = None, *, grows: bool = False
    ) -> None:
        """Name a group; nothing is opened before the first policy, if there is no region."""
        self.name: str = name
        self.path: Path = directory / file_name(name)
        self.workers: int = workers
        self.size: int = size
        self.grows: bool = grows
        self.lock: AbstractContextManager[bool] = threading.RLock()
        self._links: weakref.WeakKeyDictionary[Any, Link] = weakref.WeakKeyDictionary()
        self._region = region
        self._left: Region | None = None  # its file is gone, and there is no other yet
        self._degraded: str | None = None
        self._why = ""
        self._since_ns = clock.now_ns()
        free_lock(self, "lock")

    def __repr__(self) -> str:
        return f"host({self.name!r})"

    @property
    def region(self) -> Region | None:
        """The memory; None before the first policy, and if it could not be opened."""
        return self._region

    @property
    def degraded(self) -> str | None:
        """Why this process does not share; None: it does."""
        region = self._region
        return self._degraded or (None if region is None else region.trouble)

    def sharing(self, trouble: str | None = None) -> Sharing:
        """Return how this process shares now; `trouble`: why one policy does not."""
        region, degraded = self._region, self.degraded or trouble
        member = None if region is None else region.member
        return Sharing(
            scope=f"host:{self.name}",
            peers=1 if member is None or degraded else member.peers,
            leader=bool(member is not None and member.leads),
            degraded=degraded,
            since=max(0, clock.now_ns() - self._since_ns) / 1e9,
        )

    def link(self) -> Link:
        """Return the tie of one policy to this host."""
        return Link(self)

    def not_shared_by_key(self, policy: Any) -> str | None:  # noqa: ARG002 - as of a fleet
        """Return None: what can be shared of a key's policies is, in a host."""
        return None

    def keyed_link(self) -> KeyedLink:
        """Return the tie of a keyed policy to this host."""
        return KeyedLink(self)

    def tie(self, policy: Any, link: Link) -> None:
        """Give the policy what it wants of this host's region, or its own state, with the reason."""
        with postponed(), self.lock:
            if self._region is None and self._left is None:
                self._open()
                if self._degraded is not None:
                    _report.warn(self, self._degraded, self._why)
            self._links[policy] = link
            link.give(policy, self._region)

    def untie(self, policy: Any, link: Link) -> None:
        """Let the policy be the process's own again."""
        with postponed(), self.lock:
            self._links.pop(policy, None)
            link.give(policy, None)

    def close(self) -> None:
        """Give back this process's slot and use no region any more; between two tests."""
        with self.lock:
            old, self._region, self._left = self._region or self._left, None, None
            if old is not None:
                old.close()

    # ---- the region

    def _open(self) -> Region | None:
        """Open the region and return it; None if that fails, and `degraded` is the reason."""
        try:
            if is_private():
                self._region = Region.private(PRIVATE if self.grows else self.size)
            else:
                prepared(self.path.parent)
                self._region = Region.open(cleared(self.path), self.size, self.workers)
        except NotShared as error:
            self._say(error.reason, str(error))
        else:
            self._say(self._region.trouble)
        return self._region

    def _say(self, degraded: str | None, why: str = "") -> None:
        before, self._degraded, self._why = self._degraded, degraded, why
        if before != degraded:
            self._since_ns = clock.now_ns()
            _report.changed(self, before, degraded, why)

    def move(self) -> None:
        """Go over to another region: the file has been removed, or time has become virtual or real."""
        with postponed(), self.lock:
            old, self._region, self._left = self._region or self._left, None, None
            if old is None and not self._links:
                return
            new = self._open()
            for policy, link in list(self._links.items()):
                link.give(policy, new)
            if new is None:
                self._left = old  # the housekeeper goes on to report it, and so it is tried again
            elif old is not None:
                old.close()

    def look(self) -> None:
        """Handle what the housekeeper has found; it runs in a thread of its own."""
        with postponed(), self.lock:
            region = self._region or self._left
            if region is not None and region.trouble == "gone":
                self.move()
            elif self._region is not None:
                self._say(self._region.trouble)


def move_all() -> None:
    """Go over to other regions: those of this process alone, or back to those of all."""
    for one in list(hosts.values()):
        one.move()


def start_over(known: dict[Path, Host]) -> None:
    """Forget all hosts but these, which begin anew; between two tests."""
    for path in [path for path in hosts if path not in known]:
        hosts.pop(path).close()
    move_all()


def _look() -> None:
    for one in list(hosts.values()):
        one.look()


on_trouble(_look)
