"""
The processes of a host that share, and the policies of this process that do.

A `Host` opens its region with its first policy, and gives each policy a cell in it. If that is not possible, or not any
more, the policy is the process's own, and says why. The native housekeeper finds out what changes; what it finds is
handled here: another file, another slot, the way back.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

from resilio._native import clock
from resilio._native.shared import NotShared, Region, SharedFull, on_trouble
from resilio._options.scope import Scope
from resilio._policy.snapshot import Sharing
from resilio._support.after_fork import free_lock
from resilio.sharing import _modes, _report
from resilio.sharing._directory import prepared
from resilio.sharing._naming import file_name

__all__ = ["Host", "Link", "hosts"]

hosts: dict[Path, Host] = {}
"""The hosts of this process by the paths of their files."""


class Link:
    """
    The tie of one policy to its host.

    Attributes:
        wanted: What the gate asked for: kind, stock, size.

        trouble: Why this policy alone does not share: "region_full"; None: it does if its host does.
    """

    __slots__ = ("host", "trouble", "wanted")

    def __init__(self, host: Host, wanted: tuple[int, bytes, int]) -> None:
        """Tie a policy that wants this to its host."""
        self.host = host
        self.wanted = wanted
        self.trouble: str | None = None

    def sharing(self) -> Sharing:
        """Return how the policy shares now."""
        return self.host.sharing(self.trouble)


class Host(Scope):
    """
    A group of processes of this host whose policies share their state; :func:`resilio.sharing.host` makes one.

    Attributes:
        name: The name of the group.

        path: The file of its memory.

        workers: The most processes that share.

        size: Bytes of a new file.
    """

    __slots__ = (
        "__weakref__",
        "_degraded",
        "_left",
        "_links",
        "_lock",
        "_region",
        "_since_ns",
        "_why",
        "name",
        "path",
        "size",
        "workers",
    )

    def __init__(self, name: str, directory: Path, workers: int, size: int) -> None:
        """Name a group; nothing is opened before the first policy."""
        self.name = name
        self.path = directory / file_name(name)
        self.workers = workers
        self.size = size
        self._lock = threading.RLock()
        self._links: weakref.WeakKeyDictionary[Any, Link] = weakref.WeakKeyDictionary()
        self._region: Region | None = None
        self._left: Region | None = None  # its file is gone, and there is no other yet
        self._degraded: str | None = None
        self._why = ""
        self._since_ns = clock.now_ns()
        free_lock(self, "_lock")

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

    def tie(self, policy: Any, gate: Any) -> Link:
        """
        Give the policy a cell of this host's region, or say why it has none.

        Args:
            policy: The policy; it has a name.

            gate: What has the methods `cell_wanted` and `share`.
        """
        with self._lock:
            if self._region is None and self._left is None:
                self._open()
                if self._degraded is not None:
                    _report.warn(self, self._degraded, self._why)
            link = Link(self, gate.cell_wanted())
            self._links[policy] = link
            self._give(policy, gate, link)
            return link

    def untie(self, policy: Any, gate: Any) -> None:
        """Let the policy be the process's own again."""
        with self._lock:
            self._links.pop(policy, None)
            gate.share(None)

    def _give(self, policy: Any, gate: Any, link: Link) -> None:
        link.trouble = None
        if self._region is None:
            gate.share(None)
            return
        kind, stock, size = link.wanted
        try:
            cell = self._region.cell(kind, policy.name, stock, size)
        except SharedFull as error:
            link.trouble = "region_full"
            gate.share(None)
            _report.full(self, policy, error)
            return
        gate.share(cell)

    # ---- the region

    def _open(self) -> None:
        """Open the region; if that fails, `degraded` says why."""
        try:
            if _modes.is_private():
                self._region = Region.private(self.size)
            else:
                prepared(self.path.parent)
                self._region = Region.open(self.path, self.size, self.workers)
        except NotShared as error:
            self._say(error.reason, str(error))
        else:
            self._say(self._region.trouble)

    def _say(self, degraded: str | None, why: str = "") -> None:
        before, self._degraded, self._why = self._degraded, degraded, why
        if before != degraded:
            self._since_ns = clock.now_ns()
            _report.changed(self, before, degraded, why)

    def move(self) -> None:
        """Go over to another region: the file has been removed, or time has become virtual or real."""
        with self._lock:
            old, self._region, self._left = self._region or self._left, None, None
            if old is None and not self._links:
                return
            self._open()
            for policy, link in list(self._links.items()):
                self._give(policy, policy._sharing_gate(), link)
            if self._region is None:
                self._left = old  # the housekeeper goes on to report it, and so it is tried again
            elif old is not None:
                old.close()

    def look(self) -> None:
        """Handle what the housekeeper has found; it runs in a thread of its own."""
        with self._lock:
            region = self._region or self._left
            if region is not None and region.trouble == "gone":
                self.move()
            elif self._region is not None:
                self._say(self._region.trouble)


def _look() -> None:
    for one in list(hosts.values()):
        one.look()


on_trouble(_look)
