"""What is read of policies: rates, quantiles of the interval, states, and only what changed."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, events, keyed, load_shed, pipeline, registry, retry
from resilio._events import subscriptions as _event_subscriptions
from resilio._events.subscriptions import LISTEN
from resilio.errors import BulkheadFullError
from resilio.live._journal import KEPT, Journal, Past, owner_of
from resilio.live._rows import Row, operations_of
from resilio.live._sampler import SLICE, Sampler
from resilio.testing import VirtualTime


def sampler(**options: Any) -> Sampler:
    return Sampler(Journal(**{"show_keys": False, "secret": b"secret", **options}))


def boom() -> None:
    raise OSError("boom")


def changed(tick: Any) -> dict[str, dict[str, Any]]:
    return {news.get("name", news["id"]): news for news in tick.changed}


def test_a_new_policy_is_told_whole_and_then_only_what_changed(vt: VirtualTime) -> None:
    """Nothing new is nothing sent; a call sends the counters that moved."""
    policy, page = circuit_breaker("payments"), sampler()
    first = changed(page.read())["payments"]
    assert (first["kind"], first["state"], first["calls"], first["p50"]) == ("circuit_breaker", "closed", 0, None)
    assert not page.read()
    vt.advance(2.0)
    policy.call(int)
    policy.try_call(boom)
    (news,) = page.read().changed
    assert news == {"id": 1, "calls": 2, "successes": 1, "failures": 1, "calls_s": 1.0, "failures_s": 0.5} | {
        name: news[name] for name in ("p50", "p95", "p99")
    }
    vt.advance(1.0)
    (quiet,) = page.read().changed
    assert quiet == {"id": 1, "calls_s": 0.0, "failures_s": 0.0, "p50": None, "p95": None, "p99": None}
    assert not page.read()


def test_quantiles_are_of_the_last_interval_alone(vt: VirtualTime) -> None:
    """A slow hour does not hide a quick second: the histogram's difference is what is shown."""
    policy, page = bulkhead(5, name="pool"), sampler()
    page.read()
    for seconds in (0.5, 0.002):
        with policy.permit():
            vt.advance(seconds)
        assert changed(page.read())[1]["p99"] == pytest.approx(1000 * seconds, rel=0.01)


def test_why_the_last_rejection_happened_is_sampled_once_a_reading() -> None:
    """However many are rejected, one a reading is listened to, and the reason has its measure and limit."""
    policy, page = bulkhead(1, name="pool"), sampler()
    page.read()
    gate = policy.gates[0]
    with policy.permit():
        assert gate.listening & LISTEN[events.Rejected]
        for _ in range(3):
            with pytest.raises(BulkheadFullError):
                policy.call(int)
            assert not gate.listening & LISTEN[events.Rejected]
        why = changed(page.read())[1]["why"]
        assert gate.listening & LISTEN[events.Rejected]
    assert (why["reason"], why["measured"], why["limit"]) == ("full", 1, 1)


def test_a_rejection_before_anybody_looked_is_known() -> None:
    """The first one of a policy is sampled from the start; while nobody looks no other costs anything."""
    page, policy = sampler(), bulkhead(1, name="pool")
    with policy.permit():
        policy.try_call(int)
        assert not policy.gates[0].listening & LISTEN[events.Rejected]
    assert changed(page.read())["pool"]["why"]["reason"] == "full"
    page.rest()
    assert changed(page.read())["pool"]["calls"] == 2


def test_state_changes_are_kept_before_anybody_looks() -> None:
    """Who opens the page later sees what happened earlier: the state, since when, how often it opened."""
    page, policy = sampler(), circuit_breaker("payments", consecutive=2)
    for _ in range(2):
        policy.try_call(boom)
    tick = page.read()
    (event,) = tick.events
    assert (event["old"], event["new"], event["reason"]) == ("closed", "open", "consecutive")
    row = changed(tick)["payments"]
    assert (row["state"], row["opened"]) == ("open", 1)
    assert row["since"] == pytest.approx(tick.events[0]["at"], abs=0.01)
    assert page.snapshot()["events"] == tick.events


def test_a_policy_that_is_gone_is_told_to_be_removed() -> None:
    """The page keeps no policy alive."""
    page = sampler()
    policy = circuit_breaker()
    page.read()
    del policy
    gc.collect()
    assert page.read().removed == [1]
    assert page.find(1) is None


def test_a_policy_that_goes_while_it_is_read_leaves_its_number() -> None:
    """Between two lines of a reading it may be gone."""
    policy = circuit_breaker()
    row = Row(7, policy, Past())
    assert row.policy is policy
    del policy
    gc.collect()
    assert (row.policy, row.describe(), row.read(1)) == (None, {"id": 7}, {})


def test_a_policy_is_called_after_the_function_it_guards_later() -> None:
    """The name of an unnamed policy is not known when it is made."""
    policy, page = circuit_breaker(), sampler()
    assert "unnamed" in changed(page.read())
    policy(boom)
    assert page.read().changed == [{"id": 1, "name": f"{__name__}.boom"}]


def test_keyed_policies_show_states_by_number_and_keys_as_tags() -> None:
    """A key is an argument of a call: it is not shown unless asked for."""
    page, policy = sampler(), keyed(lambda: circuit_breaker(consecutive=1), key=lambda host: host, name="hosts")
    policy.try_call(str, "well")
    guarded = policy(lambda host: boom())
    with pytest.raises(OSError, match="boom"):
        guarded("secret-host")
    tick = page.read()
    assert changed(tick)["hosts"]["state"] == {"closed": 1, "open": 1}
    assert changed(tick)["hosts"]["of"] == "circuit_breaker"
    (event,) = tick.events
    assert event["key"].startswith("#")
    assert "secret" not in str(page.snapshot())
    assert page.journal.tag("secret-host") == event["key"] != page.journal.tag("other")
    assert sampler(show_keys=True).journal.tag("host") == "'host'"


def test_a_pipeline_names_its_parts() -> None:
    """The page can say what a pipeline is made of."""
    whole = pipeline(circuit_breaker("a"), bulkhead(3, name="b"), name="whole")
    page = sampler()
    news = changed(page.read())
    assert news["whole"]["parts"] == [news["a"]["id"], news["b"]["id"]]
    assert operations_of(whole) == ["reset", "resume"]
    assert operations_of(circuit_breaker("a")) == [
        "force_open",
        "half_open",
        "force_closed",
        "disable",
        "reset",
        "reconfigure",
    ]


def test_a_stack_of_decorators_counts_a_failure_at_its_outermost_policy() -> None:
    """
    A call that failed in a retry over a breaker was two failures of the sums on top.

    The page now knows which policies are inside another, also once a function is decorated while it is watched, and
    forgets it with the function.
    """
    outer, inner, page = retry(on=OSError, name="outer", attempts=1), circuit_breaker("inner"), sampler()
    ids = {name: row["id"] for name, row in changed(page.read()).items()}
    guarded = outer(pipeline(inner, bulkhead(3, name="pool"), name="whole")(boom))
    with pytest.raises(OSError, match="boom"):
        guarded()
    rows = {row["id"]: row for row in page.read().changed}
    assert rows[ids["outer"]]["failures"] == rows[ids["inner"]]["failures"] == 1
    snapshot = page.snapshot()["policies"]
    inside = {part for row in snapshot for part in row.get("parts", ())}
    assert [row["name"] for row in snapshot if row["id"] not in inside] == ["outer"]
    del guarded
    gc.collect()
    rows = {row["id"]: row for row in page.read().changed}
    assert rows[ids["outer"]]["parts"] == []


def test_a_pipeline_in_a_pipeline_is_a_part_of_it() -> None:
    """Both count the call, which is in the sums once."""
    nested = pipeline(circuit_breaker("a"), name="nested")
    pipeline(nested, bulkhead(3, name="b"), name="whole")
    news = changed(sampler().read())
    assert news["whole"]["parts"] == [news[name]["id"] for name in ("nested", "a", "b")]


def test_a_policy_that_cannot_be_read_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A raising policy of somebody's own is shown as such."""
    policy, page = bulkhead(3, name="broken"), sampler()
    bulkhead(3, name="well")
    monkeypatch.setattr(type(policy), "_limit", lambda self: 1 / 0 if self.name == "broken" else 3)
    news = changed(page.read())
    assert news[1]["trouble"] == "ZeroDivisionError"
    assert news["well"]["limit"] == 3
    monkeypatch.undo()
    assert page.read().changed[0]["trouble"] is None


def test_a_costly_policy_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyed policy of many keys costs the page no more than a share of the time."""
    policy, page = bulkhead(3, name="pool"), sampler()
    clock = iter([0, 3_000_000, 0, 0, 0, 0])
    monkeypatch.setattr("resilio.live._rows.thread_time_ns", lambda: next(clock))
    page.read()
    for _ in range(3):
        policy.call(int)
        assert not page.read()
    assert page.read().changed[0]["calls"] == 3


def test_the_time_ledger_is_that_of_the_interval(vt: VirtualTime) -> None:
    """The ledger grows for good; the page shows what was added since the last reading."""
    policy, page = bulkhead(3, name="pool"), sampler()
    policy.call(vt.advance, 2.0)
    assert changed(page.read())["pool"]["time"] == {}
    policy.call(vt.advance, 0.5)
    assert changed(page.read())[1]["time"] == {"attempt": 0.5}


def test_limits_that_move_are_events() -> None:
    """A limit that moved by more than a fifth is told with both values."""
    page, policy = sampler(), bulkhead(3, name="pool")
    event = events.LimitChanged(kind="bulkhead", name="pool", old=10.0, new=13.24, at_ns=1, key="k")
    page.journal._changed(event, policy.gates[0])
    (told,) = page.read().events
    assert (told["what"], told["old"], told["new"], told["key"][0]) == ("limit", 10.0, 13.2, "#")


def test_events_of_gates_without_a_policy_are_left_out() -> None:
    """The gate of a key that was forgotten meanwhile has none."""
    page = sampler()
    gate = SimpleNamespace(entry=None, policy=None)
    assert owner_of(gate) is None
    page.journal._changed(None, gate)
    page.journal._rejected(None, gate)
    assert not page.read()


def test_rejections_without_measure_or_beyond_all_bounds_are_told_as_none() -> None:
    """JSON knows no infinity."""
    page, policy = sampler(), load_shed(name="api")
    numbers = {"measured": float("inf"), "limit": None, "retry_after": 1.23456}
    rejection = events.Rejected(kind="load_shed", name="api", reason="full", at_ns=1, key=1, **numbers)
    page.journal._rejected(rejection, policy.gates[0])
    why = changed(page.read())["api"]["why"]
    assert (why["measured"], why["limit"], why["retry_after"]) == (None, None, 1.235)
    assert why["key"].startswith("#")


def test_a_journal_that_is_gone_listens_no_more() -> None:
    """The page is no leak: its taps end with it."""
    gc.collect()  # those of other tests, which may be in cycles
    before = len(_event_subscriptions.current())
    page = sampler()
    assert len(_event_subscriptions.current()) == before + 2
    listener = _event_subscriptions.current()[-1].listener
    del page
    gc.collect()
    assert len(_event_subscriptions.current()) == before
    listener(None, SimpleNamespace())  # as an event does that was under way


def test_reading_many_policies_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading is cut in slices: a guarded call never waits for all of it."""
    pauses: list[float] = []
    monkeypatch.setattr("resilio.live._sampler.time.sleep", pauses.append)
    policies = [bulkhead(3, name=f"pool {number}") for number in range(2 * SLICE + 10)]
    assert len(sampler().read().changed) == len(policies) == len(registry.all())
    assert pauses == [0, 0]


def test_a_keyed_policy_shows_all_its_keys_as_one(vt: VirtualTime) -> None:
    """Counters, rates, quantiles and the time of keys that are there and of those that are gone."""
    policy, page = keyed(circuit_breaker, key=lambda host, seconds: host, name="hosts"), sampler()
    guarded = policy(lambda host, seconds: vt.advance(seconds))
    guarded("gone", 0.5)
    page.read()
    policy.reset()
    guarded("a", 0.25)
    guarded("b", 0.75)
    (news,) = page.read().changed
    assert (news["calls"], news["successes"], news["calls_s"]) == (3, 3, 2.0)
    assert (news["p50"], news["p99"]) == (pytest.approx(250, rel=0.01), pytest.approx(750, rel=0.01))
    assert news["time"] == {"attempt": 1.0}


def test_a_keyed_policy_that_forgets_its_keys_starts_its_interval_anew(vt: VirtualTime) -> None:
    """After a reset there is no difference to show, and no error."""
    policy, page = keyed(circuit_breaker, key=lambda host: host, name="hosts"), sampler()
    guarded = policy(lambda host: vt.advance(0.01))
    page.read()
    guarded("a")
    page.read()
    policy.reset()
    guarded("b")
    assert "trouble" not in page.read().changed[0]


def test_events_are_written_down_while_others_are_read() -> None:
    """Policies change in any thread: the reader never stumbles over them, and no two events have one number."""
    page, policy, told = sampler(), circuit_breaker("payments"), list[Any]()
    begun = threading.Barrier(5)

    def write() -> None:
        begun.wait()
        for _ in range(500):
            page.journal.add("state", policy)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    begun.wait()
    while any(writer.is_alive() for writer in writers):
        told += page.journal.since(told[-1]["id"] if told else 0)
        assert len({event["id"] for event in page.journal.since(0)}) <= KEPT
    assert [event["id"] for event in told] == sorted({event["id"] for event in told})
    assert page.journal.since(0)[-1]["id"] == 2000


def test_a_predicate_that_raises_is_trouble_of_its_policy() -> None:
    """The page shows it in red, by its name, until the options change."""
    policy, page = circuit_breaker("payments", failed_if=lambda value: 1 / 0), sampler()

    def news(tick: Any) -> list[str | None]:
        return [row["trouble"] for row in tick.changed if "trouble" in row]

    page.read()
    policy.call(int)
    assert news(page.read()) == ["failed_if raised ZeroDivisionError"]
    policy.reconfigure(failed_if=None)
    assert news(page.read()) == [None]
    del page  # its subscriptions end with it; a record of the log keeps this frame
