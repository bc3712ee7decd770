"""Several real nodes of Valkey that belong together: a master with a replica and a Sentinel; a cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from servers.processes import installed, kept_port
from servers.valkey import Valkey

__all__ = ["Cluster", "Watched", "until"]

_PATIENCE = 60.0
SLOTS = 16384


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true, at which a busy machine may take its time."""
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it did not come true")
        time.sleep(0.02)


class _Sentinel(Valkey):
    """A Sentinel of one master, with a quorum of one; a master that is slow on a busy machine is not down."""

    def __init__(self, master: Valkey) -> None:
        super().__init__()
        self.master = master

    def command(self) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor shop 127.0.0.1 {self.master.port} 1",
            "sentinel down-after-milliseconds shop 2000",
            "sentinel failover-timeout shop 2000",
        ]
        path = self.folder / "sentinel.conf"
        path.write_text("\n".join(lines))
        path.chmod(0o666)  # it writes what it finds out
        return [self.binaries[self.programs[0]], str(path), "--sentinel"]


class Watched:
    """A master, its replica, and a Sentinel that watches them, under the name "shop"."""

    def __init__(self) -> None:
        self.master = installed(Valkey)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.master)
        of = ["--replicaof", "127.0.0.1", str(self.master.port)]
        self.replica = self._stack.enter_context(installed(Valkey, options=of))
        until(lambda: b"master_link_status:up" in self.replica.send("INFO", "replication"))
        self.sentinel = self._stack.enter_context(_Sentinel(self.master))
        until(lambda: b"num-slaves\r\n$1\r\n1" in self.sentinel.send("SENTINEL", "MASTER", "shop"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fail_over(self) -> None:
        """Kill the master, and wait until the replica is one."""
        self.master.kill()
        until(lambda: _shows(self.replica, b"role:master", "INFO", "replication"))
        port = str(self.replica.port).encode()
        until(lambda: _shows(self.sentinel, port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"))


def _shows(server: Valkey, text: bytes, *command: str) -> bool:
    """Return True if the answer has this text; a server that is given another role closes its connections."""
    try:
        return text in server.send(*command)
    except OSError:
        return False


class Cluster:
    """Two nodes with half of the slots each."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        keepers = [self._stack.enter_context(kept_port()) for _ in range(2)]
        self._buses = [keeper.getsockname()[1] for keeper in keepers]
        self.nodes = [self._node(bus) for bus in self._buses]
        for node, (first, last) in zip(self.nodes, ((0, SLOTS // 2 - 1), (SLOTS // 2, SLOTS - 1)), strict=True):
            assert node.send("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)) == b"+OK\r\n"
        one, other = self.nodes
        met = one.send("CLUSTER", "MEET", "127.0.0.1", str(other.port), str(self._buses[1]))
        assert met == b"+OK\r\n"
        until(lambda: all(b"cluster_state:ok" in node.send("CLUSTER", "INFO") for node in self.nodes))
        until(lambda: all(b"cluster_known_nodes:2" in node.send("CLUSTER", "INFO") for node in self.nodes))
        return self

    def _node(self, bus: int) -> Valkey:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "15000"]
        options += ["--cluster-require-full-coverage", "no"]
        return self._stack.enter_context(installed(Valkey, options=options))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def node_of(self, slot: int) -> Valkey:
        """Return the node that has a slot."""
        return self._both(slot)[0]

    def _has(self, n: int, slot: int) -> bool:
        lines = self.nodes[n].send("CLUSTER", "NODES").decode().splitlines()
        mine = next(line for line in lines if "myself" in line)
        ranges = [part.split("-") for part in mine.split()[8:] if not part.startswith("[")]
        return any(int(part[0]) <= slot <= int(part[-1]) for part in ranges)

    def begin_move(self, slot: int) -> None:
        """Begin to move a slot to the other node: keys that are not there yet are asked for with ASK."""
        source, target = self._both(slot)
        assert target.send("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self._id(source)) == b"+OK\r\n"
        assert source.send("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self._id(target)) == b"+OK\r\n"

    def move_keys(self, slot: int) -> None:
        """Move the keys of a slot."""
        source, target = self._both(slot)
        found = source.send("CLUSTER", "GETKEYSINSLOT", str(slot), "100").decode()
        for key in re.findall(r"\$\d+\r\n(.*?)\r\n", found):
            assert source.send("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000") == b"+OK\r\n"

    def end_move(self, slot: int) -> None:
        """Give the slot to the other node."""
        source, target = self._both(slot)
        for node in (target, source):
            assert node.send("CLUSTER", "SETSLOT", str(slot), "NODE", self._id(target)) == b"+OK\r\n"

    def _both(self, slot: int) -> tuple[Valkey, Valkey]:
        source = next(n for n in range(2) if self._has(n, slot))
        return self.nodes[source], self.nodes[1 - source]

    @staticmethod
    def _id(node: Valkey) -> str:
        return node.send("CLUSTER", "MYID").decode().split("\r\n")[1]
