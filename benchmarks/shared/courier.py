"""
`python -m benchmarks.shared.courier`: what a fleet's courier takes from the calls of its process.

Two figures, with a Valkey of this process on the same machine:

- the processor time of a trip for ten policies, in the thread that makes it, in two parts. The system's part is the
  time inside of the socket's own send and receive, which release the interpreter's lock for their system calls, and do
  next to nothing beside them. In all of the rest the thread holds the lock. Between the trips the process sleeps, so a
  trip begins with cold caches. Where the processors sleep too, as on a guest that does nothing else, the figures are
  several times higher, as those of any work after a sleep;
- the 99.9th percentile of calls with a fleet whose store is stopped (SIGSTOP), over that of calls with a fleet whose
  store answers, and over that of calls without a fleet, in interleaved pairs of blocks: the median of the ratios, and
  its 95 % confidence.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from benchmarks.micro import _work
from benchmarks.micro._fleet import of_fleet
from benchmarks.peers._redis import server, stopped
from resilio import RateLimitedError, rate_limit, registry
from resilio.sharing import Fleet, fleet

POLICIES, TRIPS = 10, 200
BLOCK, PAIRS = 2000, 500
RATE = 50_000_000
MUST_US = 200.0


def _policies(scope: Any) -> list[Callable[[], Any]]:
    return [rate_limit("1000/s", name=f"limit {number}", scope=scope)(_work.callee()) for number in range(POLICIES)]


class _System:
    """The processor time of this thread inside of a socket's send and receive, in seconds, while it is entered."""

    NAMES = ("send", "sendall", "recv", "recv_into")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        for name in self.NAMES:
            setattr(socket.socket, name, self._timed(getattr(socket.socket, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.NAMES:
            delattr(socket.socket, name)  # the own one of _socket.socket, its base, is there again

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.thread_time()
            try:
                return method(*args)
            finally:
                self.seconds += time.thread_time() - began

        return timed


def trips() -> list[tuple[float, float]]:
    """Return the microseconds with the interpreter's lock, and in all, of trips for ten policies that are called."""
    ten = Fleet("ten", of_fleet().engine, is_stepped=True)
    calls = _policies(ten)
    took: list[tuple[float, float]] = []
    with _System() as system:
        while len(took) < TRIPS:
            with suppress(RateLimitedError):  # of a store that was late
                for call in calls:
                    call()
            before, began, system.seconds = _answered(ten.courier), time.thread_time(), 0.0
            ten.step()
            total = time.thread_time() - began
            if _answered(ten.courier) > before:
                took.append(((total - system.seconds) * 1e6, total * 1e6))
            time.sleep(0.02)
    return took[10:]


def _answered(courier: Any) -> int:
    answered: int = courier.trips - courier.lost
    return answered


def ratios(over: Any, pairs: int = PAIRS) -> list[float]:
    """Return the ratios of 99.9th percentiles: with a fleet whose store is stopped, over another scope."""
    scopes = {"with": of_fleet(), "without": over}
    calls = {name: rate_limit(f"{RATE}/s", name=name, scope=scope)(_work.callee()) for name, scope in scopes.items()}
    for _ in range(100):
        for call in calls.values():
            with suppress(RateLimitedError):  # before the first answer
                call()
        time.sleep(0.01)
    with stopped():
        time.sleep(2.0)  # the lease has ended
        return sorted(_ratio(calls, number) for number in range(pairs))


def _ratio(calls: dict[str, Callable[[], Any]], number: int) -> float:
    order = ("with", "without") if number % 2 else ("without", "with")
    tails = {name: _tail(calls[name]) for name in order}
    return tails["with"] / tails["without"]


def _tail(call: Callable[[], Any]) -> float:
    clock, took = time.perf_counter_ns, []
    for _ in range(BLOCK):
        began = clock()
        call()
        took.append(clock() - began)
    took.sort()
    return took[BLOCK * 999 // 1000]


def confidence(found: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of sorted figures, and the limits of its 95 % confidence: order statistics."""
    half, number = 0.98 * len(found) ** 0.5, len(found)
    low, high = max(0, int(number / 2 - half)), min(number - 1, int(number / 2 + half) + 1)
    return statistics.median(found), found[low], found[high]


def _middle(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.0f} us (99 %: {found[len(found) * 99 // 100]:.0f})"


def main() -> None:
    """Print both figures."""
    argparse.ArgumentParser(prog="python -m benchmarks.shared.courier", description=__doc__).parse_args()
    server()
    held, total = map(sorted, zip(*trips(), strict=True))
    print(f"a trip for {POLICIES} policies holds the interpreter's lock for {_middle(held)}, must: {MUST_US:.0f} us")
    print(f"... and takes {_middle(total)} of processor time in all")
    answering = fleet("answering", server(1), host=False)
    for what, over, must in (("a store that answers", answering, ", must contain 1"), ("no fleet", "process", "")):
        registry.clear()
        median, low, high = confidence(ratios(over))
        print(f"p99.9 of calls, store stopped, over {what}: {median:.3f} ({low:.3f} to {high:.3f}){must}")


if __name__ == "__main__":
    main()
