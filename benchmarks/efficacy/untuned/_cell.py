"""What a cell is made of: calls, how they arrive, and the declaration that the harness runs."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Call", "Cell", "Draw", "Load", "Send", "Side", "Stack", "StatusError", "World"]

Draw = Callable[[random.Random], float]
Side = Literal["client", "server"]


class StatusError(Exception):
    """
    An answer over HTTP that is an error.

    Args:
        status: Of the answer.

        retry_after: Seconds that its `Retry-After` asks for; None: it has none.
    """

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status
        self.retry_after = retry_after


@dataclass(eq=False)
class Call:
    """
    One call of a caller, with all its attempts.

    Attributes:
        number: From 0, in the order of arrival.

        kind: What it is a call of, "" where all are alike.

        at: When it arrived, in seconds.

        sent: Requests that left for it.

        tried: Replicas that it has been to.
    """

    number: int
    kind: str
    at: float
    sent: int = 0
    tried: list[int] = field(default_factory=list)


Send = Callable[[Call], Awaitable[None]]
Stack = Callable[[Send, "Cell", int], Send]
"""Makes a client's (or a server's) way to send, of the bare one, the cell and a seed."""
World = Callable[..., Any]
"""Makes a world of `draw` (a `random.Random`), `wrap` (puts this run's stack around an inner call) and `count`."""


@dataclass(frozen=True)
class Load:
    """
    How tasks arrive, each of one call or several at once.

    Attributes:
        rate: Tasks a second, a Poisson process; 0 where `pause` is given.

        seconds: How long tasks arrive.

        size: Calls of a task, all at once.

        whole: Whether a task counts as one, answered if all of its calls are.

        pause: Seconds between the end of a task and the next; None: tasks do not wait for each other.

        spread: Seconds over which the calls of a task begin.

        kinds: The share of each kind of call; the rest has none.

        bursts: (factor, seconds on, seconds off): for `on` out of `on + off` seconds the rate is so many times as high.
    """

    rate: float = 0.0
    seconds: float = 60.0
    size: int = 1
    whole: bool = False
    pause: float | None = None
    spread: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    bursts: tuple[float, float, float] | None = None

    def arrivals(self, draw: random.Random) -> Iterator[float]:
        """Yield when tasks arrive that do not wait for each other."""
        now, most = 0.0, self.rate * (self.bursts[0] if self.bursts else 1.0)
        while (now := now + draw.expovariate(most)) < self.seconds:
            if draw.random() * most < self._rate_at(now):
                yield now

    def _rate_at(self, now: float) -> float:
        if self.bursts is None:
            return self.rate
        factor, on, off = self.bursts
        return self.rate * (factor if now % (on + off) >= off else 1.0)

    def kind(self, draw: random.Random) -> str:
        """Draw the kind of a call."""
        rest = draw.random()
        for kind, share in self.kinds.items():
            rest -= share
            if rest < 0:
                return kind
        return ""


@dataclass(frozen=True)
class Cell:
    """
    One cell.

    Attributes:
        family: Cells of one mechanism.

        name: Unique within the family.

        world: Makes what is called.

        load: What arrives.

        patience: Seconds in which an answer is good.

        leaves: Whether the caller goes away then, and stops what it began; a server's handler goes on.

        clients: That share the load, each with a stack of its own.

        since: Calls that arrive earlier are not counted, in seconds.

        kind: The only kind of call that is counted; None: all.

        attempts: Of `standard` and of the naive client.

        cut: Seconds after which the naive client ends an attempt.

        told: Whether the library knows `patience` as its ambient deadline.

        on: The preset of `standard`.

        overloaded: Whether the dependency has more to do than it can: then to send over 1.1 x the calls is harm.

        side: Whose stacks are compared: the clients', or the server's before its workers.

        workers: That a server's stack may be configured with.

        mean: The mean time of service, for the same.

        also: Further stacks to show; those of the library are judged.

        oracle: The share that could be answered; None: not computed.

        drawn: Whether its parameters are drawn from a seed.
    """

    family: str
    name: str
    world: World
    load: Load
    patience: float = 30.0
    leaves: bool = True
    clients: int = 1
    since: float = 0.0
    kind: str | None = None
    attempts: int = 3
    cut: float = 10.0
    told: bool = False
    on: str = "http"
    overloaded: bool = False
    side: Side = "client"
    workers: int = 0
    mean: float = math.nan
    also: tuple[str, ...] = ()
    oracle: float | None = None
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"
