"""What the circuit breaker's probabilistic mode promises."""

from __future__ import annotations

import random
from contextlib import suppress

import anyio
import pytest

from resilio import bulkhead, circuit_breaker, hedge, keyed, pipeline
from resilio._native import clock
from resilio.errors import CircuitOpenError
from resilio.events import StateChanged
from resilio.testing import record_events


def throttle(**options):
    """A breaker of the mode, whose random numbers are the same in every run."""
    breaker = circuit_breaker(mode="probabilistic", **options)
    breaker._gate._seed(1)
    return breaker


def send(breaker, failing, calls, draw):
    """Make calls of which a share fails; return the shares rejected of those that would have ended well, and of all."""
    good = rejected_good = rejected = 0
    for _ in range(calls):
        ends_well = draw.random() >= failing
        permit = breaker.try_acquire()
        good += ends_well
        if permit.admitted:
            permit.success() if ends_well else permit.failure()
        else:
            rejected += 1
            rejected_good += ends_well
    return rejected_good / max(good, 1), rejected / calls


def throttled(**options):
    """A breaker that throttles: of 200 calls four in five have failed."""
    breaker = throttle(**options)
    for number in range(200):
        permit = breaker.try_acquire()
        if permit.admitted:
            permit.success() if number % 5 == 0 else permit.failure()
    assert breaker.state == "half_open"
    return breaker


def recover(breaker):
    """Let all that passes succeed until the throttle ends; return the calls that it took."""
    asked = 0
    while breaker.state == "half_open":
        asked += 1
        permit = breaker.try_acquire()
        if permit.admitted:
            permit.success()
    return asked


def first_rejection(breaker):
    """Ask until it rejects."""
    return next(answer for answer in iter(breaker.try_acquire, None) if not answer.admitted)


def changes(events):
    """What the events say."""
    return [(event.old, event.new, event.reason) for event in events]


# ---- how much it rejects ---------------------------------------------------------------------------------------------


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
@pytest.mark.parametrize(("failing", "least", "most"), [(0.3, 0, 0), (0.5, 0, 0.02), (0.6, 0.1, 0.2), (0.8, 0.5, 0.6)])
def test_it_rejects_in_proportion_to_what_fails(vt, failing, least, most):
    """Up to the limit next to nothing, above it what fails beyond it; those that would succeed keep their share."""
    seen = [send(throttle(), failing, 5000, random.Random(seed)) for seed in range(5)]
    good = sum(share for share, _ in seen) / len(seen)
    rejected = sum(share for _, share in seen) / len(seen)
    assert least <= rejected <= most
    assert good == pytest.approx(rejected, abs=0.02)


def test_a_half_that_fails_costs_the_other_half_next_to_nothing(vt):
    """Where a breaker that opens at a rate rejects nearly all of the good half, this one rejects 2 % of it."""
    draw = random.Random(1)
    window = circuit_breaker(failure_rate=0.5, consecutive=None)
    opened = send(window, 0.5, 5000, draw)[0]
    assert send(throttle(), 0.5, 5000, draw)[0] < 0.02
    assert opened > 0.9


def test_a_total_failure_opens_it_after_ten_calls(vt):
    """There is no good part to spare, so it opens and probes, as fast as in the other mode."""
    breaker = throttle()
    for _ in range(300):
        breaker.try_acquire().success()
    for _ in range(9):
        breaker.try_acquire().failure()
    assert breaker.state == "closed"
    breaker.try_acquire().failure()
    assert breaker.state == "open"
    assert breaker.try_acquire().reason == "open"


def test_one_good_probe_closes_it(vt):
    """It opens where all fails, and one success says that this is over: four in five failures must not keep it open."""
    breaker = throttle()
    for _ in range(10):
        breaker.try_acquire().failure()
    vt.advance(0.2)
    breaker.try_acquire().failure()
    assert breaker.state == "open"
    vt.advance(0.3)
    breaker.try_acquire().success()
    assert breaker.state == "closed"


def test_failures_in_a_row_open_it_only_if_they_are_no_chance(vt):
    """Where half of the calls fail, ten in a row come every minute; twenty do not."""
    breaker = throttle(failure_rate=1.0)
    for number in range(200):
        permit = breaker.try_acquire()
        permit.success() if number % 2 else permit.failure()
    for _ in range(15):
        breaker.try_acquire().failure()
    assert breaker.state == "closed"
    more = 0
    while breaker.state == "closed":
        breaker.try_acquire().failure()
        more += 1
    assert more in range(3, 8)


def test_some_calls_pass_even_where_none_is_to_open_it(vt):
    """Without `consecutive` a total failure is throttled to nothing, but for a call each longest open time."""
    breaker = throttle(consecutive=None)
    passed = 0
    for _ in range(3000):
        vt.advance(0.01)
        permit = breaker.try_acquire()
        if permit.admitted:
            passed += 1
            permit.failure()
    assert breaker.snapshot().share == 0
    assert passed == pytest.approx(20 + 30 / 3, abs=2)


@pytest.mark.parametrize("failing", [0.6, 0.8])
def test_it_passes_everything_soon_after_the_failures_end(vt, failing):
    """A run of successes that is no chance ends the throttle: the failures of before are history."""
    breaker = throttle()
    send(breaker, failing, 2000, random.Random(3))
    assert recover(breaker) < 100
    assert breaker.snapshot().share == 1


def test_the_throttle_ends_when_its_window_is_over(vt):
    """What is older than the window is no reason to reject anything."""
    breaker = throttled(window=(200, "10s"))
    vt.advance(11.0)
    assert all(breaker.try_acquire().admitted for _ in range(30))
    breaker.try_acquire().success()
    assert breaker.state == "closed"


def test_slow_calls_throttle_too(vt):
    """Of calls that are all slow but succeed, a share is rejected; the reason and the figures are those of slowness."""
    breaker = throttle(slow_call=0.1, slow_rate=0.4)
    with record_events(breaker, kinds=(StateChanged,)) as events:
        for number in range(60):
            permit = breaker.try_acquire()
            vt.advance(0.2 if number % 5 else 0.05)
            if permit.admitted:
                permit.success()
        rejection = first_rejection(breaker)
        assert (rejection.reason, rejection.limit) == ("throttled", 0.4)
        assert rejection.measured == breaker.snapshot().slow_rate
        recover(breaker)
    assert changes(events) == [("closed", "half_open", "slow_rate"), ("half_open", "closed", "recovered")]


# ---- calls that hang -------------------------------------------------------------------------------------------------


def test_calls_that_hang_are_seen_before_their_timeouts_end_them(vt):
    """Twenty calls under way for over a second, nothing answered meanwhile: it opens, though none has failed yet."""
    breaker = throttle()
    for _ in range(100):
        breaker.try_acquire().success()
    hanging = []
    while breaker.state == "closed":
        vt.advance(0.1)
        hanging.append(breaker.try_acquire())
    assert len(hanging) < 40
    assert breaker.state == "open"
    assert breaker.snapshot().window_failures == 0
    for permit in hanging:
        if permit.admitted:
            permit.success()
    assert breaker.snapshot().stale == len(hanging) - 1


def test_a_few_that_hang_among_many_that_answer_count_as_failures_only(vt):
    """They are held against the dependency while they last, and opening needs silence."""
    breaker = throttle()
    hanging = [breaker.try_acquire() for _ in range(15)]
    for _ in range(30):
        vt.advance(0.1)
        breaker.try_acquire().success()
    assert breaker.state == "closed"
    assert breaker.snapshot().overdue == 15
    hanging.pop().success()
    hanging.pop().ignore()
    hanging.pop().cancel()
    assert breaker.snapshot().overdue == 12


def test_overdue_calls_throttle_where_they_are_too_few_to_open(vt):
    """Eight that hang and ten that answered before: half of what is known fails, a share is rejected."""
    breaker = throttle(min_calls=10, failure_rate=0.2)
    for _ in range(10):
        breaker.try_acquire().success()
    hanging = [breaker.try_acquire() for _ in range(8)]
    vt.advance(5.0)
    another = breaker.try_acquire()
    assert breaker.state == "half_open"
    another.ignore()
    assert 0 < breaker.snapshot().share < 1
    assert len(hanging) == breaker.snapshot().overdue


def test_a_stream_that_flows_is_not_overdue(vt):
    """Its first item is an answer, however long the rest takes."""
    breaker = throttle()

    @breaker
    def stream():
        yield 1
        yield 2

    streams = [stream() for _ in range(30)]
    for each in streams:
        next(each)
    vt.advance(10.0)
    breaker.try_acquire().success()
    assert breaker.snapshot().overdue == 0
    assert breaker.state == "closed"
    for each in streams:
        assert list(each) == [2]


def test_what_counts_as_overdue_follows_the_latencies_and_slow_call(vt):
    """Twice the p99 of what was seen, at least slow_call: a dependency that is always slow is not hanging."""
    used_to_it = throttle()
    for _ in range(30):
        permit = used_to_it.try_acquire()
        vt.advance(8.0)
        permit.success()
    told = throttle(slow_call=15.0)
    for breaker in (used_to_it, told):
        breaker.try_acquire().success()
        hanging = [breaker.try_acquire() for _ in range(30)]
        for _ in range(14):
            vt.advance(1.0)
            breaker.try_acquire().success()
        assert breaker.snapshot().overdue == 0
        for permit in hanging:
            permit.success()


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_a_rejection_says_what_was_measured_and_when_to_ask_again(vt):
    """The failure rate, its limit, and the first open time: by then there is news."""
    breaker = throttled()
    rejection = first_rejection(breaker)
    assert rejection.reason == "throttled"
    assert rejection.measured == pytest.approx(0.8, abs=0.1)
    assert (rejection.limit, rejection.retry_after) == (0.5, 0.2)
    with pytest.raises(CircuitOpenError, match="throttled"):
        for _ in range(200):
            breaker.call(int)
    assert breaker.health().ready


def test_its_begin_and_end_are_changes_of_state_and_drop_no_result(vt):
    """half_open with the reason of a rate, closed when it has recovered; the generation is the same all along."""
    breaker = throttle()
    with record_events(breaker, kinds=(StateChanged,)) as events:
        early = breaker.try_acquire()
        send(breaker, 0.8, 300, random.Random(1))
        late = breaker.try_acquire()
        recover(breaker)
    early.success()
    late.success()
    assert changes(events) == [
        ("closed", "half_open", "failure_rate"),
        ("half_open", "closed", "recovered"),
    ]
    assert (breaker.snapshot().stale, breaker.snapshot().generation) == (0, 1)


def test_the_share_is_that_of_all_ways_to_reject(vt):
    """1 closed, 0 open and probing, a tenth at the begin of a ramp, and by hand 0 or 1."""
    breaker = throttle(ramp=10.0)
    assert breaker.snapshot().share == 1
    for _ in range(10):
        breaker.try_acquire().failure()
    assert breaker.snapshot().share == 0
    vt.advance(0.2)
    probe = breaker.try_acquire()
    assert (breaker.state, breaker.snapshot().share) == ("half_open", 0)
    probe.success()
    assert breaker.snapshot().share == pytest.approx(0.1)
    vt.advance(5.0)
    assert breaker.snapshot().share == pytest.approx(0.55)
    breaker.force_open()
    assert breaker.snapshot().share == 0
    breaker.force_closed()
    assert breaker.snapshot().share == 1


# ---- together with the rest ------------------------------------------------------------------------------------------


def test_the_same_seed_rejects_the_same_calls(vt):
    """Runs of a simulation are repeatable."""
    first, second = ([bool(throttled_call) for throttled_call in answers()] for _ in range(2))
    assert first == second
    assert 10 < sum(first) < 190


def answers():
    """200 answers of a breaker that throttles."""
    breaker = throttled()
    return [breaker.try_acquire() for _ in range(200)]


def test_a_ramp_readmits_slowly_and_the_throttle_goes_on_learning(vt):
    """Both reject for reasons of their own."""
    breaker = throttle(ramp=10.0)
    for _ in range(10):
        breaker.try_acquire().failure()
    vt.advance(0.2)
    breaker.try_acquire().success()
    assert breaker.try_acquire().admitted
    assert breaker.try_acquire().reason == "ramp"
    vt.advance(9.0)
    send(breaker, 0.8, 300, random.Random(1))
    reasons = {answer.reason for answer in (breaker.try_acquire() for _ in range(300)) if not answer.admitted}
    assert reasons == {"ramp", "throttled"}
    breaker.reset()
    assert all(breaker.try_acquire().admitted for _ in range(10))


def test_in_shadow_it_rejects_nothing_and_counts(vt):
    """What would have been rejected passes and teaches nothing."""
    breaker = throttle(enforce=False)
    assert send(breaker, 0.8, 2000, random.Random(1)) == (0, 0)
    seen = breaker.snapshot()
    assert seen.would_reject > 500
    assert seen.window_failures <= 200
    assert seen.overdue == 0


@pytest.mark.parametrize(
    ("change", "state"), [("force_open", "forced_open"), ("disable", "disabled"), ("reset", "closed")]
)
def test_by_hand_it_leaves_the_throttle(vt, change, state):
    """Whatever is asked for holds; after a reset it starts afresh."""
    breaker = throttled()
    getattr(breaker, change)()
    assert breaker.state == state
    assert {answer.admitted for answer in (breaker.try_acquire() for _ in range(30))} == {state != "forced_open"}


def test_modes_change_while_it_runs(vt):
    """From a throttle to the window mode it is closed, and the next failure opens it by the rate that is there."""
    breaker = throttled()
    hanging = [permit for permit in (breaker.try_acquire() for _ in range(40)) if permit.admitted]
    with record_events(breaker, kinds=(StateChanged,)) as events:
        breaker.reconfigure(mode="window", failure_rate=0.5)
        assert breaker.state == "closed"
        assert changes(events) == [("half_open", "closed", "manual")]
        assert breaker.try_acquire().admitted
        hanging[0].failure()
        assert breaker.state == "open"
        breaker.reconfigure(mode="probabilistic")
        assert breaker.state == "open"
        breaker.reset()
        send(breaker, 0.8, 300, random.Random(1))
        assert breaker.state == "half_open"
    breaker.reconfigure(failure_rate=1.0)
    assert breaker.snapshot().share == 1


def test_a_result_from_before_the_mode_is_taken_as_it_is(vt):
    """A call that nobody followed at its begin is followed by nobody at its end."""
    breaker = circuit_breaker()
    before = breaker.try_acquire()
    breaker.reconfigure(mode="probabilistic")
    after = breaker.try_acquire()
    breaker.reconfigure(mode="window")
    vt.advance(5.0)
    before.success()
    after.success()
    breaker.reconfigure(mode="probabilistic")
    breaker.try_acquire().success()
    assert (breaker.snapshot().overdue, breaker.snapshot().successes) == (0, 3)


def ramping(vt):
    """A breaker of the other mode, in the last tenth of its ramp."""
    breaker = circuit_breaker(ramp=100.0)
    for _ in range(10):
        breaker.try_acquire().failure()
    vt.advance(0.2)
    breaker.try_acquire().success()
    breaker.try_acquire().success()
    vt.advance(90.0)
    return breaker


@pytest.mark.parametrize("make", [lambda _: throttled(), ramping])
def test_a_copy_is_shed_while_it_throttles_or_ramps(vt, make):
    """A hedge adds load to what fails, or has just come back: there is none, whatever the draw."""
    breaker = make(vt)
    copies = []

    async def fetch():
        copies.append(None)
        await anyio.sleep(5.0)
        return "late"

    guarded = hedge(idempotent=True, after=0.1)(breaker(fetch))

    async def main():
        while True:
            try:
                return await guarded()
            except CircuitOpenError:
                continue

    assert vt.run(main, backend="asyncio") == "late"
    assert len(copies) == 1


def test_a_closed_breaker_without_a_past_may_be_evicted(vt):
    """Of keyed breakers of this mode those go that nobody can tell from new ones, and no others."""
    calls = keyed(lambda: circuit_breaker(mode="probabilistic"), key="host", max_keys=2)

    @calls
    def fetch(host):
        if host == "bad":
            raise OSError

    with pytest.raises(OSError):
        fetch("bad")
    for number in range(10):
        fetch(f"host {number}")
        vt.advance(100.0)
    assert "bad" in calls


def test_a_forked_child_follows_no_call_of_its_parent(vt, in_child):
    """What hangs there is nothing that this process will hear of."""
    breaker = throttle()
    hanging = [breaker.try_acquire() for _ in range(30)]

    def child():
        vt.advance(10.0)
        return breaker.try_acquire().admitted and breaker.snapshot().overdue == 0 and breaker.state == "closed"

    assert in_child(child)
    assert len(hanging) == 30


def test_another_clock_takes_the_throttle_along():
    """After a step back of the clock calls are followed, and one passes in time, as before."""
    try:
        clock.set_virtual(10_000_000_000_000)
        breaker = throttle(consecutive=None)
        for _ in range(200):
            permit = breaker.try_acquire()
            if permit.admitted:
                permit.failure()
        clock.set_virtual(1_000_000_000)
        assert not any(breaker.try_acquire().admitted for _ in range(50))
        clock.set_virtual(5_000_000_000)
        assert breaker.try_acquire().admitted
    finally:
        clock.clear_virtual()


def test_a_wait_elsewhere_does_not_draw_twice(vt):
    """A call that was admitted and then waited in a queue is not put to the draw again: its share would be squared."""
    breaker, pool = throttled(), bulkhead(1, max_queued=300, max_wait=60.0)
    guarded = pipeline(breaker, pool)
    served = []

    async def call():
        with suppress(CircuitOpenError):
            await guarded.acall(anyio.sleep, 0.01)
            served.append(None)

    async def main():
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(call)

    share = breaker.snapshot().share
    vt.run(main, backend="asyncio")
    assert len(served) == pytest.approx(100 * share, abs=15)
    assert breaker.snapshot().inflight == 0
