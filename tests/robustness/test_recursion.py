"""Calls near the recursion limit: whatever fails for want of depth, nothing is held and nothing is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilio import bulkhead, fallback, pipeline, retry
from resilio.testing import assert_no_leaks

NEAR = 60  # frames below the limit


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What could be raised nowhere; noted in C, for there is no depth for a hook in Python."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


def at_depth(frames: int, call: Callable[[], object]) -> object:
    """Make a call so many frames further in."""
    return at_depth(frames - 1, call) if frames else call()


def near_the_limit() -> Iterator[int]:
    """Yield numbers of frames that leave fewer and fewer to the limit."""
    frame, here = sys._getframe(1), 0
    while frame is not None:
        frame, here = frame.f_back, here + 1  # type: ignore[assignment]
    yield from range(sys.getrecursionlimit() - here - NEAR, sys.getrecursionlimit() - here)


def fails() -> None:
    raise OSError


def is_an_error(error: BaseException) -> bool:
    return isinstance(error, OSError)


@pytest.mark.untraced
@pytest.mark.parametrize(
    "around",
    [
        lambda: retry(on=is_an_error, attempts=3, backoff=lambda *_: 0.0, budget=None),
        lambda: fallback(on=is_an_error, handler=lambda error: None),
    ],
    ids=["retry", "fallback"],
)
def test_a_strategy_that_has_no_depth_to_decide_passes_on_what_there_is(
    around: Callable[[], Any], unraisable: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """
    Its predicate, its backoff and what would log that they failed are functions of Python, one deeper than the other.

    "Exception ignored in retry_ended" was printed where not even the last of them could be called.
    """
    room, strategy = bulkhead(1), around()
    call = pipeline(strategy, room)(fails)
    ended = {"in time": 0, "too deep": 0}
    for frames in near_the_limit():
        try:
            at_depth(frames, call)
        except (OSError, RecursionError) as error:
            ended["too deep" if isinstance(error, RecursionError) else "in time"] += 1
        else:
            ended["in time"] += 1
    assert unraisable == []
    assert capfd.readouterr().err == ""
    assert min(ended.values()) > 0, ended
    for seen in (room.snapshot(), strategy.snapshot()):
        assert (seen.inflight, seen.successes + seen.failures + seen.ignored) == (0, seen.calls)
    assert_no_leaks()
