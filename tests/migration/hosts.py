"""Hosts that each run a snippet of the pair "hosts", with one real Valkey: a host is a directory for its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from servers.processes import installed
from servers.valkey import Valkey
from workers_of_host import Asked, started, until

from migration.pairs import PAGES, pairs_of

__all__ = ["admitted_by", "hosts_of", "outage_of", "trouble_of"]

N = 3
PATIENT = '["CACHE_URL"], timeout=30)'
"""A store answers a fleet within 50 ms by default, and a machine that has other work does not."""

CALLEE = """
def called(well):
    client.well = well
    try:
        return fetch("/users")
    except ConnectionError:
        return "failed"
    except Rejected:
        return "rejected"

class Client:
    calls = 0
    def get(self, url):
        self.calls += 1
        if self.well:
            return "users"
        raise ConnectionError("no")

client = Client()
"""
"""A callee that fails or does not, as the call says, for the snippets of breakers."""


@contextmanager
def hosts_of(library: str, side: int, folder: Path, then: str = "") -> Iterator[list[Asked]]:
    """
    Start a process on each of three hosts.

    Args:
        library: The page.

        side: 0: the library's snippet; 1: ours.

        folder: Where the hosts are.

        then: Code that follows the snippet.
    """
    pytest.importorskip("redis")
    code = pairs_of(PAGES / f"{library}.md")["hosts"][side]
    if side == 1:
        assert '["CACHE_URL"])' in code
        code = code.replace('["CACHE_URL"])', PATIENT)
    with installed(Valkey) as server, ExitStack() as stack:
        url = f"redis://127.0.0.1:{server.port}/0"
        hosts = []
        for n in range(N):
            place = folder / f"{side}-{n}"
            place.mkdir(mode=0o700)
            environment = {"CACHE_URL": url, "RESILIO_SHARED_DIR": str(place), "RESILIO_HOST_NAME": f"host{n}"}
            hosts += stack.enter_context(started(1, f"{code}\n{then}", **environment))
        yield hosts


def admitted_by(hosts: list[Asked], answered: str = "True") -> int:
    """
    Return how many calls the hosts admit in all, in turns, until each of them has rejected a hundred.

    Args:
        hosts: Where `allowed()` is defined.

        answered: What is true of a host once the store has answered it; rejections count from then on.
    """
    admitted, rejected = 0, dict.fromkeys(hosts, 0)

    def is_over() -> bool:
        nonlocal admitted
        for host in hosts:
            passed, counts = host.ask(f"(bool(allowed()), {answered})")
            admitted += passed
            rejected[host] += counts and not passed
        return min(rejected.values()) >= 100

    until(is_over, "each host rejects a hundred calls")
    return admitted


def outage_of(hosts: list[Asked]) -> int:
    """Let two hosts see an outage until the third, which sees no failure, rejects; return the calls into it."""
    *callers, idle = hosts
    assert idle.ask("called(True)") == "users"

    def is_open() -> bool:
        for host in callers:
            host.ask("called(False)")
        return bool(idle.ask("state()") == "open")

    until(is_open, "the breaker of a host without failures opens")
    assert idle.ask("called(True)") == "rejected"
    assert idle.ask("client.calls") == 1
    return sum(host.ask("client.calls") for host in callers)


def trouble_of(hosts: list[Asked], *, in_turns: bool) -> list[int]:
    """Let one host fail for a reason of its own, and the others be well; return what reached the callee from each."""
    broken, *well = hosts
    rounds = [[broken, *well]] * 100 if in_turns else [[broken]] * 100 + [well] * 100
    for callers in rounds:
        for host in callers:
            host.ask(f"called({host is not broken})")
    return [host.ask("client.calls") for host in hosts]
