"""
A service with policies in every mood, for pictures of the live page and for looking at it by hand.

`resilio watch sample_service` in this folder. Its callees do nothing but wait, fail and reject, on a schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any

import resilio
from resilio import ResilienceError

HOSTS = [f"node-{number}.example.net" for number in range(1, 9)]
QUIET = ["catalogue", "images", "mail", "profiles", "reviews", "sessions", "shipping", "tax", "translations"]


class Callee:
    """Waits about so long, and fails with this probability."""

    def __init__(self, seconds: float, failing: Callable[[], float], seed: int) -> None:
        self._seconds = seconds
        self._failing = failing
        self._draw = random.Random(seed)

    async def __call__(self, _: object = None) -> str:
        await asyncio.sleep(self._draw.lognormvariate(0.0, 0.5) * self._seconds)
        if self._draw.random() < self._failing():
            raise OSError("no answer")
        return "ok"


class Service:
    """The policies, and what calls them."""

    def __init__(self) -> None:
        self.ill = 0.0  # how often payments fails
        self.hosts = resilio.keyed(resilio.circuit_breaker, key=lambda host: host, name="storage nodes")
        self.calls = [
            (self._payments(), 60.0),
            (self._search(), 140.0),
            (self._recommendations(), 90.0),
            (resilio.rate_limit("40/s", name="partner quota", max_wait=0.1)(Callee(0.03, lambda: 0.0, 3)), 52.0),
            (resilio.load_shed(max_concurrent=8, name="public api")(Callee(0.09, lambda: 0.01, 4)), 110.0),
            (resilio.adaptive_limit(name="orders db")(Callee(0.02, lambda: 0.0, 5)), 130.0),
            (self._orders(), 30.0),
            *(self._quiet(name, number) for number, name in enumerate(QUIET, 1)),
        ]
        self.store = self.hosts(Callee(0.012, self._node_fails, 6))

    def _quiet(self, name: str, number: int) -> tuple[Any, float]:
        return resilio.circuit_breaker(name)(Callee(0.01 * number, lambda: 0.004, 9 + number)), 7.0 * number

    def _payments(self) -> Any:
        guarded = resilio.pipeline(
            resilio.circuit_breaker("payments", consecutive=5, open_for=2.0, max_open_for=4.0),
            resilio.bulkhead(12, name="payments pool"),
            name="checkout",
        )
        return guarded(Callee(0.06, lambda: self.ill, 1))

    def _search(self) -> Any:
        inner = resilio.bulkhead(10, max_queued=40, max_wait=1.0, name="search pool")(Callee(0.075, lambda: 0.0, 2))
        return resilio.hedge(idempotent=True, name="search")(inner)

    def _recommendations(self) -> Any:
        return resilio.bulkhead(6, name="recommendations")(Callee(0.08, lambda: 0.02, 7))

    def _orders(self) -> Any:
        return resilio.retry(on=OSError, name="orders", attempts=3)(Callee(0.02, lambda: 0.1, 8))

    def _node_fails(self) -> float:
        return 0.0

    async def run(self) -> None:
        """Call all of them at their rates, for good."""
        async with asyncio.TaskGroup() as tasks:
            for number, (call, rate) in enumerate(self.calls):
                tasks.create_task(self._drive(call, rate, random.Random(number)))
            tasks.create_task(self._drive_hosts(random.Random(99)))
            tasks.create_task(self._fall_ill())

    async def _fall_ill(self) -> None:
        while True:
            for self.ill, seconds in ((0.0, 6.0), (0.95, 9.0)):
                await asyncio.sleep(seconds)

    async def _drive(self, call: Any, rate: float, draw: random.Random) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(draw.expovariate(rate))
                tasks.create_task(_quietly(call))

    async def _drive_hosts(self, draw: random.Random) -> None:
        broken = {HOSTS[2]: _Broken(), HOSTS[5]: _Broken()}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(draw.expovariate(80.0))
                host = draw.choice(HOSTS)
                tasks.create_task(_quietly(self.hosts.acall, broken.get(host, self._fine), host))

    async def _fine(self, _: str) -> str:
        await asyncio.sleep(0.012)
        return "ok"


class _Broken:
    async def __call__(self, _: str) -> str:
        await asyncio.sleep(0.01)
        raise OSError("no answer")


async def _quietly(call: Any, *arguments: Any) -> None:
    with contextlib.suppress(OSError, ResilienceError):
        await call(*arguments)


service = Service()


def _work() -> None:
    asyncio.run(service.run())


threading.Thread(target=_work, name="sample service", daemon=True).start()
