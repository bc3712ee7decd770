"""Shared policy x a real server without memory: each exchange fails whole, on the same virtual clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from crossings.test_stores import KINDS, STEP, workers
from servers.processes import installed
from servers.valkey import Valkey

from resilio._native.gates import answers_of
from resilio.sharing import Answer, Ask, MemoryEngine, StoreProblem
from resilio.sharing._fleet.script import SCRIPT, SHA
from resilio.testing import VirtualTime

valkey = pytest.importorskip("valkey")

from scripts_of_fleet import text_of  # noqa: E402

FULL, END = 3.0, 12.0
"""When the server's memory ends; all leases of before end meanwhile."""


class Scripted(MemoryEngine):
    """The script in a server, which gets the virtual time."""

    def __init__(self, vt: VirtualTime, client: Any) -> None:
        super().__init__(lambda: round(vt.now * 1e6) + 10**12)
        self.client = client
        self.passed: list[Ask] = []

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        answers = [self._ask(ask) for ask in asks]
        self.passed += [ask for ask, answer in zip(asks, answers, strict=True) if isinstance(answer, Answer)]
        return answers

    def _ask(self, ask: Ask) -> Any:
        line = self.client.execute_command("EVALSHA", SHA, 1, ask.key, text_of(ask), str(self._now_us()))
        return answers_of([ask], line)[0]


@pytest.fixture
def store(vt: VirtualTime) -> Iterator[Scripted]:
    """Return a store that a server keeps."""
    with installed(Valkey) as running, valkey.Valkey(port=running.port) as client:
        client.script_load(SCRIPT)
        client.config_set("maxmemory-policy", "noeviction")
        yield Scripted(vt, client)


@pytest.mark.parametrize("kind", KINDS)
def test_without_memory_no_exchange_passes(vt: VirtualTime, store: Scripted, kind: str) -> None:
    """Exchanges that deleted a lease first passed and the others did not: a limit came and went."""
    one, gone = workers(store, kind)  # the other one's lease ends, and would be deleted
    while vt.now < END:
        if vt.now < FULL:
            gone.call()
        elif store.client.config_get("maxmemory")["maxmemory"] == "0":
            assert {ask.key for ask in store.passed} >= {key.decode() for key in store.client.scan_iter()}
            store.client.config_set("maxmemory", "1mb")
            store.passed.clear()
        one.call()
        vt.advance(STEP)
    assert one.fleet.courier.lost > 0
    assert not store.passed
