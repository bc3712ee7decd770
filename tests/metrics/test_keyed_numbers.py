"""The numbers of a keyed policy are those of all its keys, of the keys that are gone too, read a few at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, fallback, keyed, load_shed, rate_limit, retry, timeout
from resilio.gates import Reject
from resilio.metrics import _read_keyed
from resilio.metrics._book import Book
from resilio.metrics._buckets import BUCKETS, Chooser
from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._sheet import Sheet


def boom(key: object = None) -> None:
    raise OSError(key)


def read(*policies: Any) -> Sheet:
    return Book(policies, Chooser(BUCKETS)).read()


def numbers(sheet: Sheet, *own: str) -> dict[tuple[str, ...], float]:
    """Return all of a policy by instrument and its own labels."""
    return {
        (name, *labels[2:]): value
        for samples in (sheet.counters, sheet.gauges)
        for (name, labels), value in samples.items()
        if labels[:2] == own and name != "state_changes"  # which are counted by name, whoever has it
    }


def summed(policies: list[Any], kind: str) -> dict[tuple[str, ...], float]:
    """Return the same of several policies, added up as policies of one name are."""
    total = Sheet()
    for policy in policies:
        for (name, labels), value in read(policy).counters.items():
            if labels[:1] == (kind,):
                total.count(name, value, kind, "all", *labels[2:])
        for (name, labels), value in read(policy).gauges.items():
            if labels[:1] == (kind,):
                total.gauge(name, value, kind, "all", *labels[2:])
    return numbers(total, kind, "all")


def test_the_last_reason_of_a_gate_with_many_is_counted() -> None:
    """A gate may have 16 reasons; of those added up, and of keys that were gone, the sixteenth was lost."""
    reasons = tuple(f"reason{number}" for number in range(16))

    class Gate:
        def admit(self, call: Any) -> Reject:
            return Reject(call.args[1])

        def settle(self, call: Any, outcome: Any, seconds: float) -> None: ...

    made: list[Any] = []

    def factory() -> Any:
        made.append(resilio.custom_gate(Gate(), kind="many", reasons=reasons))
        return made[-1]

    policy = keyed(factory, key=lambda key, reason: key, name="all", max_keys=4)
    for key in range(3):
        for reason in reasons:
            policy.try_call(lambda *args: None, key, reason)
    expected = dict.fromkeys(reasons, 3)
    assert {
        labels[2]: value for (name, labels), value in read(policy).counters.items() if name == "rejected"
    } == expected
    policy.reset()
    assert {name: count for name, count in policy._gate.rejections().items() if count} == expected


FACTORIES: dict[str, Callable[[], Any]] = {
    "circuit_breaker": lambda: circuit_breaker(consecutive=3, open_for=9.0, max_open_for=9.0),
    "bulkhead": lambda: bulkhead(2),
    "rate_limit": lambda: rate_limit("10/s", burst=4),
    "adaptive_limit": resilio.adaptive_limit,
    "load_shed": lambda: load_shed(max_concurrent=2),
    "retry": lambda: retry(on=OSError, attempts=3, backoff=0.0),
    "hedge": lambda: resilio.hedge(idempotent=True, after=1.0),
    "timeout": lambda: timeout(1.0, thread=True),
    "fallback": lambda: fallback(lambda key: "other", on=OSError),
}


@pytest.mark.parametrize("kind", [kind for kind in FACTORIES if kind not in ("hedge", "timeout")])
def test_each_number_is_that_of_all_keys(vt: Any, kind: str) -> None:
    """Whatever a kind of policy tells, a keyed one tells of all: sums, the largest or the smallest, states counted."""
    dice = random.Random(1)
    policy = keyed(FACTORIES[kind], key=lambda key: key % 7, name=f"keyed {kind}")
    held = []
    for number in range(60):
        with suppress(OSError, resilio.RejectedError):
            policy.call(boom if dice.random() < 0.5 else str, number)
        if kind not in ("retry", "fallback") and (permit := policy.try_acquire(number)) and number % 3 == 0:
            held.append(permit)
    found = numbers(read(policy), kind, f"keyed {kind}")
    expected = summed([one for _, one in policy.items()], kind)
    assert found.pop(("policies",)) == 1
    assert expected.pop(("policies",)) == 7
    assert found == pytest.approx(expected)
    assert any(found.values())


def test_breakers_are_counted_by_state(vt: Any) -> None:
    """How many keys are open, half-open and closed; the shared policy once it is in use."""
    policy = keyed(FACTORIES["circuit_breaker"], key="key", name="hosts", max_keys=5)

    @policy
    def work(key: int, fails: bool) -> None:
        if fails:
            raise OSError

    for key in range(5):
        for _ in range(3):
            with suppress(OSError):
                work(key, key < 2)
    found = numbers(read(policy), "circuit_breaker", "hosts")
    assert (found["state", "closed"], found["state", "open"], found["state", "half_open"]) == (3, 2, 0)
    assert 0 < found["retry_after_seconds",] <= 9
    assert found["admitted_share",] == 0.0
    vt.advance(10.0)
    probe = policy[0].try_acquire()
    for _ in range(3):
        with suppress(OSError):
            work(77, True)  # there is no room for it
    found = numbers(read(policy), "circuit_breaker", "hosts")
    assert (found["state", "closed"], found["state", "open"], found["state", "half_open"]) == (3, 2, 1)
    assert probe


def test_what_keys_have_counted_that_are_gone_stays(vt: Any) -> None:
    """Totals never go back: of evicted keys and after a reset, of what each kind counts besides."""
    policy = keyed(
        lambda: retry(on=OSError, attempts=3, backoff=0.0, budget=None), key="key", max_keys=10, name="tries"
    )

    @policy
    def work(key: int) -> None:
        raise OSError

    read(policy)  # from now on somebody looks
    for number in range(50):
        with suppress(OSError):
            work(number)
        vt.advance(1000.0)
    assert policy.snapshot().evicted >= 40
    before = numbers(read(policy), "retry", "tries")
    assert before["retries",] == 100
    assert before["retry_stopped", "attempts"] == 50
    assert before["calls", "failure"] == 50
    policy.reset()
    after = numbers(read(policy), "retry", "tries")
    assert after["retries",] == 100
    assert after["retry_stopped", "attempts"] == 50


def test_budgets_of_keys_are_added_up_and_one_that_they_share_is_told_once(vt: Any) -> None:
    """A budget of each key's own is in the sum; one for all is itself."""
    shared = resilio.RetryBudget("for all")
    own = keyed(lambda: retry(on=OSError, backoff=0.0), key="key", name="own budgets")
    one = keyed(lambda: retry(on=OSError, backoff=0.0, budget=shared), key="key", name="one budget")
    for policy in (own, one):
        guarded = policy(lambda key: boom())
        for key in range(3):
            with suppress(OSError):
                guarded(key)
    sheet = read(own, one)
    limit = shared.config.cap
    assert sheet.gauges["retry_budget_limit", ("retry", "own budgets")] == 3 * limit
    assert sheet.gauges["retry_budget_limit", ("retry", "one budget")] == limit
    assert sheet.counters["retry_budget_events", ("retry_budget", "own budgets", "withdrawn")] > 3
    withdrawn = shared._status()["withdrawals"]
    assert sheet.counters["retry_budget_events", ("retry_budget", "for all", "withdrawn")] == withdrawn


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Have three keys looked at at a time, and what is put into the list done between two looks."""
    meanwhile: list[Callable[[], object]] = []
    monkeypatch.setattr(_read_keyed, "AT_A_TIME", 3)
    monkeypatch.setattr(_read_keyed, "sleep", lambda _: [act() for act in meanwhile])
    monkeypatch.setattr(_read_keyed, "LONG_NS", 10**18)
    return meanwhile


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 20))])
def test_keys_that_come_and_go_while_others_are_read_count_once(
    vt: Any, small_steps: list[Callable[[], object]], seed: int
) -> None:
    """What a look tells is never below the one before, nor above what there was; at rest it is exact."""
    dice = random.Random(seed)
    policy = keyed(lambda: retry(on=OSError, attempts=2, backoff=0.0, budget=None), key="key", max_keys=30, name="busy")
    made = [0]

    @policy
    def work(key: int) -> None:
        raise OSError

    def some_calls() -> None:
        for _ in range(dice.randint(0, 12)):
            made[0] += 1
            with suppress(OSError):
                work(dice.randint(0, 200))
            vt.advance(300.0 if dice.random() < 0.3 else 0.0)
        if dice.random() < 0.05:
            policy.reset()

    read(policy)
    small_steps.append(some_calls)
    last = 0.0
    for _ in range(20):
        begun = made[0]
        found = numbers(read(policy), "retry", "busy")
        assert begun <= found["retries",] <= made[0]
        assert begun <= found["calls", "failure"] <= made[0]
        assert found["retries",] >= last
        last = found["retries",]
    small_steps.clear()
    found = numbers(read(policy), "retry", "busy")
    assert found["retries",] == found["calls", "failure"] == made[0]
    assert policy.snapshot().evicted > 0


def test_many_keys_are_read_a_few_at_a_time(small_steps: list[Callable[[], object]]) -> None:
    """No stretch is longer than a few keys, and none is held on to meanwhile: it can make room for another."""
    policy = keyed(circuit_breaker, key="key", max_keys=300, name="many")
    for key in range(300):
        policy[key]
    policy.reconfigure(idle=0.001)
    turns: list[int] = []
    small_steps.append(lambda: turns.append(policy[f"new {len(turns)}"] is policy.overflow))
    read(policy)
    assert len(turns) >= 100
    assert policy.snapshot().overflowed < len(turns) / 2


def test_what_takes_long_is_read_seldom(
    vt: Any, small_steps: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth of one core at most: until then what was read last is told again."""
    policy = keyed(circuit_breaker, key="key", name="slow to read")
    for key in range(30):
        policy[key].call(int)
    monkeypatch.setattr(_read_keyed, "LONG_NS", 50_000_000)
    small_steps.append(lambda: vt.advance(0.1))
    book = Book([policy], Chooser(BUCKETS))
    first = book.read()
    took = vt.now
    assert took > 1
    policy[1].call(int)
    assert book.read().counters != first.counters  # it was others whose turn it was
    monkeypatch.setattr(_read_keyed, "thread_time_ns", lambda: round(vt.now * 1e9))
    first = book.read()
    policy[1].call(int)
    assert book.read().counters == first.counters
    vt.advance(took * 20)
    assert book.read().counters != first.counters


def test_the_catalogue_says_how_keys_become_one() -> None:
    """Counters are sums; every gauge has its way."""
    assert {one.merge for one in CATALOGUE.values()} == {"sum", "max", "min"}
    assert all(one.merge == "sum" for one in CATALOGUE.values() if one.type == "counter")
