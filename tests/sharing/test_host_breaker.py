"""A breaker with `scope="host"`: the workers add up what they see, and no worker decides for the others by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilio import CircuitBreaker, CircuitOpenError, bulkhead, circuit_breaker, keyed, pipeline
from resilio._native.shared import Region
from resilio.sharing import host
from resilio.testing import VirtualTime

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
GAP = 0.001


class Workers:
    """Breakers of several workers of one host, each call a millisecond after the one before."""

    def __init__(self, vt: VirtualTime, number: int, options: dict[str, Any]) -> None:
        self.vt = vt
        region = Region.private(1 << 20)
        self.members = [region.member, *(region.join() for _ in range(number - 1))]
        self.breakers: list[CircuitBreaker] = []
        for member in self.members:
            breaker = circuit_breaker(**options)
            kind, stock, size = breaker._gate.cell_wanted()
            breaker._gate.share(region.cell(kind, "payments", stock, size, member))
            self.breakers.append(breaker)
        self.events: list[list[Any]] = [[] for _ in self.breakers]
        for breaker, seen in zip(self.breakers, self.events, strict=True):
            breaker.on_event(seen.append)
        vt.advance(1)

    def call(self, worker: int, outcome: str = "success") -> str:
        """Make a call that ends at once; return "admitted", or the reason for which it was rejected."""
        permit = self.breakers[worker].try_acquire()
        if not permit:
            return permit.reason
        getattr(permit, outcome)()
        self.vt.advance(GAP)
        return "admitted"

    def in_turn(self, calls: int, outcome: str = "success") -> None:
        """Make calls of all workers in turn, all of which are admitted."""
        assert [self.call(i % len(self.breakers), outcome) for i in range(calls)] == ["admitted"] * calls

    def open(self) -> None:
        """Let a total failure open it for all."""
        while self.call(0) == self.call(1, "failure") == self.call(2, "failure") == "admitted":
            for i in range(12):
                self.call(i % len(self.breakers), "failure")

    def states(self) -> set[str]:
        """Return the states that the workers show."""
        return {breaker.state for breaker in self.breakers}


@pytest.fixture
def workers(vt: VirtualTime) -> Callable[..., Workers]:
    """Return a function that makes workers of one host."""
    return lambda number=8, **options: Workers(vt, number, options)


def failures_until_open(them: Workers) -> int:
    """Let all calls fail, of all workers in turn, until one is rejected; return their number."""
    n = 0
    while them.call(n % len(them.breakers), "failure") == "admitted":
        n += 1
    return n


def test_a_total_failure_is_noticed_after_as_many_calls_of_all_as_of_one(workers: Callable[..., Workers]) -> None:
    """Eight workers found out an outage eight times: eighty calls failed where ten showed it."""
    together, alone = workers(8), workers(1)
    for them in (together, alone):
        them.in_turn(200)
    assert failures_until_open(together) == failures_until_open(alone) == 10
    assert together.states() == {"open"}
    assert {together.call(i) for i in range(8)} == {"open"}


@pytest.mark.parametrize(("options", "failed"), [({}, 5), ({"consecutive": 10}, 10)])
def test_calls_that_hang_show_an_outage_before_their_timeouts_do(
    workers: Callable[..., Workers], options: dict[str, Any], failed: int
) -> None:
    """
    Eight workers with a call each that hangs: five failures open it, where ten were needed, one timeout after another.

    Silence weighs no more than what has failed. A number of failures that a user has set is a number of failures.
    """
    them = workers(16, **options)
    them.in_turn(400)
    them.vt.advance(1)
    hanging = [breaker.try_acquire() for breaker in them.breakers[8:]]
    them.vt.advance(0.3)  # unusually long for calls that take no time
    n = 0
    while them.call(n % 8, "failure") == "admitted":
        n += 1
    assert n == failed
    for permit in hanging:
        permit.cancel()  # type: ignore[union-attr]


def test_a_worker_learns_of_an_opening_as_a_call_of_it_ends(workers: Callable[..., Workers]) -> None:
    """Its listeners hear of it before its next call."""
    them = workers(8)
    them.in_turn(200)
    permit = them.breakers[7].try_acquire()
    while them.call(0, "failure") == them.call(1, "failure") == "admitted":
        pass
    assert not them.events[7]
    permit.failure()  # type: ignore[union-attr]
    assert [event.new for event in them.events[7]] == ["open"]
    assert them.call(7) == "open"


def test_calls_that_hang_open_nothing_by_themselves(workers: Callable[..., Workers]) -> None:
    """Fifteen calls take unusually long, four others fail, one succeeds: that is no outage."""
    them = workers(16)
    them.in_turn(400)
    them.vt.advance(1)
    slow = [breaker.try_acquire() for breaker in them.breakers[1:]]
    them.vt.advance(5)
    for _ in range(20):
        assert [them.call(0, "failure") for _ in range(4)] == ["admitted"] * 4
        assert them.call(0) == "admitted"
    assert them.states() == {"closed"}
    for permit in slow:
        permit.success()  # type: ignore[union-attr]


def test_one_workers_own_trouble_is_its_own(workers: Callable[..., Workers]) -> None:
    """A worker whose network is broken fails as fast as it can. It opens for itself, and no other loses a call."""
    them = workers(8)
    them.in_turn(80)
    admitted = 0
    for _ in range(50):
        admitted += sum(them.call(0, "failure") == "admitted" for _ in range(20))
        assert {them.call(i) for i in range(1, 8)} == {"admitted"}
    assert them.breakers[0].state == "open"
    assert 10 <= admitted < 30
    assert [breaker.snapshot().rejected for breaker in them.breakers[1:]] == [0] * 7


def test_a_worker_that_fails_while_the_others_rest_opens_for_itself(workers: Callable[..., Workers]) -> None:
    """Silence of the others is no evidence: they find out by themselves, with half of the calls."""
    them = workers(4)
    them.in_turn(40)
    while them.call(0, "failure") == "admitted":
        pass
    assert [breaker.state for breaker in them.breakers] == ["open", "closed", "closed", "closed"]
    failed = 0
    while them.call(1, "failure") == "admitted":
        failed += 1
    assert failed == 5
    assert them.states() == {"open"}


def test_a_success_of_any_worker_ends_the_row(workers: Callable[..., Workers]) -> None:
    """Nine failures, a success elsewhere, nine failures: something works, so that is no total failure."""
    them = workers(3)
    them.in_turn(60)
    for _ in range(20):
        for i in range(9):
            assert them.call(i % 2, "failure") == "admitted"
        assert them.call(2) == "admitted"
        them.call(0), them.call(1)
    assert them.states() == {"closed"}


def test_a_half_that_fails_opens_nothing(workers: Callable[..., Workers]) -> None:
    """The default law of the host is that of a worker: it rejects nothing while a good part works."""
    them, number = workers(8), 12345
    for i in range(4000):
        number = number * 1103515245 + 12345 & 0x7FFFFFFF
        assert them.call(i % 8, "failure" if number >> 16 & 1 else "success") == "admitted"
    assert them.states() == {"closed"}


def test_a_rate_that_a_user_sets_counts_for_all_together(workers: Callable[..., Workers]) -> None:
    """Of a window of 200 calls each of four workers holds its last 50; the rate of all opens, that of one does not."""
    them = workers(4, failure_rate=0.25, consecutive=None, window=200)
    them.in_turn(400)
    for _ in range(49):  # one worker alone: a quarter of the host's window
        them.call(0, "failure")
        assert [them.call(i) for i in (1, 2, 3)] == ["admitted"] * 3
    assert {breaker.state for breaker in them.breakers[1:]} == {"closed"}
    them = workers(4, failure_rate=0.25, consecutive=None, window=200)
    them.in_turn(400)
    calls = 0
    while them.states() == {"closed"}:
        them.call(calls % 4, "failure" if calls // 4 % 2 else "success")
        calls += 1
    assert them.states() == {"open"}
    assert 90 <= calls <= 120


def test_slow_calls_are_added_up_too(workers: Callable[..., Workers]) -> None:
    """A dependency that has become slow for all workers is slow for the host."""
    them = workers(2, slow_call=0.5, slow_rate=0.5, window=20, min_calls=10)

    def slow(worker: int) -> bool:
        them.vt.advance(GAP)
        permit = them.breakers[worker].try_acquire()
        if permit:
            them.vt.advance(1)
            permit.success()
        return bool(permit)

    calls = 0
    while slow(calls % 2):
        calls += 1
    assert (calls, them.states()) == (10, {"open"})
    assert [event.reason for seen in them.events for event in seen] == ["slow_rate"] * 2


def test_fast_failures_among_slow_successes_open_nothing(workers: Callable[..., Workers]) -> None:
    """Half of the calls fail at once, the others take a second, in workers that make one call at a time."""
    them, under_way = workers(40), []
    for i in range(40):
        assert them.call(i) == "admitted"
    for i in range(40):
        assert them.call(i, "failure") == "admitted"
        under_way.append(them.breakers[i].try_acquire())
    assert all(under_way)
    for permit in under_way:
        permit.success()
    assert them.states() == {"closed"}


def test_one_call_probes_for_all(workers: Callable[..., Workers]) -> None:
    """After an outage every worker sent a probe of its own; one tells enough."""
    them = workers(8)
    them.open()
    them.vt.advance(0.25)
    permits = [breaker.try_acquire() for breaker in them.breakers]
    assert [bool(permit) for permit in permits] == [True] + [False] * 7
    assert {permit.reason for permit in permits[1:]} == {"probing"}  # type: ignore[union-attr]
    assert them.breakers[5].snapshot().probes == 1
    permits[0].success()  # type: ignore[union-attr]
    assert them.states() == {"closed"}
    assert {them.call(i) for i in range(8)} == {"admitted"}


def test_a_failed_probe_opens_for_all_and_for_longer(workers: Callable[..., Workers]) -> None:
    """The open time grows by half with every probe of the host, whichever worker sends it."""
    them = workers(3)
    them.open()
    seen = []
    for i in range(12):
        them.vt.advance(them.breakers[0].snapshot().retry_after or 0)
        assert them.call(i % 3, "failure") == "admitted"
        seen.append({round(breaker.snapshot().open_for, 3) for breaker in them.breakers})
    assert seen[:3] == [{0.3}, {0.45}, {0.675}]
    assert seen[-1] == {3.0}
    assert them.breakers[0].snapshot().retry_after == pytest.approx(2.85, rel=0.06)


def test_the_lease_of_a_dead_worker_is_free_at_once(workers: Callable[..., Workers]) -> None:
    """A worker killed in its probe kept all others out until its lease ended, seconds later."""
    them = workers(3)
    them.open()
    them.vt.advance(0.25)
    held = them.breakers[0].try_acquire()
    assert (bool(held), them.call(1)) == (True, "probing")
    them.members[0].leave()
    assert them.call(1) == "admitted"
    assert them.breakers[2].state == "closed"


def test_a_probe_that_hangs_gives_its_place_to_another(workers: Callable[..., Workers]) -> None:
    """A lease ends whoever holds it; the late success of the first one still counts."""
    them = workers(2, probe_lease=1.0)
    while them.states() == {"closed"}:
        them.call(0, "failure"), them.call(1, "failure")
    them.vt.advance(0.25)
    hung = them.breakers[0].try_acquire()
    assert them.call(1) == "probing"
    them.vt.advance(1.1)
    other = them.breakers[1].try_acquire()
    assert other
    hung.success()  # type: ignore[union-attr]
    assert them.states() == {"closed"}
    other.failure()  # of a round that is over
    assert them.states() == {"closed"}


def test_no_more_probes_than_given_are_under_way(workers: Callable[..., Workers]) -> None:
    """With three probes: one until the first success, then as many as complete the three."""
    them = workers(8, failure_rate=0.5, probes=3, closing_probes=3)
    them.open()
    them.vt.advance(0.25)
    first = them.breakers[0].try_acquire()
    assert {them.call(i) for i in range(1, 8)} == {"probing"}
    first.success()  # type: ignore[union-attr]
    permits = [breaker.try_acquire() for breaker in them.breakers]
    assert sum(map(bool, permits)) == 2
    assert them.breakers[7].snapshot().probes == 2
    cancelled, *rest = [permit for permit in permits if permit]
    cancelled.ignore()
    again = them.breakers[6].try_acquire()
    assert (bool(again), them.call(7)) == (True, "probing")
    for permit in (*rest, again):
        permit.success()  # type: ignore[union-attr]
    assert them.states() == {"closed"}


def test_each_worker_tells_each_change_once(workers: Callable[..., Workers]) -> None:
    """The change of another worker is an event in each worker, at its next call, with the reason of the change."""
    them = workers(3)
    them.open()
    for i in range(3):
        them.call(i), them.call(i)
    them.vt.advance(0.25)
    assert them.call(2) == "admitted"
    for i in range(3):
        them.call(i), them.call(i)
    changes = [("closed", "open", "consecutive"), ("open", "half_open", "elapsed")]
    changes += [("half_open", "closed", "probes_succeeded")]
    told = [[(event.old, event.new, event.reason) for event in seen] for seen in them.events]
    assert told[2] == changes
    assert [changes[0], ("open", "closed", "probes_succeeded")] == told[0] == told[1]


def test_a_result_of_before_a_change_is_dropped(workers: Callable[..., Workers]) -> None:
    """A call admitted before another worker opened the breaker is no evidence for the time after it has closed."""
    them = workers(2)
    late = [them.breakers[0].try_acquire() for _ in range(30)]
    them.vt.advance(1)
    while them.states() == {"closed"}:
        them.call(1, "failure"), them.call(0, "failure")
    them.vt.advance(0.25)
    assert them.call(1) == "admitted"
    for permit in late:
        permit.failure()  # type: ignore[union-attr]
    assert them.states() == {"closed"}
    assert them.breakers[0].snapshot().stale == 30


def test_an_operator_decides_for_all(workers: Callable[..., Workers]) -> None:
    """`force_open()` reached one worker of eight, and the other seven went on."""
    them = workers(4)
    them.breakers[1].force_open(60)
    assert {them.call(i) for i in range(4)} == {"forced_open"}
    assert all(59.9 < (breaker.snapshot().retry_after or 0) < 60.01 for breaker in them.breakers)
    them.breakers[2].force_closed()
    them.in_turn(60, "failure")
    them.breakers[3].disable()
    assert them.states() == {"disabled"}
    them.breakers[0].half_open()
    permit = them.breakers[1].try_acquire()
    assert (bool(permit), them.call(2)) == (True, "probing")
    them.breakers[3].reset()
    assert them.states() == {"closed"}
    them.in_turn(12)


def test_a_forced_time_ends_in_one_probe(workers: Callable[..., Workers]) -> None:
    """After a forced time the first call of any worker probes."""
    them = workers(3)
    them.breakers[0].force_open("2s")
    them.vt.advance(2.1)
    assert them.call(2, "failure") == "admitted"
    assert {them.call(i) for i in range(3)} == {"open"}


def test_reset_closes_what_a_worker_has_opened_for_itself(workers: Callable[..., Workers]) -> None:
    """A reset by any worker forgets everything, of all."""
    them = workers(3)
    while them.call(0, "failure") == "admitted":
        pass
    assert them.breakers[0].state == "open"
    them.breakers[2].reset()
    assert them.states() == {"closed"}
    them.in_turn(9, "failure")


def test_the_initial_state_is_that_of_the_first_worker(workers: Callable[..., Workers]) -> None:
    """`initial` is for a breaker that does not exist yet: a worker that comes later takes what is there."""
    them = workers(3, initial="forced_open")
    assert them.call(0) == "forced_open"
    them.breakers[0].reset()
    assert {them.call(i) for i in range(3)} == {"admitted"}


def test_one_failure_that_names_a_time_holds_for_all(workers: Callable[..., Workers]) -> None:
    """The answer that opens the breaker may name the time to come back: no worker probes before."""
    them = workers(4)
    them.in_turn(40)

    def busy() -> None:
        error = OSError()
        error.retry_after = 20  # type: ignore[attr-defined]
        raise error

    for i in range(12):
        them.breakers[i % 4].try_call(busy)
        them.vt.advance(GAP)
    assert them.states() == {"open"}
    assert all((breaker.snapshot().retry_after or 0) > 19.9 for breaker in them.breakers)


def test_a_worker_without_a_slot_goes_on_alone(workers: Callable[..., Workers]) -> None:
    """What a worker has adopted is its own from then on, and the others no longer count what it sees."""
    them = workers(3)
    them.open()
    assert them.call(0) == "open"
    them.members[0].leave()
    them.vt.advance(0.25)
    assert them.call(0, "failure") == "admitted"
    assert (them.call(0), them.call(1)) == ("open", "admitted")
    assert [breaker.state for breaker in them.breakers] == ["open", "closed", "closed"]


def test_the_probabilistic_mode_shares_the_total_failure_alone(workers: Callable[..., Workers]) -> None:
    """Each worker throttles by what it sees itself; where all fails, all open, and one probes."""
    them = workers(4, mode="probabilistic")
    them.in_turn(400)
    assert failures_until_open(them) <= 14
    assert them.states() == {"open"}
    them.vt.advance(0.25)
    assert them.call(3) == "admitted"
    assert them.states() == {"closed"}


def test_all_workers_ramp_up_together(workers: Callable[..., Workers]) -> None:
    """After closing, each worker admits a share that rises to all until the same time."""
    them = workers(4, ramp=10.0)
    them.open()
    them.vt.advance(0.25)
    assert them.call(0) == "admitted"
    shares = [sum(them.call(worker) == "admitted" for _ in range(100)) for worker in range(4)]
    assert all(8 <= share <= 20 for share in shares)
    them.vt.advance(10)
    them.in_turn(40)


def test_shadow_mode_shares_what_it_would_do(workers: Callable[..., Workers]) -> None:
    """`enforce=False` rejects nothing, and counts in each worker what it would have rejected."""
    them = workers(4, enforce=False)
    them.in_turn(40)
    them.in_turn(40, "failure")
    assert them.states() == {"open"}
    assert sum(breaker.snapshot().would_reject for breaker in them.breakers) == 30


def test_keys_of_a_breaker_leave_half_of_the_region(vt: VirtualTime) -> None:
    """Ten thousand keys would take the whole region: later keys are the process's own, and other policies have room."""
    group = host("keys", size="256KiB")
    per_tenant = keyed(lambda: circuit_breaker(open_for=1.0), key=lambda tenant: tenant, name="tenants", scope=group)
    states = [per_tenant[i].snapshot().host_state for i in range(40)]
    assert 5 <= states.count("closed") <= 16
    assert states == sorted(states, key=lambda state: state is None)
    assert per_tenant[39].snapshot().sharing.degraded == "region_full"  # type: ignore[union-attr]
    assert per_tenant[0].snapshot().sharing.degraded is None  # type: ignore[union-attr]
    assert circuit_breaker("alone", scope=group).snapshot().host_state == "closed"


@BACKENDS
def test_a_call_that_waits_is_asked_again(vt: VirtualTime, workers: Callable[..., Workers], backend: str) -> None:
    """A call waits for a permit inside; meanwhile another worker opens the breaker, and the call is not made."""
    them, made = workers(2), []
    inside = bulkhead(1, max_queued=5, max_wait=10.0)
    line = pipeline(them.breakers[0], inside)

    async def hold() -> None:
        made.append(1)
        await anyio.sleep(1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(line.acall, hold)
            await anyio.sleep(0.1)
            group.start_soon(waits)
            await anyio.sleep(0.1)
            them.breakers[1].force_open()

    async def waits() -> None:
        with pytest.raises(CircuitOpenError):
            await line.acall(hold)

    vt.run(main, backend=backend)
    assert made == [1]
