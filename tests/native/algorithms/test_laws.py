"""The laws of an adaptive limit: bounds for any samples, the published ones to the letter, the default's promises."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.laws import Aimd, Bounded, Gradient, Vegas
from resilio.laws import LAWS, Law, Sample, replay

HOSTILE = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e300, 1e-9, 0.01, 30.0)
ORACLES: dict[str, type[Bounded]] = {"aimd": Aimd, "gradient": Gradient, "vegas": Vegas}

latencies = st.one_of(st.sampled_from(HOSTILE), st.floats(), st.floats(1e-4, 10.0))
levels = st.one_of(st.sampled_from((math.nan, math.inf, -5.0, 0.0, 1e18)), st.integers(0, 60))


@pytest.mark.parametrize("name", LAWS)
@settings(deadline=None, max_examples=60)
@given(
    bounds=st.tuples(st.integers(1, 40), st.integers(1, 1000)),
    start=st.integers(1, 2000),
    trace=st.lists(st.tuples(latencies, levels, st.booleans(), st.integers(1, 200)), max_size=30),
)
def test_the_limit_stays_within_its_bounds_whatever_the_samples(
    name: str, bounds: tuple[int, int], start: int, trace: list[tuple[float, float, bool, int]]
) -> None:
    """NaN, infinite, zero, negative, huge and constant samples leave a finite limit within floor and ceiling."""
    low, high = min(bounds), max(bounds)
    law = Law(name, start=start, floor=low, ceiling=high)
    for latency, inflight, dropped, times in trace:
        for _ in range(times):
            law.learn(math.nan, latency, inflight, dropped)
            assert low <= law.limit <= law.learned <= high
    assert law.baseline is None or 0 < law.baseline < math.inf


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_the_published_laws_are_as_published(name: str) -> None:
    """Gradient2, Vegas and AIMD say after each of 20,000 random samples what their plain form says."""
    draw = random.Random(name)
    law, oracle = Law(name, start=20, floor=2, ceiling=300), ORACLES[name](20.0, 2.0, 300.0)
    for step in range(20_000):
        latency = round(draw.lognormvariate(0, 1) * (1 + step // 5000)) + draw.randint(1, 5)
        inflight, dropped = draw.randint(1, 40), draw.random() < 0.01
        law.learn(0.0, latency * 1e-6, inflight, dropped)
        oracle.learn(float(int(latency * 1e-6 * 1e9)), inflight, dropped)
        assert law.limit == pytest.approx(oracle.limit, rel=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_ls06_the_limit_does_not_grow_without_use(name: str) -> None:
    """LS-06: calls that find less than half of the limit in flight never raise it, fast and slow ones alike."""
    draw, law = random.Random(3), Law(name, start=40)
    for _ in range(20_000):
        law.learn(0.0, draw.expovariate(1.0), draw.randint(1, 19))
        assert law.learned <= 40.001


@pytest.mark.parametrize("name", LAWS)
def test_ls06_the_limit_does_not_shrink_by_idleness(name: str) -> None:
    """LS-06: an hour of single calls leaves the limit where it was."""
    law = Law(name, start=40)
    replay(law, [Sample(float(now), 0.01, 1) for now in range(3600)])
    assert law.learned >= 39.9


@pytest.mark.parametrize("name", LAWS)
def test_drops_shrink_the_limit_once_a_round(name: str) -> None:
    """As many drops as there are calls in flight are one event, the next round's are another."""
    law = Law(name, start=20)
    replay(law, [(0.0, 1.0, 20, True)] * (32 if name == "default" else 20))
    once = law.limit
    assert 17.9 <= once < 19.9
    replay(law, [(0.0, 1.0, 20, True)] * 32)
    assert law.limit < once


def test_drops_that_come_with_few_calls_too_are_not_the_limits_doing() -> None:
    """A heavy tail times out now and then at any level: the default's limit stays; many more at full use shrink it."""
    draw, law = random.Random(4), Law(start=20)
    few = [(0.0, 1.0, draw.randint(1, 3), draw.random() < 0.15) for _ in range(2000)]
    many = [(0.0, 1.0, draw.randint(15, 20), draw.random() < 0.2) for _ in range(100)]
    replay(law, few + many)
    before = law.learned
    assert before > 19.9
    replay(law, [(0.0, 1.0, 20, draw.random() < 0.9) for _ in range(100)])
    assert law.learned < 0.85 * before


@pytest.mark.parametrize("switch", [30, 45, 60])
def test_a_climb_does_not_run_away_when_a_slow_spell_ends_under_it(switch: int) -> None:
    """Fifty workers get ten times faster while the limit climbs: what was quick is no measure for a second step."""
    law, mean, highest, now = Law(start=20, ceiling=10_000), 0.1, 0.0, 0.0
    for _ in range(30_000):
        level = int(law.limit)
        mean = 0.01 if law.learned > switch else mean
        latency = max(mean, level * mean / 50)
        now += latency / level
        law.learn(now, latency, level)
        highest = max(highest, law.learned)
    assert mean == 0.01
    assert highest < 150
    assert 50 < law.learned < 100


def test_it_looks_again_at_once_when_everything_gets_faster() -> None:
    """After a slow spell a limit that is wrong is not believed for ten thousand calls more: a few tell."""
    law, mean, now = Law(start=60), 0.1, 0.0

    def call() -> bool:
        nonlocal now
        level = int(law.limit)
        latency = max(mean, level * mean / 50)
        now += latency / level
        law.learn(now, latency, level)
        return law.limit < law.learned

    assert sum(call() for _ in range(21_000)) > 0
    while call():
        pass
    mean = 0.01
    assert any(call() for _ in range(300))


def test_a_doubt_about_the_workers_hardly_lengthens_a_queue_that_covers_it() -> None:
    """Ten workers whose work varies a lot: the queue of four square roots, 12.6 calls, has room for an error of two."""
    law, now = Law(), 0.0
    for call in range(60_000):
        level = int(law.limit)
        latency = 1e-3 * (level if level > 10 else (66 if call % 8 == 0 else 2))  # 10 ms on average, with a CV of 2.1
        now += latency / level
        law.learn(now, latency, level)
    assert 22 < law.learned < 23.5


def test_drops_give_nothing_back_in_the_round_after_them() -> None:
    """Half of the answers are rejections: the few others do not make up for each cut."""
    law = Law(start=40)
    replay(law, [(0.0, 1.0, 40, call % 2 == 0) for call in range(1000)])
    assert law.learned < 10


@pytest.mark.parametrize("name", LAWS)
def test_equal_timeouts_do_not_look_healthy(name: str) -> None:
    """A dependency that only times out, each time after the same time, ends at the floor, not at the ceiling."""
    law = Law(name, start=20, floor=2)
    replay(law, [(0.0, 1.0, 20, True)] * 3000)
    assert law.limit == 2.0


def test_a_server_that_rejects_above_its_own_limit_is_found_out() -> None:
    """Rejections above 12 in flight keep the limit near 12, and it comes up again when they stop."""
    law = Law(start=20)
    for _ in range(4000):
        level = int(law.limit)
        law.learn(0.0, 0.01, level, level > 12)
    assert 8 <= law.learned <= 14
    for _ in range(4000):
        law.learn(0.0, 0.01, int(law.limit))
    assert law.learned > 20


@pytest.mark.parametrize("name", LAWS)
def test_a_reset_law_is_as_new(name: str) -> None:
    """After `reset` a law says of a trace what a new one says, drawn numbers included."""
    draw = random.Random(5)
    trace = [(0.0, draw.expovariate(100), draw.randint(1, 30), draw.random() < 0.01) for _ in range(3000)]
    law = Law(name)
    first = replay(law, trace)
    law.reset()
    assert replay(law, trace) == first
    assert law.name == name


def test_bounds_move_and_what_was_learned_stays() -> None:
    """A new ceiling below the limit brings it down; a higher one lets it be as it was, and grow."""
    law = Law("aimd", start=20)
    law.bound(1, 10)
    assert law.limit == 10
    law.bound(12, 30)
    assert law.limit == 12
    replay(law, [(0.0, 1.0, 30, False)] * 40)
    assert law.limit == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"law": "cubic"}, "law must be one of default, gradient, vegas, aimd, not 'cubic'"),
        ({"floor": 0.5}, "floor=0.5"),
        ({"floor": 9, "ceiling": 8}, "floor=9.0, ceiling=8.0"),
        ({"ceiling": math.inf}, "ceiling=inf"),
        ({"ceiling": math.nan}, "ceiling=nan"),
        ({"start": math.nan}, "start must be a number > 0"),
        ({"start": 0}, "start must be a number > 0"),
    ],
)
def test_bad_options_of_a_law_are_named(arguments: dict[str, float], message: str) -> None:
    """A law with an option that cannot be is rejected with its name and value."""
    with pytest.raises(ValueError, match=message):
        Law(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="floor=0"):
        Law().bound(0, 10)


def serve(
    law: Law,
    workers: int,
    seconds: float,
    *,
    load: float,
    service: Callable[[float], float],
    seed: int,
    cv: float = 1.0,
) -> float:
    """Run calls through a first in, first out server behind the law; return the share of its capacity that was used."""
    draw, sigma = random.Random(seed), math.sqrt(math.log(1 + cv * cv))
    free, ends = [0.0] * workers, list[tuple[float, float, int]]()
    now, busy = 0.0, 0.0
    while now < seconds:
        now += draw.expovariate(load * workers / service(now))
        while ends and ends[0][0] <= now:
            end, begun, inflight = heapq.heappop(ends)
            law.learn(end, end - begun, inflight)
        if len(ends) < int(law.limit):
            begins = max(now, free[0])
            size = draw.expovariate(1.0) if cv == 1 else draw.lognormvariate(-sigma * sigma / 2, sigma)
            end = begins + size * service(begins)
            heapq.heapreplace(free, end)
            heapq.heappush(ends, (end, now, len(ends) + 1))
            busy += end - begins
    return busy / workers / seconds


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
@pytest.mark.parametrize("workers", [2, 10, 150])
@pytest.mark.parametrize("mean", [1e-4, 30.0])
def test_the_default_finds_the_knee_of_any_server(workers: int, mean: float) -> None:
    """From 20 it comes to a little more than the workers at overload, whether a call takes 100 us or 30 s."""
    law = Law()
    serve(law, workers, 8000 * mean / math.sqrt(workers), load=1.5, service=lambda _: mean, seed=workers)
    assert workers + 2 * math.sqrt(workers) < law.learned < 2.2 * workers + 14 * math.sqrt(workers)
    assert law.baseline == pytest.approx(mean, rel=0.6)


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_large_server_is_not_kept_waiting_for_a_limit(seed: int) -> None:
    """Two hundred workers under load from the first call on: most of the first sixty mean times is used."""
    assert serve(Law(), 200, 0.6, load=0.9, service=lambda _: 0.01, seed=seed) > 0.75


@pytest.mark.once
@pytest.mark.untraced  # tens of thousands of calls, which others trace in small
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_heavy_tail_does_not_starve_many_workers(seed: int) -> None:
    """Means of a coefficient of variation of 3.5 are guesses: the limit stays above the workers for all that."""
    law = Law()
    serve(law, 100, 6.0, load=1.5, service=lambda _: 0.01, seed=seed, cv=3.5)
    assert serve(law, 100, 6.0, load=1.5, service=lambda _: 0.01, seed=10 + seed, cv=3.5) > 0.93


def test_it_rises_where_latency_does_not_follow_the_level() -> None:
    """A server that only waits takes 1 s whatever is in flight: from 20 to 300 in less than six round trips."""
    law, flight, now = Law(start=20), list[tuple[float, int]](), 0.0
    while now < 6.0:
        while len(flight) < int(law.limit):
            flight.append((now + 1.0, len(flight) + 1))
        now, level = flight.pop(0)
        law.learn(now, 1.0, level)
    assert law.learned > 300


@pytest.mark.once
def test_a_slow_step_does_not_move_the_default() -> None:
    """A server that is ten times slower for a while has the same knee: the limit neither collapses nor runs away."""
    law = Law()
    serve(law, 10, 30.0, load=1.2, service=lambda _: 0.01, seed=1)
    before = law.learned
    serve(law, 10, 30.0, load=1.2, service=lambda _: 0.1, seed=2)
    assert before / 2 < law.learned < 2 * before
    assert serve(law, 10, 20.0, load=0.9, service=lambda _: 0.01, seed=3) > 0.85


@pytest.mark.once
@pytest.mark.untraced  # tens of thousands of calls, which others trace in small
def test_the_default_ages() -> None:
    """When nine in ten workers are gone for good, the limit comes down within some thousand calls; and up when back."""
    law = Law()
    serve(law, 50, 20.0, load=1.5, service=lambda _: 0.01, seed=1)
    wide = law.learned
    serve(law, 5, 60.0, load=1.5, service=lambda _: 0.01, seed=2)
    assert law.learned < wide / 2
    serve(law, 50, 60.0, load=1.5, service=lambda _: 0.01, seed=3)
    assert law.learned > 0.6 * wide


@pytest.mark.once
@pytest.mark.untraced  # tens of thousands of calls, which others trace in small
def test_a_ceiling_stops_the_climb() -> None:
    """A dependency that never queues takes the limit to the ceiling, and no further."""
    law = Law(ceiling=60)
    serve(law, 500, 20.0, load=1.0, service=lambda _: 0.01, seed=1)
    assert law.learned == 60


def test_a_law_may_know_how_many_calls_are_present() -> None:
    """
    The rise of the default law ends by calls that wait only where its limit holds calls back.

    A gate knows that from the calls in flight at the end of a call; a law that gets its samples later, from other
    processes, has to be given the number. Any number is taken.
    """
    idle, pressed = Law(), Law()
    for law, present in ((idle, 1.0), (pressed, 20.0)):
        for number in range(64):
            level = 5 + number % 16
            law.learn(number * 0.01, 0.01 * level, level, False, present)
    assert idle.limit == pytest.approx(20.0)
    assert pressed.limit != pytest.approx(20.0)
    for present in (math.nan, -1.0, math.inf, 0.0):
        pressed.learn(1.0, 0.01, 1, present=present)
    assert 1.0 <= pressed.limit <= 1000.0
