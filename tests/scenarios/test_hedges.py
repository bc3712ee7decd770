"""The numbered scenarios of hedged calls: what others got wrong, one promise each."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import random

import anyio
import pytest
from measured import measured

from resilio import RetryBudget, bulkhead, circuit_breaker, current, hedge, pipeline, retry
from resilio._native.strategies import HedgeGate
from resilio._policies.hedge import HedgeConfig
from resilio.errors import BulkheadFullError, CircuitOpenError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def slowly(seen, *, copy=0.01, primary=10.0, cleanup=0.0):
    """Return a function whose primary takes long, and which writes down what happens to it."""

    async def call():
        number = current().hedge
        seen.append((number, "begins"))
        try:
            await anyio.sleep(copy if number else primary)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(cleanup)
            seen.append((number, "cancelled"))
            raise
        return number

    return call


@BACKENDS
def test_hg01_who_cancels_the_caller_cancels_and_awaits_all_attempts(vt, backend):
    """HG-01: the caller ends after its copies, whose cleanup is over by then."""
    seen = []
    policy = measured()
    call = policy(slowly(seen, copy=10, cleanup=0.5))

    async def main():
        begun = vt.now
        with anyio.move_on_after(1):
            await call()
        assert vt.now - begun >= 1.5
        assert sorted(seen) == [(0, "begins"), (0, "cancelled"), (1, "begins"), (1, "cancelled")]

    vt.run(main, backend=backend)
    assert_no_leaks(policy)


@BACKENDS
def test_hg02_the_first_success_wins_not_the_first_end(vt, backend):
    """HG-02: a copy that fails fast does not beat a healthy primary."""
    policy = measured()

    @policy
    async def call():
        if current().hedge:
            raise ConnectionError("the copy")
        await anyio.sleep(0.5)
        return "the primary"

    async def main():
        assert await call() == "the primary"

    vt.run(main, backend=backend)
    snapshot = policy.snapshot()
    assert (snapshot.hedges, snapshot.hedge_wins, snapshot.successes, snapshot.failures) == (1, 0, 1, 0)


@BACKENDS
def test_hg03_a_primary_that_cleans_up_delays_the_winner(vt, backend):
    """HG-03: a losing primary cleans up where it runs, and the caller waits for that, as with `asyncio.timeout`."""
    seen = []
    call = measured()(slowly(seen, cleanup=0.4))

    async def main():
        assert await call() == 1
        assert vt.now == pytest.approx(0.46, abs=0.005)

    vt.run(main, backend=backend)
    assert (0, "cancelled") in seen


@BACKENDS
def test_hg03_copies_that_lose_delay_the_winner_on_trio_alone(vt, backend):
    """HG-03: on asyncio a losing copy is not waited for; trio lets no task outlive its parent."""
    seen = []
    policy = measured()
    call = policy(slowly(seen, primary=0.1, copy=10, cleanup=0.4))

    async def main():
        assert await call() == 0
        assert vt.now == pytest.approx(0.1 if backend == "asyncio" else 0.5, abs=0.005)
        await anyio.sleep(1)

    vt.run(main, backend=backend)
    assert (1, "cancelled") in seen
    assert_no_leaks(policy)


@BACKENDS
@pytest.mark.parametrize("disposal", ["sync", "async", "raising", "raising later"])
def test_hg04_results_that_come_too_late_are_disposed_of(vt, backend, disposal, caplog):
    """HG-04: of a tie, what lost is handed to `discard`, once; what that raises changes nothing."""
    opened, closed = [], []

    def discard(result):
        closed.append(result)
        if disposal == "raising":
            raise OSError("while closing")
        if disposal.endswith(("async", "later")):
            return later()
        return None

    async def later():
        await anyio.sleep(0.01)
        closed.append("closed")
        if disposal == "raising later":
            raise OSError("while closing")

    policy = measured(discard=discard)

    @policy
    async def call():
        number = current().hedge
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(0.01 if number else 10)
        opened.append(number)
        return number

    async def main():
        assert await call() == 1
        await anyio.sleep(1)

    vt.run(main, backend=backend)
    assert sorted(opened) == [0, 1]
    assert closed[0] == 0
    assert closed[1:] == (["closed"] if disposal in ("async", "raising later") else [])
    assert ("discard raised" in caplog.text) == disposal.startswith("raising")


@BACKENDS
def test_hg05_if_all_fail_the_primarys_exception_is_raised_as_it_is(vt, backend):
    """HG-05: no group and no wrapper, and nothing hung onto it."""
    first = KeyError("the primary's")
    policy = measured()

    @policy
    async def call():
        if current().hedge:
            await anyio.sleep(0.1)
            raise ConnectionError("the copy's")
        raise first

    async def main():
        with pytest.raises(KeyError) as caught:
            await call()
        assert caught.value is first
        assert first.__cause__ is None
        assert vt.now >= 0.1

    vt.run(main, backend=backend)


@BACKENDS
def test_hg06_a_primary_that_fails_starts_its_copy_at_once(vt, backend):
    """HG-06: nobody waits for the delay when the primary has failed already."""
    policy = measured(5.0)

    @policy
    async def call():
        if current().hedge == 0:
            raise ConnectionError
        return vt.now

    async def main():
        assert await call() == 0

    vt.run(main, backend=backend)
    assert policy.snapshot().hedge_wins == 1


def test_hg07_the_quantile_is_that_of_primaries_nobody_stopped(vt):
    """HG-07: with the truth of 500 ms at p90 the delay learned stays there, though every slow primary is stopped."""
    policy = hedge(idempotent=True, after="p90", max_extra=1.0)
    rng = random.Random(7)

    @policy
    async def call():
        slow = rng.random() < 0.1
        await asyncio.sleep(rng.uniform(0.5, 1.0) if slow else rng.uniform(0.01, 0.03))

    async def main():
        for _ in range(3000):
            await call()

    vt.run(main)
    snapshot = policy.snapshot()
    assert snapshot.delay is not None
    assert 0.02 <= snapshot.delay <= 0.75
    assert snapshot.hedges / snapshot.calls < 0.15


def test_hg07_stopped_primaries_are_censored_not_left_out():
    """HG-07: the law itself: stopped at 22 ms or not, a p90 of 500 ms is learned as that."""
    gate = HedgeGate(HedgeConfig(idempotent=True, after="p90", max_extra=1.0, min_delay=0.0))
    rng = random.Random(3)
    for number in range(4000):
        slow = rng.random() < 0.12
        if slow and number % 4:
            gate.learn(0.022, stopped=True)
        else:
            gate.learn(0.5 if slow else rng.uniform(0.01, 0.02))
    assert gate.delay == pytest.approx(0.5, rel=0.02)


def test_hg08_extra_load_is_a_share_of_measured_traffic(vt):
    """HG-08: of 2,000 calls that are all slow no more than 5 % and a burst of 10 are copied."""
    policy = measured(0.05, typical=0.06, max_extra=0.05)

    @policy
    async def call():
        await asyncio.sleep(0.005 if current().hedge else 0.06)

    async def main():
        for _ in range(20):
            await asyncio.gather(*(call() for _ in range(100)))

    vt.run(main)
    snapshot = policy.snapshot()
    assert snapshot.calls == 2000
    assert 50 < snapshot.hedges <= 0.05 * 2000 + 10
    assert snapshot.due["capped"] > 1000


@BACKENDS
def test_hg08_no_copies_of_what_fails_or_is_rejected(vt, backend):
    """HG-08: while more than a quarter of the primaries fail, or are rejected inside, nothing is copied."""
    policy, pool = measured(0.05), bulkhead(1)

    @pipeline(policy, pool)
    async def call():
        raise ConnectionError

    async def main():
        for full in (False, True):
            held = pool.try_acquire() if full else None
            for _ in range(40):
                with contextlib.suppress(ConnectionError, BulkheadFullError):
                    await call()
            before = policy.snapshot().hedges
            for _ in range(20):
                with contextlib.suppress(ConnectionError, BulkheadFullError):
                    await call()
            assert policy.snapshot().hedges == before
            if held:
                held.ignore()
        assert policy.snapshot().due["failing"] >= 20

        async def slow():
            await anyio.sleep(1)

        await policy.acall(slow)
        assert policy.snapshot().hedges == before

    vt.run(main, backend=backend)


@BACKENDS
def test_hg09_nothing_is_copied_before_enough_is_known(vt, backend):
    """HG-09: an empty histogram starts no copy; after 40 calls p95 does, within the bounds given."""
    policy = hedge(idempotent=True, after="p95", min_delay=0.5, max_delay=2.0, max_extra=1.0)

    @policy
    async def call(seconds):
        await anyio.sleep(0.01 if current().hedge else seconds)

    async def main():
        for _ in range(39):
            await call(0.01)
        assert policy.delay is None
        assert policy.snapshot().hedges == 0
        await call(0.01)
        assert policy.delay == 0.5
        await anyio.sleep(3600)
        assert policy.delay == 0.5
        begun = vt.now
        await call(30)
        assert vt.now - begun == pytest.approx(0.51, abs=0.005)
        for _ in range(300):
            await call(0.6)

    vt.run(main, backend=backend)
    assert 0.5 <= policy.delay <= 2.0


@BACKENDS
@pytest.mark.parametrize(
    "body",
    [
        (b"a", b"b").__iter__,
        lambda: (chunk for chunk in b"ab"),
        lambda: io.BytesIO(b"ab"),
        lambda: {"file": ("name", io.BytesIO(b"ab"))},
    ],
)
def test_hg10_what_is_gone_once_read_is_not_sent_twice(vt, backend, body):
    """HG-10: a call with an iterator, a generator or a file among its arguments is never copied."""
    policy = measured()
    calls = []

    @policy
    async def send(*, content):
        calls.append(content)
        await anyio.sleep(1)

    async def main():
        content = body()
        await send(content=content)
        if hasattr(content, "close"):
            content.close()

    vt.run(main, backend=backend)
    assert len(calls) == 1
    assert policy.snapshot().hedges_rejected == 1


@BACKENDS
def test_hg10_attempts_know_which_they_are(vt, backend):
    """HG-10: `current().hedge` is 0 in the primary and counts the copies; `attempt` is that of the retry outside."""
    seen = []

    @retry(on=ConnectionError, backoff=0.0, budget=RetryBudget(cap=10, initial=10))
    @measured([0.05, 0.05], saved=2)
    async def call():
        view = current()
        seen.append((view.attempt, view.hedge))
        if len(seen) == 1:
            await anyio.sleep(0.01)
            raise ConnectionError
        await anyio.sleep(1 if view.hedge < 2 else 0.01)
        if view.attempt == 1:
            raise ConnectionError
        return view.hedge

    async def main():
        await call()

    vt.run(main, backend=backend)
    assert seen[:2] == [(1, 0), (1, 1)]
    assert {hedge for _, hedge in seen} >= {0, 1, 2}


@BACKENDS
def test_hg10_whose_context_variables_stay(vt, backend):
    """HG-10: what the primary sets stays visible, whoever wins; a copy has a context of its own."""
    variable = contextvars.ContextVar("variable", default="before")
    seen = {}

    @measured()
    async def call():
        number = current().hedge
        seen[number] = variable.get()
        variable.set(f"set by {number}")
        await anyio.sleep(0.01 if number else 10)
        return number

    async def main():
        variable.set("the caller's")
        assert await call() == 1
        assert variable.get() == "set by 0"

    vt.run(main, backend=backend)
    assert seen[0] == "the caller's"
    assert seen[1] == "the caller's"


@BACKENDS
def test_gates_inside_shed_copies(vt, backend):
    """A copy takes no place in a queue and no probe's lease: it is rejected where there is no free permit."""
    pool = bulkhead(1, max_queued=10, max_wait=10)
    policy = measured()
    calls = []

    @pipeline(policy, pool)
    async def call():
        calls.append(current().hedge)
        await anyio.sleep(1)

    async def main():
        await call()

    vt.run(main, backend=backend)
    snapshot = policy.snapshot()
    assert calls == [0]
    assert (snapshot.hedges, snapshot.hedges_rejected) == (0, 1)
    assert pool.snapshot().rejected == 1
    assert_no_leaks(policy, pool)


@BACKENDS
def test_copies_are_no_probes(vt, backend):
    """A breaker that is half open gives its lease to a call, not to the copy of one."""
    breaker = circuit_breaker(consecutive=2, open_for=1.0, min_calls=1)
    policy = measured()
    probes = []

    @pipeline(policy, breaker)
    async def call():
        probes.append(current().hedge)
        await anyio.sleep(1)
        raise ConnectionError

    async def main():
        for _ in range(2):
            with contextlib.suppress(ConnectionError, CircuitOpenError):
                await call()
        probes.clear()
        await anyio.sleep(5)
        with contextlib.suppress(ConnectionError, CircuitOpenError):
            await call()

    vt.run(main, backend=backend)
    assert probes == [0]
    assert_no_leaks(policy, breaker)


@BACKENDS
def test_a_superseded_primary_says_nothing_to_the_gates_inside(vt, backend):
    """What we cancelled ourselves is no failure of the dependency, nor a success, and its permit goes back."""
    breaker, pool = circuit_breaker(consecutive=1), bulkhead(10)
    policy = measured(saved=2)
    call = pipeline(policy, breaker, pool)(slowly([]))

    async def main():
        for _ in range(5):
            assert await call() == 1

    vt.run(main, backend=backend)
    for gate in (breaker, pool):
        assert (gate.snapshot().successes, gate.snapshot().failures, gate.snapshot().ignored) == (5, 0, 5)
    assert breaker.state == "closed"
    assert_no_leaks(policy, breaker, pool)
