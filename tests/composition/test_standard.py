"""The recommended stack: what it is made of, what it does not do twice, and how a part is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import resilio
from resilio import (
    CircuitOpenError,
    DeadlineExceededError,
    Outcome,
    bulkhead,
    circuit_breaker,
    deadline,
    fallback,
    keyed,
    override,
    pipeline,
    policy_of,
    presets,
    registry,
    retry,
    standard,
    timeout,
)
from resilio._composition.standard import OF_PRESET
from resilio.testing import VirtualTime, assert_no_leaks

ORDER = ["fallback", "deadline", "retry", "hedge", "rate_limit", "circuit_breaker", "bulkhead", "timeout"]


def kinds(stack: Any) -> list[str]:
    """Return the kinds of its parts, outermost first."""
    return [policy.kind for policy in stack.policies]


def whole(name: str = "whole", **options: Any) -> resilio.Standard:
    """Return a stack with all eight parts."""
    rest = fallback(on=Exception, default=None)
    return standard(name, on=ConnectionError, idempotent=True, fallback=rest, rates="100/s", **options)


def test_the_whole_stack_is_in_the_recommended_order() -> None:
    """All eight parts, outermost first, without a warning about their order."""
    stack = whole()
    assert kinds(stack) == ORDER
    assert stack.explain().warnings == ()


def test_parts_are_called_after_the_dependency() -> None:
    """Metrics and `configure` find each part by its name."""
    names = [policy.name for policy in whole("payments").policies]
    assert names[2:] == [f"payments.{kind}" for kind in ORDER[2:]]


def test_the_same_options_give_the_same_stack() -> None:
    """A second module asks for the same stack and shares its state; other options are rejected."""
    first = standard("same", on=ConnectionError)
    assert standard("same", on=ConnectionError) is first
    with pytest.raises(ValueError, match="same"):
        standard("same", on=ConnectionError, attempts=5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on": "smtp"}, ValueError),
        ({"on": 3}, TypeError),
        ({"on": "http", "idempotent": 1}, TypeError),
        ({"on": "http", "attempts": 0}, ValueError),
        ({"on": "http", "timeout": -1.0}, ValueError),
        ({"on": "http", "timeout": "5"}, ValueError),
        ({"on": "http", "timeout": [5]}, TypeError),
        ({"on": "http", "timeout": {"totl": 5}}, TypeError),
        ({"on": "http", "deadline": float("nan")}, ValueError),
        ({"on": "http", "fallback": 3}, TypeError),
        ({"on": "http", "fallback": bulkhead(3)}, TypeError),
        ({"on": "http", "rates": 5}, TypeError),
        ({"on": "http", "budget": ""}, ValueError),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], error: type[Exception]) -> None:
    """What is wrong is said at construction."""
    with pytest.raises(error, match=f"^{list(options)[-1]} must (be|have)"):
        standard("bad", **options)
    with pytest.raises(TypeError, match="name"):
        standard(None, on="http")  # type: ignore[arg-type]


def test_what_is_not_idempotent_is_neither_hedged_nor_blindly_retried(vt: VirtualTime) -> None:
    """A failure that leaves open whether the work was done comes out at once; one that does not is tried again."""
    stack = standard("orders", on="http")
    assert "hedge" not in kinds(stack)
    calls: list[type[Exception]] = []

    @stack
    async def order(error: type[Exception]) -> None:
        calls.append(error)
        raise error

    with pytest.raises(ConnectionResetError):
        vt.run(lambda: order(ConnectionResetError))
    assert len(calls) == 1
    with pytest.raises(ConnectionRefusedError):
        vt.run(lambda: order(ConnectionRefusedError))
    assert len(calls) == 4


def test_what_is_idempotent_is_retried(vt: VirtualTime) -> None:
    """The same failure is tried again where calls may run twice."""
    calls = 0

    @standard("reads", on="http", idempotent=True)
    async def read() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionResetError
        return calls

    assert vt.run(read) == 3


@pytest.mark.real(1.5)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_slow_now_and_then_is_not_cut(vt: VirtualTime, backend: str) -> None:
    """
    One call in 200 took 0.5 s beside others of 10 to 30 ms. The learned timeout, three times the p99, cut 124 of 126
    of them, for ever. Now they end, and a dependency that hangs is still cut after about a second.
    """
    ended: list[float] = []

    @standard(f"tail on {backend}", on="http", deadline=None)
    async def call(seconds: float) -> None:
        began = vt.now
        try:
            await anyio.sleep(seconds)
        finally:
            ended.append(vt.now - began)

    async def main() -> list[float]:
        for number in range(25_200):
            await call(0.5 if number % 200 == 199 else 0.01 + 0.02 * (number * 7919 % 1000) / 1000)
        with pytest.raises(TimeoutError):
            await call(1000.0)
        return ended

    *all_of_them, hung = vt.run(main, backend=backend)
    assert sum(seconds > 0.49 for seconds in all_of_them) == 126
    assert hung == pytest.approx(1.5, rel=0.02)


def test_a_dependency_that_hangs_is_cut_after_a_second(vt: VirtualTime) -> None:
    """However quick the others were: with calls of 10 to 30 ms the default timeout is at its floor."""
    began: list[float] = []

    @standard("quick", on="http")
    async def call(seconds: float) -> None:
        began.append(vt.now)
        await asyncio.sleep(seconds)

    async def main() -> float:
        for number in range(2000):
            await call(0.01 + 0.02 * (number % 100) / 100)
        with pytest.raises(resilio.CallTimeoutError, match="within 1 s"):
            await call(1000.0)
        return vt.now - began[-1]

    assert vt.run(main) == pytest.approx(1.0, abs=0.01)


def test_a_number_of_seconds_is_fixed(vt: VirtualTime) -> None:
    """`timeout=5` was a ceiling, below which the timeout was learned: after quick calls one of 4 s was cut."""
    stack = standard("fixed", on="http", timeout=5)

    @stack
    async def call(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def main() -> None:
        for _ in range(200):
            await call(0.01)
        await call(4.9)
        with pytest.raises(resilio.CallTimeoutError, match="within 5 s"):
            await call(5.1)

    vt.run(main)
    assert "fixed, 5 s" in str(stack.explain())


@pytest.mark.parametrize(
    ("given", "law", "floor", "ceiling"),
    [
        (OF_PRESET, "p99.9*3", 1.0, 10.0),
        ("p99*3", "p99*3", None, 10.0),
        ({"total": "p99*3", "ceiling": 20}, "p99*3", None, 20.0),
        ({"ceiling": 60.0}, "p99.9*3", 1.0, 60.0),
        ({"ceiling": 0.5}, "p99.9*3", 0.5, 0.5),
    ],
)
def test_the_law_of_a_timeout_is_chosen_and_shown(given: Any, law: str, floor: float | None, ceiling: float) -> None:
    """A learned timeout is asked for by a quantile, with a ceiling in a mapping; `explain()` shows which law it has."""
    stack = standard("law", on="http", timeout=given)
    config = stack.policies[-1].config
    assert (str(config.total), config.floor, config.ceiling) == (law, floor, ceiling)
    explained = str(stack.explain())
    assert f"learned, {law} of the recent successes" in explained
    assert f"total={law!r}" in explained
    assert standard("law", on="http", timeout=given) is stack


def test_a_stack_computes_the_time_of_an_attempt() -> None:
    """The preset's time is the ceiling, unless there is another; `explain()` says so, and an override takes it back."""
    stack = standard("computed", on="http", timeout=len)
    assert (stack.policies[-1].config.total, stack.policies[-1].config.ceiling) == (len, 10.0)
    assert "computed from the arguments of each call, at most 10 s" in " ".join(str(stack.explain()).split())
    wider = standard("wider", on="http", timeout={"total": len, "ceiling": 20.0, "floor": "500ms"})
    assert (wider.policies[-1].config.floor, wider.policies[-1].config.ceiling) == (0.5, 20.0)
    assert override(stack, timeout=5.0).policies[-1].config.ceiling is None
    with pytest.raises(TypeError, match=r"with timeout=.*len.*nothing can interrupt it"):
        stack(str.upper)


def test_a_timeout_beyond_the_deadline_is_noted() -> None:
    """`standard(timeout=60, deadline=2)` looked as if attempts had a minute; the deadline ends each call before."""
    explained = " ".join(str(standard("beyond", on="http", timeout=60, deadline=2).explain()).split())
    assert "timeout (6): 60 s never end an attempt, since the deadline (1) of 2 s ends the call before" in explained
    for reached in ({"timeout": 1.9, "deadline": 2}, {"deadline": 2}, {"timeout": 60, "deadline": None}):
        stack = standard(f"reached {reached}", on="http", **reached)
        assert not any("never end" in note for note in stack.explain().notes)
    alone = pipeline(deadline(2.0), timeout(2.0), timeout("p99*3", ceiling=60.0), timeout(idle=60.0))
    assert [note for note in alone.explain().notes if "never end" in note] == [
        "timeout (2): 2 s never end an attempt, since the deadline (1) of 2 s ends the call before"
    ]


def test_override_makes_a_learned_timeout_a_fixed_one() -> None:
    """Without having to take back the bounds of the law; the other options stay."""
    fixed = override(standard("models", on="model"), timeout={"total": 5.0}).policies[-1].config
    assert (fixed.total, fixed.floor, fixed.ceiling, fixed.first) == (5.0, None, None, 60.0)


def test_a_timeout_that_was_asked_for_is_not_left_out() -> None:
    """`@standard(..., timeout=0.2)` over a plain function ran on without a word; the message says what to do."""
    stack = standard("asked", on="http", timeout=0.2)

    def plain(x: int) -> int:
        return x

    def items() -> Iterator[int]:
        yield 1

    fixes = r"timeout=0\.2.*not async.*httpx\.Client\(timeout=.*'thread': True"
    for guard in (stack, lambda fn: stack.call(fn, 1), lambda fn: stack.try_call(fn, 1)):
        with pytest.raises(TypeError, match=fixes):
            guard(plain)
    with pytest.raises(TypeError, match=r"not async.*httpx"):
        stack(items)
    with pytest.raises(TypeError, match="'p99\\*3'"):
        standard("learned", on="http", timeout="p99*3")(plain)
    with pytest.raises(TypeError, match="not async"):
        override(standard("changed", on="http"), timeout=timeout(0.2))(plain)
    in_thread = standard("in a thread", on="http", timeout={"total": 5.0, "thread": True})(plain)
    assert in_thread(3) == 3
    assert "timeout" in kinds(policy_of(in_thread))


def test_what_is_left_out_of_a_default_stack_is_shown() -> None:
    """Nothing can interrupt a plain function: the default timeout is left out, and `explain()` says so."""
    guarded = standard("left out", on="http", idempotent=True)(print)
    explained = policy_of(guarded).explain()
    assert "timeout" not in kinds(policy_of(guarded))
    assert [note.partition(":")[0] for note in explained.notes] == [
        "deadline (1)",
        "retry (2)",
        "rate_limit (3)",
        "circuit_breaker (4)",
        "hedge left out",
        "timeout left out",
    ]
    assert "timeout of its own" in explained.notes[-1]
    assert "other code it bounds in its waits, retries and guarded clients" in explained.notes[0]


def test_each_law_of_a_stack_is_shown_with_its_reason(vt: VirtualTime) -> None:
    """Hedges and waits were not explained: after some calls a note for each law has its figures and what holds it."""
    stack = standard("explained", on="http", idempotent=True)

    @stack
    async def call() -> None:
        await asyncio.sleep(0.02)

    async def main() -> None:
        for _ in range(60):
            await call()

    vt.run(main)
    notes = dict(note.split(": ", 1) for note in stack.explain().notes)
    assert "a retry costs the share of a success's 0.02 s" in notes["retry (2)"]
    assert "a Retry-After of up to 60 s is kept, and spread" in notes["retry (2)"]
    assert notes["hedge (3)"].startswith("a copy starts after the p95, 0.02")
    assert "at most 5% of the calls are copied, none while calls fail or queue" in notes["hedge (3)"]
    assert "opens where next to nothing works" in notes["circuit_breaker (5)"]
    assert "10 s now, from 60 calls" in notes["timeout (7)"]


def test_limits_that_learn_are_shown_with_their_law() -> None:
    """A learnt limit was a number without a reason; a number that was given says so."""
    learnt = " ".join(pipeline(resilio.load_shed(), resilio.adaptive_limit()).explain().notes)
    assert learnt.count("rises until latency follows the calls in flight") == 2
    assert learnt.count("20 calls at a time now") == 2
    stack = pipeline(resilio.load_shed(max_concurrent=4), resilio.adaptive_limit(law="vegas"))
    given = " ".join(stack.explain().notes)
    assert "4 calls at a time, as given" in given
    assert "by the law 'vegas'" in given


def test_call_and_try_call_are_bounded(vt: VirtualTime) -> None:
    """A hanging attempt is cut at the preset's timeout, and the whole call at its deadline."""
    attempts: list[float] = []

    @standard("hangs", on=TimeoutError, idempotent=True, attempts=9, budget=None)
    async def hang() -> None:
        attempts.append(vt.now)
        await asyncio.sleep(1000)

    with pytest.raises(TimeoutError):
        vt.run(hang)
    assert vt.now <= 30.0
    assert len(attempts) >= 3


def test_it_fails_fast_behind_a_dependency_that_is_down(vt: VirtualTime) -> None:
    """After ten failures in a row the breaker opens, and retries do not go around it."""
    stack = standard("down", on=ConnectionError, attempts=1)

    @stack
    async def call() -> None:
        raise ConnectionError

    async def many() -> None:
        for _ in range(10):
            with pytest.raises(ConnectionError):
                await call()
        with pytest.raises(CircuitOpenError):
            await call()

    vt.run(many)


def test_a_sync_function_is_guarded_by_what_can_stop_it() -> None:
    """Without the timeout and the hedge, behind the same door, breaker and bulkhead."""
    stack = whole("sync")

    @stack
    def call(x: int) -> int:
        return x + 1

    assert call(1) == 2
    guarding = policy_of(call)
    assert [policy.kind for policy in guarding.policies] == [kind for kind in ORDER if kind not in ("hedge", "timeout")]
    assert stack.snapshot().calls == 1
    assert stack.drain(timeout=0)
    with pytest.raises(resilio.RejectedError, match=r"draining|drained"):
        call.try_call(1).unwrap() if stack.health().ready else stack.call(call.__wrapped__, 1)
    stack.resume()


def test_what_is_around_a_sync_function_leaves_the_door_where_it_is() -> None:
    """
    A decorator around the stack took it apart and lost its door: calls went on after a drain, and were in no count.

    Streams too are guarded by a part of the stack.
    """
    stack = standard("fenced", on=ConnectionError, idempotent=True)
    around = bulkhead(3, name="around")
    with pytest.warns(resilio.PipelineWarning):

        @around
        @stack
        def call(x: int) -> int:
            return x

        @around
        @stack
        async def stream() -> AsyncIterator[int]:
            yield 1

    assert call(1) == 1
    assert stack.snapshot().calls == 1
    assert repr(policy_of(stack(call.__wrapped__))) == repr(stack)
    assert policy_of(stack(call.__wrapped__)).drain(timeout=0)
    assert policy_of(stream).health().reasons == ("pipeline fenced is drained",)
    with pytest.raises(resilio.RejectedError, match="draining"):
        call(1)
    stack.resume()
    assert policy_of(stream).health()
    assert call(2) == 2


def test_a_sync_function_is_called_under_what_can_stop_it() -> None:
    """`call` and `try_call` do with a function that is not decorated what they do with one that is."""
    stack = whole("called")
    assert stack.call(int, "1") == 1
    assert stack.try_call(int, "2").unwrap() == 2
    assert [policy.snapshot().calls for policy in stack.policies if policy.kind in ("timeout", "hedge")] == [0, 0]
    assert (stack.snapshot().calls, stack.snapshot().successes) == (2, 2)
    with pytest.raises(TypeError, match="acall"):
        stack.call(asyncio.sleep, 0)
    assert stack.drain(timeout=0)
    assert isinstance(stack.try_call(int, "3").error, resilio.RejectedError)
    stack.resume()


def test_a_stream_goes_through_the_stack(vt: VirtualTime) -> None:
    """An async generator has its times, and no hedge."""

    @standard("stream", on="model", idempotent=True)
    async def stream() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    async def collect() -> list[int]:
        return [item async for item in stream()]

    assert vt.run(collect) == [0, 1, 2]


def test_override_changes_one_part_and_keeps_the_state_of_the_others() -> None:
    """Another timeout for one endpoint, and the dependency's breaker for all."""
    stack = whole("shared")
    slow = override(stack, timeout=timeout(60.0), hedge=None, retry={"attempts": 5})
    assert kinds(slow) == [kind for kind in ORDER if kind != "hedge"]
    same = {policy.kind for policy in slow.policies if policy in stack.policies}
    assert same == {"fallback", "deadline", "rate_limit", "circuit_breaker", "bulkhead"}
    assert slow.policies[2].config.attempts == 5
    assert slow.policies[-1].config.total == 60.0


def test_a_variant_is_a_policy_that_is_seen() -> None:
    """It was in no list: not in metrics, not on the live page, and of no leak was anything told."""
    wider = override(bulkhead(3, name="narrow"), max_concurrent=5)
    reports = override(whole("reported"), hedge=None)
    assert {wider, reports} <= set(registry.all())
    permit = wider.acquire()
    with pytest.raises(AssertionError, match="unnamed bulkhead: inflight 1"):
        assert_no_leaks()
    permit.ignore()


def test_override_of_what_guards_a_sync_function_is_one_of_the_whole() -> None:
    """Which only a part of the stack guards; it raised an error of its own construction."""
    stack = whole("halved")
    variant = override(policy_of(stack(print)), bulkhead=None)
    assert isinstance(variant, resilio.Standard)
    assert kinds(variant) == [kind for kind in ORDER if kind != "bulkhead"]
    stacked = override(policy_of(circuit_breaker("outer")(bulkhead(3)(print))), bulkhead={"max_concurrent": 5})
    assert kinds(stacked) == ["circuit_breaker", "bulkhead"]
    assert stacked not in registry.all()  # it shows the numbers of its outermost policy, which is there


def test_override_changes_a_deadline_too() -> None:
    """Which is a policy like the others, alone and as a part; it raised an error of its own construction."""
    assert override(resilio.deadline(3.0), seconds=4.0).seconds == 4.0
    reports = override(whole("slow"), deadline={"seconds": 120.0})
    assert [policy.seconds for policy in reports.policies if isinstance(policy, resilio.Deadline)] == [120.0]


def test_override_of_a_policy_is_another_with_changed_options() -> None:
    """The state is its own, and the options that were not named are the same."""
    first = circuit_breaker("first", consecutive=3)
    other = override(first, failure_rate=0.9)
    assert (other.config.consecutive, other.config.failure_rate, other.name) == (3, 0.9, None)
    first.force_open()
    assert other.state == "closed"


@pytest.mark.parametrize("change", [{"cache": None}, {"retry": 3.0}])
def test_override_names_what_there_is_not(change: dict[str, Any]) -> None:
    """A part that is not there, or something that is no part."""
    with pytest.raises(TypeError, match=r"cache|retry"):
        override(whole("named"), **change)
    with pytest.raises(TypeError, match="policy"):
        override(3, attempts=1)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        ({"timeout": 3.0}, "timeout", {"total": 3.0}),
        ({"timeout": "3s"}, "timeout", {"total": 3.0}),
        ({"timeout": timeout(3.0)}, "timeout", {"total": 3.0}),
        ({"timeout": {"total": "3s"}}, "timeout", {"total": 3.0}),
        ({"deadline": "9s"}, "deadline", {"seconds": 9.0}),
        ({"attempts": 5, "backoff": "1s"}, "retry", {"attempts": 5, "backoff": resilio.constant(1.0)}),
        ({"max_concurrent": 7}, "bulkhead", {"max_concurrent": 7}),
        ({"rates": "50/s"}, "rate_limit", {"rates": ("50/s",)}),
    ],
)
def test_override_takes_what_standard_takes(change: dict[str, Any], kind: str, expected: dict[str, Any]) -> None:
    """`standard(..., timeout=3.0)` was right, `override(stack, timeout=3.0)` an error; a policy the other way round."""
    made = standard("made", on="http", **({"rates": "9/s"} | change))
    changed = override(standard("of which", on="http", rates="9/s"), **change)
    for stack in (made, changed):
        config = next(policy.config for policy in stack.policies if policy.kind == kind)
        assert {name: getattr(config, name) for name in expected} == expected


def test_override_takes_an_option_once() -> None:
    """As an option of the stack, or within its part."""
    with pytest.raises(TypeError, match="retry must be a mapping, as attempts is an option of this part, not None"):
        override(whole("twice"), retry=None, attempts=2)


def test_override_takes_no_policy_of_another_kind() -> None:
    """A retry in the place of a bulkhead would be neither; one with keys does what one without did."""
    stack = whole("of kinds")
    with pytest.raises(TypeError, match=r"bulkhead must be a policy of this kind, bulkhead, not <Retry"):
        override(stack, bulkhead=retry(on=OSError))
    with pytest.raises(TypeError, match="timeout must be a policy of this kind, timeout, not"):
        override(stack, timeout=pipeline(timeout(1.0), bulkhead(3)))
    per_host = keyed(lambda: bulkhead(3), key=lambda host: host)
    assert per_host in override(stack, bulkhead=per_host).policies


def test_override_says_what_may_be_meant() -> None:
    """A part that is misspelt."""
    with pytest.raises(TypeError, match=r"not 'timout' \(did you mean 'timeout'\?\)"):
        override(whole("misspelt"), timout=None)


def test_override_names_the_parts_that_can_be_changed() -> None:
    """A kind that stands twice in a pipeline does not say which of them is meant, and is not offered."""
    rooms = pipeline(timeout(1.0), circuit_breaker(), bulkhead(4), bulkhead(3))
    offered = r"^changes must name the kind of exactly one part \(circuit_breaker, timeout\), not "
    with pytest.raises(TypeError, match=offered + "'bulkhead'"):
        override(rooms, bulkhead=None)
    with pytest.raises(TypeError, match=offered + "'retry'"):
        override(rooms, retry=None)


def test_a_stack_that_is_rejected_leaves_no_names() -> None:
    """What was made of it before the mistake does not stand in the way of the corrected one."""
    with pytest.raises(ValueError, match="max_concurrent"):
        standard("second-try", on="http", max_concurrent=0)
    assert standard("second-try", on="http", max_concurrent=5, attempts=5, rates="1/s").name == "second-try"


class Response:
    """As clients have them."""

    def __init__(self, status: int) -> None:
        self.status_code = status


class ConnectError(Exception):
    """Called as that of an HTTP client."""


def failed(status: int, **more: Any) -> Exception:
    """Return an exception with a response, as clients raise it."""
    error = RuntimeError("status")
    error.response = Response(status)  # type: ignore[attr-defined]
    for name, value in more.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "verdicts"),
    [
        (ConnectionResetError(), (True, True, False)),
        (ConnectionRefusedError(), (True, True, True)),
        (TimeoutError(), (True, True, False)),
        (ConnectError(), (True, True, True)),
        (failed(500), (True, True, False)),
        (failed(429), (False, True, True)),
        (failed(404), (False, False, False)),
        (ValueError(), (False, False, False)),
        (CircuitOpenError("circuit_breaker"), (False, False, False)),
    ],
)
def test_what_failing_means_over_http(error: Exception, verdicts: tuple[bool, bool, bool]) -> None:
    """Unwell, worth another attempt, surely not done: by status, or by the name of the class."""
    http = presets.http
    assert (http.failing(error), http.momentary(error), http.unsent(error)) == verdicts  # type: ignore[operator]


def test_a_cause_says_as_much_as_the_error_around_it() -> None:
    """SDKs wrap the errors of their HTTP client."""
    outer = RuntimeError("wrapped")
    outer.__cause__ = ConnectError()
    assert presets.http.unsent(outer)  # type: ignore[operator]
    outer.__cause__.__cause__ = outer  # and a circle of causes has an end
    assert presets.http.unsent(outer)  # type: ignore[operator]


def test_responses_are_judged_as_exceptions_are() -> None:
    """Clients return a 503 unless told otherwise."""
    http = presets.http
    results = (http.failing_result, http.momentary_result, http.unsent_result)
    verdicts = {status: [bool(rule and rule(Response(status))) for rule in results] for status in (200, 429, 503)}
    assert verdicts == {200: [False, False, False], 429: [False, True, True], 503: [True, True, False]}


def test_a_quota_used_up_for_good_is_not_tried_again() -> None:
    """Models answer 429 to that too."""
    used_up = failed(429, code="insufficient_quota")
    for rule in (presets.model.momentary, presets.model.unsent):
        assert not rule(used_up)  # type: ignore[operator]
        assert rule(failed(429))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("state", "verdicts"),
    [
        ("40001", (False, True, True)),
        ("08006", (True, True, False)),
        ("53300", (True, True, True)),
        ("23505", (False, False, False)),
    ],
)
def test_what_failing_means_of_a_database(state: str, verdicts: tuple[bool, bool, bool]) -> None:
    """By the SQLSTATE of the error, or of the one that an ORM has around it."""
    inner = RuntimeError()
    inner.sqlstate = state  # type: ignore[attr-defined]
    error = RuntimeError()
    error.orig = inner  # type: ignore[attr-defined]
    database = presets.database
    for one in (inner, error):
        assert (database.failing(one), database.momentary(one), database.unsent(one)) == verdicts  # type: ignore[operator]


class OperationalError(Exception):
    """As drivers call what may have been the connection."""


@pytest.mark.parametrize(
    ("error", "verdicts"),
    [
        (ConnectionRefusedError(), (True, True, True)),
        (OperationalError(), (True, True, False)),
        (ValueError(), (False, False, False)),
        (resilio.BulkheadFullError("bulkhead", None, "full"), (False, False, False)),
    ],
)
def test_what_failing_means_of_a_database_that_gave_no_sqlstate(
    error: Exception, verdicts: tuple[bool, bool, bool]
) -> None:
    """By the type, or the name that drivers give it; what a policy rejected is none of the database's failures."""
    database = presets.database
    assert (database.failing(error), database.momentary(error), database.unsent(error)) == verdicts  # type: ignore[operator]


@pytest.mark.parametrize(("on", "clocks"), [("model", True), (ConnectionError, False)])
def test_a_stack_without_a_timeout_for_attempts(on: Any, clocks: bool) -> None:
    """What the preset says of streams stays; where it says nothing there is no timeout."""
    stack = standard(f"endless {clocks}", on=on, timeout=None)
    assert ("timeout" in [policy.kind for policy in stack.policies]) is clocks


def test_the_deadline_of_the_stack_is_known_inside(vt: VirtualTime) -> None:
    """What the call does in its own task asks it, without a context variable."""
    seen: list[float | None] = []

    @standard("known", on=ConnectionError, deadline=5.0)
    async def call() -> None:
        seen.append(resilio.remaining())
        with resilio.detached():
            seen.append(resilio.remaining())
        with resilio.deadline(1.0):
            seen.append(resilio.remaining())
        await asyncio.sleep(4.0)
        seen.append(resilio.carry(resilio.remaining)())

    vt.run(call)
    assert seen == [5.0, None, 1.0, 1.0]
    assert resilio.remaining() is None


def test_nothing_begins_after_the_deadline_of_a_call_further_out(vt: VirtualTime) -> None:
    """A guard inside of a call whose time is up rejects."""
    inner = circuit_breaker()

    @inner
    async def late() -> None:
        raise AssertionError("called")

    @resilio.deadline(1.0, tasks=False)
    async def outer() -> None:
        try:
            await asyncio.sleep(5.0)
        finally:
            with pytest.raises(DeadlineExceededError):
                await late()

    with pytest.raises(DeadlineExceededError):
        vt.run(outer)
    assert inner.snapshot().rejected == 1


class ModelError(Exception):
    """As SDKs of models raise them."""

    def __init__(self, status: int | None = None, **fields: Any) -> None:
        super().__init__()
        if status is not None:
            self.status_code = status
        vars(self).update(fields)


@pytest.mark.parametrize(
    ("error", "failing", "momentary"),
    [
        (ModelError(529), True, True),
        (ModelError(200, type="overloaded_error"), True, True),
        (ModelError(type="server_error"), True, True),
        (ModelError(429), Outcome.IGNORED, True),
        (ModelError(200, type="rate_limit_error"), Outcome.IGNORED, True),
        (ModelError(429, code="insufficient_quota"), Outcome.IGNORED, False),
        (ModelError(402, type="billing_error"), Outcome.IGNORED, False),
        (ModelError(400), Outcome.IGNORED, False),
        (ModelError(200), False, False),
        (ConnectionResetError(), True, True),
        (
            ModelError(503, request=SimpleNamespace(extensions={"resilio": SimpleNamespace(rejection=ValueError())})),
            Outcome.IGNORED,
            False,
        ),
    ],
    ids=repr,
)
def test_what_failing_means_of_a_model(error: Exception, failing: object, momentary: bool) -> None:
    """Errors in the middle of a 200 count as what they say, 4xx and rejections below an SDK say nothing of health."""
    rules: Any = presets.model
    assert rules.failing(error) is failing
    assert rules.momentary(error) is momentary
    assert not rules.unsent(error) or error.__dict__.get("status_code") == 429


@pytest.mark.parametrize("on", ["http", "model"])
def test_the_stacks_own_numbers_judge_as_its_parts_do(vt: VirtualTime, on: str) -> None:
    """The door of a standard stack counts a failure as one, and is asked without a warning."""
    policy = standard("judged", on=on, attempts=1)

    @policy
    def call(error: Exception | None) -> None:
        if error is not None:
            raise error

    call(None)
    with pytest.raises(ConnectionResetError):
        call(ConnectionResetError())
    assert (policy.snapshot().successes, policy.snapshot().failures) == (1, 1)


def test_the_deadline_is_named_after_its_stack() -> None:
    """Where all policies are listed, three stacks are not three lines of "unnamed"; it takes no name from others."""
    labels = [policy.label for policy in standard("named-parts", on=OSError).policies]
    assert labels == [f"named-parts.{part}" for part in ("deadline", "retry", "circuit_breaker", "bulkhead", "timeout")]
    circuit_breaker("named-parts.deadline")
