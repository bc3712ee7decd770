"""
The functions of the library that one request meets: each is cold when it runs, and costs more than it looks.

Counted, not timed: a busy machine changes nothing of it. What it means in points of throughput is in the design notes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers.misbehaving import Misbehaving

import resilio

HERE = str(Path(resilio.__file__).parent)


@contextmanager
def entered() -> Iterator[set[Any]]:
    """Give the code of the library that this thread enters; how often depends on how an answer is cut into packets."""
    seen: set[Any] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HERE):
            seen.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(before)


POLICIES: dict[str, Callable[[], Any]] = {
    "breaker": resilio.circuit_breaker,
    "timeout": lambda: resilio.timeout(30.0),
}


@pytest.mark.parametrize(("name", "most"), [("breaker", 13), ("timeout", 25)])
def test_a_request_of_requests_passes_few_functions(server: Misbehaving, name: str, most: int) -> None:
    """A GET met 20 functions of the library at a breaker, 35 at a timeout: 3 and 6 % more instructions, all cold."""
    requests = pytest.importorskip("requests", reason="requests is not installed")
    from resilio.integrations.requests import Adapter

    policy = POLICIES[name]()
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Adapter(policy))
        for _ in range(3):
            session.get(server.url + "/ok")
        with entered() as seen:
            assert session.get(server.url + "/ok").status_code == 200
    assert policy.snapshot().successes == 4
    assert 0 < len(seen) <= most, seen


def test_a_request_of_aiohttp_passes_few_functions(server: Misbehaving) -> None:
    """A request met 5 functions of the library at a breaker, 2 of them coroutines: 4 % more instructions, all cold."""
    aiohttp = pytest.importorskip("aiohttp", minversion="3.12", reason="aiohttp >= 3.12 is not installed")
    from resilio.integrations.aiohttp import middleware

    policy = resilio.circuit_breaker()

    async def ask(session: Any) -> int:
        async with session.head(server.url + "/ok") as response:
            await response.read()
        return int(response.status)

    async def main() -> set[Any]:
        async with aiohttp.ClientSession(middlewares=(middleware(policy),)) as session:
            for _ in range(3):
                await ask(session)
            with entered() as seen:
                assert await ask(session) == 200
        return seen

    seen = asyncio.run(main())
    assert policy.snapshot().successes == 4
    assert 0 < len(seen) <= 2, seen
