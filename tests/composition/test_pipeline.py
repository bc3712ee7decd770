"""Pipelines: several policies as one, all or nothing; explain, lint, drain, health."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import anyio
import attrs
import pytest

from resilio import (
    BulkheadFullError,
    CircuitOpenError,
    Pipeline,
    PipelineWarning,
    Rate,
    RejectedError,
    Snapshot,
    bulkhead,
    circuit_breaker,
    custom_gate,
    deadline,
    fallback,
    hedge,
    keyed,
    pipeline,
    policy_of,
    rate_limit,
    registry,
    retry,
    standard,
    timeout,
)
from resilio.metrics._book import Book
from resilio.metrics._buckets import BUCKETS, Chooser


def boom() -> None:
    raise OSError("boom")


def names(made: Pipeline) -> list[str | None]:
    return [policy.name for policy in made.policies]


def test_the_parts_of_a_named_pipeline_take_its_name() -> None:
    """
    Metrics, the log and `top` showed each part that had no name of its own as "unnamed".

    A name that the user gave stays, as does that of a function which a part has guarded before.
    """
    before = bulkhead(3)
    before(boom)
    inside = pipeline(rate_limit("5/s"), circuit_breaker("mine"))
    keys = keyed(lambda: bulkhead(2), key=lambda: "a")
    find = pipeline(retry(on=OSError), rate_limit("9/s"), inside, keys, before, name="find")
    own = ["find.retry", "find.rate_limit", "find.rate_limit2", "mine", "find.keyed", before.name]
    assert names(find) == own
    assert [gate.name for gate in find.gates] == ["find", *own[:2], "find.pipeline", *own[2:]]
    assert registry.get("find.retry") is find.policies[0]
    labels = {label for _, series in Book(None, Chooser(BUCKETS)).read().counters for label in series[1:2]}
    assert {*own[:5], "find", "find.pipeline"} <= labels


def test_the_fallback_of_a_standard_takes_its_name() -> None:
    """It is made by the caller, so it was the one part of the stack without a name."""
    stack = standard("shop", on="http", fallback=fallback(default=None, on=OSError))
    assert names(stack)[:2] == ["shop.fallback", "shop.deadline"]


# ---- building -----------------------------------------------------------------------------------------------------


def test_the_first_policy_is_outermost() -> None:
    """Rejections come from the outermost policy that rejects; nothing is taken from those inside it."""
    limit, breaker, pool = rate_limit("1/s", name="limit"), circuit_breaker("breaker"), bulkhead(1, name="pool")
    both = pipeline(limit, breaker, pool)
    assert isinstance(both, Pipeline)
    assert names(both) == ["limit", "breaker", "pool"]
    breaker.force_open()
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            both.call(boom)
    breaker.reset()
    assert both.call(lambda: "in") == "in"
    assert pool.snapshot().calls == 1
    assert limit.snapshot().cancelled == 3


def test_a_pipeline_inside_is_taken_apart() -> None:
    """Its policies are listed in their place, and its own door still counts the calls through it."""
    a, b, c = (circuit_breaker(name) for name in "abc")
    inner = pipeline(b, c, name="inner")
    outer = pipeline(a, inner, name="outer")
    assert names(outer) == ["a", "b", "c"]
    assert outer.call(lambda: 1) == 1
    assert (inner.snapshot().successes, outer.snapshot().successes, c.snapshot().successes) == (1, 1, 1)


def test_a_pipeline_is_a_policy() -> None:
    """It decorates, makes blocks, calls, attempts and gives permits by hand."""
    both = pipeline(circuit_breaker("a"), bulkhead(1, name="b"), name="both")
    guarded = both(lambda: "decorated")
    assert (guarded(), policy_of(guarded)) == ("decorated", both)
    with both as permit:
        assert not both.try_acquire()
        assert both.try_call(boom).outcome == "rejected"
        permit.failure()
    assert (both.snapshot().failures, both.snapshot().inflight) == (1, 0)


@pytest.mark.parametrize(
    ("policies", "error", "message"),
    [
        ((), ValueError, "from 1 to 16 gates in all, not 0"),
        ((3,), TypeError, "policies must be policies, like .*, not 3"),
        ((circuit_breaker,), TypeError, "policies must be policies"),
        ((RejectedError,), TypeError, "policies must be policies"),
    ],
)
def test_what_makes_no_pipeline_is_rejected(policies: Any, error: Any, message: str) -> None:
    """A clear error that names parameter and value."""
    with pytest.raises(error, match=message):
        pipeline(*policies)


def test_too_many_gates_are_rejected_also_as_a_stack() -> None:
    """At most sixteen, doors included."""
    with pytest.raises(ValueError, match="not 17"):
        pipeline(*(circuit_breaker() for _ in range(17)))
    guarded: Any = boom
    for _ in range(16):
        guarded = circuit_breaker(guarded)
    with pytest.raises(ValueError, match="not 17"):
        circuit_breaker(guarded)


def test_a_pipeline_has_no_options_to_change() -> None:
    """Those of its policies have."""
    both = pipeline(circuit_breaker("a"), name="both")
    with pytest.raises(TypeError, match="change those of its policies"):
        both.reconfigure(policies=())


def test_the_snapshot_of_a_pipeline_has_its_own_numbers_and_those_of_its_policies() -> None:
    """A policy that another function uses too counts more than the pipeline."""
    shared = circuit_breaker("shared")
    both = pipeline(shared, bulkhead(2, name="pool"), name="both")
    shared.call(lambda: 1)
    both.try_call(boom)
    seen = both.snapshot()
    assert (seen.kind, seen.name, seen.state, seen.calls, seen.failures) == ("pipeline", "both", "serving", 1, 1)
    assert [(part.name, part.calls) for part in seen.parts] == [("shared", 2), ("pool", 1)]
    assert both.latency.count == 1


def test_the_snapshot_of_a_stack_shows_its_outermost_policy() -> None:
    """A stack of decorators has no numbers of its own."""

    @circuit_breaker("outer")
    @bulkhead(2, name="inner")
    def guarded() -> int:
        return 1

    guarded()
    seen = policy_of(guarded).snapshot()
    assert type(seen) is Snapshot
    assert (seen.kind, seen.state, seen.calls, [part.name for part in seen.parts]) == (
        "pipeline",
        None,
        1,
        ["outer", "inner"],
    )


# ---- explain and lint ---------------------------------------------------------------------------------------------


def test_explain_is_data_that_prints_as_a_table() -> None:
    """Position, kind, name, the options that matter and what it rejects with."""
    both = pipeline(circuit_breaker("payments", open_for=2), bulkhead(10, name="pool"), name="both")
    explained = both.explain()
    assert [attrs.asdict(step) for step in explained.steps] == [
        {
            "position": 1,
            "kind": "circuit_breaker",
            "name": "payments",
            "options": {"open_for": 2.0},
            "rejects_with": "CircuitOpenError",
        },
        {
            "position": 2,
            "kind": "bulkhead",
            "name": "pool",
            "options": {"max_concurrent": 10},
            "rejects_with": "BulkheadFullError",
        },
    ]
    assert str(explained).splitlines()[:3] == [
        "   policy           name      options            rejects with",
        "1  circuit_breaker  payments  open_for=2.0       CircuitOpenError",
        "2  bulkhead         pool      max_concurrent=10  BulkheadFullError",
    ]


def test_explain_says_what_is_default_unnamed_and_wrong() -> None:
    """Nothing is left blank, and a wrong order is part of the explanation."""
    with pytest.warns(PipelineWarning):
        both = pipeline(bulkhead(10), circuit_breaker())
    lines = str(both.explain()).replace("\n      ", " ").splitlines()  # each text in one line
    assert lines[2].split() == ["2", "circuit_breaker", "-", "defaults", "CircuitOpenError"]
    assert lines[3].startswith("note: circuit_breaker (2): opens where next to nothing works")
    assert lines[4].startswith("warning: bulkhead (1) around circuit_breaker (2): ")
    assert lines[4].endswith("[bulkhead-outside-breaker]")


def test_explain_fits_a_terminal() -> None:
    """A stack of `standard` took 190 columns, and a rate its whole record; long options take several lines."""
    stack = pipeline(
        fallback(int, on=(OSError, ValueError, KeyError), default=1, memory="5min", name="another-provider"),
        rate_limit("100/s", Rate("9000/min", unit="tokens", cost=len), max_wait="1s", max_queued=7),
        circuit_breaker("payments", window=(100, "30s"), failure_rate=0.4, consecutive=5, open_for="1s", ramp=30.0),
        timeout("p99*3", ceiling="3s"),
    )
    text = str(stack.explain())
    assert max(map(len, text.splitlines())) <= 100
    shown = " ".join(text.split())
    for option in ("rates=('100/s', '9000/min tokens')", "window=(100, '30s')", "total='p99*3'"):
        assert option in shown
    assert "Window(" not in shown


def rules(*policies: Any) -> list[tuple[str, int, int]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = pipeline(*policies)
    found = [(warning.rule, warning.outer, warning.inner) for warning in made.explain().warnings]
    assert [str(one.message).rpartition("[")[2][:-1] for one in caught] == [rule for rule, _, _ in found]
    assert {one.category for one in caught} <= {PipelineWarning}
    assert {one.filename for one in caught} <= {__file__}
    return found


def test_lint_knows_the_recommended_order() -> None:
    """rate_limit, circuit_breaker, bulkhead: nothing to warn of."""
    assert rules(rate_limit("10/s"), circuit_breaker(), bulkhead(10)) == []
    assert rules(rate_limit("10/s", max_wait=1), bulkhead(10), circuit_breaker())[0][0] == "bulkhead-outside-breaker"


def test_lint_warns_of_orders_that_cannot_do_what_they_say() -> None:
    """Each rule, with the positions of the pair; the warning points at the line that made the pipeline."""
    breaker, pool = circuit_breaker(), bulkhead(10)
    waiting = rate_limit("10/s", max_wait=1.0)
    assert rules(breaker, breaker) == [("twice", 1, 2)]
    assert rules(pool, breaker) == [("bulkhead-outside-breaker", 1, 2)]
    assert rules(breaker, rate_limit("10/s")) == [("limit-inside-breaker", 1, 2)]
    assert rules(pool, waiting) == [("limit-inside-bulkhead", 1, 2)]
    assert rules(pool, rate_limit("10/s")) == []
    assert rules(pipeline(pool), circuit_breaker("other"), bulkhead(3), breaker) == [
        ("bulkhead-outside-breaker", 1, 2),
        ("bulkhead-outside-breaker", 1, 4),
        ("bulkhead-outside-breaker", 3, 4),
    ]


@pytest.mark.parametrize(
    ("outer", "inner", "rule"),
    [
        (bulkhead(3), retry(on=OSError), "retry-inside-bulkhead"),
        (circuit_breaker(), retry(on=OSError), "retry-inside-breaker"),
        (rate_limit("10/s"), retry(on=OSError), "retry-inside-limit"),
        (hedge(idempotent=True), retry(on=OSError), "retry-inside-hedge"),
        (rate_limit("10/s"), hedge(idempotent=True), "hedge-inside-limit"),
        (retry(on=OSError), fallback(on=OSError, default=1), "fallback-inside-retry"),
        (circuit_breaker(), fallback(on=OSError, default=1), "fallback-inside-breaker"),
    ],
)
def test_lint_knows_strategies(outer: Any, inner: Any, rule: str) -> None:
    """What is the wrong way round is told, and the other way round is silent."""
    assert rules(outer, inner) == [(rule, 1, 2)]
    assert rules(inner, outer) == []


@pytest.mark.parametrize("outer", [retry(on=OSError), circuit_breaker()])
def test_lint_allows_a_fallback_inside_that_may_fail(outer: Any) -> None:
    """One that goes to another function only raises when both have failed: a retry and a breaker hear of it."""
    assert rules(outer, fallback(boom, on=OSError)) == []


def test_explain_says_what_strategies_raise_and_names_functions() -> None:
    """No class that they never raise, and no addresses."""

    def shown(*_: object) -> None:
        raise AssertionError

    stages = (fallback(shown, on=(OSError, KeyError), handler=shown), deadline(1.0), retry(on=OSError), timeout(1.0))
    told = pipeline(*stages).explain()
    assert [step.rejects_with for step in told.steps] == [None, "DeadlineExceededError", None, "CallTimeoutError"]
    assert "on=(OSError, KeyError)" in str(told)
    assert "handler=shown" in str(told)
    assert " at 0x" not in str(told)


def test_lint_warns_of_stacked_decorators_once_a_pair() -> None:
    """The warning points at the decoration, and names a wrong pair when its outer policy comes on, not again later."""
    with pytest.warns(PipelineWarning, match="bulkhead-outside-breaker") as caught:
        guarded = bulkhead(10)(circuit_breaker(boom))
    assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rate_limit("10/s")(guarded)


# ---- drain --------------------------------------------------------------------------------------------------------


def test_drain_rejects_new_calls_and_waits_for_those_under_way() -> None:
    """A thread that drains is woken by the last call that leaves."""
    both = pipeline(circuit_breaker("a"), name="both")
    inside, release, drained = threading.Event(), threading.Event(), []

    def call() -> str:
        inside.set()
        assert release.wait(30)
        return "done"

    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(both.call(call)))
    caller.start()
    assert inside.wait(30)
    drainer = threading.Thread(target=lambda: drained.append(both.drain()))
    drainer.start()
    while both.snapshot().state != "draining":
        pass
    with pytest.raises(RejectedError) as rejection:
        both.call(boom)
    assert (rejection.value.policy, rejection.value.name, rejection.value.reason) == ("pipeline", "both", "draining")
    assert drained == []
    release.set()
    drainer.join(30)
    caller.join(30)
    assert (drained, results, both.snapshot().state) == ([True], ["done"], "drained")


@pytest.mark.anyio
async def test_adrain_waits_in_its_task(vt: Any) -> None:
    """The calls inside go on, the drain ends with the last of them, and `resume` opens again."""
    both = pipeline(circuit_breaker("a"), bulkhead(5, name="b"), name="both")
    ended: list[float] = []

    async def call(seconds: float) -> None:
        await anyio.sleep(seconds)

    async def drain() -> None:
        assert await both.adrain()
        ended.append(vt.now)

    async with anyio.create_task_group() as tasks:
        for seconds in (1, 2, 3):
            tasks.start_soon(both.acall, call, seconds)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(drain)
    assert ended == [pytest.approx(3.0)]
    assert await both.adrain()
    both.resume()
    await both.acall(call, 0)
    assert both.snapshot().state == "serving"


@pytest.mark.anyio
async def test_adrain_gives_up_when_the_time_is_up_and_stays_shut(vt: Any) -> None:
    """It says False, new calls stay rejected, and a second drain finds the rest."""
    both = pipeline(circuit_breaker("a"), name="both")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both.acall, anyio.sleep, 5)
        await anyio.wait_all_tasks_blocked()
        assert not await both.adrain(timeout=2)
        assert vt.now == pytest.approx(2.0)
        assert both.try_call(boom).outcome == "rejected"
        assert not await both.adrain(timeout=0)
        assert await both.adrain()
    assert vt.now == pytest.approx(5.0)


@pytest.mark.anyio
async def test_a_call_that_waits_inside_is_served_before_the_drain_ends(vt: Any) -> None:
    """It was let in: draining rejects new calls, not those that queue already."""
    both = pipeline(bulkhead(1, max_queued=5, max_wait=60, name="b"), name="both")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(both.acall, anyio.sleep, 1)
        await anyio.wait_all_tasks_blocked()
        assert await both.adrain()
    assert (vt.now, both.snapshot().successes) == (pytest.approx(3.0), 3)


@pytest.mark.anyio
async def test_a_drain_ends_when_somebody_opens_again(vt: Any) -> None:
    """It says False then, and does not wait for ever."""
    both = pipeline(circuit_breaker("a"), name="both")
    answers: list[bool] = []

    async def drain() -> None:
        answers.append(await both.adrain())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both.acall, anyio.sleep, 5)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        both.resume()
    assert answers == [False]


@pytest.mark.anyio
async def test_drain_rejects_to_block_an_event_loop() -> None:
    """The calls that it waits for could never end."""
    both = pipeline(circuit_breaker("a"), name="both")
    with pytest.raises(RuntimeError, match="await adrain"):
        both.drain()
    assert both.snapshot().state == "serving"


def test_a_drain_is_cancelled_like_anything_else(vt: Any) -> None:
    """A cancelled drain listens no more, and the door stays shut."""
    both = pipeline(circuit_breaker("a"), name="both")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(both.acall, anyio.sleep, 5)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(1):
                await both.adrain()
            assert vt.now == pytest.approx(1.0)
            tasks.cancel_scope.cancel()

    vt.run(main)
    assert (both.snapshot().state, both.snapshot().ignored) == ("drained", 1)


def test_the_time_to_drain_is_checked() -> None:
    """Seconds >= 0, or None."""
    both = pipeline(circuit_breaker("a"), name="both")
    for wrong in (-1, float("nan"), float("inf"), "1"):
        with pytest.raises(ValueError, match="timeout must be"):
            both.drain(timeout=wrong)
    with pytest.raises(TypeError, match="timeout must be"):
        both.drain(timeout=[1])


@pytest.mark.anyio
async def test_a_stack_of_decorators_has_no_door() -> None:
    """It says what to use instead; a pipeline inside a stack has one."""
    inner = pipeline(circuit_breaker("inner"), name="pipe")
    stack = policy_of(circuit_breaker("outer")(inner(boom)))
    for attempt in (stack.drain, stack.resume):
        with pytest.raises(TypeError, match=r"one pipeline\(\.\.\.\)"):
            attempt()
    with pytest.raises(TypeError, match=r"one pipeline\(\.\.\.\)"):
        await stack.adrain()
    assert await inner.adrain()
    assert stack.try_call(boom).error.reason == "draining"


# ---- health -------------------------------------------------------------------------------------------------------


def test_health_is_ready_unless_a_call_has_no_chance() -> None:
    """What a readiness probe asks: an open breaker and a shut door are told, with who and why."""
    breaker = circuit_breaker("payments", open_for=30)
    both = pipeline(breaker, bulkhead(1, name="pool"), name="both")
    assert both.health()
    assert both.health().reasons == ()
    breaker.force_open()
    health = both.health()
    assert (bool(health), health.ready, health.reasons) == (False, False, ("circuit_breaker payments is forced_open",))
    breaker.reset()
    assert both.drain()
    assert both.health().reasons == ("pipeline both is drained",)


def test_health_asks_the_doors_of_pipelines_inside() -> None:
    """They reject as the outer one does, also inside a stack of decorators, and where all else is in shadow mode."""
    inner = pipeline(circuit_breaker(), name="inner")
    outer = pipeline(rate_limit("10/s"), inner)
    stack = policy_of(rate_limit("10/s")(inner(boom)))
    shadow = standard("shadow", on=OSError, enforce=False)
    assert outer.health()
    assert stack.health()
    assert inner.drain(timeout=0)
    assert shadow.drain(timeout=0)
    assert outer.try_call(boom).error.reason == stack.try_call(boom).error.reason == "draining"
    assert outer.health().reasons == stack.health().reasons == ("pipeline inner is drained",)
    assert shadow.try_call(boom).error.reason == "draining"
    assert shadow.health().reasons == ("pipeline shadow is drained",)


def test_a_policy_in_shadow_mode_is_always_ready() -> None:
    """It rejects nothing, whatever its state."""
    breaker = circuit_breaker("payments", enforce=False)
    breaker.force_open()
    assert breaker.health()


class Closed:
    """A custom gate that is shut."""

    def admit(self, call: Any) -> Any:
        return None

    def settle(self, call: Any, outcome: Any, seconds: float) -> None: ...


def test_other_policies_inside_are_rejected_with_their_own_errors() -> None:
    """A pipeline adds no error of its own but for its door."""
    both = pipeline(custom_gate(Closed()), bulkhead(1, name="pool"))
    with both, pytest.raises(BulkheadFullError):
        both.call(boom)


# ---- tried out as a whole ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")
def test_a_whole_stack_is_tried_out_without_rejecting_a_call() -> None:
    """`pipeline(..., enforce=False)` was a TypeError. Now copies of the policies count, and these learn nothing."""
    limit, breaker = rate_limit("3/h", name="tried"), circuit_breaker("tried", consecutive=2)
    stack = standard("tried-stack", on=OSError, max_concurrent=1, timeout=None)
    trial = pipeline(limit, breaker, retry(on=ConnectionError), stack, name="trial", enforce=False)
    for _ in range(9):
        with pytest.raises(OSError, match="boom"):
            trial.call(boom)
    counted = {part.name: (part.calls, part.would_reject > 0) for part in trial.snapshot().parts if part.name}
    assert counted["tried.trial"] == (9, True)
    assert counted["tried-stack.circuit_breaker.trial"][0] == 9
    assert trial.snapshot().rejected == 0
    gates = [part for part in stack.snapshot().parts if part.kind in ("circuit_breaker", "bulkhead")]
    assert [part.calls for part in (limit.snapshot(), breaker.snapshot(), *gates)] == [0, 0, 0, 0]
    assert trial.health().ready


def test_a_stack_is_enforced_for_a_share() -> None:
    """Half of the calls are rejected, exactly; a part that is enforced for less keeps that."""
    half = pipeline(circuit_breaker(), bulkhead(1, enforce=0.25), enforce=0.5)
    half.policies[0].force_open()
    results = [half.try_call(int) for _ in range(10)]
    assert [result.outcome for result in results].count("rejected") == 5
    assert [part.config.enforce for part in half.policies] == [0.5, 0.25]
    assert pipeline(half.policies[1], enforce=True).policies == half.policies[1:]


@pytest.mark.parametrize("enforce", [-0.1, 2, "no", None])
def test_a_share_is_checked(enforce: Any) -> None:
    """The message names the option."""
    with pytest.raises((TypeError, ValueError), match="enforce"):
        pipeline(bulkhead(1), enforce=enforce)


def test_what_makes_its_own_policies_is_not_tried_out_half() -> None:
    """A keyed policy inside would have gone on to reject: the error names what to do."""
    with pytest.raises(TypeError, match="enforce=0 to each that it makes"):
        pipeline(keyed(lambda: bulkhead(1), key=lambda: "k"), enforce=False)
