"""
`python -m benchmarks.efficacy.tasks`: R12, what becomes of tasks that need several calls, and of the important ones.

A task of k calls is done when all of them are. A server that rejects calls at random when it has too many leaves most
tasks unfinished, and has worked for nothing on what they did get: with four calls a task and twice the tasks that it
could do, it finishes a hundredth. One that rejects whole tasks finishes f_sat / (k f) of them, all that it can.

As in the evaluation of DAGOR (Zhou et al., SoCC 2018): a server of 750 calls a second, tasks with a timeout of half a
second. The load shedder is the real one: it is told the task of a call, by `task=`, and nothing else.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.efficacy import _results
from resilio import load_shed
from resilio.simulation import (
    Exponential,
    Job,
    Load,
    Poisson,
    Request,
    Scenario,
    Server,
    ServerBusy,
    Stack,
    Surge,
    simulate,
)

__all__ = [
    "SATURATED",
    "WAYS",
    "CoDelQueue",
    "Dagor",
    "Fates",
    "RandomDrop",
    "drop_for",
    "main",
    "run",
    "spike",
    "spike_table",
    "table",
]

SATURATED, WORKERS, TIMEOUT = 750.0, 10, 0.5
_SERVER = Server(workers=WORKERS, service=Exponential(WORKERS / SATURATED), network=Exponential(0.001))

Handler = Callable[[Job], Awaitable[None]]
Send = Callable[[Request], Awaitable[None]]


def drop_for(k: int, rate: float) -> tuple[float, float]:
    """
    Return the share of calls to let in at random so that the server is just busy, and of the tasks that are then done.

    A task's next call comes only if the one before was served: f (p + p^2 + ... + p^k) = f_sat.

    Args:
        k: Calls of a task.

        rate: Tasks a second.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        low, high = (low, share) if rate * sum(share**i for i in range(1, k + 1)) > SATURATED else (share, high)
    return low, low**k


class RandomDrop:
    """
    Rejects calls at random; it has been told of how many.

    Args:
        share: To let in.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._uniform = random.Random(1).random

    def __call__(self, handler: Handler) -> Handler:
        """Put it around a handler."""

        async def guarded(job: Job) -> None:
            if self._uniform() >= self._share:
                raise ServerBusy("random")
            await handler(job)

        return guarded


class Dagor:
    """
    Overload control as in WeChat: a level of 128, by a hash of the task, below which all calls are let in.

    A window is a second or 2,000 calls. If calls waited for more than 20 ms on average in the last one, the level goes
    to where 5 % fewer calls would have come in by the histogram of levels, else to where 1 % more would have. It is
    also the queue that it watches.
    """

    LEVELS, TARGET_NS, WINDOW_NS, MOST = 128, 20_000_000, 1_000_000_000, 2000

    def __init__(self) -> None:
        self._level = self.LEVELS
        self._waiting: deque[Job] = deque()
        self._begin(0)

    def _begin(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._seen = [0] * self.LEVELS
        self._came = self._let_in = self._waited_ns = 0

    def __call__(self, handler: Handler) -> Handler:
        """Put it around a handler."""

        async def guarded(job: Job) -> None:
            level = hash((job.key, 17)) % self.LEVELS
            self._came += 1
            self._seen[level] += 1
            if self._came >= self.MOST or job.arrived_ns - self._since_ns >= self.WINDOW_NS:
                self._adapt(job.arrived_ns)
            if level >= self._level:
                raise ServerBusy("level")
            self._let_in += 1
            await handler(job)

        return guarded

    def _adapt(self, now_ns: int) -> None:
        overloaded = self._waited_ns > self.TARGET_NS * self._let_in
        wanted = self._let_in * 0.95 if overloaded else self._let_in + 0.01 * self._came
        level, total = 0, 0
        while level < self.LEVELS and total + self._seen[level] <= wanted:
            total += self._seen[level]
            level += 1
        self._level = max(1, level)
        self._begin(now_ns)

    def push(self, job: Job, now_ns: int) -> None:  # noqa: ARG002
        """Let a call wait."""
        self._waiting.append(job)

    def pop(self, now_ns: int) -> Job | None:
        """Return the oldest."""
        job = self._waiting.popleft() if self._waiting else None
        if job is not None:
            self._waited_ns += now_ns - job.arrived_ns
        return job

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)


class CoDelQueue:
    """First in, first out with controlled delay as at Facebook: 5 ms, 100 ms, 10 ms."""

    TARGET_NS, INTERVAL_NS = 5_000_000, 100_000_000

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._least_ns, self._ends_ns, self._overloaded = -1, 0, False

    def push(self, job: Job, now_ns: int) -> None:  # noqa: ARG002
        """Let a call wait."""
        self._waiting.append(job)

    def pop(self, now_ns: int) -> Job | None:
        """Return the oldest that has not waited for too long."""
        while self._waiting:
            job = self._waiting.popleft()
            if not self._late(now_ns - job.arrived_ns, now_ns):
                return job
            job.reject("codel")
        return None

    def _late(self, delay_ns: int, now_ns: int) -> bool:
        if now_ns >= self._ends_ns:
            self._overloaded = self._least_ns > self.TARGET_NS
            self._least_ns, self._ends_ns = delay_ns, now_ns + self.INTERVAL_NS
            return False
        self._least_ns = min(self._least_ns, delay_ns)
        return self._overloaded and delay_ns > 2 * self.TARGET_NS

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)


@dataclass
class Fates:
    """
    What became of tasks, counted where they are sent from.

    Attributes:
        begun: Tasks of which a call was served.

        done: Tasks of which all were.

        good: Of all tasks, the share that was done in time.
    """

    begun: int = 0
    done: int = 0
    good: float = 0.0

    @property
    def consistent(self) -> float:
        """Of the tasks of which a call was served, the share of which all were."""
        return self.done / max(1, self.begun)

    def watching(self, k: int, since_ns: int) -> Callable[[Send], Send]:
        """Return what counts the answers to tasks of k calls, those that came before a time left out."""

        def around(send: Send) -> Send:
            async def sent(request: Request) -> None:
                await send(request)
                if request.deadline_ns >= since_ns:
                    self.begun += request.call == 0
                    self.done += request.call == k - 1

            return sent

        return around


def _task(job: Job) -> int:
    return job.key


def _dagor() -> Stack:
    one = Dagor()
    return Stack(server=lambda: [one], queue=lambda: one)  # type: ignore[list-item]


WAYS: dict[str, Callable[[int, float], Stack]] = {
    "random": lambda k, rate: Stack(server=lambda: [RandomDrop(drop_for(k, rate)[0])]),  # type: ignore[list-item]
    "bounded queue 15": lambda _, __: Stack(max_queued=15),
    "CoDel": lambda _, __: Stack(queue=CoDelQueue),
    "DAGOR": lambda _, __: _dagor(),
    "load_shed()": lambda _, __: Stack(server=load_shed),
    "load_shed(task=)": lambda _, __: Stack(server=lambda: load_shed(task=_task)),
    "load_shed(max_concurrent=10, task=)": lambda _, __: Stack(
        server=lambda: load_shed(max_concurrent=WORKERS, task=_task)
    ),
}
"""What makes each, for the calls of a task and the tasks a second."""


def run(way: str, k: int, rate: float, seconds: float = 30.0, seed: int = 1, warm: float = 10.0) -> Fates:
    """
    Let tasks come to a server.

    Args:
        way: Of `WAYS`.

        k: Calls of a task, one after the other.

        rate: Tasks a second.

        seconds: That are measured.

        seed: Of everything.

        warm: Seconds before that.
    """
    fates, made = Fates(), WAYS[way](k, rate)
    since_ns = _begin_ns() + round((warm + TIMEOUT) * 1e9)
    watch = fates.watching(k, since_ns)
    stack = Stack(client=lambda: [watch], server=made.server, queue=made.queue, max_queued=made.max_queued)  # type: ignore[list-item]
    scenario = Scenario(
        load=(Load(arrivals=Poisson(rate), calls=k),),
        server=_SERVER,
        stacks={"it": stack},
        deadline=TIMEOUT,
        duration=warm + seconds,
        warmup=warm,
    )
    fates.good = simulate(scenario, seed=seed)["it"].success or 0.0
    return fates


def _begin_ns() -> int:
    from resilio._native.simulation import BEGIN_NS

    return BEGIN_NS


def spike(way: str, share: float, times: float = 12.0, seconds: float = 30.0, seed: int = 1) -> tuple[float, float]:
    """
    Return the shares of critical and of background calls that are served while there are many more of the latter.

    Args:
        way: Of `WAYS`, but "random".

        share: Of the capacity that each of the two takes before.

        times: How many times as many background calls come.

        seconds: Of the spike; it begins at 10 s.

        seed: Of everything.
    """
    made = WAYS[way](1, share * SATURATED)
    scenario = Scenario(
        load=tuple(
            Load(arrivals=Poisson(share * SATURATED), name=name, priority=name) for name in ("critical", "background")
        ),
        server=_SERVER,
        stacks={"it": made},
        deadline=TIMEOUT,
        duration=10.0 + seconds,
        faults=(Surge(at=10.0, lasts=seconds, factor=times, load="background"),),
        warmup=10.0,
    )
    loads = simulate(scenario, seed=seed)["it"].loads
    return loads["critical"]["success"], loads["background"]["success"]


HEADER = ("calls a task", "tasks /s", "f_sat / (k f)", "random, exact", *WAYS, "consistent: learnt, told", "must")


def _row(k: int, rate: float, seconds: float) -> tuple[str, ...]:
    most = min(1.0, SATURATED / (k * rate))
    fates = {way: run(way, k, rate, seconds) for way in WAYS}
    shares = (f"{found.good:.3f} ({found.good / most:.0%})" for found in fates.values())
    whole = ", ".join(f"{found.consistent:.3f}" for found in list(fates.values())[-2:])
    return f"{k}", f"{rate:,.0f}", f"{most:.3f}", f"{drop_for(k, rate)[1]:.3f}", *shares, whole, "95%, .96"


def table(seconds: float) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `HEADER`; each run is measured for so many *seconds*."""
    cells = [(k, rate, seconds) for k in (1, 2, 3, 4) for rate in (750.0, 1125.0, 1500.0, 2250.0)]
    yield from _results.spread(_row, cells)


SPIKE_HEADER = ("way", "load before", "critical", "must", "background")


def _spike_row(way: str, share: float, seconds: float) -> tuple[str, ...]:
    high, low = spike(way, share, seconds=seconds)
    must = "0.994" if way.startswith("load_shed") else "-"
    return way, f"{share:g} + {share:g}", f"{high:.4f}", must, f"{low:.3f}"


def spike_table(seconds: float) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `SPIKE_HEADER`; the spike lasts for so many *seconds*."""
    ways = ("bounded queue 15", "CoDel", "load_shed()", "load_shed(max_concurrent=10, task=)")
    yield from _results.spread(_spike_row, [(way, share, seconds) for share in (0.1, 0.3, 0.45) for way in ways])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("What becomes of tasks of several calls, and of the important ones.")
    parser.add_argument("--seconds", type=float, default=40.0, help="that are measured in each run (40)")
    options = parser.parse_args(arguments)
    texts = {
        "R12 consistent shedding": _results.section(_ABOUT, HEADER, table(options.seconds)),
        "R12 priorities": _results.section(_ABOUT_SPIKE, SPIKE_HEADER, spike_table(options.seconds)),
    }
    for title, text in texts.items():
        _results.show(title, text, recorded=options.record)


_ABOUT = (
    f"The share of tasks of which all calls were served within {TIMEOUT:g} s, in brackets by what is possible. "
    f"{WORKERS} workers, {SATURATED:.0f} calls/s, exponential, a network of 1 ms each way; a task makes its calls one "
    "after the other, and stops at the first that is rejected. `random` has been told the share to reject, and "
    "`random, exact` is its formula without a queue. With `task=` the shedder is told the task of a call, with "
    "`max_concurrent=` also the number of workers, which it learns otherwise. Consistent: of the tasks of which a call "
    "was served, the share of which all were."
)
_ABOUT_SPIKE = (
    "Critical and background calls, each a share of the capacity, when twelve times as many background calls come: "
    "what is served within half a second during the spike. `load_shed()` sees the ambient priority."
)

if __name__ == "__main__":
    main()
