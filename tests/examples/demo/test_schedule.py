"""The schedule of the outage: pure data and pure draws."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from itertools import pairwise

import pytest

from examples.demo._schedule import FULL, QUICK, Phase, Schedule, fate_of, service_seconds

DOWN = Phase("down", 2.0, hang=0.6, unavailable=0.3, reset=0.1)


@pytest.mark.parametrize("schedule", [FULL, QUICK], ids=["full", "quick"])
def test_script_goes_down_and_comes_back(schedule: Schedule) -> None:
    """Both scripts are healthy, slow, down, recovering and healthy again, with one outage inside."""
    assert [phase.name for phase in schedule.phases] == ["healthy", "slow", "down", "recovering", "healthy again"]
    assert [phase.down for phase in schedule.phases] == [False, False, True, False, False]
    begin, end = schedule.outage()
    assert 0 < begin < end < schedule.seconds


def test_spans_leave_no_gap() -> None:
    """Each phase begins where the one before it ends, and the last ends with the schedule."""
    spans = FULL.spans()
    assert spans[0][1] == 0.0
    assert all(before[2] == after[1] for before, after in pairwise(spans))
    assert spans[-1][2] == pytest.approx(FULL.seconds)


def test_at_tells_phase_and_progress() -> None:
    """A phase holds from its begin up to its end; before the start the first holds, after the end the last."""
    schedule = Schedule((Phase("a", 2.0), DOWN))
    assert schedule.at(-1.0) == (schedule.phases[0], 0.0)
    assert schedule.at(1.0) == (schedule.phases[0], 0.5)
    assert schedule.at(2.0) == (DOWN, 0.0)
    assert schedule.at(3.5) == (DOWN, 0.75)
    assert schedule.at(99.0) == (DOWN, 1.0)


def test_schedule_without_outage_has_none() -> None:
    """A schedule that is never down says so."""
    assert Schedule((Phase("slow", 1.0, hang=0.5),)).outage() is None


def test_schedule_survives_json() -> None:
    """The server process reads the very schedule that it is sent."""
    assert Schedule.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_fate_follows_the_shares_of_the_phase() -> None:
    """Over many requests each fate has the share that the phase gives it, and healthy ones are all answered."""
    fates = Counter(fate_of(7, f"request-{number}", DOWN) for number in range(10_000))
    assert set(fates) == {"hang", "unavailable", "reset"}
    for fate, share in (("hang", 0.6), ("unavailable", 0.3), ("reset", 0.1)):
        assert fates[fate] / 10_000 == pytest.approx(share, abs=0.02)
    assert fate_of(7, "request-1", Phase("healthy", 1.0)) == "answer"


def test_draws_depend_on_seed_and_request_alone() -> None:
    """The same request of the same seed meets the same fate and takes the same time, another one does not."""
    healthy = Phase("healthy", 1.0)
    draw = service_seconds(7, "a", 0.04, healthy, 0.0)
    assert draw == service_seconds(7, "a", 0.04, healthy, 0.9)
    assert draw != service_seconds(7, "b", 0.04, healthy, 0.0)
    assert draw != service_seconds(8, "a", 0.04, healthy, 0.0)
    assert [fate_of(7, str(n), DOWN) for n in range(50)] == [fate_of(7, str(n), DOWN) for n in range(50)]


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 3.0), (0.5, 2.0), (1.0, 1.0)])
def test_service_time_follows_the_slowdown(progress: float, factor: float) -> None:
    """The mean service time moves from the first to the last slowdown of the phase."""
    phase = Phase("recovering", 1.0, slowdown=(3.0, 1.0))
    draws = [service_seconds(7, str(number), 0.04, phase, progress) for number in range(4_000)]
    assert statistics.fmean(draws) == pytest.approx(0.04 * factor, rel=0.05)
