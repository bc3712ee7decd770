"""
`python -m benchmarks.efficacy.retry_load`: how many calls retries with a budget save, and what load they add.

The experiment of Marc Brooker, "Fixing retries with token buckets and circuit breakers" (2022): clients whose attempts
fail independently of each other. What is offered is the same for few clients of many calls and many clients of few: a
budget that every client brings along must not add up. The clients are the real library, on virtual time.

While fewer than 44 in 100 attempts fail, four attempts alone give a load of 1 + f + f^2 + f^3, with a share of f of
failures. From there on the budget grants a retry for every ten calls that end well, in the long run, so the load is at
most 1 / (1 - 0.1 (1 - f)). Whatever the load, a share of 1 - f of it ends well. `initial` and the reserve come on top.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.efficacy import _results
from resilio import RetryBudget, retry
from resilio.testing import seeded, virtual_time

__all__ = ["Share", "analytic", "budgeted", "main", "offer", "table"]

OFFERED = 10_000.0  # calls per second of all clients
LATENCY = 0.01  # of an attempt, in seconds
START, CALLS = 100, 500  # of a client: the first ones, in which it has what it starts with; all
ATTEMPTS = 4
RATIO = 0.1
WELL = 0.44  # below this share of failures a retry that succeeds pays for others

Attempt = Callable[[int], Awaitable[None]]
Stack = Callable[[Attempt], Attempt]


def budgeted(attempt: Attempt) -> Attempt:
    """Try four times, with a budget of the defaults."""
    return retry(on=ConnectionError, attempts=ATTEMPTS, budget=RetryBudget())(attempt)


@dataclass
class Share:
    """Some of the calls: how many were made, how many ended well, and how many attempts they took."""

    calls: int = 0
    served: int = 0
    attempts: int = 0

    @property
    def success(self) -> float:
        """The share that ended well."""
        return self.served / self.calls

    @property
    def load(self) -> float:
        """Attempts for each call."""
        return self.attempts / self.calls


def analytic(failing: float) -> tuple[float, float]:
    """Return the share that ends well and the load in the long run."""
    unlimited = sum(failing**attempt for attempt in range(ATTEMPTS))
    load = unlimited if failing < WELL else min(unlimited, 1 / (1 - RATIO * (1 - failing)))
    return load * (1 - failing), load


async def _offer(stack: Stack, clients: int, failing: float, seed: int) -> tuple[Share, Share]:
    draw = random.Random(seed)
    shares = Share(), Share()

    async def attempt(late: int) -> None:
        shares[late].attempts += 1
        await asyncio.sleep(LATENCY)
        if draw.random() < failing:
            raise ConnectionError

    async def one(call: Attempt, late: int) -> None:
        shares[late].calls += 1
        try:
            await call(late)
        except ConnectionError:
            return
        shares[late].served += 1

    loop = asyncio.get_running_loop()
    calls, made = [stack(attempt) for _ in range(clients)], [0] * clients
    now = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients * CALLS):
            now += draw.expovariate(OFFERED)
            await asyncio.sleep(now - loop.time())
            client = draw.randrange(clients)
            tasks.create_task(one(calls[client], made[client] >= START))
            made[client] += 1
    return shares


def offer(stack: Stack, clients: int, failing: float, runs: int = 1) -> tuple[Share, Share]:
    """
    Let clients call, and return what came of the first hundred calls of each, and of the later ones.

    Args:
        stack: Makes a client's call of an attempt.

        clients: That share the load.

        failing: Share of the attempts that fail, 0..1.

        runs: With the seeds 1, 2, ...; they are added up.
    """
    sums = Share(), Share()
    for seed in range(1, runs + 1):
        with virtual_time() as vt, seeded(seed):
            for total, share in zip(sums, vt.run(_offer, stack, clients, failing, seed), strict=True):
                total.calls += share.calls
                total.served += share.served
                total.attempts += share.attempts
    return sums


HEADER = (
    "failing",
    "clients",
    "calls/s each",
    "success must",
    "analytic",
    "published",
    "first 100",
    "later",
    "load must",
    "analytic",
    "published",
    "first 100",
    "later",
)
# Brooker's "adaptive", 100 calls of each of 100 clients, run again for the study: success and load.
_PUBLISHED = {0.01: ("1.000", "1.01"), 0.05: ("1.000", "1.05"), 0.1: ("0.992", "1.10"), 0.2: ("0.907", "1.13")}
_PUBLISHED |= {0.5: ("0.575", "1.14"), 0.75: ("0.282", "1.14")}
_MUST = {0.01: ("0.999", "-"), 0.05: ("0.999", "-"), 0.5: ("-", "1.1, later 1.06")}


def table(effort: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows under `HEADER`.

    Args:
        effort: Clients to be had in each row, in one run or several.
    """
    for failing, published in _PUBLISHED.items():
        for clients in (10, 100, 1000):
            success, load = analytic(failing)
            first, later = offer(budgeted, clients, failing, max(1, effort // clients))
            must = _MUST.get(failing, ("-", "-"))
            yield (
                *(f"{failing:.0%}", f"{clients:,}", f"{OFFERED / clients:,.0f}"),
                *(must[0], f"{success:.4f}", published[0], f"{first.success:.4f}", f"{later.success:.5f}"),
                *(must[1], f"{load:.3f}", published[1], f"{first.load:.3f}", f"{later.load:.3f}"),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("What retries with a budget save, and the load that they add.")
    parser.add_argument("--clients", type=int, default=1000, help="clients in each row, in several runs (1000)")
    options = parser.parse_args(arguments)
    text = _results.section(ABOUT, HEADER, table(options.clients))
    _results.show("R6 retries against load", text, recorded=options.record)


ABOUT = (
    f"Clients that offer {OFFERED:,.0f} calls/s together; attempts fail independently; {ATTEMPTS} attempts and a "
    f"budget of the defaults for each client. The first {START} calls of a client and the {CALLS - START} later ones. "
    "Success is the share of calls that end well, load is attempts for each call."
)

if __name__ == "__main__":
    main()
