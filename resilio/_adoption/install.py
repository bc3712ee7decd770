"""Guard a program's clients without an edit of it."""

from __future__ import annotations

import atexit
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from resilio._adoption import patches
from resilio._adoption.hosts import Hosts
from resilio._adoption.importing import forget, when_imported
from resilio._adoption.points import CLIENTS, POINTS
from resilio._adoption.report import Report, report_of
from resilio._adoption.settings import settings_of
from resilio._native.clock import now_ns

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Installed", "install"]


class Installed:
    """A trial that is on: the stacks so far, and the report about them."""

    def __init__(self, hosts: Hosts) -> None:
        """
        Begin to count.

        Args:
            hosts: The stacks.
        """
        self._hosts = hosts
        self._since = now_ns()
        self._process = os.getpid()

    @property
    def shadow(self) -> bool:
        """True if nothing is rejected, repeated or interrupted."""
        return self._hosts.settings.shadow

    def report(self) -> Report:
        """Return what happened until now; `print` shows it."""
        return report_of(self._hosts, (now_ns() - self._since) / 1e9)

    def remove(self) -> None:
        """Leave all clients that are made from now on alone; those that are guarded stay so."""
        global _installed  # one program, one trial
        forget()
        patches.restore()
        atexit.unregister(self._say)
        _installed = None

    def _say(self) -> None:
        """Print the report as the process ends, that of a forked child too."""
        if any(True for _ in self._hosts):
            print(self.report(), file=sys.stderr)


_installed: Installed | None = None


def install(config: str | Path | None = None, *, shadow: bool | None = None) -> Installed:
    """
    Guard the clients that this program makes from now on, with one :func:`resilio.standard` for each host they call.

    httpx, httpx2, requests, aiohttp, grpc.aio, openai, anthropic, redis and valkey: those that are imported, now or
    later. A report is printed to standard error as the process ends. `resilio run` does this to a program from outside.

    Args:
        config: A TOML file with the keys `shadow`, `clients` and `hosts."name:port"`, options of `standard` or
            `skip = true`. None: the defaults.
        shadow: True: nothing is rejected, repeated or interrupted, and the report shows what would have been. None:
            the value in the file, else False.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no TOML, or has a key, client or value that is not known.
        TypeError: A value of a wrong type.
        RuntimeError: It was called before: `remove` that first.
    """
    global _installed
    if _installed is not None:
        raise RuntimeError("resilio is installed already: call remove() of what install() returned first")
    hosts = Hosts(settings_of(config, CLIENTS, shadow=shadow))
    wanted = hosts.settings.clients
    _installed = made = Installed(hosts)
    for point in POINTS:
        if wanted is None or point.client in wanted:
            when_imported(point.module, partial(point.wire, hosts=hosts))
    atexit.register(made._say)
    return made
