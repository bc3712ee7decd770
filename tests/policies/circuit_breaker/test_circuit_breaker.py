"""What a circuit breaker promises beyond the numbered scenarios."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from types import SimpleNamespace

import anyio
import attrs
import pytest

from resilio import registry
from resilio._failures.outcome import Outcome
from resilio._failures.retry_after import LONGEST_PAUSE
from resilio._native import clock, core
from resilio._native.gates import BreakerGate, BulkheadGate
from resilio._options.fields import Window
from resilio._policies.bulkhead.policy import BulkheadConfig
from resilio._policies.circuit_breaker.policy import CircuitBreaker, CircuitBreakerConfig, circuit_breaker
from resilio.errors import BulkheadFullError, CircuitOpenError
from resilio.testing import record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def trip(breaker, error=None):
    """Fail until the breaker is open."""
    while breaker.state == "closed":
        breaker.try_acquire().failure(error)
    return breaker


def probe(vt, breaker, *, ends_well=True):
    """Wait until the open time is over, and let one probe end."""
    vt.advance(breaker.snapshot().retry_after or 0)
    permit = breaker.try_acquire()
    permit.success() if ends_well else permit.failure()
    return breaker.state


# ---- open times ------------------------------------------------------------------------------------------------------


def test_the_open_time_grows_by_half_up_to_its_maximum_and_starts_over_after_closing(vt):
    """0.2, 0.3, 0.45, ... 3 seconds, each shortened by at most 10 %; after closing it is 0.2 again."""
    breaker = trip(circuit_breaker(probes=3))
    for expected in (*(0.2 * 1.5**number for number in range(7)), 3.0, 3.0):
        seen = breaker.snapshot()
        assert seen.open_for == pytest.approx(expected)
        assert 0.9 * expected <= seen.retry_after <= expected
        assert probe(vt, breaker, ends_well=False) == "open"
    assert [probe(vt, breaker), probe(vt, breaker)] == ["half_open", "closed"]
    assert trip(breaker).snapshot().open_for == pytest.approx(0.2)


def test_the_jitter_is_uniform_and_repeatable():
    """Two breakers with one seed agree; over many openings the mean is 95 % and the ends are reached."""
    gates = [make_gate(), make_gate()]
    shares = []
    for gate in gates:
        gate._seed(7)
        pipeline = core.Pipeline((gate,))
        for _ in range(2000):
            pipeline.try_acquire().failure()
            shares.append(pipeline.try_acquire().retry_after / 1000)
            gate.force("closed")
    first, second = shares[:2000], shares[2000:]
    assert first == pytest.approx(second, abs=1e-3)  # time goes on between trip and question
    assert min(first) >= 0.9 - 1e-3
    assert (min(first), max(first), sum(first) / 2000) == pytest.approx((0.9, 1.0, 0.95), abs=2e-3)


def make_gate(**options):
    """A gate that opens at the first failure, for 1000 seconds."""
    config = CircuitBreakerConfig(consecutive=1, open_for=1000, max_open_for=1000)
    unchecked = SimpleNamespace(**attrs.asdict(config, recurse=False), sure=config.sure, closing=config.closing)
    vars(unchecked).update(options)
    return BreakerGate(unchecked)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (SimpleNamespace(retry_after=7), 7.0),
        (SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": "12"})), 12.0),
        (SimpleNamespace(retry_after=86400), LONGEST_PAUSE),
        (SimpleNamespace(retry_after=0.01), 0.2),  # never shorter than the open time
        (SimpleNamespace(retry_after=math.nan), 0.2),
    ],
)
def test_a_failures_retry_after_extends_the_open_time_within_the_cap(vt, error, seconds):
    """The trip's own failure says when to come back, and so does a probe's; nonsense is passed over."""
    failure = OSError()
    failure.__dict__.update(vars(error))
    breaker = trip(circuit_breaker(consecutive=1), failure)
    asked = seconds > 0.2
    most = min(2 * seconds, LONGEST_PAUSE) if asked else seconds
    left = breaker.snapshot().retry_after
    assert (1.0 if asked else 0.9) * seconds <= left <= most
    vt.advance(left)
    breaker.try_acquire().failure(failure)
    assert max(0.27, (1.0 if asked else 0.9) * seconds) <= breaker.snapshot().retry_after <= max(0.3, most)


def test_retry_after_without_a_trip_changes_nothing(vt):
    """A failure that leaves the breaker closed is only a failure."""
    failure = OSError()
    failure.retry_after = 30
    breaker = circuit_breaker(consecutive=3)
    breaker.try_acquire().failure(failure)
    assert trip(breaker).try_acquire().retry_after <= 0.2
    breaker._gate.extend_open(5.0)
    assert breaker.try_acquire().retry_after == pytest.approx(5.0)
    breaker.reset()
    breaker._gate.extend_open(5.0)
    assert breaker.state == "closed"


def test_no_probe_goes_out_before_the_time_that_a_refusal_named(vt):
    """The lease of a refused probe went back at once, and the next call probed: the server had said in 2 s."""
    refused = SimpleNamespace(status_code=429, headers={"retry-after": "2"})
    breaker = circuit_breaker(on="http", consecutive=1)
    breaker.call(lambda: SimpleNamespace(status_code=500, headers={}))
    vt.advance(breaker.snapshot().retry_after)
    assert breaker.call(lambda: refused) is refused
    assert breaker.state == "half_open"
    with pytest.raises(CircuitOpenError) as rejected:
        breaker.call(lambda: refused)
    assert rejected.value.reason == "probing"
    assert 2.0 <= rejected.value.retry_after <= 4.0
    assert breaker.snapshot().retry_after == pytest.approx(rejected.value.retry_after)
    vt.advance(rejected.value.retry_after)
    assert breaker.snapshot().retry_after is None
    for _ in range(2):
        breaker.call(lambda: SimpleNamespace(status_code=200, headers={}))
    assert breaker.state == "closed"


def test_a_refusal_that_a_closed_breaker_sees_holds_nothing(vt):
    """It opens no breaker; and a probe that is wanted by hand goes out although another was refused."""
    refused = SimpleNamespace(status_code=429, headers={"retry-after": "2"})
    breaker = circuit_breaker(on="http")
    assert [breaker.call(lambda: refused) for _ in range(3)] == [refused] * 3
    breaker.half_open()
    breaker.call(lambda: refused)
    assert breaker.try_acquire().reason == "probing"
    breaker.reset()
    breaker.half_open()
    breaker.try_acquire().success()


# ---- half open -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("probes", "places"), [(1, [1]), (2, [1, 1]), (3, [1, 2]), (16, [1, 15])])
def test_one_probe_until_the_first_success_then_the_rest(vt, probes, places):
    """A round has at most `probes` of them; two successes close, or one where there is only one."""
    breaker = trip(circuit_breaker(probes=probes))
    vt.advance(1.0)
    for expected in places:
        assert breaker.state != "closed"
        permits = [permit for permit in (breaker.try_acquire() for _ in range(40)) if permit.admitted]
        assert len(permits) == expected
        permits[0].success()
        for permit in permits[1:]:
            permit.ignore()
    assert breaker.state == "closed"


def test_the_first_failed_probe_reopens_and_makes_its_siblings_stale(vt):
    """One failure among several probes decides; the others' results are dropped."""
    breaker = trip(circuit_breaker(probes=3))
    probe(vt, breaker)
    one, other = breaker.try_acquire(), breaker.try_acquire()
    one.failure()
    other.success()
    seen = breaker.snapshot()
    assert (seen.state, seen.stale, seen.probes) == ("open", 1, 0)


def test_a_slow_probe_is_a_failed_probe(vt):
    """A dependency that answers too slowly is not back."""
    breaker = trip(circuit_breaker(slow_call=1.0))
    vt.advance(1.0)
    permit = breaker.try_acquire()
    vt.advance(1.5)
    permit.success()
    assert breaker.state == "open"


@pytest.mark.parametrize(
    ("latency", "lease"),
    [(0.001, 3.0), (2.0, 4.0), (50.0, 60.0)],
    ids=["max_open_for", "twice the p99", "at most a minute"],
)
def test_without_probe_lease_the_lease_follows_the_latencies_seen(vt, latency, lease):
    """A probe keeps its place for the longer of `max_open_for` and twice the p99, a minute at most."""
    breaker = circuit_breaker()
    for _ in range(10):
        permit = breaker.try_acquire()
        vt.advance(latency)
        permit.success()
    trip(breaker)
    vt.advance(0.2)
    hung = breaker.try_acquire()
    vt.advance(lease * 0.99)
    assert not breaker.try_acquire().admitted
    vt.advance(lease * 0.02)
    assert breaker.try_acquire().admitted
    hung.ignore()


def test_the_ramp_readmits_a_share_that_rises_from_a_tenth_to_all(vt):
    """Error diffusion, no randomness: the admitted share of each stretch is the ramp's, and it says closed."""
    breaker = trip(circuit_breaker(ramp=10.0, open_for=0.2))
    probe(vt, breaker)
    assert probe(vt, breaker) == "closed"
    shares = []
    for _ in range(11):
        admitted = 0
        for _ in range(1000):
            permit = breaker.try_acquire()
            vt.advance(0.001)
            if permit.admitted:
                admitted += 1
                permit.success()
            else:
                assert permit.reason == "ramp"
                assert 0 < permit.retry_after <= 0.2
        shares.append(admitted / 1000)
        assert breaker.state == "closed"
    assert shares == pytest.approx([0.145 + 0.09 * i for i in range(10)] + [1.0], abs=0.002)
    assert not breaker.snapshot().ramping


def test_the_ramp_admits_the_first_call_and_gives_a_cancelled_ones_turn_to_the_next(vt):
    """A lone caller is not punished, and what was cancelled before the callee was called took no share."""
    breaker = trip(circuit_breaker(ramp=1000.0))
    probe(vt, breaker)
    permit = breaker.try_acquire()
    assert permit.admitted
    assert not breaker.try_acquire().admitted
    permit.cancel()
    assert breaker.try_acquire().admitted
    assert not breaker.try_acquire().admitted


def test_a_trip_during_the_ramp_opens(vt):
    """A dependency that fails again under the rising load is left alone again."""
    breaker = trip(circuit_breaker(ramp=10.0, consecutive=3))
    probe(vt, breaker)
    probe(vt, breaker)
    vt.advance(9.0)
    for _ in range(10):
        permit = breaker.try_acquire()
        if permit.admitted:
            permit.failure()
    assert breaker.state == "open"
    assert not breaker.snapshot().ramping


# ---- by hand, shadow, sharing ----------------------------------------------------------------------------------------


def test_states_by_hand_hold_until_another_is_asked_for(vt):
    """force_open rejects, force_closed counts and never trips, disable learns nothing, reset forgets."""
    breaker = circuit_breaker(consecutive=3)
    with record_events(breaker) as events:
        late = breaker.try_acquire()
        breaker.force_open()
        vt.advance(1000.0)
        rejection = breaker.try_acquire()
        assert (rejection.reason, rejection.retry_after) == ("forced_open", None)
        late.failure()
        breaker.force_closed()
        for _ in range(10):
            breaker.try_acquire().failure()
        assert (breaker.state, breaker.snapshot().window_failures) == ("forced_closed", 10)
        breaker.disable()
        breaker.try_acquire().failure()
        assert (breaker.state, breaker.snapshot().window_failures) == ("disabled", 10)
        breaker.reset()
        seen = breaker.snapshot()
        assert (seen.state, seen.window_calls, seen.consecutive, seen.stale) == ("closed", 0, 0, 1)
        assert (seen.failures, seen.generation) == (12, 5)
    assert events.states() == ["forced_open", "forced_closed", "disabled", "closed"]
    assert {change.reason for change in events if hasattr(change, "old")} == {"manual"}


def test_shadow_mode_rejects_nothing_and_decides_as_if_it_did(vt):
    """With enforce=False every call passes; the states are those of an enforcing twin that sees the same calls."""
    twins = shadow, real = circuit_breaker(enforce=False, consecutive=3), circuit_breaker(consecutive=3)
    for breaker in twins:
        breaker._gate._seed(1)
    for i in range(400):
        vt.advance(0.05)
        healthy = i % 100 >= 50
        for breaker in twins:
            permit = breaker.try_acquire()
            if permit.admitted:
                (permit.success if healthy else permit.failure)()
        assert shadow.state == real.state
    seen = shadow.snapshot()
    assert (seen.rejected, seen.inflight) == (0, 0)
    assert seen.would_reject == real.snapshot().rejected > 0
    assert shadow.health()


def test_a_share_can_be_enforced():
    """enforce=0.25 rejects exactly a quarter of what full enforcement would reject."""
    breaker = trip(circuit_breaker(enforce=0.25, open_for=1000.0))
    answers = [breaker.try_acquire() for _ in range(1000)]
    assert sum(not answer.admitted for answer in answers) == 250
    seen = breaker.snapshot()
    assert (seen.rejected, seen.would_reject) == (250, 750)
    for answer in answers:
        if answer.admitted:
            answer.success()
    assert breaker.snapshot().window_calls == 10  # what should not have passed teaches nothing


class Queue:
    """A breaker in front of a bulkhead of one that is taken: the next call waits behind the breaker's admission."""

    def __init__(self, breaker):
        self.bulkhead = BulkheadGate(BulkheadConfig(max_concurrent=1, max_queued=5, max_wait=3e8))
        self.taken = core.Pipeline((self.bulkhead,)).try_acquire()
        self.pipeline = core.Pipeline((*breaker.gates, self.bulkhead))
        self.answers = []

    async def call(self):
        try:
            permit = await self.pipeline.aacquire()
        except CircuitOpenError as error:
            self.answers.append(error.reason)
        else:
            self.answers.append("admitted")
            permit.success()

    def run(self, vt, backend, *meanwhile):
        """Let a call wait, do what the test says meanwhile, make room."""

        async def main():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.call)
                await anyio.wait_all_tasks_blocked()
                for step in meanwhile:
                    step()
                self.taken.success()

        vt.run(main, backend=backend)
        assert self.bulkhead.counters()["queued"] == self.bulkhead.used == 0


@BACKENDS
def test_a_call_that_waited_while_the_breaker_opened_is_rejected(vt, backend):
    """After a wait at another gate the breaker is asked again; the callee is not called, and all is given back."""
    breaker = circuit_breaker(consecutive=1, open_for=100.0)
    queue = Queue(breaker)
    queue.run(vt, backend, breaker.try_acquire().failure)
    assert queue.answers == ["open"]
    seen = breaker.snapshot()
    assert (seen.state, seen.inflight, seen.rejected) == ("open", 0, 1)


@BACKENDS
def test_a_call_that_waited_through_a_whole_outage_is_admitted_anew(vt, backend):
    """Opened and closed meanwhile: the call belongs to the new generation, and its result counts."""
    breaker = circuit_breaker(consecutive=1)
    queue = Queue(breaker)
    queue.run(vt, backend, breaker.try_acquire().failure, breaker.reset)
    assert queue.answers == ["admitted"]
    seen = breaker.snapshot()
    assert (seen.successes, seen.stale, seen.inflight, seen.window_calls) == (1, 0, 0, 1)


@BACKENDS
def test_a_probe_that_waits_elsewhere_keeps_its_lease_if_nobody_took_its_place(vt, backend):
    """Its lease begins anew when the callee is called."""
    breaker = trip(circuit_breaker(probes=1, probe_lease=5.0))
    vt.advance(1.0)
    queue = Queue(breaker)
    queue.run(vt, backend, lambda: vt.advance(60.0))
    assert queue.answers == ["admitted"]
    assert breaker.state == "closed"


@BACKENDS
def test_a_probe_that_waited_beyond_its_lease_is_rejected_if_another_probes(vt, backend):
    """There is one place, and it has been given away."""
    breaker = trip(circuit_breaker(probe_lease=5.0))
    vt.advance(1.0)
    queue = Queue(breaker)
    others = []
    queue.run(vt, backend, lambda: vt.advance(60.0), lambda: others.append(breaker.try_acquire()))
    assert queue.answers == ["probing"]
    assert (breaker.snapshot().probes, breaker.snapshot().inflight) == (1, 1)
    others[0].success()


@BACKENDS
def test_a_wait_elsewhere_is_not_the_callees_slowness(vt, backend):
    """Seconds in a bulkhead's queue make no call slow."""
    breaker = circuit_breaker(slow_call=1.0)
    queue = Queue(breaker)
    queue.run(vt, backend, lambda: vt.advance(60.0))
    assert (breaker.snapshot().successes, breaker.snapshot().window_slow) == (1, 0)


@BACKENDS
def test_in_shadow_mode_a_wait_ends_in_no_rejection(vt, backend):
    """What enforcement would have rejected after the wait passes, and teaches nothing."""
    breaker = circuit_breaker(consecutive=1, open_for=100.0, enforce=False)
    queue = Queue(breaker)
    queue.run(vt, backend, breaker.try_acquire().failure)
    assert queue.answers == ["admitted"]
    seen = breaker.snapshot()
    assert (seen.would_reject, seen.inflight, seen.stale) == (1, 0, 0)


def test_one_name_is_one_breaker_and_other_options_are_rejected():
    """The same name and options give the same object; other options raise, naming both places."""
    breaker = circuit_breaker("payments", failure_rate=0.3)
    assert circuit_breaker("payments", failure_rate=0.3) is breaker
    assert registry.get("payments") is breaker
    with pytest.raises(ValueError, match="payments"):
        circuit_breaker("payments")


def test_reconfigure_changes_options_and_keeps_the_state(vt):
    """An open breaker stays open under new options; bad options change nothing."""
    breaker = trip(circuit_breaker())
    before = breaker.snapshot()
    breaker.reconfigure(max_open_for=30.0, open_for=10.0, window=50)
    assert (breaker.state, breaker.snapshot().retry_after) == ("open", before.retry_after)
    with pytest.raises(ValueError, match="failure_rate"):
        breaker.reconfigure(failure_rate=2.0)
    assert breaker.config.max_open_for == 30.0
    breaker.reset()
    breaker.reconfigure(on=KeyError, consecutive=1)
    assert breaker.try_call({}.__getitem__, "missing").outcome == "failure"
    assert 9.0 <= breaker.snapshot().retry_after <= 10.0


def test_it_can_be_used_bare_and_keeps_what_it_guards():
    """`@circuit_breaker` guards with the defaults: functions, static and class methods."""

    class Client:
        @circuit_breaker
        def method(self, value):
            """Its docstring."""
            return value

        @circuit_breaker
        @staticmethod
        def static(value):
            return value

        @circuit_breaker
        @classmethod
        def of_class(cls, value):
            return cls, value

    client = Client()
    assert (client.method(1), client.static(2), client.of_class(3)) == (1, 2, (Client, 3))
    assert Client.method.__doc__ == "Its docstring."
    assert Client.method.pipeline.config == CircuitBreakerConfig()


def test_health_says_not_ready_only_while_no_call_has_a_chance(vt):
    """An open breaker is ready as soon as a probe may pass: a readiness check must not starve it of calls."""
    breaker = circuit_breaker("payments")
    assert breaker.health()
    assert breaker.health().reasons == ()
    trip(breaker)
    assert breaker.health().reasons == ("circuit_breaker payments is open",)
    vt.advance(0.2)
    assert breaker.health()
    breaker.force_open()
    assert not breaker.health()


# ---- judging ---------------------------------------------------------------------------------------------------------


def test_predicates_may_answer_with_an_outcome_and_never_change_the_call():
    """`on`, `ignore` and `failed_if` judge; one that raises means ignored, and the caller sees what the callee did."""

    def broken(subject):
        raise ZeroDivisionError

    cases = [
        ({"on": lambda error: "busy" in str(error)}, ["busy", "other"], (1, 1, 0)),
        ({"on": lambda _: Outcome.IGNORED}, ["busy"], (0, 0, 1)),
        ({"on": broken}, ["busy"], (0, 0, 1)),
        ({"ignore": broken}, ["busy"], (0, 0, 1)),
        ({"ignore": lambda error: "other" in str(error)}, ["busy", "other"], (0, 1, 1)),
    ]
    for options, texts, expected in cases:
        breaker = circuit_breaker(**options)
        for text in texts:
            with pytest.raises(OSError, match=text):
                breaker.call(lambda text=text: raise_(OSError(text)))
        seen = breaker.snapshot()
        assert (seen.successes, seen.failures, seen.ignored) == expected
    for failed_if, expected in (
        (broken, (0, 0, 1)),
        (lambda _: Outcome.IGNORED, (0, 0, 1)),
        (lambda _: True, (0, 1, 0)),
    ):
        breaker = circuit_breaker(failed_if=failed_if)
        assert breaker.call(lambda: 503) == 503
        seen = breaker.snapshot()
        assert (seen.successes, seen.failures, seen.ignored) == expected


def raise_(error):
    """`raise` as an expression."""
    raise error


def test_a_listed_rejection_counts_as_a_failure():
    """Who lists BulkheadFullError in `on` wants a full bulkhead to open the breaker."""
    breaker = circuit_breaker(on=(OSError, BulkheadFullError), consecutive=2)
    for _ in range(2):
        with pytest.raises(BulkheadFullError):
            breaker.call(raise_, BulkheadFullError("bulkhead"))
    assert breaker.state == "open"


# ---- time, processes, memory -----------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_a_little_is_clamped_and_one_that_jumps_takes_the_breaker_along():
    """Neither a race between two readings nor another clock lengthens or shortens what is left of the open time."""
    try:
        clock.set_virtual(10_000_000_000_000)
        breaker = trip(circuit_breaker(open_for=10.0, max_open_for=10.0))
        left = breaker.try_acquire().retry_after
        clock.set_virtual(10_000_000_000_000 - 500_000_000)
        assert breaker.try_acquire().retry_after == left
        clock.set_virtual(1_000_000_000)
        assert breaker.try_acquire().retry_after == left
        clock.set_virtual(1_000_000_000 + round(left * 1e9))
        hung = breaker.try_acquire()
        clock.set_virtual(500)  # back by more than a second with a probe under way
        assert breaker.try_acquire().reason == "probing"
        hung.success()
    finally:
        clock.clear_virtual()


def test_another_clock_takes_a_ramp_along():
    """What is left of a ramp stays what it was when the clock is exchanged."""
    try:
        clock.set_virtual(10_000_000_000_000)
        breaker = trip(circuit_breaker(ramp=100.0))
        clock.set_virtual(10_001_000_000_000)
        breaker.try_acquire().success()
        assert breaker.try_acquire().admitted
        clock.set_virtual(1_000_000_000)
        assert breaker.try_acquire().reason == "ramp"
        clock.set_virtual(101_000_000_000)
        assert all(breaker.try_acquire().admitted for _ in range(3))
    finally:
        clock.clear_virtual()


def test_a_forked_child_holds_no_probe_and_draws_its_own_jitter(vt, in_child):
    """In the child the probe's place is free, the parent's late result is dropped, and the jitter differs."""
    breaker = trip(circuit_breaker(open_for=1.0, max_open_for=1000.0, probe_lease=1000.0, probes=3))
    vt.advance(1.0)
    hung = breaker.try_acquire()
    assert hung.admitted
    assert not breaker.try_acquire().admitted

    def child():
        hung.success()
        inherited = breaker.snapshot()
        return breaker.try_acquire().admitted, inherited.probes, inherited.probes_succeeded, jitter_of(breaker)

    admitted, probes, succeeded, jitter = in_child(child)
    assert (admitted, probes, succeeded) == (True, 0, 0)
    assert breaker.snapshot().probes == 1
    hung.success()
    assert breaker.snapshot().probes_succeeded == 1
    assert jitter_of(breaker) != jitter


def jitter_of(breaker):
    """Trip it afresh and return how long it is open."""
    breaker.reset()
    return trip(breaker).snapshot().retry_after


@pytest.mark.untraced  # traced calls take long, and their latencies more pages
def test_a_breaker_takes_less_than_16_kilobytes():
    """One breaker, its face, its record and its window included; the histogram's pages come as they are needed."""
    import tracemalloc

    circuit_breaker(window=(100, "60s"))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        breakers = [circuit_breaker(window=(200 + i, "60s")) for i in range(400)]  # a table of all may grow meanwhile
        python = (tracemalloc.get_traced_memory()[0] - before) / 400
    finally:
        tracemalloc.stop()
    gate = breakers[0]._gate
    for _ in range(10):
        breakers[0].call(int)
    native = gate.__sizeof__() - type(gate).__basicsize__
    assert python + native < 5000


# ---- bad input -------------------------------------------------------------------------------------------------------

TIMES = [0, -1, math.nan, math.inf, True, "1", 1e12, None]
OPEN_TIMES = [0, -1, math.nan, math.inf, True, "1", "soon", "2h", 1e12, 3601, 30_000, None]
BAD = {
    "failure_rate": [0, -0.1, 1.1, math.nan, math.inf, True, "0.5"],
    "window": [0, -1, True, 1.5, math.nan, None, "60", "0s", "10us", (200, 60), (1, 2, 3), ("1s", "2s"), 10**7, 10**12],
    "min_calls": [0, -1, True, 1.5, "20", None, 10**12, 201],
    "consecutive": [0, -1, True, 1.5, "10", 10**12],
    "slow_call": TIMES[:-1],
    "slow_rate": [0, -0.1, 1.1, math.nan, math.inf, True, "0.5"],
    "open_for": OPEN_TIMES,
    "max_open_for": [*OPEN_TIMES, 0.1],
    "probes": [0, -1, True, 1.5, "3", None, 17],
    "probe_lease": TIMES[:-1],
    "ramp": TIMES[:-1],
    "mode": ["throttle", "count", None, 1],
    "on": [int, "Exception", None, (OSError, int), OSError(), 1],
    "ignore": [int, "Exception", None, (OSError, int), OSError(), 1],
    "failed_if": [int, 1, "bad", OSError],
    "enforce": [-0.1, 1.1, math.nan, math.inf, "yes", None],
    "initial": ["open", "half_open", "", None, 1],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in BAD.items() for value in values])
def test_bad_values_are_rejected_by_name_and_value(option, value):
    """NaN, infinity, bool, negative, zero, wrong types and absurd values: the message names parameter and value."""
    with pytest.raises((TypeError, ValueError)) as caught:
        circuit_breaker(**{option: value})
    text = str(caught.value)
    assert re.search(rf"\b{option}\b", text)
    assert repr(value)[:40] in text


@pytest.mark.parametrize("name", [1, "", " blank ", "a\nb", "x" * 300, 1.5, object()])
def test_bad_names_are_rejected(name):
    """A name is a short printable string."""
    with pytest.raises((TypeError, ValueError), match="name"):
        circuit_breaker(name)


def test_unknown_options_are_rejected():
    """A typing error in an option is no silent default."""
    with pytest.raises(TypeError, match="failure_ratio"):
        circuit_breaker(failure_ratio=0.5)


def test_a_snapshot_knows_the_rates(vt):
    """The shares in the window; None while there is nothing to share."""
    breaker = circuit_breaker(slow_call=1.0, slow_rate=1.0)
    assert (breaker.snapshot().failure_rate, breaker.snapshot().slow_rate) == (None, None)
    for ends_well, latency in ((True, 0.0), (True, 2.0), (False, 2.0), (True, 2.0)):
        permit = breaker.try_acquire()
        vt.advance(latency)
        permit.success() if ends_well else permit.failure()
    assert (breaker.snapshot().failure_rate, breaker.snapshot().slow_rate) == (0.25, 0.75)


def test_times_and_windows_have_several_forms():
    """Seconds or timedelta; calls, time, or both in either order."""
    breaker = circuit_breaker(open_for=timedelta(seconds=2), slow_call=1, window=("30s", 50))
    assert (breaker.config.open_for, breaker.config.slow_call) == (2.0, 1.0)
    assert (breaker.config.window.calls, breaker.config.window.seconds) == (50, 30.0)
    assert circuit_breaker(window=timedelta(minutes=2)).config.window.seconds == 120.0
    assert circuit_breaker(window=10).config.window.calls == 10


def test_two_defaults_give_way_to_what_is_set_beside_them(vt):
    """A window shorter than min_calls' default trips when it is full; a long open_for needs no max_open_for."""
    breaker = circuit_breaker(window=5, consecutive=None, open_for=30.0)
    for state in ("closed",) * 4 + ("open",):
        breaker.try_acquire().failure()
        assert breaker.state == state
    assert 27.0 <= breaker.snapshot().retry_after <= 30.0


def test_the_class_is_made_by_its_function():
    """What `circuit_breaker` returns is a CircuitBreaker whose repr says name and state."""
    breaker = circuit_breaker("payments")
    assert type(breaker) is CircuitBreaker
    assert repr(breaker) == "<CircuitBreaker 'payments' closed>"


@pytest.mark.parametrize("options", [{"probes": 0}, {"probes": 17}, {"window": Window()}])
def test_the_gate_itself_rejects_what_would_break_it(options):
    """The native object cannot be made to write outside of its memory."""
    with pytest.raises((ValueError, MemoryError)):
        make_gate(**options)
    with pytest.raises(ValueError, match="initial"):
        make_gate(initial="half_open")
    with pytest.raises(ValueError, match="state"):
        make_gate().force("open")
    for seconds in (math.nan, math.inf, -1.0, 1e10):
        with pytest.raises(ValueError, match="seconds"):
            make_gate().extend_open(seconds)


# ---- rules that are off, and times that were meant otherwise ---------------------------------------------------------


def test_a_rate_that_is_off_opens_nothing(vt):
    """`consecutive=50` opened at 20 failures all the same, by the rate that could not be turned off."""
    breaker = circuit_breaker(failure_rate=None, consecutive=50)
    for state in ("closed",) * 49 + ("open",):
        breaker.try_acquire().failure()
        assert breaker.state == state
    half = circuit_breaker(failure_rate=None, consecutive=50)
    for number in range(400):
        permit = half.try_acquire()
        permit.failure() if number % 4 else permit.success()
    assert half.state == "closed"


def test_each_rate_is_turned_off_by_itself(vt):
    """Slow calls open it where failures do not, and the other way around."""
    slow = circuit_breaker(failure_rate=None, consecutive=None, slow_call=1.0)
    for state in ("closed",) * 19 + ("open",):
        permit = slow.try_acquire()
        vt.advance(2.0)
        permit.failure()
        assert slow.state == state
    failing = circuit_breaker(slow_call=1.0, slow_rate=None, consecutive=None)
    for _ in range(400):
        permit = failing.try_acquire()
        vt.advance(2.0)
        permit.success()
    assert failing.state == "closed"


def test_a_rate_that_is_off_throttles_nothing(vt):
    """The probabilistic mode leaves a rate out as well."""
    breaker = circuit_breaker(mode="probabilistic", failure_rate=None)
    for number in range(400):
        permit = breaker.try_acquire()
        permit.failure() if number % 4 else permit.success()
        assert breaker.state == "closed"


@pytest.mark.parametrize("rest", [{}, {"slow_rate": None, "slow_call": 1.0}, {"slow_call": None}])
def test_a_breaker_without_a_rule_is_rejected(rest):
    """It would never open, without a word; changing one into it is rejected too."""
    with pytest.raises(ValueError, match="failure_rate=None and consecutive=None leave no rule that opens the breaker"):
        circuit_breaker(failure_rate=None, consecutive=None, **rest)
    breaker = circuit_breaker(failure_rate=None, **rest)
    with pytest.raises(ValueError, match="leave no rule"):
        breaker.reconfigure(consecutive=None)
    breaker.reconfigure(failure_rate=0.5, consecutive=None)
    assert breaker.config.failure_rate == 0.5


@pytest.mark.parametrize(
    ("value", "meant"), [(30_000, "'30s'"), (3601, "'3.601s'"), (1_500_000, "'1500s'"), (1e8, None), ("2h", None)]
)
@pytest.mark.parametrize("option", ["open_for", "max_open_for"])
def test_a_time_in_milliseconds_is_guessed(option, value, meant):
    """`open_for=30_000`, as other libraries have it, was eight hours without a call."""
    with pytest.raises(ValueError, match=rf"{option} must be at most an hour") as caught:
        circuit_breaker(**{option: value})
    assert str(caught.value).partition("did you mean ")[2] == ("" if meant is None else f"{meant}?")
    with pytest.raises(ValueError, match=f"{option} must be at most an hour"):
        circuit_breaker().reconfigure(**{option: value})


def test_an_open_time_may_be_text():
    """As the message proposes it."""
    breaker = circuit_breaker(open_for="30s", max_open_for="1h")
    assert (breaker.config.open_for, breaker.config.max_open_for) == (30.0, 3600.0)


def test_a_longest_time_below_the_first_is_rejected_though_it_is_the_defaults_number(vt):
    """`open_for=30, max_open_for=3` was open for 30 s: the default gives way, but this is no default."""
    with pytest.raises(ValueError, match=r"max_open_for must be at least open_for, which is 30, not 3"):
        circuit_breaker(open_for=30, max_open_for=3)
    breaker = circuit_breaker()
    with pytest.raises(ValueError, match="max_open_for must be at least open_for"):
        breaker.reconfigure(open_for=30, max_open_for=3.0)
    breaker.reconfigure(open_for=30)
    breaker.reconfigure(min_calls=5)
    assert breaker.config.open_for == 30.0


@pytest.mark.parametrize("state", ["open", "closed", "disable"])
def test_a_state_that_is_forced_twice_is_one_change(state):
    """`force_open()` twice told listeners, metrics and the log of a change from open to open."""
    breaker, seen = circuit_breaker(), []
    breaker.on_event(seen.append)
    force = {"open": breaker.force_open, "closed": breaker.force_closed, "disable": breaker.disable}[state]
    force()
    generation = breaker.snapshot().generation
    force()
    assert (len(seen), breaker.snapshot().generation) == (1, generation)
    breaker.reset()
    breaker.reset()
    assert [(event.old, event.new) for event in seen[1:]] == [(seen[0].new, "closed")]


def test_closing_a_closed_breaker_forgets_and_tells_nothing():
    """`reset()` is also for a breaker that has seen half of what opens it."""
    breaker, seen = circuit_breaker(consecutive=3), []
    breaker.on_event(seen.append)
    for _ in range(2):
        breaker.try_acquire().failure()
    breaker.reset()
    assert (breaker.snapshot().consecutive, seen) == (0, [])


def test_a_stream_that_has_begun_makes_room_for_the_next_probe(vt):
    """A probe that streams for minutes has proven its part with the first item; the second need not wait for it."""
    breaker = trip(circuit_breaker(probes=2))

    @breaker
    def rows():
        yield 1
        yield 2

    vt.advance(breaker.snapshot().retry_after)
    stream = rows()
    assert next(stream) == 1
    assert breaker.state == "half_open"
    assert breaker.call(int) == 0
    assert breaker.state == "closed"
    assert list(stream) == [2]
    assert breaker.state == "closed"


def test_a_rejection_after_slow_calls_has_their_share(vt):
    """It has the measured share, and the limit that this has crossed."""
    breaker = circuit_breaker(slow_call=1.0, slow_rate=0.6, failure_rate=0.9, window=20, min_calls=10)
    for takes in [0.1] * 4 + [2.0] * 6:
        with breaker:
            vt.advance(takes)
    with pytest.raises(CircuitOpenError) as caught, breaker:
        pass
    assert (caught.value.measured, caught.value.limit) == (0.6, 0.6)
