"""
`python -m benchmarks.efficacy.provider_quota`: what a provider's quota per minute answers to a client that keeps to it.

The provider counts N requests a minute in one of three ways: in fixed windows, in a sliding window, in a token bucket.
The client knows only N. It has more calls than the quota allows, in bursts, drops what its own limit rejects, and each
request arrives when it is sent: so a 429 is the law's own fault, not the network's.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from benchmarks.efficacy import _results
from resilio import RateLimit, rate_limit
from resilio.testing import virtual_time

__all__ = ["CLIENTS", "PROVIDERS", "main", "simulate", "table"]

MINUTE = 60.0
GRAIN = 1e-6  # a provider that reads its clock to the microsecond


class Provider(Protocol):
    """Counts requests; True: it answers, False: 429."""

    def __call__(self, now: float, /) -> bool: ...


def fixed_window(quota: int, phase: float) -> Provider:
    """Count anew each minute, from `phase` seconds on; the client does not know when."""
    used: dict[int, int] = {}

    def accepts(now: float) -> bool:
        window = int((now - phase + GRAIN) // MINUTE)
        used[window] = used.get(window, 0) + 1
        return used[window] <= quota

    return accepts


def sliding_window(quota: int, phase: float) -> Provider:  # noqa: ARG001 - it has none
    """Count the requests of the last minute."""
    seen: deque[float] = deque()

    def accepts(now: float) -> bool:
        while seen and seen[0] <= now - MINUTE + GRAIN:
            seen.popleft()
        if len(seen) >= quota:
            return False
        seen.append(now)
        return True

    return accepts


def token_bucket(quota: int, phase: float) -> Provider:  # noqa: ARG001 - it has none
    """Hold a minute's worth of tokens, which trickle in."""
    state = [float(quota), 0.0]

    def accepts(now: float) -> bool:
        tokens = min(quota, state[0] + (now - state[1]) * quota / MINUTE)
        enough = tokens >= 1 - GRAIN
        state[:] = [tokens - enough, now]
        return enough

    return accepts


PROVIDERS: dict[str, Callable[[int, float], Provider]] = {
    "fixed window": fixed_window,
    "sliding window": sliding_window,
    "token bucket": token_bucket,
}
CLIENTS: dict[str, Callable[[int], RateLimit]] = {
    'rate_limit("N/min")': lambda quota: rate_limit(f"{quota}/min"),
    'rate_limit("N/min", burst=1)': lambda quota: rate_limit(f"{quota}/min", burst=1),
    'rate_limit("N/min", burst=N)': lambda quota: rate_limit(f"{quota}/min", burst=quota),
}


def simulate(client: str, quota: int, minutes: int, seed: int = 1) -> tuple[int, dict[str, int]]:
    """
    Run a client against all three providers at once, each of which sees every request that the client lets pass.

    Args:
        client: One of `CLIENTS`.

        quota: Requests a minute, on both sides.

        minutes: How long.

        seed: Of the bursts, and of the phase of the fixed windows.

    Returns:
        Requests sent, and how many each provider answered with 429.
    """
    draw = random.Random(seed)
    providers = {name: make(quota, draw.uniform(0, MINUTE)) for name, make in PROVIDERS.items()}
    sent, rejected = 0, dict.fromkeys(PROVIDERS, 0)
    with virtual_time() as vt:
        limit = CLIENTS[client](quota)
        while vt.now < minutes * MINUTE:
            for _ in range(draw.randrange(1, quota)):
                if limit.try_acquire():
                    sent += 1
                    for name, accepts in providers.items():
                        rejected[name] += not accepts(vt.now)
            vt.advance(draw.expovariate(4 / MINUTE))  # four bursts a minute, of half a quota each: twice what may pass
    return sent, rejected


def table(minutes: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows.

    Args:
        minutes: How long each client runs.
    """
    for quota in (10, 60):
        for client in CLIENTS:
            sent, rejected = simulate(client, quota, minutes)
            used = f"{sent / (quota * minutes):.0%}"
            yield str(quota), f"`{client}`", used, *(f"{rejected[name] / sent:.1%}" for name in PROVIDERS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("What a provider's quota per minute answers.")
    parser.add_argument("--minutes", type=int, default=10_000, help="of virtual time for each row (10000)")
    options = parser.parse_args(arguments)
    text = _results.section(ABOUT, ("N", "client", "of the quota used", *PROVIDERS), table(options.minutes))
    _results.show("R17 a provider's quota per minute", text, recorded=options.record)


ABOUT = (
    "The share of requests that a provider of N requests a minute answers with 429, by how it counts. Must: none under "
    "the default law. The client offers twice the quota in bursts, and drops what its own limit rejects."
)

if __name__ == "__main__":
    main()
