"""What a policy shows of itself in a log line, a debugger or an error message: its kind, its name, what matters now."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio import (
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    fallback,
    hedge,
    keyed,
    load_shed,
    pipeline,
    rate_limit,
    retry,
    standard,
    timeout,
)


def opened() -> Any:
    breaker = circuit_breaker("payments", consecutive=1, open_for="1s")
    breaker.try_call(lambda: 1 / 0)
    return breaker


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: circuit_breaker("payments"), "<CircuitBreaker 'payments' closed>"),
        (lambda: rate_limit("500/min", name="openai"), "<RateLimit 'openai' 500/min, burst 500>"),
        (
            lambda: rate_limit("10/s", resilio.Rate("9000/min", unit="tokens")),
            "<RateLimit 10/s, burst 10, 9000/min tokens, burst 150>",
        ),
        (lambda: bulkhead(5, name="pool"), "<Bulkhead 'pool' 0 of 5 in flight>"),
        (lambda: adaptive_limit(name="replica"), "<AdaptiveLimit 'replica' 0 of 20 in flight>"),
        (lambda: load_shed(name="front", max_concurrent=8), "<LoadShed 'front' normal, 0 of 8 in flight>"),
        (lambda: retry(on=OSError, backoff="1s"), "<Retry 3 attempts, constant(1.0)>"),
        (lambda: retry(on=OSError, attempts=None, budget=None, backoff=1.0), "<Retry any number of attempts, "),
        (lambda: hedge(idempotent=True), "<Hedge after p95>"),
        (lambda: hedge(idempotent=True, after=["100ms", 0.5]), "<Hedge after 0.1 s, 0.5 s>"),
        (lambda: timeout("2s"), "<Timeout 2 s>"),
        (lambda: timeout("p99*3", ceiling=5.0), "<Timeout p99*3, 5 s now>"),
        (lambda: timeout(first=3.0, idle=1.0), "<Timeout first 3 s, idle 1 s>"),
        (lambda: fallback(int, on=OSError, default=1), "<Fallback to int, default>"),
        (lambda: keyed(circuit_breaker, key="host"), "<Keyed a circuit_breaker a key, 0 keys>"),
        (lambda: keyed(adaptive_limit, key="host"), "<Keyed an adaptive_limit a key, 0 keys>"),
        (lambda: pipeline(retry(on=OSError), bulkhead(3), name="shop"), "<Pipeline 'shop' retry > bulkhead>"),
        (lambda: standard("s", on="redis"), "<Standard 's' deadline > retry > circuit_breaker > bulkhead > timeout>"),
    ],
)
def test_a_policy_shows_what_it_does(make: Callable[[], Any], shown: str) -> None:
    """`<RateLimit>` said neither how much nor how full, so that a log line of it was of no use."""
    assert repr(make()).startswith(shown)


def test_a_policy_shows_its_state_and_its_load(vt: Any) -> None:
    """An open breaker tells when it lets a probe pass, a pool how full it is and who waits, a stack that it drains."""
    shown = repr(opened())
    assert shown.startswith("<CircuitBreaker 'payments' open, retry after ")
    pool, seen = bulkhead(1, name="pool", max_queued=3, max_wait=5.0), []

    async def main() -> None:
        async with pool:
            waiting = pool.acall(main_of_another)
            waiting.send(None)
            seen.append(repr(pool))
            waiting.close()

    async def main_of_another() -> None: ...

    vt.run(main)
    assert seen == ["<Bulkhead 'pool' 1 of 1 in flight, 1 queued>"]
    stack = pipeline(pool, name="drains")
    stack.drain(timeout=0)
    assert repr(stack) == "<Pipeline 'drains' bulkhead, drained>"


ARTICLE = re.compile(r"\ba \{[\w.]*kind\}")


def test_messages_have_the_right_article() -> None:
    """A kind may begin with a vowel: five messages named "a adaptive_limit"."""
    package = Path(resilio.__file__).parent
    texts = {path.name: ARTICLE.findall(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
    assert {name: found for name, found in texts.items() if found} == {"show.py": ["a {kind}"]}
