"""The rule of a fleet's breaker: what the store decides from reports, one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from resilio.sharing._fleet.ask_breaker import (
    BAD,
    BY_CONSECUTIVE,
    BY_PROBE_FAILED,
    BY_SLOW_RATE,
    CLOSED,
    GOOD,
    HALF_OPEN,
    OPEN,
    BreakerAnswer,
    BreakerAsk,
)
from resilio.sharing._fleet.rules import exchange
from resilio.sharing._fleet.rules.rows import HEAD, State, from_text, text_of
from resilio.sharing._fleet.ties.breaker import EARLY

TICK = 250_000
SECOND = 1_000_000


class Store:
    """A store, and clients that report to it."""

    def __init__(self, **options: Any) -> None:
        self.state: State | None = None
        self.now = 1_000 * SECOND
        self.options = {"tick_us": TICK, **options}
        self.clients: dict[str, BreakerAnswer | None] = {}
        self.numbers: dict[str, int] = {}

    def ask(self, asker: str, **fields: Any) -> BreakerAsk:
        """What the client would report now."""
        before = self.clients.get(asker)
        self.numbers[asker] = self.numbers.get(asker, 0) + 1
        known = {"seen": before.seq, "generation": before.generation} if before else {}
        number = int.from_bytes(asker.encode())
        return BreakerAsk(key="k", asker=number, seq=self.numbers[asker], **{**self.options, **known, **fields})

    def send(self, ask: BreakerAsk, *, lost: bool = False) -> BreakerAnswer:
        """Apply a report; if the answer is not lost, the client takes it."""
        self.state, answer = exchange(self.state, ask, self.now)
        assert isinstance(answer, BreakerAnswer)
        if not lost:
            self.clients[ask.asker.to_bytes((ask.asker.bit_length() + 7) // 8).decode()] = answer
        return answer

    def report(self, asker: str, **fields: Any) -> BreakerAnswer:
        return self.send(self.ask(asker, **fields))

    def meet(self, *askers: str) -> None:
        for asker in askers:
            self.report(asker)

    def opened(self) -> Store:
        """With two clients, and open."""
        self.meet("a", "b")
        self.report("a", failed=10)
        assert self.report("b", failed=10).state == OPEN
        return self

    def half_open(self) -> Store:
        """With two clients, and a lease that *a* holds."""
        self.opened()
        self.now += 200_000
        self.report("a", ready=1)
        return self


def test_failures_in_a_row_of_two_reporters_open_it() -> None:
    """Ten failures without a success, of two processes, are an outage for all."""
    store = Store()
    store.meet("a", "b")
    assert store.report("a", failed=5).state == CLOSED
    answer = store.report("b", failed=5)
    assert (answer.state, answer.reason, answer.measured) == (OPEN, BY_CONSECUTIVE, 10)
    assert 180_000 <= answer.left_us <= 200_000
    assert store.report("a").state == OPEN


@pytest.mark.parametrize("failed", [10, 1_000])
def test_one_reporter_alone_opens_nothing(failed: int) -> None:
    """A host whose own network fails has its own breaker; the others' calls go on."""
    store = Store()
    store.meet("a", "b")
    store.report("a", failed=failed)
    assert store.report("b", failed=1).state == CLOSED


def test_a_row_begins_with_the_first_report_after_the_last_success() -> None:
    """It began with the next tick: all calls that were sent until then told the store nothing."""
    store = Store(failed_share=0, sure=0)
    store.meet("a", "b", "c", "d")
    for asker in "abcd":
        store.report(asker, ok=1, failed=3)
    store.now += TICK // 4
    assert [store.report(asker, failed=5).state for asker in "abc"] == [CLOSED, CLOSED, OPEN]


def test_a_few_that_report_in_turn_are_no_row() -> None:
    """E2: two of five see failures only, and their reports follow each other: what the others see is not over."""
    store = Store(failed_share=0, sure=0)
    store.meet("a", "b", "c", "d", "e")
    for _ in range(8):
        for asker in "cde":
            store.report(asker, ok=5)
        assert [store.report(asker, failed=20).state for asker in "ab"] == [CLOSED, CLOSED]
        store.now += TICK


def test_a_success_ends_the_row() -> None:
    """Failures before the success of another process are no evidence that nothing works."""
    store = Store(failed_share=0, sure=0)
    store.meet("a", "b", "c")
    store.report("a", failed=9)
    store.report("c", ok=1)
    store.now += TICK
    store.report("b", failed=9)
    assert store.report("c").state == CLOSED
    assert store.report("a", failed=9).state == OPEN


def test_calls_that_may_still_succeed_weigh_against_the_row() -> None:
    """Failures return at once and successes take their time: with as many under way, nothing is known yet."""
    store = Store(failed_share=0)
    store.meet("a", "b")
    store.report("a", failed=8, flying=4)
    assert store.report("b", failed=8, flying=4).state == CLOSED
    store.report("a", flying=0)
    assert store.report("b", flying=0).state == OPEN


def test_a_row_that_chance_explains_does_not_open() -> None:
    """Ten failures in a row mean little where every other call fails: the default law needs proof."""
    store = Store(window_calls=0)
    store.meet("a", "b")
    for _ in range(20):
        store.report("a", ok=50, failed=50)
        store.now += TICK
    store.report("a", failed=6)
    assert store.report("b", failed=6).state == CLOSED
    literal = Store(window_calls=0, sure=0)
    literal.meet("a", "b")
    literal.report("a", ok=50, failed=30)
    literal.now += TICK
    literal.report("a", failed=6)
    assert literal.report("b", failed=6).state == OPEN


def test_a_rate_opens_it_if_a_quarter_has_seen_failures() -> None:
    """Half of all calls fail, everywhere: the window opens it, though some succeed all the time."""
    store = Store(failed_share=500_000, consecutive=0, sure=0)
    askers = [f"c{i}" for i in range(8)]
    store.meet(*askers)
    states = [store.report(asker, ok=2, failed=3).state for asker in askers]
    assert states[0] == CLOSED
    assert states[-1] == OPEN


def test_a_rate_must_hold_without_the_worst() -> None:
    """One of two hosts is broken, and the other sees a failure by chance: the rate of both is no rate of all."""
    store = Store(failed_share=500_000, consecutive=0, sure=0)
    store.meet("broken", "well")
    for _ in range(40):
        store.report("broken", failed=100)
        assert store.report("well", ok=99, failed=1).state == CLOSED
        store.now += TICK


def test_a_rate_must_hold_without_all_early_reports_of_the_worst() -> None:
    """A host whose calls begin to fail reports several times within a tick: only the largest report was left out."""
    store = Store(failed_share=500_000, consecutive=0, sure=0)
    store.meet("broken", "well")
    for divisor in EARLY:
        store.report("broken", failed=10)
        assert store.report("well", ok=9, failed=1).state == CLOSED
        store.now += TICK // divisor


def test_slow_calls_must_be_so_without_all_early_reports_of_the_worst() -> None:
    """The same for slow calls; successes that the host reports later are its own too."""
    store = Store(slow_share=500_000, consecutive=0, sure=0)
    store.meet("slow", "well")
    for divisor in EARLY:
        store.report("slow", ok=10, slow=10)
        assert store.report("well", ok=10, slow=1).state == CLOSED
        store.now += TICK // divisor


def test_one_broken_host_of_twenty_five_opens_nothing() -> None:
    """A minority cannot open it, however many of its calls fail and however long."""
    store = Store(failed_share=500_000)
    store.meet(*(f"c{i}" for i in range(25)))
    for turn in range(200):
        store.report("c0", failed=11)
        for i in range(1, 25):
            assert store.report(f"c{i}", ok=3, failed=int(turn % 25 == i)).state == CLOSED
        store.now += TICK


def test_slow_calls_open_it() -> None:
    """A dependency that answers too slowly is protected as one that fails."""
    store = Store(slow_share=500_000)
    store.meet("a", "b")
    store.report("a", ok=20, slow=15)
    answer = store.report("b", ok=20, slow=15)
    assert (answer.state, answer.reason, answer.measured) == (OPEN, BY_SLOW_RATE, 750_000)


def test_the_window_forgets_by_calls_and_by_time() -> None:
    """An outage must not hide behind a long good time."""
    by_calls = Store(failed_share=500_000, consecutive=0, window_calls=100, window_us=0, sure=0)
    by_calls.meet("a", "b")
    by_calls.report("a", ok=10_000)
    by_calls.now += TICK
    by_calls.report("a", ok=50, failed=50)
    assert by_calls.report("b", ok=50, failed=50).state == OPEN
    by_time = Store(failed_share=500_000, consecutive=0, window_calls=0, window_us=10 * SECOND, sure=0)
    by_time.meet("a", "b")
    by_time.report("a", ok=10_000)
    by_time.now += 11 * SECOND
    by_time.report("a", ok=50, failed=50)
    assert by_time.report("b", ok=50, failed=50).state == OPEN


def test_reports_of_an_older_generation_teach_nothing() -> None:
    """Calls that began before the breaker closed have seen the outage, not what is there now."""
    store = Store().half_open()
    old = store.ask("b", failed=100)
    store.report("a", result=GOOD)
    closed = store.report("a", result=GOOD)
    assert closed.state == CLOSED
    assert store.send(old).state == CLOSED
    assert store.report("a", failed=100).state == CLOSED


def test_a_report_counts_once() -> None:
    """The answer was lost, or the network doubled the question: the same report again adds nothing."""
    store = Store()
    store.meet("a", "b")
    again = store.ask("b", failed=4)
    store.report("a", failed=4)
    for _ in range(5):
        store.send(again, lost=True)
    assert store.report("a").state == CLOSED
    assert store.report("b", failed=4).state == CLOSED  # 4 + 8, of which 8 count
    assert store.report("a", failed=2).state == OPEN


# ---- probes ------------------------------------------------------------------------------------------------------


def test_one_asker_probes_for_all() -> None:
    """When the open time is over, the first that can probe holds the lease, and no other."""
    store = Store().opened()
    store.now += 100_000
    assert store.report("a", ready=1).lease == 0
    store.now += 100_000
    assert store.report("b").lease == 0  # half open, but it has no calls
    lease = store.report("a", ready=1)
    assert lease.state == HALF_OPEN
    assert lease.lease
    assert store.report("b", ready=1).lease == 0
    assert store.report("a", holds=lease.lease).lease == lease.lease


def test_two_good_probes_close_it() -> None:
    """A success may be luck: the second one, at once, closes."""
    store = Store().half_open()
    again = store.report("a", result=GOOD, ready=1)
    assert again.state == HALF_OPEN
    assert again.lease
    assert store.report("a", result=GOOD).state == CLOSED


def test_a_bad_probe_opens_it_for_longer_and_others_go_first() -> None:
    """The asker whose probe failed may be the broken one: for two ticks others may probe before it."""
    store = Store().half_open()
    opened = store.report("a", result=BAD, ready=1)
    assert (opened.state, opened.reason, opened.reopened) == (OPEN, BY_PROBE_FAILED, 1)
    assert opened.left_us == 300_000
    store.now += 300_000
    assert store.report("a", ready=1).lease == 0
    assert store.report("b", ready=1).lease
    alone = Store().half_open()
    alone.report("a", result=BAD)
    alone.now += 300_000
    alone.report("a", ready=1)
    alone.now += 2 * TICK
    assert alone.report("a", ready=1).lease


def test_the_open_time_grows_to_its_limit() -> None:
    """Half as long again after each failed round, and never beyond `max_open_for`."""
    store, left = Store().half_open(), 0
    for _ in range(20):
        left = store.report("a", result=BAD).left_us
        store.now += left + 2 * TICK
        store.report("a")
        store.now += 2 * TICK
        assert store.report("a", ready=1).lease
    assert left == 3 * SECOND


def test_a_probe_that_hangs_gives_its_place_to_another() -> None:
    """A lease ends: a process that was killed with it holds up recovery no longer than that."""
    store = Store(lease_us=SECOND).half_open()
    store.now += SECOND - 1
    assert store.report("b", ready=1).lease == 0
    store.now += 1
    assert store.report("b", ready=1).lease


def test_a_lease_whose_answer_was_lost_is_given_again() -> None:
    """The store has given the lease, and the asker does not know: it asks again, and there is still one lease."""
    store = Store().opened()
    store.now += 200_000
    lost = store.send(store.ask("a", ready=1), lost=True)
    assert store.report("b", ready=1).lease == 0
    assert store.report("a", ready=1).lease == lost.lease


def test_a_lease_that_is_given_back_goes_to_another() -> None:
    """The probe was cancelled: that is no result, and the next one may try."""
    store = Store().half_open()
    assert store.report("a", holds=0).lease == 0
    assert store.report("b", ready=1).lease


def test_more_probes_pass_after_the_first_success() -> None:
    """One until the first success, then as many as complete `probes`."""
    store = Store(probes=3, closing=3).half_open()
    assert store.report("b", ready=1).lease == 0
    assert store.report("a", result=GOOD, ready=1).lease
    assert store.report("b", ready=1).lease
    store.meet("c")
    assert store.report("c", ready=1).lease == 0


# ---- what is lost ------------------------------------------------------------------------------------------------


def test_a_state_that_was_lost_begins_closed_in_a_later_generation() -> None:
    """The key was evicted: results of calls of before must not count in the state that begins anew."""
    store = Store().opened()
    before = store.clients["a"]
    assert before is not None
    store.state = None
    store.now += SECOND
    old = store.ask("a", failed=100)
    answer = store.send(old)
    assert answer.state == CLOSED
    assert answer.generation > before.generation
    assert store.report("b", failed=100).state == CLOSED


def test_a_clock_that_steps_back_keeps_what_is_left_of_the_open_time() -> None:
    """The store's host has set its clock: the breaker must not stay open for the hour that it went back."""
    store = Store().opened()
    store.now -= 3_600 * SECOND
    assert store.report("a").left_us <= 200_000
    store.now += 200_000
    assert store.report("a", ready=1).lease
    assert store.report("b", ready=1).lease == 0


def test_askers_that_have_gone_are_forgotten() -> None:
    """A deployment replaces all processes; the state does not grow, and the old ones are no reporters."""
    store = Store()
    store.meet(*(f"old{i}" for i in range(50)))
    store.now += 11 * SECOND
    assert store.report("new").peers == 1


def test_equal_questions_have_equal_answers() -> None:
    """Chance comes with the question: two engines that are asked the same are in the same state."""
    first, second = Store(), Store()
    for store in (first, second):
        store.meet("a", "b")
        store.report("a", failed=10, draw=123_456)
        store.report("b", failed=10, draw=654_321)
    assert first.state == second.state
    assert first.clients["b"] is not None
    assert first.clients["b"].left_us == 200_000 - 200_000 * 654_321 // 10_000_000


def test_a_state_is_rows_of_numbers() -> None:
    """Engines that keep the state as text read what they have written, and go on as if it had stayed in memory."""
    store, text = Store().half_open(), Store().half_open()
    assert store.state is not None
    text.state = from_text({field: text_of(row) for field, row in store.state.items()})
    assert text.state.keys() == {HEAD, "97", "98"}
    for one in (store, text):
        one.report("a", result=GOOD, ready=1)
        one.report("b", result=GOOD)
        one.report("b", failed=3, ok=1, slow=2)
    assert text.state == store.state
    assert text.clients == store.clients


def test_a_success_of_before_that_is_reported_late_does_not_end_the_row() -> None:
    """A quiet process reported at its tick a call that had ended well before the outage: the row began again."""
    store = Store(sure=0, failed_share=0)
    store.meet("a", "b", "c")
    for _ in range(2):
        for asker in ("a", "b"):
            store.now += 20_000
            store.report(asker, failed=2)
    store.now += 20_000
    assert store.report("c", ok=1, good_us=100_000, failed=2, tail=2, bad_us=5_000).state == OPEN


def test_a_success_within_the_row_ends_it_for_all() -> None:
    """Failures from before a call that did not fail are no row, whichever process reports it, and at any time."""
    store = Store(sure=0, failed_share=0)
    store.meet("a", "b", "c")
    for _ in range(2):
        for asker in ("a", "b"):
            store.now += 20_000
            store.report(asker, failed=2)
    store.now += 20_000
    assert store.report("c", ok=1, good_us=15_000, failed=2, tail=2, bad_us=5_000).state == CLOSED
    assert store.report("a", failed=5, bad_us=50_000).state == CLOSED  # some of them before that success
    assert store.report("a", failed=5, bad_us=1_000).state == CLOSED
    assert store.report("b", failed=3, bad_us=1_000).state == OPEN


def test_failures_of_a_report_before_its_own_success_are_no_row() -> None:
    """A report has both: only what failed after the last success, its tail, is of the row."""
    store = Store(sure=0, failed_share=0)
    store.meet("a", "b")
    store.now += TICK
    store.report("a", ok=1, failed=9, tail=0, good_us=40_000)
    assert store.report("b", ok=1, failed=9, tail=5, good_us=30_000, bad_us=20_000).state == CLOSED
    assert store.report("a", failed=4, bad_us=10_000).state == CLOSED
    assert store.report("a", failed=1).state == OPEN
