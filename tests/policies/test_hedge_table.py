"""One table of races, on asyncio and on trio: starts, results, outcomes, counters and events are the same on both."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from measured import measured

from resilio import RetryBudget, bulkhead, current, deadline, events, hedge, pipeline, remaining, retry, standard
from resilio.errors import BulkheadFullError
from resilio.testing import VirtualTime, assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
OPTIONS = {
    "on": ConnectionError,
    "ignore": BrokenPipeError,
    "failed_if": lambda answer: getattr(answer, "status", 200) == 503,
}


class Answer:
    """What a server says."""

    def __init__(self, name: str, status: int = 200, **headers: str) -> None:
        self.name, self.status, self.headers = name, status, {"retry-after": headers.get("after")}

    def __repr__(self) -> str:
        return self.name


class Failed(ConnectionError):
    """What fails an attempt."""


class Missing(LookupError):
    """What is no failure, and no result either."""


@attrs.frozen
class Run:
    """
    What an attempt does.

    Attributes:
        lasts: Seconds.
        gives: What it returns, or raises.
        when_cancelled: What it does then: it takes "its time", "returns", or "raises" something else.
    """

    lasts: float
    gives: Any = None
    when_cancelled: str = ""


def ok(lasts: float, name: str = "ok") -> Run:
    """Return an attempt that succeeds."""
    return Run(lasts, Answer(name))


def fails(lasts: float, name: str = "failed") -> Run:
    """Return an attempt that raises a failure."""
    return Run(lasts, Failed(name))


def busy(lasts: float, after: str | None = None, name: str = "503") -> Run:
    """Return an attempt that is answered by a 503."""
    return Run(lasts, Answer(name, 503, **({} if after is None else {"after": after})))


HANGS = Run(10.0, Answer("hung"))


@attrs.frozen(kw_only=True)
class Case:
    """
    A race, and what comes of it.

    Attributes:
        runs: The primary, and its copies in order.
        options: Of the hedge.
        inside: What is inside of the hedge.
        full: Whether that has no place.
        cancelled: When the caller is.
        begun: When each attempt begins.
        ends: How the call ends, and when on asyncio and on trio, if not both at the same time.
        counted: Successes, failures and ignored of the hedge; hedges, wins and rejected ones.
        discarded: Results that are handed to `discard`.
    """

    runs: tuple[Run, ...]
    begun: list[float]
    ends: tuple[Any, ...]
    counted: tuple[int, int, int, int, int, int]
    after: Any = 0.05
    options: dict[str, Any] = attrs.field(factory=dict)
    inside: Callable[[], Any] | None = None
    full: bool = False
    cancelled: float | None = None
    discarded: tuple[str, ...] = ()


CASES = {
    "a quick primary is not copied": Case(runs=(ok(0.01),), begun=[0], ends=("ok", 0.01), counted=(1, 0, 0, 0, 0, 0)),
    "a copy wins": Case(
        runs=(HANGS, ok(0.01, "copy")), begun=[0, 0.05], ends=("copy", 0.06), counted=(1, 0, 0, 1, 1, 0)
    ),
    "a primary wins": Case(runs=(ok(0.1), HANGS), begun=[0, 0.05], ends=("ok", 0.1), counted=(1, 0, 0, 1, 0, 0)),
    "the second copy wins": Case(
        runs=(HANGS, HANGS, ok(0.01, "copy"), HANGS),
        options={"max_hedges": 3},
        begun=[0, 0.05, 0.1],
        ends=("copy", 0.11),
        counted=(1, 0, 0, 2, 1, 0),
    ),
    "a primary that fails early is copied at once": Case(
        runs=(fails(0.01), ok(0.01, "copy")), after=5, begun=[0, 0.01], ends=("copy", 0.02), counted=(1, 0, 0, 1, 1, 0)
    ),
    "a primary that fails without a wait is copied at once": Case(
        runs=(fails(0), ok(0.01, "copy")), after=5, begun=[0, 0], ends=("copy", 0.01), counted=(1, 0, 0, 1, 1, 0)
    ),
    "a primary that fails early is copied max_hedges times": Case(
        runs=(fails(0.01), Run(1.0, Answer("copy")), HANGS),
        begun=[0, 0.01],
        ends=("copy", 1.01),
        counted=(1, 0, 0, 1, 1, 0),
    ),
    "further copies have their time from then on": Case(
        runs=(fails(0.01), HANGS, ok(0.01, "copy")),
        options={"max_hedges": 3},
        begun=[0, 0.01, 0.06],
        ends=("copy", 0.07),
        counted=(1, 0, 0, 2, 1, 0),
    ),
    "an error waits for no copy that is due later": Case(
        runs=(fails(0.01), fails(0.01, "copy")),
        after=[5, 5],
        begun=[0, 0.01],
        ends=("failed", 0.02),
        counted=(0, 1, 0, 1, 0, 0),
    ),
    "all fail": Case(
        runs=(fails(0.2), fails(0.01, "copy"), fails(0.2, "copy")),
        options={"max_hedges": 2},
        begun=[0, 0.05, 0.1],
        ends=("failed", 0.3),
        counted=(0, 1, 0, 2, 0, 0),
    ),
    "a primary that fails last, where a copy is left": Case(
        runs=(fails(0.2), fails(0.01, "copy"), ok(0.01, "copy")),
        after=[0.05, 5],
        begun=[0, 0.05, 0.2],
        ends=("copy", 0.21),
        counted=(1, 0, 0, 2, 1, 0),
    ),
    "a primary that fails beside a copy": Case(
        runs=(fails(0.1), ok(0.2, "copy")), begun=[0, 0.05], ends=("copy", 0.25), counted=(1, 0, 0, 1, 1, 0)
    ),
    "a copy that fails beats no primary": Case(
        runs=(ok(0.1), fails(0.01)), begun=[0, 0.05], ends=("ok", 0.1), counted=(1, 0, 0, 1, 0, 0)
    ),
    "a primary that is rejected is not copied": Case(
        runs=(),
        inside=lambda: bulkhead(1),
        full=True,
        begun=[],
        ends=(BulkheadFullError, 0),
        counted=(0, 0, 1, 0, 0, 0),
    ),
    "a copy that is rejected": Case(
        runs=(ok(0.1),), inside=lambda: bulkhead(1), begun=[0], ends=("ok", 0.1), counted=(1, 0, 0, 0, 0, 1)
    ),
    "an exception that is no failure is the caller's at once": Case(
        runs=(Run(0.01, Missing("404")),), begun=[0], ends=("404", 0.01), counted=(1, 0, 0, 0, 0, 0)
    ),
    "an exception that is ignored is the caller's at once": Case(
        runs=(Run(0.06, BrokenPipeError("ignored")), HANGS),
        begun=[0, 0.05],
        ends=("ignored", 0.06),
        counted=(0, 0, 1, 1, 0, 0),
    ),
    "a copy's exception that is no failure wins": Case(
        runs=(HANGS, Run(0.01, Missing("404"))), begun=[0, 0.05], ends=("404", 0.06), counted=(1, 0, 0, 1, 1, 0)
    ),
    "a 503 beats no primary": Case(
        runs=(ok(0.1), busy(0.01)), begun=[0, 0.05], ends=("ok", 0.1), counted=(1, 0, 0, 1, 0, 0), discarded=("503",)
    ),
    "a 503 is copied at once": Case(
        runs=(busy(0.01), ok(0.01, "copy")),
        after=5,
        begun=[0, 0.01],
        ends=("copy", 0.02),
        counted=(1, 0, 0, 1, 1, 0),
        discarded=("503",),
    ),
    "of nothing but 503s the primary's is returned": Case(
        runs=(busy(0.01, name="first"), busy(0.01, name="second")),
        begun=[0, 0.01],
        ends=("first", 0.02),
        counted=(0, 1, 0, 1, 0, 0),
        discarded=("second",),
    ),
    "no copy before the primary's Retry-After": Case(
        runs=(busy(0.01, after="1"),), begun=[0], ends=("503", 0.01), counted=(0, 1, 0, 0, 0, 0)
    ),
    "no copy before a copy's Retry-After": Case(
        runs=(HANGS, busy(0.01, after="1"), ok(0.01, "copy")),
        options={"max_hedges": 2},
        begun=[0, 0.05, 1.06],
        ends=("copy", 1.07),
        counted=(1, 0, 0, 2, 1, 0),
        discarded=("503",),
    ),
    "a function says no": Case(
        runs=(ok(0.1),),
        options={"idempotent": lambda: False},
        begun=[0],
        ends=("ok", 0.1),
        counted=(1, 0, 0, 0, 0, 1),
    ),
    "nothing is left of the share": Case(
        runs=(fails(0.1),), options={"max_extra": 0.0}, begun=[0], ends=("failed", 0.1), counted=(0, 1, 0, 0, 0, 0)
    ),
    "a primary returns too late": Case(
        runs=(Run(10, Answer("late"), "returns"), ok(0.01, "copy")),
        begun=[0, 0.05],
        ends=("copy", 0.06),
        counted=(1, 0, 0, 1, 1, 0),
        discarded=("late",),
    ),
    "a primary's cleanup raises": Case(
        runs=(Run(10, None, "raises"), ok(0.01, "copy")),
        begun=[0, 0.05],
        ends=("copy", 0.06),
        counted=(1, 0, 0, 1, 1, 0),
    ),
    "a primary cleans up": Case(
        runs=(Run(10, None, "takes its time"), ok(0.01, "copy")),
        begun=[0, 0.05],
        ends=("copy", 1.06),
        counted=(1, 0, 0, 1, 1, 0),
    ),
    "a losing copy cleans up": Case(
        runs=(ok(0.1), Run(10, None, "takes its time")),
        begun=[0, 0.05],
        ends=("ok", 0.1, 1.1),
        counted=(1, 0, 0, 1, 0, 0),
    ),
    "the caller is cancelled": Case(
        runs=(HANGS, Run(10, None, "takes its time")),
        cancelled=0.2,
        begun=[0, 0.05],
        ends=("cancelled", 1.2),
        counted=(0, 0, 1, 1, 0, 0),
    ),
    "the caller is cancelled while copies decide": Case(
        runs=(busy(0.01), HANGS),
        cancelled=0.2,
        begun=[0, 0.01],
        ends=("cancelled", 0.2),
        counted=(0, 0, 1, 1, 0, 0),
        discarded=("503",),
    ),
    "the caller is cancelled while its primary cleans up": Case(
        runs=(Run(10, None, "takes its time"), ok(0.01, "copy")),
        cancelled=0.2,
        begun=[0, 0.05],
        ends=("cancelled", 0.2, 1.06),
        counted=(0, 0, 1, 1, 0, 0),
        discarded=("copy",),
    ),
}


class Race:
    """A case under way."""

    def __init__(self, case: Case, vt: VirtualTime) -> None:
        self.vt, self.runs = vt, case.runs
        self.shields = True
        self.begun: list[float] = []
        self.numbers: list[int] = []
        self.discarded: list[str] = []
        self.happened: list[tuple[str, Any]] = []
        self.hedge = measured(case.after, saved=3, discard=self.discard, **{**OPTIONS, **case.options})
        self.before = self.counted()
        self.inside = () if case.inside is None else (case.inside(),)
        self.held = self.inside[0].try_acquire() if case.full else None
        kinds = (events.HedgeStarted, events.HedgeWon)
        self.unsubscribe = self.hedge.on_event(
            lambda event: self.happened.append((type(event).__name__, event.number)), kinds=kinds
        )

    def counted(self) -> list[int]:
        """Return what the hedge has counted."""
        found: Any = self.hedge.snapshot()
        return [found.successes, found.failures, found.ignored, found.hedges, found.hedge_wins, found.hedges_rejected]

    def discard(self, answer: Answer) -> None:
        """Note what would be closed."""
        self.discarded.append(answer.name)

    async def attempt(self) -> Answer:
        """Be the attempt whose turn it is."""
        number = len(self.begun)
        self.begun.append(round(self.vt.now, 4))
        self.numbers.append(current().hedge)  # type: ignore[union-attr]
        run = self.runs[number]
        try:
            await anyio.sleep(run.lasts)
        except anyio.get_cancelled_exc_class():
            if run.when_cancelled == "takes its time":
                with anyio.CancelScope(shield=current().hedge > 0 or self.shields):  # type: ignore[union-attr]
                    await anyio.sleep(1)
            if run.when_cancelled == "raises":
                raise RuntimeError("while it cleaned up") from None
            if run.when_cancelled != "returns":
                raise
        if isinstance(run.gives, Exception):
            raise run.gives
        return run.gives  # type: ignore[no-any-return]

    async def main(self, cancelled: float | None) -> tuple[str, float]:
        """Return how the call ends, and when."""
        ended: Any = "cancelled"
        with anyio.move_on_after(float("inf") if cancelled is None else cancelled):
            try:
                ended = await pipeline(self.hedge, *self.inside)(self.attempt)()
            except Exception as error:
                ended = error
        now = round(self.vt.now, 3)
        await anyio.sleep(20)
        return ended, now


@BACKENDS
@pytest.mark.parametrize("name", CASES)
def test_a_race(vt: VirtualTime, backend: Any, name: str) -> None:
    """Each race of the table, told from the outside."""
    case = CASES[name]
    race = Race(case, vt)
    race.shields = backend == "trio" or case.cancelled is None
    ended, now = vt.run(race.main, case.cancelled, backend=backend)
    expected, *times = case.ends
    assert race.begun == pytest.approx(case.begun, abs=0.003)
    assert race.numbers == list(range(len(case.begun)))
    assert ended == expected or str(ended) == expected or type(ended) is expected
    assert now == pytest.approx(times[-1 if backend == "trio" else 0], abs=0.004)
    assert tuple(race.discarded) == case.discarded
    assert tuple(after - before for after, before in zip(race.counted(), race.before, strict=True)) == case.counted
    started = [("HedgeStarted", number) for number in race.numbers[1:]]
    started += [("HedgeStarted", 1)] * case.counted[5] * (case.inside is not None)
    assert race.happened == started + [("HedgeWon", len(race.numbers) - 1)] * case.counted[4]
    race.unsubscribe()
    if race.held is not None:
        race.held.ignore()
    assert_no_leaks(race.hedge, *race.inside)


@BACKENDS
def test_a_failed_hedged_call_is_a_failed_attempt(vt: VirtualTime, backend: Any) -> None:
    """What `try_acall` returns says so too: it was "success", with an error, where the call had waited for its copy."""
    policy = measured(5, on=ConnectionError)

    async def call() -> None:
        await anyio.sleep(0.01)
        raise Failed

    async def main() -> None:
        result = await policy.try_acall(call)
        assert (result.ok, result.outcome, type(result.error)) == (False, "failure", Failed)

    vt.run(main, backend=backend)
    assert policy.snapshot().hedges == 1


@BACKENDS
def test_a_copy_runs_in_its_callers_context(vt: VirtualTime, backend: Any) -> None:
    """
    A copy sees what the caller has set, an earlier attempt of the retry included, and nothing of the primary's.

    On asyncio a copy ran in the primary's context of the moment: its deadlines, spans and sessions leaked into it.
    """
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[tuple[int, str, float | None]] = []
    again = retry(on=ConnectionError, attempts=2, backoff=0.0, budget=RetryBudget(cap=10, initial=10))

    @pipeline(again, measured(saved=5, max_hedges=1))
    async def call() -> str:
        number = current().hedge  # type: ignore[union-attr]
        left = remaining()
        seen.append((number, variable.get(), None if left is None else round(left)))
        variable.set(f"set by {number}")
        if len(seen) == 1:
            await anyio.sleep(0.01)
            return "unused"
        async with deadline(3):
            await anyio.sleep(0.01 if number else 10)
        return "copy"

    async def main() -> None:
        variable.set("the caller's")
        async with deadline(60):
            await call()
            await call()

    vt.run(main, backend=backend)
    assert seen == [(0, "the caller's", 60), (0, "set by 0", 60), (1, "set by 0", 60)]


@BACKENDS
def test_budgets_and_deadlines_hold_for_copies(vt: VirtualTime, backend: Any) -> None:
    """No copy starts without a token of the retry's budget, or where it could not end before a deadline further out."""
    poor = retry(on=ConnectionError, budget=RetryBudget(cap=1, initial=0))
    begun: list[float] = []

    async def call() -> None:
        begun.append(vt.now)
        await anyio.sleep(0.2)

    async def main() -> None:
        await pipeline(poor, measured())(call)()
        assert len(begun) == 1
        slow = measured(typical=0.5)(call)

        @deadline(0.3)
        async def in_a_call() -> None:
            await slow()

        await in_a_call()
        assert len(begun) == 2

    vt.run(main, backend=backend)


@BACKENDS
def test_primaries_that_fail_before_anything_is_measured_are_counted(vt: VirtualTime, backend: Any) -> None:
    """No copy starts, and `due` says why."""
    policy = hedge(idempotent=True)

    async def call() -> None:
        raise Failed

    async def main() -> None:
        with pytest.raises(Failed):
            await policy.acall(call)

    vt.run(main, backend=backend)
    assert policy.snapshot().due["unmeasured"] == 1


@BACKENDS
def test_an_error_leaves_no_cycle(vt: VirtualTime, backend: Any) -> None:
    """The primary's exception knows its frames; what ran there is let go of with it, without the collector."""

    class Thing:
        pass

    async def call(thing: Thing) -> None:
        await anyio.sleep(0.01 if current().hedge else 0.1)  # type: ignore[union-attr]
        raise Failed

    async def main() -> None:
        policy = measured(on=ConnectionError)
        gc.collect()
        gc.disable()
        try:
            thing = Thing()
            seen = weakref.ref(thing)
            with contextlib.suppress(Failed):
                await policy.acall(call, thing)
            await anyio.sleep(1)
            del thing
            assert seen() is None, gc.get_referrers(seen())
        finally:
            gc.enable()

    vt.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize(("status", "attempts"), [(200, 1), (404, 1), (429, 2), (503, 2)])
def test_the_hedge_of_a_standard_stack_goes_by_its_preset(
    vt: VirtualTime, backend: Any, status: int, attempts: int
) -> None:
    """What another attempt may not meet starts a copy at once, and does not win; a 404 is an answer."""
    stack = standard("site", on="http", idempotent=True)
    policy: Any = next(part for part in stack.policies if part.kind == "hedge")
    policy.reconfigure(max_extra=1.0)
    for _ in range(40):
        policy._gate.learn(0.01)
    seen: list[int] = []

    async def call() -> Answer:
        seen.append(current().hedge)  # type: ignore[union-attr]
        return Answer("answer", 200 if seen[-1] else status)

    async def main() -> None:
        assert (await policy.acall(call)).status == (status if attempts == 1 else 200)

    vt.run(main, backend=backend)
    assert seen == list(range(attempts))


@BACKENDS
def test_a_cleanup_that_raises_is_logged(vt: VirtualTime, backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The copy wins, and what the superseded primary has raised is found in the log."""

    async def call() -> str:
        try:
            await anyio.sleep(0.01 if current().hedge else 10)  # type: ignore[union-attr]
        except anyio.get_cancelled_exc_class():
            raise RuntimeError("while it cleaned up") from None
        return "copy"

    async def main() -> None:
        assert await measured().acall(call) == "copy"

    vt.run(main, backend=backend)
    assert "failed while it cleaned up" in caplog.text
    assert "while it cleaned up" in str(caplog.records[0].exc_info)
