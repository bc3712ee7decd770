"""The hedge as a policy: its options, what it learns, what it counts and tells, and what it rejects to guard."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import anyio
import pytest
from measured import measured

import resilio
from resilio import RetryBudget, current, hedge, pipeline, retry, timeout
from resilio._events import log
from resilio._native.strategies import ANSWERS, HedgeGate
from resilio.events import HedgeStarted, HedgeWon
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def slow(policy, *, copy=0.01, primary=1.0):
    """Return a function under `policy` whose primary takes longer than its copies."""

    @policy
    async def call(*args, **kwargs):
        number = current().hedge
        await anyio.sleep(copy if number else primary)
        return number

    return call


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"idempotent": False}, ValueError, "what must not run twice"),
        ({"idempotent": 1}, TypeError, "idempotent must be"),
        ({"after": "p0"}, ValueError, 'above "p0"'),
        ({"after": "p100"}, ValueError, 'below "p100"'),
        ({"after": "soon"}, ValueError, "a quantile like"),
        ({"after": "pX"}, ValueError, "a quantile like"),
        ({"after": []}, ValueError, "from 1 to 16 times"),
        ({"after": [0.1] * 17}, ValueError, "from 1 to 16 times"),
        ({"after": -1}, ValueError, "after must be"),
        ({"to": [1]}, TypeError, "to must be"),
        ({"max_hedges": 0}, ValueError, "max_hedges must be"),
        ({"max_hedges": 17}, ValueError, "max_hedges must be"),
        ({"max_extra": 1.5}, ValueError, "max_extra must be"),
        ({"min_delay": 2.0, "max_delay": 1.0}, ValueError, "at most max_delay=1"),
        ({"discard": 3}, TypeError, "discard must be"),
    ],
)
def test_bad_options_are_rejected_by_name(options, error, says):
    """Each option that makes no sense is rejected where the hedge is made, with its name and value."""
    with pytest.raises(error, match=says):
        hedge(**({"idempotent": True} | options))


def test_idempotent_has_no_default():
    """Nobody hedges what must not run twice by accident."""
    with pytest.raises(TypeError, match="idempotent"):
        hedge()
    with pytest.raises(TypeError, match=r"@hedge\(idempotent=True\)"):
        hedge(plain, idempotent=True)


def plain():
    """A sync function."""


def items():
    """A generator."""
    yield 1


async def async_items():
    """An asynchronous generator."""
    yield 1


@pytest.mark.parametrize(("fn", "says"), [(plain, "async function"), (items, "opens it"), (async_items, "opens it")])
@pytest.mark.parametrize("stacked", ["alone", "in a pipeline", "in a stack"])
def test_only_coroutine_functions_are_hedged(fn, says, stacked):
    """What gives items or is not async is rejected where it is decorated, in a stack as well, with the way out."""
    policy = hedge(idempotent=True)
    with pytest.raises(TypeError, match=says):
        if stacked == "alone":
            policy(fn)
        elif stacked == "in a pipeline":
            pipeline(resilio.bulkhead(3), policy)(fn)
        else:
            policy(resilio.bulkhead(3)(fn))


def test_reconfigured_while_it_runs():
    """New options hold for the next call, and what was learned is kept where it says something."""
    policy = hedge(idempotent=True, after="p50")
    for _ in range(20):
        policy._gate.learn(0.2)
    assert policy.delay == pytest.approx(0.2, rel=0.01)
    policy.reconfigure(after=[1.0, 2.0])
    assert policy.delay == 1.0
    assert [policy._gate.due_after(started, 0) for started in (0, 1, 2)] == [10**9, 2 * 10**9, 2 * 10**9]
    policy.reconfigure(after="p99")
    assert policy.delay is None
    policy.reconfigure(after="p50", max_delay=0.1)
    assert policy.delay == pytest.approx(0.1)
    assert policy._gate.max_hedges == 1


def test_old_latencies_fade_and_equal_ones_keep_their_quantile(vt):
    """
    Each 2048 calls and ten seconds, what was measured counts half: the delay follows a callee that got slower.

    While nothing changes, the delay stays where it is.
    """
    policy = hedge(idempotent=True, after="p50")

    def learn(calls, longer):
        for call in range(calls):
            policy._gate.learn(longer * (1 + call % 100 / 100))
            vt.advance(0.01)

    for _ in range(20):
        learn(300, 0.1)
        assert policy.delay == pytest.approx(0.15, rel=0.03)
    learn(2 * 2048, 1.0)
    assert policy.delay > 1.0


def test_a_hedge_that_knows_no_time_any_more_starts_no_further_copy(vt):
    """What is asked before a copy starts may ask for a quantile that is not measured yet: none is due then."""

    def change(*args):
        policy.reconfigure(after="p99")
        return True

    policy = measured("p50", saved=3, max_hedges=3, idempotent=change)
    call = slow(policy, copy=5.0)

    async def main():
        assert await call() == 0

    vt.run(main)
    assert policy.delay is None
    due = policy.snapshot().due
    assert {name: count for name, count in due.items() if count} == {"started": 1}, due
    assert_no_leaks(policy)


# ---- copies ----------------------------------------------------------------------------------------------------------


@BACKENDS
def test_copies_go_to_their_targets_in_order(vt, backend):
    """Each copy goes to the next target with the primary's arguments; the last target serves for all further ones."""
    seen = []

    def target(name):
        async def call(*args, **kwargs):
            seen.append((name, current().hedge, args, kwargs))
            await anyio.sleep(0.01 if current().hedge == 3 else 10)
            return name

        return call

    policy = measured([0.05, 0.05, 0.05], saved=3, to=[target("b"), target("c")])
    call = policy(target("a"))

    async def main():
        assert await call(1, key=2) == "c"

    vt.run(main, backend=backend)
    assert seen == [(name, number, (1,), {"key": 2}) for number, name in enumerate("abcc")]
    assert_no_leaks(policy)


@BACKENDS
@pytest.mark.parametrize("answer", [True, False, ZeroDivisionError])
def test_idempotent_is_asked_with_the_arguments(vt, backend, answer, caplog, monkeypatch):
    """A function says for each call whether it may run twice; one that raises says no, and what was paid goes back."""
    monkeypatch.setattr(log, "_reported", set())
    asked = []

    def safe(*args, **kwargs):
        asked.append((args, kwargs))
        if answer is ZeroDivisionError:
            raise answer
        return answer

    policy = measured(idempotent=safe)
    call = slow(policy)

    async def main():
        assert await call(1, key=2) == (answer is True)

    with caplog.at_level(logging.CRITICAL if answer is not ZeroDivisionError else logging.ERROR):
        vt.run(main, backend=backend)
    assert asked == [((1,), {"key": 2})]
    snapshot = policy.snapshot()
    assert (snapshot.hedges, snapshot.hedges_rejected) == ((1, 0) if answer is True else (0, 1))
    assert ("could not be started" in caplog.text) == (answer is ZeroDivisionError)


def after_of(size=0):
    """A second for each thousand."""
    return size / 1000


@BACKENDS
def test_each_call_has_the_delay_that_its_arguments_need(vt, backend):
    """
    A copy of a long call started as early as one of a short call, since all calls had the same delay.

    The function gives each call its own, within the bounds. Copies after the first wait as long again.
    """
    starts = []
    policy = measured(after_of, saved=9, min_delay=0.5, max_delay=4.0, max_hedges=2)

    @policy
    async def call(size):
        if current().hedge:
            starts.append(vt.now - begun)
        await anyio.sleep(9.0 if current().hedge < 2 else 0.25)
        return current().hedge

    async def main():
        nonlocal begun
        for size in (2000, 100, 6000):
            begun = vt.now
            assert await call(size) == 2

    begun = 0.0
    vt.run(main, backend=backend)
    assert starts == [2.0, 4.0, 0.5, 1.0, 4.0, 8.0]
    assert (policy.delay, policy.after_errors) == (None, 0)
    assert_no_leaks(policy)


@BACKENDS
def test_a_function_that_gives_no_delay_leaves_the_call_alone(vt, backend):
    """None means no copy; so does a function that fails, which is counted. A failure of the primary starts none."""
    policy = measured(saved=9)

    @policy
    async def call(delay):
        await anyio.sleep(60)
        if not current().hedge:
            raise OSError

    async def main():
        for delay in (None, "soon"):
            with contextlib.suppress(OSError):
                await call(delay)

    policy.reconfigure(after=lambda delay=0: delay / 1.0 if delay is not None else None)
    vt.run(main, backend=backend)
    assert policy.snapshot().hedges == 0
    assert policy.after_errors == 1


def test_a_computed_delay_is_explained_and_checked():
    """The options show the function's name; one that takes other arguments than the call is rejected at once."""
    policy = hedge(idempotent=True, after=after_of, max_delay=4.0)
    text = " ".join(str(pipeline(policy).explain()).split())
    assert "after=after_of" in text
    assert "a copy starts after a time computed from the arguments, 0.001 to 4 s" in text
    assert "after a computed time" in repr(policy)
    with pytest.raises(TypeError, match="after of a hedge is called with the arguments of"):

        @policy
        async def call(a, b):
            """Take two arguments."""


@BACKENDS
def test_copies_and_retries_share_a_budget(vt, backend):
    """A copy is paid out of the budget of the retry outside; where that is empty there is none."""
    budget = RetryBudget(cap=1, initial=1, reserve=0.0)
    policy = measured(saved=5)
    call = slow(pipeline(retry(on=ConnectionError, budget=budget), policy))

    async def main():
        assert await call() == 1
        assert await call() == 0

    vt.run(main, backend=backend)
    assert policy.snapshot().hedges_rejected == 1


@BACKENDS
def test_a_copy_that_is_rejected_is_paid_back(vt, backend):
    """A copy that a gate inside has rejected did not start: neither its share nor the budget is used up by it."""
    budget = RetryBudget(cap=5, initial=5, reserve=0.0)
    policy, pool = measured(), resilio.bulkhead(1)
    call = slow(pipeline(retry(on=ConnectionError, budget=budget), policy, pool))

    async def main():
        for _ in range(3):
            assert await call() == 0

    vt.run(main, backend=backend)
    snapshot = policy.snapshot()
    assert (snapshot.hedges, snapshot.hedges_rejected, snapshot.due["started"]) == (0, 3, 3)


@BACKENDS
def test_off_while_copies_lose(vt, backend):
    """Copies that are slow for the same reason stop, but for one in twenty."""
    policy = measured(typical=1.0)
    call = slow(policy, copy=10, primary=1.0)

    async def main():
        for _ in range(120):
            assert await call() == 0

    vt.run(main, backend=backend)
    due = policy.snapshot().due
    assert due["started"] < 20
    assert due["losing"] > 90


@BACKENDS
def test_off_while_saturated(vt, backend):
    """While calls take more than twice what they took at best no copy is added to the queue."""
    policy = measured(typical=0.01)
    call = slow(policy, copy=0.2, primary=0.1)

    async def main():
        for _ in range(200):
            await call()

    vt.run(main, backend=backend)
    assert policy.snapshot().due["saturated"] > 50


@BACKENDS
@pytest.mark.parametrize("inside", [True, False])
def test_a_timeout_is_learned_as_a_time_that_was_not_enough(vt, backend, inside):
    """What a timeout has ended, inside or outside, counts as longer than that, and as a failure."""
    policy = hedge(idempotent=True, after="p50", max_extra=0.0)
    limit = timeout(0.5)

    @pipeline(*((policy, limit) if inside else (limit, policy)))
    async def call(seconds):
        await anyio.sleep(seconds)

    async def main():
        for number in range(40):
            with contextlib.suppress(TimeoutError):
                await call(0.1 if number % 4 == 0 else 10)

    vt.run(main, backend=backend)
    assert policy.delay == pytest.approx(0.5, rel=0.02)


@BACKENDS
@pytest.mark.parametrize("tasks", [None, True, False], ids=["block", "stage", "call only"])
def test_a_deadline_that_no_copy_can_meet(vt, backend, tasks):
    """No copy starts if half of the calls take longer than what is left, by a block or by a stage further out."""
    policy = measured(typical=0.5)
    call = slow(policy, primary=10)

    async def main():
        with pytest.raises(TimeoutError):
            if tasks is None:
                async with resilio.deadline(0.3):
                    await call()
            else:
                await resilio.deadline(0.3, tasks=tasks)(call)()

    vt.run(main, backend=backend)
    assert sum(policy.snapshot().due.values()) == 0


# ---- what it shows ---------------------------------------------------------------------------------------------------


@BACKENDS
def test_events_of_copies(vt, backend):
    """A record when a copy starts and one when it wins, for those who listen."""
    policy = measured(name=f"told-{backend}")
    call = slow(policy)
    told = []

    async def main():
        await call()
        stop = policy.on_event(told.append, kinds=(HedgeStarted, HedgeWon))
        await call()
        stop()
        await call()

    vt.run(main, backend=backend)
    assert [(type(event), event.kind, event.name, event.number) for event in told] == [
        (HedgeStarted, "hedge", f"told-{backend}", 1),
        (HedgeWon, "hedge", f"told-{backend}", 1),
    ]
    assert told[0].at_ns < told[1].at_ns


def test_the_snapshot_counts_what_became_due(vt):
    """What was due is counted by the answer it got, in a closed set of names."""
    policy = hedge(idempotent=True, after=0.05, max_extra=1.0)
    call = slow(policy)

    async def main():
        for _ in range(3):
            await call()

    vt.run(main)
    snapshot = policy.snapshot()
    assert tuple(snapshot.due) == ANSWERS
    assert snapshot.delay is None
    assert snapshot.hedges == snapshot.hedge_wins == 0


@BACKENDS
def test_prometheus_counts_copies(vt, backend):
    """A scrape shows copies started, won and rejected, and what became of those that were due."""
    prometheus = pytest.importorskip("prometheus_client")
    from resilio.metrics.prometheus import ResilioCollector

    policy = measured(name=f"scraped-{backend}")
    call = slow(policy)
    vt.run(call, backend=backend)
    registry = prometheus.CollectorRegistry()
    ResilioCollector(registry, [policy])
    labels = {"kind": "hedge", "policy": f"scraped-{backend}"}
    assert registry.get_sample_value("resilio_hedges_total", labels) == 1
    assert registry.get_sample_value("resilio_hedge_wins_total", labels) == 1
    assert registry.get_sample_value("resilio_hedges_rejected_total", labels) == 0
    for answer in ANSWERS:
        value = registry.get_sample_value("resilio_hedges_due_total", labels | {"answer": answer})
        assert value == (answer == "started"), answer


def test_explain_shows_it():
    """A pipeline with a hedge says so."""
    policy = hedge(idempotent=True, name="explained")
    assert "hedge" in str(pipeline(policy, resilio.bulkhead(3)).explain())


def test_a_gate_needs_its_options():
    """The native gate is made by the policy alone, with all options."""
    with pytest.raises(TypeError):
        HedgeGate()


def test_calls_that_never_suspend_are_measured_too(vt):
    """A call that ends at once is a sample, and no timer is armed for it."""
    policy = hedge(idempotent=True, after="p50", min_delay=0.0)

    @policy
    async def call():
        return 1

    async def main():
        for _ in range(30):
            assert await call() == 1

    vt.run(main)
    assert policy.delay is not None
    assert policy.snapshot().successes == 30


def test_try_acall_returns_a_result(vt):
    """`try_acall` of a hedged call gives the winner's value in a result."""
    policy = measured()

    async def call():
        await asyncio.sleep(0.01 if current().hedge else 1)
        return current().hedge

    async def main():
        result = await policy.try_acall(call)
        assert result.unwrap() == 1

    vt.run(main)


@pytest.mark.untraced  # the interrupt would come in the tracer
def test_a_ctrl_c_while_a_copy_is_started_is_raised():
    """It comes in a callback of the loop, where nothing can be raised, and is pressed again."""

    def interrupted(number):
        if number < 0:
            raise KeyboardInterrupt
        return True

    policy = hedge(idempotent=interrupted, after=0.005, max_extra=1.0)

    @policy
    async def call(number):
        await asyncio.sleep(5.0 if number < 0 else 0.0)

    async def main():
        for number in range(40):
            await call(number)
        await call(-1)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert_no_leaks(policy)
