"""The circuit breaker's numbered scenarios: what others got wrong, one promise each."""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import httpx2
import pytest

from resilio import circuit_breaker
from resilio.errors import BulkheadFullError, CircuitOpenError, RateLimitedError
from resilio.testing import assert_no_leaks, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
NOT_OUTCOMES = pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])


class Broken(OSError):
    """What the dependency raises while it is down."""


def fail():
    """The dependency is down."""
    raise Broken


async def afail():
    """The same, for await."""
    raise Broken


def trip(breaker):
    """Fail until the breaker is open."""
    while breaker.state == "closed":
        with pytest.raises(Broken):
            breaker.call(fail)
    return breaker


def tripped(vt, **options):
    """A breaker whose open time has just passed."""
    breaker = trip(circuit_breaker(**{"consecutive": 3, "open_for": 1.0, "probe_lease": 30.0, **options}))
    vt.advance(1.0)
    return breaker


def close(breaker):
    """Let the two probes that close it succeed."""
    for _ in range(2):
        breaker.call(int)
    assert breaker.state == "closed"


@BACKENDS
def test_cb01_a_cancelled_probe_gives_its_place_to_the_next_call(vt, backend):
    """CB-01: cancelled by asyncio or trio, a probe is no outcome, and the next call may probe."""
    breaker = tripped(vt)

    async def main():
        with anyio.move_on_after(0.5) as scope:
            await breaker.acall(anyio.sleep_forever)
        assert scope.cancelled_caught

    vt.run(main, backend=backend)
    seen = breaker.snapshot()
    assert (seen.state, seen.probes, seen.probes_succeeded, seen.ignored) == ("half_open", 0, 0, 1)
    close(breaker)


@NOT_OUTCOMES
def test_cb01_a_probe_ended_by_the_interpreter_gives_its_place_back(vt, error):
    """CB-01: KeyboardInterrupt, SystemExit and GeneratorExit say nothing about the dependency."""
    breaker = tripped(vt)

    def interrupted():
        raise error

    with pytest.raises(error):
        breaker.call(interrupted)
    assert breaker.state == "half_open"
    close(breaker)


def test_cb01_a_probe_that_is_dropped_or_closed_gives_its_place_back(vt):
    """CB-01: a coroutine closed or never resumed again, and a permit that is dropped, hold nothing."""
    breaker = tripped(vt)
    call = breaker.acall(anyio.sleep_forever)
    running = breaker.acall(SimpleNamespace)  # not started: it has taken nothing yet
    running.close()
    permit = breaker.try_acquire()
    assert permit.admitted
    assert not breaker.try_acquire().admitted
    del permit
    call.close()
    close(breaker)
    assert_no_leaks(breaker)


@BACKENDS
def test_cb02_no_more_probes_than_permitted_in_flight_or_in_a_round(vt, backend):
    """CB-02: of 50 tasks right after the open time one probes; after its success the rest of `probes`, no more."""
    breaker = tripped(vt, probes=3)
    running, most, started, rejected = 0, 0, 0, 0

    async def dependency():
        nonlocal running, most, started
        started += 1
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    async def caller():
        nonlocal rejected
        try:
            await breaker.acall(dependency)
        except CircuitOpenError as error:
            rejected += error.reason == "probing"

    async def wave():
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(caller)

    async def main():
        await wave()
        assert (most, started, rejected, breaker.state) == (1, 1, 49, "half_open")
        await wave()
        assert (most, started, rejected, breaker.state) == (2, 3, 97, "closed")

    vt.run(main, backend=backend)


@pytest.mark.untraced
def test_cb02_threads_that_race_for_the_first_probe_start_one(vt):
    """CB-02: of eight threads one probes; the race is real: its probe ends only after the other seven were rejected."""
    breaker = tripped(vt)
    start, rejection = threading.Barrier(8), threading.Semaphore(0)
    reasons = []

    def probe():
        return [rejection.acquire(timeout=10) for _ in range(7)]

    def caller():
        start.wait(10)
        try:
            return breaker.call(probe)
        except CircuitOpenError as error:
            reasons.append(error.reason)
            rejection.release()
            return None

    with ThreadPoolExecutor(8) as pool:
        probed = [answer for answer in pool.map(lambda _: caller(), range(8)) if answer is not None]
    assert probed == [[True] * 7]
    assert reasons == ["probing"] * 7
    assert (breaker.state, breaker.snapshot().probes_succeeded) == ("half_open", 1)


def test_cb02_a_listener_that_calls_again_gets_no_second_probe(vt):
    """CB-02: between the decision and the first probe there is no gap for a listener to slip through."""
    breaker = tripped(vt)
    answers = []
    unsubscribe = breaker.on_event(lambda event: answers.append((event.new, breaker.try_acquire().admitted)))
    probe = breaker.try_acquire()
    unsubscribe()
    assert probe.admitted
    assert answers == [("half_open", False)]


def test_cb03_a_success_from_before_the_trip_does_not_close(vt):
    """CB-03a: a call admitted while closed says nothing about the half-open round that it ends in."""
    breaker = circuit_breaker(consecutive=3, open_for=1.0, probes=1)
    old = breaker.try_acquire()
    trip(breaker)
    vt.advance(1.0)
    probe = breaker.try_acquire()
    old.success()
    assert breaker.snapshot().stale == 1
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 1)
    probe.failure()
    assert breaker.state == "open"


def test_cb03_a_probe_from_an_older_round_counts_for_nothing(vt):
    """CB-03b: late from round one, a probe neither closes round two nor frees a place twice."""
    breaker = tripped(vt, probe_lease=0.5, open_for=1.0)
    hung = breaker.try_acquire()
    vt.advance(1.0)
    breaker.try_acquire().failure()  # the lease lapsed, another probed and failed: round one is over
    assert breaker.state == "open"
    vt.advance(2.0)
    fresh = breaker.try_acquire()
    hung.success()
    seen = breaker.snapshot()
    assert (seen.state, seen.probes, seen.probes_succeeded, seen.inflight) == ("half_open", 1, 0, 1)
    fresh.success()
    assert breaker.state == "half_open"


def test_cb04_a_hung_probe_loses_its_place_when_its_lease_ends(vt):
    """CB-04: nothing wedges: `retry_after` is > 0 while probing, a lapsed lease goes to another call."""
    breaker = tripped(vt, probe_lease=5.0)
    hung = breaker.try_acquire()
    rejection = breaker.try_acquire()
    assert rejection.reason == "probing"
    assert 0 < rejection.retry_after <= 1.0  # never longer than the present open time
    vt.advance(4.9)
    assert 0 < breaker.try_acquire().retry_after <= 0.1 + 1e-9
    vt.advance(0.1)
    second = breaker.try_acquire()
    assert second.admitted
    hung.success()  # late, but of this round: its evidence is fresh, its place is not freed a second time
    assert breaker.snapshot().probes == 1
    second.success()
    assert breaker.state == "closed"
    assert breaker.snapshot().probes_lapsed == 1


@BACKENDS
def test_cb04_retry_after_leads_to_a_probe(vt, backend):
    """CB-04: a caller that waits as long as each rejection says gets through, although the first probe hangs."""
    breaker = tripped(vt, probe_lease=5.0)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaker.acall, anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            while not (answer := breaker.try_acquire()).admitted:
                assert answer.retry_after > 0
                await anyio.sleep(answer.retry_after)
            answer.success()
            tasks.cancel_scope.cancel()

    vt.run(main, backend=backend)
    breaker.call(int)
    assert breaker.state == "closed"


def test_cb05_a_probe_that_raises_what_does_not_count_gives_its_place_back(vt):
    """CB-05: three outcomes: ignored is no verdict; what is neither ignored nor a failure is a success."""
    breaker = tripped(vt, on=OSError, ignore=KeyError)
    with pytest.raises(KeyError):
        breaker.call({}.__getitem__, "missing")
    assert (breaker.state, breaker.snapshot().probes_succeeded) == ("half_open", 0)
    for expected in ("half_open", "closed"):
        with pytest.raises(ValueError):
            breaker.call(int, "the dependency answered")
        assert breaker.state == expected


def test_cb06_ignored_exceptions_neither_count_nor_reset_the_count():
    """CB-06: two failures, an ignored exception and a third failure are three failures in a row."""
    breaker = circuit_breaker(consecutive=3, ignore=KeyError)
    for error in (Broken, Broken, KeyError):
        permit_error(breaker, error)
    assert (breaker.state, breaker.snapshot().consecutive) == ("closed", 2)
    permit_error(breaker, Broken)
    assert breaker.state == "open"


def permit_error(breaker, error):
    """One call that raises."""

    def raising():
        raise error

    with pytest.raises(error):
        breaker.call(raising)


def test_cb07_no_lock_is_held_across_the_call():
    """CB-07: two threads are inside the guarded function at once: each waits there for the other."""
    both_inside = threading.Barrier(2)
    breaker = circuit_breaker()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(breaker.call, both_inside.wait, 10) for _ in range(2)]
        assert sorted(call.result() for call in calls) == [0, 1]


@BACKENDS
def test_cb08_the_call_that_trips_raises_its_own_exception(vt, backend):
    """CB-08: tripping replaces nothing; the exception is the very object that the callee raised."""
    breaker = circuit_breaker(consecutive=1)
    own = Broken("the callee's own")

    async def main():
        async def raising():
            raise own

        with pytest.raises(Broken) as caught:
            await breaker.acall(raising)
        assert caught.value is own

    vt.run(main, backend=backend)
    assert breaker.state == "open"
    assert own.__cause__ is None
    assert own.__context__ is None


@NOT_OUTCOMES
def test_cb09_the_interpreters_own_exceptions_never_count_and_are_never_masked(error):
    """CB-09: also when `on` lists BaseException."""
    breaker = circuit_breaker(consecutive=1, min_calls=1, on=BaseException)
    permit_error(breaker, error)
    seen = breaker.snapshot()
    assert (seen.state, seen.failures, seen.ignored, seen.window_calls) == ("closed", 0, 1, 0)


@BACKENDS
def test_cb10_blocks_enforce_and_keep_their_own_tokens(vt, backend):
    """CB-10: a block does not run while open; overlapping blocks of several tasks settle each its own permit."""
    breaker = circuit_breaker(consecutive=2, open_for=1.0)

    async def block(seconds, error, *, task_status):
        try:
            async with breaker:
                task_status.started()
                await anyio.sleep(seconds)
                if error:
                    raise Broken
        except Broken:
            pass

    async def main():
        async with anyio.create_task_group() as tasks:
            for seconds, error in ((1, False), (2, True), (3, False), (4, True), (5, True)):
                await tasks.start(block, seconds, error)  # one after the other: what is in a row goes by the beginning
        with pytest.raises(CircuitOpenError):
            async with breaker:
                pytest.fail("the block ran while open")

    vt.run(main, backend=backend)
    with pytest.raises(CircuitOpenError), breaker:
        pytest.fail("the block ran while open")
    seen = breaker.snapshot()
    assert (seen.successes, seen.failures, seen.inflight, seen.state) == (2, 3, 0, "open")


def test_cb11_two_stacked_breakers_both_record():
    """CB-11: nothing marks a function as guarded already: outer and inner see every outcome."""
    outer, inner = circuit_breaker(consecutive=3), circuit_breaker(consecutive=5)
    guarded = outer(inner(fail))
    for _ in range(3):
        with pytest.raises(Broken):
            guarded()
    assert (outer.snapshot().failures, inner.snapshot().failures) == (3, 3)
    with pytest.raises(CircuitOpenError):
        guarded()
    assert (outer.state, inner.state) == ("open", "closed")
    assert inner.snapshot().calls == 3


def test_cb12_the_wall_clock_is_never_read(monkeypatch):
    """CB-12: a wall clock that steps by an hour changes nothing."""
    breaker = trip(circuit_breaker(consecutive=3, open_for=300.0))
    before = breaker.try_acquire().retry_after
    hour_later = time.time() + 3600  # wall clock: the one that steps
    monkeypatch.setattr(time, "time", lambda: hour_later)
    assert 0 < breaker.try_acquire().retry_after <= before


def test_cb13_every_rejection_is_fresh_and_logs_no_traceback(caplog):
    """CB-13: a thousand rejections are a thousand objects whose tracebacks do not grow, and one log line: the trip."""
    breaker = circuit_breaker(consecutive=3, open_for=300.0)
    caplog.set_level(logging.DEBUG)
    trip(breaker)
    seen = []
    for _ in range(1000):
        with pytest.raises(CircuitOpenError) as caught:
            breaker.call(fail)
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 1000
    assert {depth(error) for error in seen} == {depth(seen[0])}
    assert [record.exc_info for record in caplog.records if record.levelno >= logging.INFO] == [None]


def depth(error):
    """How many frames its traceback has."""
    traceback, frames = error.__traceback__, 0
    while traceback is not None:
        traceback, frames = traceback.tb_next, frames + 1
    return frames


@circuit_breaker(consecutive=3)
def guarded_at_module_level():
    """A guarded function that another process can find."""
    return 42


def test_cb14_rejections_and_guarded_functions_pickle(monkeypatch):
    """CB-14: type, text and every field survive, and a guarded function is found again by its name."""
    breaker = trip(circuit_breaker("pickled", consecutive=3, open_for=300.0))
    error = breaker.try_acquire().error
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is CircuitOpenError
    assert str(twin) == str(error)
    for field in ("policy", "name", "reason", "measured", "limit", "retry_after", "called"):
        assert getattr(twin, field) == getattr(error, field)
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(guarded_at_module_level=guarded_at_module_level))
    assert pickle.loads(pickle.dumps(guarded_at_module_level)) is guarded_at_module_level


@BACKENDS
def test_cb15_a_rejection_comes_before_the_coroutine_exists(vt, backend):
    """CB-15: the callee is not even called, so nothing is left un-awaited (warnings are errors here)."""
    breaker = trip(circuit_breaker(consecutive=3))
    made = []

    def dependency():
        made.append("called")
        return anyio.lowlevel.checkpoint()

    async def main():
        for attempt in (lambda: breaker.acall(dependency), lambda: breaker.acall(anyio.sleep, 0), breaker(afail)):
            with pytest.raises(CircuitOpenError) as caught:
                await attempt()
            assert caught.value.called is False

    vt.run(main, backend=backend)
    assert made == []


def test_cb16_mistakes_of_the_caller_and_local_rejections_are_no_failures(vt):
    """CB-16: rejections of nested policies are inconclusive by default, a client's own complaints by `ignore`."""
    mistakes = (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError, httpx2.PoolTimeout)
    breaker = circuit_breaker(consecutive=1, min_calls=1, open_for=1.0, ignore=mistakes)
    errors = [
        *(kind("wrong") for kind in mistakes),
        BulkheadFullError("bulkhead"),
        RateLimitedError("rate_limit"),
        ExceptionGroup("all", [BulkheadFullError("bulkhead"), httpx2.InvalidURL("wrong")]),
    ]

    def complain():
        for error in errors:
            with pytest.raises(type(error)):
                breaker.call(lambda error=error: raise_(error))

    complain()
    assert (breaker.state, breaker.snapshot().ignored, breaker.snapshot().window_calls) == ("closed", 7, 0)
    trip(breaker)
    vt.advance(1.0)
    complain()
    assert (breaker.state, breaker.snapshot().probes_succeeded) == ("half_open", 0)


def raise_(error):
    """`raise` as an expression."""
    raise error


def test_cb17_a_raising_listener_changes_no_result():
    """CB-17: the caller gets the callee's result, and the other listeners are told."""
    breaker = circuit_breaker(consecutive=3)
    told = []
    unsubscribe = breaker.on_event(lambda event: raise_(RuntimeError("a listener's bug")))
    breaker.on_event(told.append)
    trip(breaker)
    breaker.reset()
    assert breaker.call(lambda: "paid") == "paid"
    assert [event.new for event in told] == ["open", "closed"]
    unsubscribe()


def test_cb18_results_are_not_searched_for_signs_of_failure():
    """CB-18: an attribute `success=False` or `error` on a result means nothing; `failed_if` does."""
    result = SimpleNamespace(success=False, error=Broken(), ok=False, status_code=503)
    breaker = circuit_breaker(consecutive=1, min_calls=1)
    for _ in range(5):
        assert breaker.call(lambda: result) is result
    assert (breaker.state, breaker.snapshot().successes) == ("closed", 5)
    strict = circuit_breaker(consecutive=1, failed_if=lambda answer: answer.status_code >= 500)
    assert strict.call(lambda: result) is result
    assert strict.state == "open"


def run(breaker, outcomes):
    """Settle calls one after another: "." succeeds, "x" fails; return the state after each."""
    states = []
    for sign in outcomes:
        permit = breaker.try_acquire()
        if not permit.admitted:
            break
        permit.success() if sign == "." else permit.failure()
        states.append(breaker.state)
    return states


def test_cb19_scattered_successes_do_not_hide_an_outage():
    """CB-19: nine failures in ten open it although no ten come in a row."""
    breaker = circuit_breaker(consecutive=None, window=100)
    states = run(breaker, "xxxxx.xxxx" * 4)
    assert states.index("open") == 19  # as soon as min_calls are seen
    assert breaker.try_acquire().error.measured == 0.9


def test_cb19_a_rate_needs_min_calls():
    """CB-19: a few failures alone are no rate."""
    breaker = circuit_breaker(consecutive=None, min_calls=5)
    assert run(breaker, "xxxx") == ["closed"] * 4
    assert run(breaker, "x") == ["open"]


def test_cb19_the_window_rolls_over_by_count_and_by_time(vt):
    """CB-19: what is older than the window's calls or its time no longer counts."""
    by_count = circuit_breaker(consecutive=None, window=4, min_calls=4, failure_rate=0.75)
    assert run(by_count, "xx....x") == ["closed"] * 7
    assert (by_count.snapshot().window_calls, by_count.snapshot().window_failures) == (4, 1)
    by_time = circuit_breaker(consecutive=None, window="10s", min_calls=4, failure_rate=0.75)
    run(by_time, "xxx")
    vt.advance(10.0)
    assert run(by_time, "xxx") == ["closed"] * 3
    assert run(by_time, "x") == ["open"]


def test_cb19_slow_calls_open_it_whether_they_succeed_or_fail(vt):
    """CB-19: a call that lasts longer than `slow_call` is slow; one that lasts exactly as long is not."""
    breaker = circuit_breaker(consecutive=None, window=8, min_calls=4, slow_call=1.0, slow_rate=0.5, failure_rate=1.0)
    for seconds, ends_well in ((1.0, True), (1.0, False), (1.001, True), (1.001, False)):
        assert breaker.state == "closed"
        permit = breaker.try_acquire()
        vt.advance(seconds)
        permit.success() if ends_well else permit.failure()
    assert breaker.state == "open"
    assert breaker.try_acquire().error.limit == 0.5


def test_cb19_an_outcome_is_counted_when_the_call_ends(vt):
    """CB-19: calls that began long ago and fail now are failures of now."""
    breaker = circuit_breaker(consecutive=None, window="10s", min_calls=4)
    began = [breaker.try_acquire() for _ in range(4)]
    vt.advance(60.0)
    for permit in began:
        permit.failure()
    assert breaker.state == "open"


@pytest.mark.parametrize("initial", ["forced_open", "forced_closed", "disabled"])
def test_cb21_an_initial_state_holds_before_the_first_call(initial):
    """CB-21: a breaker that a factory makes late for a host obeys from its very first call."""
    made = {}

    def breaker_for(host):
        return made.setdefault(host, circuit_breaker(host, initial=initial, consecutive=1))

    with record_events() as events:
        if initial == "forced_open":
            with pytest.raises(CircuitOpenError) as caught:
                breaker_for("a.example").call(fail)
            assert (caught.value.reason, caught.value.retry_after) == ("forced_open", None)
        else:
            for _ in range(5):
                with pytest.raises(Broken):
                    breaker_for("a.example").call(fail)
    seen = made["a.example"].snapshot()
    assert (seen.state, seen.window_calls) == (initial, 5 if initial == "forced_closed" else 0)
    assert events.states() == []


def test_cb22_a_guarded_method_shares_one_state_unless_each_instance_has_its_own():
    """CB-22: the class's decorator is the dependency's state; a breaker made in `__init__` is the instance's."""

    class Shared:
        @circuit_breaker(consecutive=2)
        def call(self):
            raise Broken

    class Own:
        def __init__(self):
            self.call = circuit_breaker(consecutive=2)(self.call)

        def call(self):
            raise Broken

    for kind, after_two_failures in ((Shared, CircuitOpenError), (Own, Broken)):
        first, second = kind(), kind()
        for _ in range(2):
            with pytest.raises(Broken):
                first.call()
        with pytest.raises(after_two_failures):
            second.call()


@pytest.mark.real(1.0)
@pytest.mark.untraced
def test_cb23_snapshots_are_consistent_and_counters_exact_under_threads():
    """CB-23: at every moment the counters add up; at the end they are exact; results did race with changes of state."""
    breaker = circuit_breaker(consecutive=20, open_for=1e-4, max_open_for=1e-3)
    wrong, done = [], threading.Event()

    def caller(seed):
        reasons = Counter()
        for i in range(1500):
            permit = breaker.try_acquire()
            if i % 7 == 0:
                time.sleep(0)  # let another thread in while this call is under way
            if permit.admitted:
                (permit.success if (i // 60 + seed) % 2 else permit.failure)()
            reasons[permit.reason if not permit.admitted else "admitted"] += 1
        return reasons

    def watcher():
        while not done.is_set():
            seen = breaker.snapshot()
            ended = seen.successes + seen.failures + seen.ignored + seen.cancelled
            if seen.calls != seen.inflight + ended + seen.rejected or seen.window_failures > seen.window_calls:
                wrong.append(seen)

    watching = threading.Thread(target=watcher)
    watching.start()
    with ThreadPoolExecutor(6) as pool:
        reasons = sum(pool.map(caller, range(6)), Counter())
    done.set()
    watching.join()
    seen = breaker.snapshot()
    assert wrong == []
    assert seen.calls == 6 * 1500
    assert seen.successes + seen.failures == reasons["admitted"]
    assert seen.rejected == reasons.total() - reasons["admitted"]
    assert (seen.inflight, seen.probes) == (0, 0)
    assert seen.stale + reasons["probing"] > 0, "no outcome was contended: the test proves nothing"


def test_a_probe_that_streams_is_judged_by_its_first_item(vt):
    """A probe's verdict does not wait for the end of its stream, and the end is then old news."""
    breaker = circuit_breaker(consecutive=1, open_for=1.0)

    @breaker
    def stream(fail):
        yield 1
        yield 2
        if fail:
            raise ConnectionError

    breaker.acquire().failure()
    vt.advance(1.1)
    first, second = stream(True), stream(True)
    assert next(first) == 1
    assert breaker.state == "half_open"
    assert next(second) == 1
    assert breaker.state == "closed"
    for probe in (first, second):
        with pytest.raises(ConnectionError):
            list(probe)
    assert breaker.state == "closed"
    assert breaker.snapshot().inflight == 0
