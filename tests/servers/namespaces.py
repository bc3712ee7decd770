"""Hosts with a network each: namespaces of the kernel, whose only link is the one to the host that has the store."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from servers.processes import Unavailable

__all__ = ["Link", "Namespace", "Network"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_OWN = Path("/proc/thread-self/ns/net")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    """A network of its own, with a loopback; it ends with the process that made it, however that ends."""

    def __enter__(self) -> Self:
        # `cat` ends when its input does, and the network with it.
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        end = time.monotonic() + 60
        while self.path.resolve() == _OWN.resolve() or self.path.readlink() == _OWN.readlink():
            if self._holder.poll() is not None or time.monotonic() > end:
                raise Unavailable("unshare --net is not allowed")
            time.sleep(0.005)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._holder.pid

    @property
    def path(self) -> Path:
        """Where the kernel has it."""
        return Path(f"/proc/{self._holder.pid}/ns/net")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and what it starts and connects meanwhile, be in it."""
        own = os.open(_OWN, os.O_RDONLY)
        try:
            _enter(self.path)
            yield
        finally:
            _set(own)
            os.close(own)

    def ip(self, *arguments: str) -> None:
        """Run `ip` in it."""
        with self.entered():
            _run("ip", *arguments)

    def tc(self, *arguments: str) -> str:
        """Run `tc` in it, and return what it prints."""
        with self.entered():
            return _run("tc", *arguments)


def _enter(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        _set(number)
    finally:
        os.close(number)


def _set(number: int) -> None:
    if _LIBC.setns(number, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Link:
    """The link between the store's host and another one, by the number of that one."""

    def __init__(self, store: Namespace, host: Namespace, number: int) -> None:
        self._store = store
        self._name = f"host{number}"
        self.address = f"10.77.{number}.1"
        """The store's address, as that host sees it."""
        try:
            store.ip("link", "add", self._name, "type", "veth", "peer", "name", "shop", "netns", str(host.pid))
        except OSError as error:
            raise Unavailable(str(error)) from error
        store.ip("address", "add", f"{self.address}/24", "dev", self._name)
        host.ip("address", "add", f"10.77.{number}.2/24", "dev", "shop")
        host.ip("link", "set", "shop", "up")
        self.mend()

    def cut(self) -> None:
        """Let nothing pass: neither side learns of it."""
        self._store.ip("link", "set", self._name, "down")

    def mend(self) -> None:
        """Let everything pass again."""
        self._store.ip("link", "set", self._name, "up")

    def spoil(self) -> None:
        """Delay and lose a part of what the store sends."""
        place = ("qdisc", "add", "dev", self._name, "root")
        try:
            self._store.tc(*place, "netem", "delay", "20ms", "10ms", "loss", "10%")
        except OSError:  # a kernel without it: a narrow link, with a queue that is short
            self._store.tc(*place, "tbf", "rate", "4kbit", "burst", "1600", "latency", "50ms")

    def spoiled(self) -> int:
        """Return how many packets of the store were lost, or had to wait."""
        shown = self._store.tc("-s", "qdisc", "show", "dev", self._name)
        return sum(map(int, re.findall(r"(?:dropped|overlimits) (\d+)", shown)))


class Network:
    """A host for the store, and some others that are linked to it alone; skips the test where it cannot be made."""

    def __init__(self, hosts: int) -> None:
        self._n = hosts
        self._stack = ExitStack()
        self.hosts: list[Namespace] = []
        self.links: list[Link] = []

    def __enter__(self) -> Self:
        if sys.platform != "linux" or os.geteuid() != 0 or not (all(map(shutil.which, ("ip", "tc", "unshare")))):
            pytest.skip("NOT TESTED: hosts in network namespaces, which need root, ip, tc and unshare")
        try:
            self.store = self._stack.enter_context(Namespace())
            for number in range(self._n):
                self.hosts.append(self._stack.enter_context(Namespace()))
                self.links.append(Link(self.store, self.hosts[-1], number))
        except Unavailable as error:
            self._stack.close()
            pytest.skip(f"NOT TESTED: hosts in network namespaces: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
