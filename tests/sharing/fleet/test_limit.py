"""Rate limits of a fleet: what all hosts admit together, with real gates, couriers and rules, in virtual time."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from limits_of_fleet import Bucket, Host, hosts, play

from resilio import Rate, bulkhead, pipeline, rate_limit, spend_limit
from resilio._native.clock import now_ns
from resilio._policies.rate_limit.policy import RateLimit, RateLimitConfig
from resilio.errors import RateLimitedError
from resilio.sharing import Fleet, MemoryEngine, StoreProblem
from resilio.sharing import host as sharing_host
from resilio.sharing._fleet.ask import TOKEN, LimitAsk
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

LOADS = {
    "even, 5 x": [100.0] * 20,
    "one has 80 %, 0.95 x": [304.0] + [4.0] * 19,
    "zipf, 3 x": [400 / (k + 1) ** 1.2 for k in range(20)],
}


def overdraft(admitted: list[tuple[float, int]], rate: float, burst: float, began: float) -> float:
    """Return how deep an ideal bucket that has to take each admitted call is overdrawn."""
    bucket, worst = Bucket(rate, burst, began), 0.0
    for at, _ in admitted:
        bucket.take(at, force=True)
        worst = max(worst, -bucket.tokens)
    return worst


def step(fleet: list[Host]) -> None:
    """Let the courier of each host make a trip if one is due."""
    for one in fleet:
        one.fleet.step()


def pass_time(vt: VirtualTime, fleet: list[Host], seconds: float) -> None:
    """Let time pass without calls."""
    play(vt, fleet, [0.0] * len(fleet), seconds)


# ---- leases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADS)
def test_a_fleet_admits_what_one_bucket_admits(name: str) -> None:
    """Twenty hosts of "400/s" admitted 8,000/s. Now they draw on one stock, and hardly a token is left unused."""
    with virtual_time() as vt:
        fleet, began = hosts(20, "400/s"), vt.now
        admitted = play(vt, fleet, LOADS[name], 10.0)
        possible = min(sum(LOADS[name]) * 10, 400 + 400 * 10)
        assert len(admitted) >= 0.95 * possible
        assert overdraft(admitted, 400, 400, began) <= 400 / 4
        assert max(one.fleet.courier.trips for one in fleet) <= 10 * 10
        assert sum(one.fleet.courier.trips for one in fleet) <= 20 * 10 * 6


def test_trips_are_lost_and_nothing_too_many_is_admitted() -> None:
    """Of the trips a fifth loses its asks or its answers: what is lost is taken for spent, never for free."""
    with virtual_time() as vt:
        fleet, began = hosts(10, "400/s"), vt.now
        for one in fleet:
            one.wire.loss = 0.2
        admitted = play(vt, fleet, [100.0] * 10, 20.0)
        assert sum(one.fleet.courier.lost for one in fleet) > 50
        assert overdraft(admitted, 400, 400, began) <= 400 / 4
        assert len(admitted) >= 0.6 * (400 + 400 * 20)


def test_a_host_that_stands_still_for_a_while_loses_nothing_of_a_slow_limit() -> None:
    """
    A lease ended after 1.25 s, also of "20/h". A busy host that stood still for longer lost its tokens, which come back
    within an hour: all hosts together admitted less than the twenty.
    """
    with virtual_time() as vt:
        fleet = hosts(3, "20/h")
        admitted = play(vt, fleet, [2.0] * 3, 1.0)
        assert any(one.limit.snapshot().sharing.outstanding >= 1 for one in fleet)  # type: ignore[union-attr]
        vt.advance(10.0)  # no courier makes a trip
        admitted += play(vt, fleet, [20.0] * 3, 5.0)
        assert 20 <= len(admitted) <= 20 + 20 / 4


def test_the_store_forgets_and_nothing_too_many_is_admitted() -> None:
    """A flushed store would give out a second burst: asked by hosts that have been there before, it begins empty."""
    with virtual_time() as vt:
        store = None
        fleet, began = hosts(5, "400/s"), vt.now
        admitted = play(vt, fleet, [200.0] * 5, 4.0)
        store = fleet[0].wire.store
        store.evict()
        admitted += play(vt, fleet, [200.0] * 5, 4.0)
        assert overdraft(admitted, 400, 400, began) <= 400 / 4
        assert len(admitted) >= 0.85 * (400 + 400 * 8)


def test_a_client_has_no_credit_while_its_question_is_under_way() -> None:
    """The store ends a client's credit with its question; one that went on spending it had it twice."""
    with virtual_time() as vt:
        (one,) = hosts(1, "400/s")
        play(vt, [one], [100.0], 2.0)
        while not (asks := one.fleet.courier.begin(now_ns())):
            one.fleet.courier.end(StoreProblem("lost"), now_ns())
            vt.advance(0.01)
        assert isinstance(asks[0], LimitAsk)
        assert one.tries(100) <= asks[0].kept // TOKEN


def test_a_call_takes_from_all_rates_or_from_none() -> None:
    """Of several rates each has a lease of its own; the tighter one decides, and the other loses nothing."""
    with virtual_time() as vt:
        fleet = hosts(2, "1000/s", Rate("6000/min", unit="tokens", cost=5, burst=600))
        admitted = play(vt, fleet, [100.0] * 2, 10.0)
        assert 0.9 * (120 + 200) <= len(admitted) <= 1.25 * 120 + 200
        pass_time(vt, fleet, 5.0)
        assert fleet[0].limit.available["requests"] >= 0


def test_a_window_is_a_bucket_of_its_amount() -> None:
    """In a process "60/min" is at most 60 in any minute; in a fleet it is a bucket: 60 at once, then one a second."""
    with virtual_time() as vt:
        (one,) = hosts(1, "60/min")
        step([one])
        admitted = play(vt, [one], [20.0], 60.0)
        assert 115 <= len(admitted) <= 60 + 60 + 15


def test_what_is_given_back_comes_back() -> None:
    """A call that was never made gives its tokens back, at once or, after the next exchange, by it."""
    with virtual_time() as vt:
        fleet = hosts(1, "40/s")
        play(vt, fleet, [40.0], 1.0)
        permit = fleet[0].limit.try_acquire()
        assert permit
        before = fleet[0].limit.available["requests"]
        permit.cancel()
        assert fleet[0].limit.available["requests"] == pytest.approx(before + 1)


# ---- without a store -------------------------------------------------------------------------------------------------


def down(vt: VirtualTime, n: int, **options: Any) -> list[Host]:
    """Return hosts that have lost their store after two seconds of calls, so long ago that the leases have ended."""
    fleet = hosts(n, "400/s", **options)
    play(vt, fleet, [200.0] * n, 2.0)
    for one in fleet:
        one.wire.is_cut = True
    play(vt, fleet, [200.0] * n, 1.5)
    return fleet


def test_without_a_store_each_host_has_its_share() -> None:
    """The store is away: four hosts admit a quarter of the rate each, all together no more than the limit."""
    with virtual_time() as vt:
        fleet = down(vt, 4)
        admitted = play(vt, fleet, [300.0] * 4, 5.0)
        assert 0.95 * 2000 <= len(admitted) <= 2000 + 4
        for i in range(4):
            assert 0.9 * 500 <= sum(where == i for _, where in admitted) <= 502


@pytest.mark.parametrize("rule", ["local", "open", "closed"])
@pytest.mark.parametrize(("burst", "admits"), [(4, 1), (None, 0)], ids=["bucket", "window"])
def test_a_service_that_starts_again_is_as_new_to_its_store(rule: Any, burst: float | None, admits: int) -> None:
    """Its host's memory had kept the old leases: until the first answer "closed" rejected all, and "open" none."""
    with virtual_time() as vt:
        store, group = MemoryEngine(), sharing_host("the group of a service")

        def start() -> tuple[Fleet, RateLimit]:
            fleet = Fleet("shop", store, group=group, is_stepped=True)
            options = {"accuracy": "exact", "on_store_down": rule, "scope": fleet, "burst": burst}
            return fleet, RateLimit(RateLimitConfig(rates=("20/min",), **options), "logins")

        fleet, limit = start()
        fleet.step()
        assert limit._link.sharing().age is not None
        for tie in list(fleet.courier._entries):  # the process ends
            fleet.courier.remove(tie)
        vt.advance(60.0)

        fleet, limit = start()
        assert sum(bool(limit.try_acquire()) for _ in range(5)) == admits, "as of a host that is new"
        fleet.step()
        vt.advance(1.0)
        fleet.step()
        assert limit._link.sharing().degraded is None


@pytest.mark.parametrize(("rule", "admits"), [("open", 600), ("closed", 0)])
def test_without_a_store_all_calls_pass_or_none_does(rule: str, admits: int) -> None:
    """`on_store_down` names what is worse: too many calls, or none."""
    with virtual_time() as vt:
        fleet = down(vt, 2, on_store_down=rule)
        assert len(play(vt, fleet, [300.0] * 2, 1.0)) == pytest.approx(admits, rel=0.1)


def test_a_dead_courier_does_not_stop_the_service() -> None:
    """No thread has to run for the share: the calls themselves find out that the lease has ended."""
    with virtual_time() as vt:
        fleet = hosts(1, "400/s", on_store_down="local")
        play(vt, fleet, [200.0], 1.0)
        admitted = 0
        for _ in range(1000):
            vt.advance(0.005)
            admitted += fleet[0].tries(4)
        assert 0.95 * 400 * 3.7 <= admitted <= 400 * 5 + 400


@pytest.mark.parametrize("seconds", [5.0, 9.0])
def test_the_store_comes_back_and_nothing_too_many_is_admitted(seconds: float) -> None:
    """While it was away its bucket has filled up. What hosts admitted alone they owe, so there is no second burst."""
    with virtual_time() as vt:
        fleet, began = hosts(4, "400/s"), vt.now
        admitted = play(vt, fleet, [200.0] * 4, 2.0)
        for cut in (True, False):
            for one in fleet:
                one.wire.is_cut = cut
            admitted += play(vt, fleet, [200.0] * 4, seconds)
        assert fleet[0].limit.snapshot().sharing.degraded is None  # type: ignore[union-attr]
        assert overdraft(admitted, 400, 400, began) <= 400 / 4
        assert len(admitted) >= 0.8 * 400 * (2 + 2 * seconds)


def test_a_store_that_was_never_there_gives_way_at_once() -> None:
    """A host that begins without a store admits its share from the first lost trip on, by the number of hosts given."""
    with virtual_time() as vt:
        fleet = hosts(1, "400/s", peers=4)
        fleet[0].wire.is_cut = True
        step(fleet)
        admitted = play(vt, fleet, [400.0], 10.0)
        assert 0.95 * 1000 <= len(admitted) <= 100 + 1000


def test_the_first_calls_wait_for_the_first_answer_whenever_they_come() -> None:
    """
    The time for a first answer began with the limit, not with its calls. A service whose first calls came later, before
    its courier had asked, admitted the whole limit of the fleet in each of its processes.
    """
    with virtual_time() as vt:
        fleet = hosts(3, "20/h")
        vt.advance(60.0)
        assert [one.tries(30) for one in fleet] == [1, 1, 1]
        play(vt, fleet, [30.0] * 3, 5.0)
        assert sum(one.tries(30) for one in fleet) == 0


# ---- asked for each call ---------------------------------------------------------------------------------------------


async def stepping(fleet: list[Host]) -> None:
    while True:
        step(fleet)
        await anyio.sleep(0.001)


async def calls(one: Host, n: int, passed: list[float], vt: VirtualTime) -> None:
    for _ in range(n):
        try:
            async with one.limit:
                passed.append(vt.now)
        except RateLimitedError:
            pass
        await anyio.sleep(0.001)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_exact_limit_asks_for_each_call(backend: str) -> None:
    """Three hosts share "5/min" exactly: five calls pass, whichever host they are at, and each after an answer."""
    passed: list[float] = []

    async def main(vt: VirtualTime) -> None:
        fleet = hosts(3, "5/min", accuracy="exact")
        async with anyio.create_task_group() as group:
            group.start_soon(stepping, fleet)
            for one in fleet:
                await calls(one, 4, passed, vt)
            group.cancel_scope.cancel()

    with virtual_time() as vt:
        vt.run(lambda: main(vt), backend=backend)
    assert len(passed) == 5


@pytest.mark.real(1.0)
@pytest.mark.parametrize("rule", ["open", "local", "closed"])
def test_a_token_that_is_far_away_is_not_a_store_that_is_away(rule: str) -> None:
    """The next token of "6/min" is ten seconds away, a lease lasts one. When it had ended, `on_store_down` ruled: the
    store was there, and with "open" all calls passed.
    """
    passed: list[float] = []

    async def main(vt: VirtualTime) -> None:
        fleet = hosts(2, "6/min", burst=1, on_store_down=rule)
        async with anyio.create_task_group() as group:
            group.start_soon(stepping, fleet)
            while vt.now < began + 60:
                for one in fleet:
                    await calls(one, 1, passed, vt)
                await anyio.sleep(0.2)
            group.cancel_scope.cancel()

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend="asyncio")
    assert 5 <= len(passed) <= 1 + 6


def test_a_small_limit_is_asked_for_and_a_larger_one_leased() -> None:
    """Below four calls of burst a host, a lease would be a part of a call."""
    with virtual_time() as vt:
        small, large = hosts(8, "10/s"), hosts(8, "100/s")
        for fleet in (small, large):
            play(vt, fleet, [10.0] * 8, 1.0)
        assert [one.limit.snapshot().sharing.regime for one in small] == ["asked"] * 8  # type: ignore[union-attr]
        assert [one.limit.snapshot().sharing.regime for one in large] == ["leased"] * 8  # type: ignore[union-attr]


# ---- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("rate", ["40/s", "10/s"])
def test_calls_wait_for_what_is_granted(rate: str, backend: str) -> None:
    """Sixty calls of two hosts wait; all pass, at the rate of the fleet and in the order of their host."""
    order: list[tuple[int, int, float]] = []

    async def call(vt: VirtualTime, one: Host, host: int, number: int) -> None:
        async with one.limit:
            order.append((host, number, vt.now))

    async def main(vt: VirtualTime) -> None:
        fleet = hosts(2, rate, max_wait=20)
        async with anyio.create_task_group() as group:
            group.start_soon(stepping, fleet)
            async with anyio.create_task_group() as callers:
                for number in range(60):
                    callers.start_soon(call, vt, fleet[number % 2], number % 2, number)
                    await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend=backend)
    of = float(rate.partition("/")[0])
    assert len(order) == 60
    for host in range(2):
        times = [at for _, at in sorted((number, at) for where, number, at in order if where == host)]
        assert times == sorted(times)
    needed = (60 - of * 1.25 - 2) / of
    assert needed <= order[-1][2] - began <= (60 - of) / of * 1.3 + 0.5


# ---- what is seen ----------------------------------------------------------------------------------------------------


def test_it_is_seen_how_a_limit_takes_from_its_fleet() -> None:
    """A snapshot says how much is here on lease and how old it is, and a rejection that the limit is the fleet's."""
    with virtual_time() as vt:
        (one,) = hosts(1, "100/s")
        play(vt, [one], [300.0], 2.0)
        sharing = one.limit.snapshot().sharing
        assert sharing is not None
        assert (sharing.scope, sharing.regime, sharing.peers, sharing.degraded) == ("fleet:shop", "leased", 1, None)
        assert sharing.age is not None
        assert sharing.age <= 0.3
        assert sharing.outstanding is not None
        assert sharing.outstanding >= 0
        while one.limit.try_acquire():
            pass
        with pytest.raises(RateLimitedError) as caught:
            one.limit.acquire()
        assert caught.value.scope == "fleet"
        assert "of this fleet" in str(caught.value)
        assert caught.value.retry_after is not None


@pytest.mark.parametrize(
    ("rate", "options", "takes", "without"),
    [
        ("100/s", {}, "draws on tokens leased from the store", "each host has its share of the rate"),
        ("2/s", {"on_store_down": "open"}, "waits for the store's answer, as the burst is too small", "all calls pass"),
        ("100/s", {"accuracy": "exact", "on_store_down": "closed"}, "waits for the store's answer (", "no call passes"),
    ],
)
def test_an_explanation_has_the_regime_and_what_rules_without_a_store(
    rate: str, options: dict[str, Any], takes: str, without: str
) -> None:
    """A limit that is asked for each call, or that closes with its store, looked like any other in `explain()`."""
    with virtual_time() as vt:
        (one,) = hosts(1, rate, **options)
        play(vt, [one], [1.0], 1.0)
        regime, shared = pipeline(one.limit).explain().notes
        assert regime.startswith(f"rate_limit (1): {takes}")
        assert regime.endswith(f"(fleet shop); while the store is away {without}")
        assert shared == "rate_limit (1): shared by 1 of fleet:shop"


def test_an_explanation_says_that_an_option_of_fleets_has_no_effect() -> None:
    """A login limit that was to be exact for all hosts, and whose scope had been forgotten, was each process's own."""
    for options in ({"accuracy": "exact"}, {"on_store_down": "closed"}):
        limit = rate_limit("5/min", **options)  # type: ignore[arg-type]
        text = " ".join(str(pipeline(limit).explain()).split())
        assert "accuracy and on_store_down have no effect without scope=fleet(...)" in text
    for policy in (bulkhead(5, on_store_down="closed"), spend_limit("5 USD/day", on_store_down="closed")):
        text = " ".join(str(pipeline(policy).explain()).split())
        assert "on_store_down has no effect without scope=fleet(...)" in text
    for policy in (rate_limit("5/min"), bulkhead(5), spend_limit("5 USD/day")):
        assert "fleet" not in str(pipeline(policy).explain())


def test_an_explanation_says_that_the_store_is_away() -> None:
    """The hosts that there were were still shown as those that share."""
    with virtual_time() as vt:
        fleet = hosts(3, "100/s")
        play(vt, fleet, [1.0] * 3, 1.0)
        assert pipeline(fleet[0].limit).explain().notes[1] == "rate_limit (1): shared by 3 of fleet:shop"
        fleet[0].wire.is_cut = True
        play(vt, fleet, [1.0] * 3, 5.0)
        note = pipeline(fleet[0].limit).explain().notes[1]
        assert note == "rate_limit (1): not shared in fleet:shop for now (store_down)"
