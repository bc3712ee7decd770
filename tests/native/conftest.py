"""What the tests of native data structures share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from storm.racing import turns

THREADS, FEWEST, MOST = 4, 2000, 300_000


@pytest.fixture
def race() -> Iterator[Callable[[Callable[[], bool]], int]]:
    """
    Run a step in four threads at once, at least 2000 times each and until a race was seen; return the number of steps.

    The step returns whether it saw another thread in its midst; the test fails if none ever did.
    """
    with turns():
        yield _race


@pytest.fixture
def often() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    with turns():
        yield


def _race(step: Callable[[], bool]) -> int:
    start, raced, steps = threading.Barrier(THREADS), [False], [0] * THREADS

    def work(me: int) -> None:
        start.wait()
        while steps[me] < FEWEST or (not raced[0] and steps[me] < MOST):
            steps[me] += 1
            if step():
                raced[0] = True

    threads = [threading.Thread(target=work, args=(me,)) for me in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raced[0], "no thread ever saw another one in its midst"
    return sum(steps)
