"""One scenario against one system: the faults, the calls, and a last call once all is well again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import anyio
import attrs

from benchmarks.failover._catalogue import Scenario
from benchmarks.failover._evidence import FALLBACK, PRIMARY, Answer, Call, Evidence
from benchmarks.failover._provider import Provider

__all__ = ["PROMPT", "Ask", "Place", "System", "play"]

PROMPT: list[Any] = [{"role": "user", "content": "Name sixty tokens."}]
_ALIVE = 10.0  # seconds in which the call after the faults must be answered

Ask = Callable[[], Awaitable[Answer]]
"""One call for the answer to `PROMPT`; what it raises is the caller's error."""


@attrs.frozen
class Place:
    """
    The addresses of the provider, and the way in which it is called.

    Attributes:
        primary: The address of the endpoint to ask first, without `/v1`.

        fallback: That of the other one.

        label: Another for each scenario, for policies that have names.

        stream: Whether answers are streamed.
    """

    primary: str
    fallback: str
    label: str
    stream: bool = True


class System(Protocol):
    """A system under test: what an application has between itself and its providers."""

    name: str
    has_fallback: bool

    def opened(self, place: Place) -> AbstractAsyncContextManager[Ask]:
        """
        Return the system, set up for one scenario.

        Args:
            place: Where its providers are.
        """
        ...


async def play(scenario: Scenario, system: System, *, stream: bool = True) -> Evidence:
    """
    Return what one scenario shows of one system.

    Args:
        scenario: The faults and the calls.

        system: Opened for this scenario alone.

        stream: Whether answers are streamed.
    """
    provider = Provider({PRIMARY: scenario.primary, FALLBACK: scenario.fallback})
    place = Place(provider.url(PRIMARY), provider.url(FALLBACK), f"{scenario.key} {system.name} {id(provider)}", stream)
    async with system.opened(place) as ask, provider.serving():
        began = anyio.current_time()
        calls = []
        for number in range(scenario.calls):
            await anyio.sleep_until(began + number * scenario.every)
            calls.append(await _call(ask, began, scenario.patience))
        requests = tuple(provider.requests)
        provider.heal()
        alive = await _call(ask, began, _ALIVE)
    return Evidence(calls, requests, alive, system.has_fallback)


async def _call(ask: Ask, began: float, patience: float) -> Call:
    at = anyio.current_time()
    result: dict[str, Any] = {}
    with anyio.move_on_after(patience):
        try:
            result["answer"] = await ask()
        except Exception as error:  # noqa: BLE001  (each is a finding)
            result["error"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Call(at - began, anyio.current_time() - at, **result)
