"""What a hedge's race took is told as the winner has seen it, whatever stands inside of the hedge, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import sleep
from measured import measured

from resilio import CallTimeoutError, circuit_breaker, current, pipeline, timeout
from resilio.testing import VirtualTime

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["a breaker inside", "nothing inside", "a breaker outside"])
def stack(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return what makes a pipeline with a hedge that copies after a quarter of a second."""
    inside = [circuit_breaker()] if request.param == "a breaker inside" else []
    outside = [circuit_breaker()] if request.param == "a breaker outside" else []
    return lambda *more: pipeline(*more, *outside, measured(after=0.25), *inside)


def spent(policy: Any) -> dict[str, float]:
    """Return what the policy's calls have spent time on, rounded to the microsecond."""
    return {name: round(value, 6) for name, value in policy.call_seconds.items() if value}


def lasting(primary: float, copy: float, fails: bool = False) -> Callable[[], Any]:
    """Return a function that takes so long, as the call itself and as a copy."""

    async def work() -> None:
        await sleep(copy if current().hedge else primary)
        if fails:
            raise OSError

    return work


async def test_a_copy_that_wins_is_the_attempt(vt: VirtualTime, stack: Callable[..., Any]) -> None:
    """The hedge is what the call had waited until the copy began; what the primary did was wasted."""
    whole = stack()
    await whole.acall(lasting(1.0, 0.125))
    assert spent(whole) == {"hedge": 0.25, "attempt": 0.125, "wasted": 0.375}


async def test_a_copy_that_loses_was_wasted(vt: VirtualTime, stack: Callable[..., Any]) -> None:
    """From its beginning to its end, whether the primary won or nobody did."""
    whole = stack()
    await whole.acall(lasting(0.5, 1.0))
    await sleep(1)
    assert spent(whole) == {"attempt": 0.5, "wasted": 0.25}
    with pytest.raises(OSError):
        await whole.acall(lasting(1.0, 0.125, fails=True))
    assert spent(whole) == {"attempt": 1.5, "wasted": 0.375}


async def test_waiting_for_a_copy_is_the_hedge(vt: VirtualTime, stack: Callable[..., Any]) -> None:
    """When the primary has failed, what the call waits for is no attempt of its own any more."""
    whole = stack()
    with pytest.raises(OSError) as caught:
        await whole.acall(lasting(0.375, 0.5, fails=True))
    assert caught.value.resilio_segments.asdict()["hedge"] == 0.375
    assert spent(whole) == {"attempt": 0.375, "hedge": 0.375, "wasted": 0.5}


async def test_cancelled_with_its_call_a_copy_was_wasted(vt: VirtualTime, stack: Callable[..., Any]) -> None:
    """From outside or by a timeout around the hedge; no collector has to come by."""
    whole = stack()
    with anyio.move_on_after(0.5):
        await whole.acall(lasting(2.0, 2.0))
    await sleep(1)
    assert spent(whole) == {"attempt": 0.5, "wasted": 0.25}
    timed = stack(timeout(0.5))
    with pytest.raises(CallTimeoutError):
        await timed.acall(lasting(2.0, 2.0))
    await sleep(1)
    assert spent(timed) == {"attempt": 0.5, "wasted": 0.25}
