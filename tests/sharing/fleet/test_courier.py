"""When a courier makes its trips, and what it does about those from which no answer comes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from resilio._native.shared import Region
from resilio.sharing import Answer, Ask, StoreProblem
from resilio.sharing._fleet.ask import LimitAnswer, LimitAsk
from resilio.sharing._fleet.courier import Courier
from resilio.sharing._fleet.tie import NEVER, Tie

MS = 1_000_000
LOST = StoreProblem("no answer in time")
S = 1000 * MS


class Every(Tie):
    """A tie that asks each tick, and notes what it lives through."""

    __slots__ = ("key", "next_ns", "seen")

    def __init__(self, key: str, cell: object = None) -> None:
        super().__init__(cell)  # type: ignore[arg-type]
        self.key = key
        self.next_ns = 0
        self.seen: list[str] = []

    def due_ns(self, now_ns: int) -> int:
        return self.next_ns

    def ask(self, now_ns: int) -> Sequence[Ask]:
        self.next_ns = now_ns + self.tick_ns
        return [LimitAsk(key=self.key, asker=1, seq=1, amount=1, period_us=1, burst=1)]

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        self.seen.append("lost" if isinstance(answers[0], StoreProblem) else "answer")

    def down(self, now_ns: int, peers: int) -> None:
        self.seen.append(f"down, of {peers}")

    def up(self, now_ns: int) -> None:
        self.seen.append("up")


def _answers(asks: Sequence[Ask], peers: int = 1) -> list[Answer | StoreProblem]:
    return [LimitAnswer(seq=ask.seq, grant=0, credit=0, wait_us=0, peers=peers, left=0) for ask in asks]


def _run(courier: Courier, until_ns: int, *, lost: bool = False, now_ns: int = 0, peers: int = 1) -> int:
    """Let the courier make its trips until then; return how many."""
    before = courier.trips
    while (due_ns := max(now_ns, courier.due_ns(now_ns))) < until_ns:
        now_ns = due_ns
        asks = courier.begin(now_ns)
        courier.end(LOST if lost else _answers(asks, peers), now_ns + MS)
    return courier.trips - before


class Moved(Every):
    """A tie whose policy has just moved."""

    __slots__ = ()

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        raise RuntimeError("the bulkhead takes other slots now")


def test_a_tie_that_fails_costs_the_others_no_answer() -> None:
    """A bulkhead that moved to its host during a trip raised, and those that came after it lost their answers."""
    courier = Courier(250 * MS, seed=1)
    ties = [Moved("k0"), Every("k1")]
    for tie in ties:
        courier.add(tie, 0)
    assert courier.due_ns(0) == 0
    asks = courier.begin(0)
    assert len(asks) == 2
    with pytest.raises(RuntimeError):
        courier.end(_answers(asks), MS)
    assert [tie.seen for tie in ties] == [[], ["answer"]]
    assert courier.lost == 0


def test_all_policies_go_in_one_trip_a_tick() -> None:
    """Ten policies would be forty trips a second if each went by itself: they go together, four times a second."""
    courier = Courier(250 * MS, seed=1)
    ties = [Every(f"k{n}") for n in range(10)]
    for n, tie in enumerate(ties):
        courier.add(tie, 0)
        tie.next_ns = n * 20 * MS
    assert 36 <= _run(courier, 10 * S) <= 46
    assert all(32 <= len(tie.seen) <= 46 for tie in ties)


@pytest.mark.parametrize("policies", [1, 10])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_minute_has_no_more_trips_than_ticks(policies: int, seed: int) -> None:
    """Each policy whose calls lacked tokens made a trip of its own at once: ten of them made 30 a second, not four."""
    random, courier = Random(seed), Courier(250 * MS, seed=seed)
    ties = [Every(f"k{n}") for n in range(policies)]
    for tie in ties:
        courier.add(tie, 0)
    trips, now_ns, early = [], 0, 0
    while now_ns < 200 * S:
        for tie in ties:
            if random.random() < 0.2:
                tie.next_ns = now_ns  # it rings
        due_ns = courier.due_ns(now_ns)
        now_ns = min(max(due_ns, now_ns), now_ns + 20 * MS)
        if due_ns <= now_ns:
            early += now_ns - trips[-1] < 200 * MS if trips else 0
            courier.end(_answers(courier.begin(now_ns)), now_ns + MS)
            trips.append(now_ns)
    assert max(bisect_left(trips, begin + 60 * S) - n for n, begin in enumerate(trips)) <= 240
    assert len(trips) >= 3.8 * 200
    assert early >= 3  # as long as there is credit, they are prompt


def test_an_early_trip_is_prompt_and_paid_for_by_longer_ticks() -> None:
    """A probe's result waits for nothing; the ticks after it are up to an eighth longer, until it is made up for."""
    courier, tie = Courier(250 * MS, seed=1), Every("k")
    courier.add(tie, 0)
    _run(courier, 10 * S)
    tie.next_ns = now_ns = tie.next_ns - 200 * MS
    assert courier.due_ns(now_ns) == now_ns
    courier.end(_answers(courier.begin(now_ns)), now_ns)
    assert 1.1 * 250 * MS <= tie.tick_ns <= 1.4 * 250 * MS
    _run(courier, now_ns + 5 * S, now_ns=now_ns)
    assert tie.tick_ns <= 1.15 * 250 * MS


def test_calls_that_wait_for_an_answer_do_not_wait_for_the_pace() -> None:
    """Of a limit that is asked for each call, each trip has a caller that waits for it."""

    class Asked(Every):
        __slots__ = ()
        pace_ns = 0

    courier, tie = Courier(250 * MS, seed=1), Asked("k")
    courier.add(tie, 0)
    for n in range(100):
        tie.next_ns = now_ns = n * MS
        assert courier.due_ns(now_ns) == now_ns
        courier.end(_answers(courier.begin(now_ns)), now_ns)


def test_ticks_of_two_couriers_drift_apart() -> None:
    """Processes that were deployed at once must not ask at once for good."""
    one, other = Courier(250 * MS, seed=1), Courier(250 * MS, seed=2)
    for courier in (one, other):
        courier.add(Every("k"), 0)
        _run(courier, 10 * S)
    assert abs(one.due_ns(10 * S) - other.due_ns(10 * S)) > MS


def test_losses_make_trips_rare_and_an_answer_ends_that() -> None:
    """A store that is away is asked less and less, at random times at most two seconds apart; then as before."""
    courier = Courier(250 * MS, seed=1)
    tie = Every("k")
    courier.add(tie, 0)
    assert 15 <= _run(courier, 20 * S, lost=True) <= 40
    assert courier.lost == courier.trips
    assert courier.due_ns(20 * S) <= 22 * S + 50 * MS
    assert 30 <= _run(courier, 32 * S, now_ns=22 * S) <= 44


def test_a_policy_is_alone_once_what_the_store_gave_has_ended() -> None:
    """The bound of a limit holds by its share then; and the first answer ends it. Both happen once."""
    courier = Courier(250 * MS, seed=1)
    tie = Every("k")
    courier.add(tie, 0)
    _run(courier, 2 * S, peers=7)
    assert not courier.is_down
    _run(courier, 3 * S, now_ns=2 * S, lost=True)
    assert not courier.is_down
    _run(courier, 30 * S, now_ns=3 * S, lost=True)
    assert courier.is_down
    _run(courier, 60 * S, now_ns=32 * S)
    assert not courier.is_down
    assert [one for one in tie.seen if one not in ("lost", "answer")] == ["down, of 7", "up"]


def test_a_node_that_is_away_leaves_the_other_policies_alone() -> None:
    """Of a cluster one node may be away: only the policies whose keys it has are on their own."""
    courier = Courier(250 * MS, seed=1)
    near, far = Every("near"), Every("far")
    courier.add(near, 0)
    courier.add(far, 0)
    for n in range(40):
        courier.due_ns(n * 250 * MS)
        asks = courier.begin(n * 250 * MS)
        answers = [LOST if ask.key == "far" else answer for ask, answer in zip(asks, _answers(asks), strict=True)]
        courier.end(answers, n * 250 * MS + MS)
    assert "down, of 1" in far.seen
    assert set(near.seen) == {"answer"}
    assert courier.lost == 0


def test_one_process_of_a_host_makes_the_trips_and_another_follows_it() -> None:
    """Two workers that both asked would draw two leases; a worker that dies must not leave the host without any."""
    region = Region.private(1 << 20)
    first, second = region.join(), region.join()
    couriers = []
    for member in (first, second):
        courier = Courier(250 * MS, seed=1)
        courier.add(Every("k", region.cell(8, "k", b"", 64, member)), 0)
        couriers.append(courier)
    assert couriers[0].due_ns(0) == 0
    assert couriers[1].due_ns(0) == NEVER
    assert couriers[1].begin(0) == []
    first.leave()
    assert couriers[1].due_ns(0) == 0


def test_a_process_that_leaves_the_fleet_lets_another_one_ask() -> None:
    """A worker whose policy is reconfigured lives on: its host would have no courier for it any more."""
    region = Region.private(1 << 20)
    one, other = (region.cell(8, "k", b"", 64, member) for member in (region.join(), region.join()))
    courier, tie = Courier(250 * MS, seed=1), Every("k", one)
    courier.add(tie, 0)
    assert courier.due_ns(0) == 0
    assert not other.claim()
    courier.remove(tie)
    assert other.claim()
    courier.remove(tie)
    assert other.claim(), "a cell of another courier stays its own"


def test_asks_go_on_in_their_numbers_under_another_courier() -> None:
    """The store knows a lease by its asker: a follower that were another asker would leave the old one out for good."""
    region = Region.private(1 << 20)
    first, second = region.join(), region.join()
    one, other = (region.cell(8, "k", b"", 64, member) for member in (first, second))
    assert one.asker == other.asker > 0
    assert one.claim()
    assert not other.claim()
    assert one.number() == (1, 0)
    assert one.saw(0, 1)
    first.leave()
    assert other.claim()
    assert other.number() == (2, 1)
    assert other.saw(1, 2)
    assert not one.saw(1, 2), "the answer that came to a stopped courier counts no more"


def test_a_ring_ends_the_wait_of_the_courier_at_once() -> None:
    """A call that finds no tokens must not wait for the end of a tick: it wakes the thread that asks for more."""
    import threading

    region = Region.private(1 << 20)
    cell = region.cell(8, "k", b"", 64)
    assert cell.claim()
    waits = threading.Thread(target=region.member.wait, args=(3600 * S,))
    waits.start()
    cell.ring()
    waits.join(60)
    assert not waits.is_alive()
    assert cell.rings
    cell.number()
    assert not cell.rings


def test_the_first_call_of_a_worker_ends_the_wait_too(tmp_path: Path) -> None:
    """A worker has a slot from its first shared call on: its courier slept before, and the first lease is urgent."""
    import threading

    region = Region.open(tmp_path / "region", 1 << 20)
    cell = region.cell(8, "k", b"", 64)
    assert not cell.claim(), "a process that makes no calls makes no trips"
    waits = threading.Thread(target=region.member.wait, args=(3600 * S,))
    waits.start()
    region.join()
    cell.ring()
    waits.join(60)
    assert not waits.is_alive()
    assert cell.claim()
    region.close()


def test_many_policies_of_many_peers_ask_less_often() -> None:
    """200 processes with 10 policies would need 40 % of a store: ticks grow until they need a tenth."""
    courier = Courier(250 * MS, seed=1)
    for n in range(10):
        courier.add(Every(f"k{n}"), 0)
    _run(courier, S, peers=200)
    assert courier.tick_ns == S
