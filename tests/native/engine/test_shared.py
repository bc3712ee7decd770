"""One permit, one view of a call, one table of keys in several threads at once: who ends it and who asks it race."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilio import ResilienceError, bulkhead, circuit_breaker, current, events, hedge, keyed, pipeline, rate_limit
from resilio._policies.hedge import HedgeConfig
from resilio.testing import VirtualTime, assert_no_leaks
from storm.racing import at_once

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("often")]

THREADS = 4


def test_one_of_many_threads_ends_a_permit_while_others_use_it() -> None:
    """Each permit is ended once, and what is asked of it meanwhile is answered, or that it has ended."""
    policies = rate_limit("1000000/s", burst=1_000_000), circuit_breaker(consecutive=None), bulkhead(3)
    by_key = keyed(lambda: bulkhead(3), key=lambda number: number, max_keys=4, idle=1e-6)
    stack, numbers = pipeline(*policies, by_key), itertools.count()
    shared: list[Any] = [stack.try_acquire(0)]
    ended, lost = [0] * THREADS, [0]

    def end(me: int) -> None:
        for turn in range(3000):
            permit = shared[0]
            try:
                (permit.success, permit.complete, permit.ignore, permit.cancel)[turn % 4]()
            except RuntimeError:
                lost[0] += 1
                continue
            ended[me] += 1
            while not (made := stack.try_acquire(next(numbers))):
                pass
            shared[0] = made

    def use() -> None:
        for turn in range(3000):
            permit = shared[0]
            permit.answered(turn)
            permit.first_item()
            permit.phase("body")
            with contextlib.suppress(RuntimeError):
                assert permit.segments.total >= 0
            permit._within(permit.phase, "connect")

    at_once(*[lambda me=me: end(me) for me in range(THREADS)], use, use)
    shared[0].success()
    del shared[0]
    assert lost[0] > 0, "the threads did not race: each permit was one thread's own"
    counters = stack.gates[0].counters()
    ends = ("successes", "failures", "ignored", "cancelled")
    assert sum(counters[name] for name in ends) == sum(ended) + 1
    assert_no_leaks(stack, *policies)


def test_a_view_of_a_call_may_be_asked_in_other_threads_while_the_call_ends() -> None:
    """
    What it is asked for is done, or the call has ended; it never reaches into another call.

    Four thousand calls ended before a busy machine let any other thread ask, so they go on until some have.
    """
    limit = rate_limit("1000000/s", burst=1_000_000)
    stack = pipeline(limit, circuit_breaker(consecutive=None), bulkhead(100))
    views: list[Any] = [None] * 4
    over, answered, late, made = [False], [0] * THREADS, [0] * THREADS, [0]

    @stack
    async def call(number: int) -> None:
        views[number % 4] = current()
        await asyncio.sleep(0)

    async def calls() -> None:
        while made[0] < 4000 or (made[0] < 400_000 and not (any(answered) and any(late))):
            await asyncio.gather(*[call(number) for number in range(8)])
            made[0] += 8

    def make_calls() -> None:
        try:
            asyncio.run(calls())
        finally:
            over[0] = True

    def ask(me: int) -> None:
        asked: Callable[[Any], object]
        for asked in itertools.cycle(
            [
                lambda view: view.segments,
                lambda view: view.settle(limit, requests=2),
                lambda view: view.first_item(),
                lambda view: view.gates,
                lambda view: view.ignore(),
            ]
        ):
            if over[0]:
                return
            view = views[me]
            try:
                if view is not None:
                    asked(view)
                    answered[me] += 1
            except RuntimeError:  # it has ended
                late[me] += 1

    at_once(make_calls, *[lambda me=me: ask(me) for me in range(THREADS)])
    assert sum(answered) > 0
    assert sum(late) > 0, "the threads did not race: no call had ended when its view was asked"
    counters = stack.gates[0].counters()
    assert counters["successes"] + counters["ignored"] == counters["calls"] == made[0]
    assert_no_leaks(stack, limit)


def test_what_another_thread_has_settled_stays_settled_though_the_call_ends(vt: VirtualTime) -> None:
    """
    Without the GIL a call let go of its slots while another thread used them: the cost was corrected for nothing, in a
    slot whose call had ended, and the gate of a key might be freed meanwhile.
    """
    limit = rate_limit("1000000000/s", burst=1_000_000_000)  # virtual time stands still: no token comes back
    by_key = keyed(lambda: bulkhead(10), key=lambda number: number, max_keys=2)
    views: queue.SimpleQueue[Any] = queue.SimpleQueue()
    spent, begun, made = [0], [0], 300

    @pipeline(by_key, limit)
    def call(number: int) -> None:
        views.put(current())
        while begun[0] <= number:
            time.sleep(0)
        for _ in range(number % 64):  # the call ends at another point of the settling each time
            pass

    def settle() -> None:
        try:
            for number in range(made):
                spent[0] += settled(views.get(), number)
        finally:
            begun[0] = made

    def settled(view: Any, number: int) -> int:
        cost = 1
        with contextlib.suppress(RuntimeError):  # it has ended
            for cost in itertools.count(1):
                view.settle(limit, requests=cost + 1)
                begun[0] = number + 1
        return cost

    at_once(lambda: [call(number) for number in range(made)], settle)
    assert limit.available == {"requests": 1_000_000_000 - spent[0]}


def test_keys_are_looked_up_while_all_are_forgotten() -> None:
    """Whoever comes in the midst of `reset` gets the policy of before or one of after."""
    by_key = keyed(lambda: pipeline(bulkhead(100), bulkhead(100)), key=lambda number: number, max_keys=50, idle=60.0)
    made, resets = [0], [0]

    @by_key
    def call(number: int) -> int:
        return number

    def look_up() -> None:
        for number in itertools.count():
            if number >= 500 and resets[0]:  # a quick thread may be done before another has begun
                break
            with contextlib.suppress(ResilienceError):
                assert call(number % 40) == number % 40
        made[0] += 1

    def reset() -> None:
        while made[0] < THREADS:
            by_key.reset()
            resets[0] += 1

    at_once(reset, *[look_up] * THREADS)
    assert resets[0] > 0
    assert by_key.snapshot().errors == 0
    assert by_key.snapshot().inflight == 0


def test_the_first_item_counts_at_all_gates_though_a_listener_ends_the_permit(vt: VirtualTime) -> None:
    """Whoever is told by one gate that it has closed comes when no gate is still to be told of the item."""
    outer = circuit_breaker("outer")
    inner = circuit_breaker("inner", consecutive=1, open_for=1.0, max_open_for=1.0)
    stack = pipeline(outer, inner)
    inner.force_open()
    inner.reset()
    with pytest.raises(ZeroDivisionError):
        inner.call(lambda: 1 / 0)
    vt.advance(1.0)
    inner.call(lambda: None)
    held = [stack.acquire()]
    vt.advance(0.25)
    told = []

    def end(event: Any) -> None:
        told.append(event.new)
        vt.advance(5.0)
        held.pop().success()

    stop = events.subscribe(end, policy=inner)
    held[0].first_item()
    stop()
    assert told == ["closed"]
    assert outer.latency.quantile(1.0) == pytest.approx(0.25, rel=0.01)
    assert_no_leaks(outer, inner)


@pytest.mark.real(1.5)
def test_a_hedge_is_given_other_targets_while_threads_look_for_them() -> None:
    """Each look gives what one of the changes has said, whole, and nothing is gone that somebody has just found."""
    policy = hedge(idempotent=abs, after=0.1, to=[abs], discard=abs)
    gate, over = policy._gate, [False]
    seen: list[set[int]] = [set() for _ in range(THREADS)]
    same = {"max_extra": 1.0, "min_delay": 0.0, "max_hedges": 1}

    def change() -> None:
        try:
            for turn in range(10_000):
                targets = tuple(lambda number: number for _ in range(2 + turn % 2))
                after = ("p50", 1.0, (1.0, 2.0))[turn % 3]
                gate.configure(HedgeConfig(to=targets, after=after, discard=targets[0], idempotent=targets[-1], **same))
                del targets  # so that the gate releases the last ones
        finally:
            over[0] = True

    def look(me: int) -> None:
        while not over[0]:
            for _ in range(50):
                seen[me].add(len(gate.targets))
                assert gate.targets[0](me) == gate.discard(me) == gate.idempotent(me) == me
            assert all(gate.due_after(started, 0) > 0 for started in range(16))

    at_once(change, *[lambda me=me: look(me) for me in range(THREADS)])
    assert any(len(each) > 1 for each in seen), "no thread looked while the targets were changed"
    assert_no_leaks(policy)


def test_an_attribute_of_a_guarded_function_may_be_read_while_another_thread_sets_it() -> None:
    """Without the GIL the reader was given a string that had been freed: a reference of the dict's, not its own."""
    over, seen = [False], set[bool]()

    @bulkhead(1)
    def call() -> None: ...

    def name() -> None:
        try:
            for number in range(20_000):
                call.__defaults__ = (f"the value number {number}",)
                call.__qualname__ = f"call number {number}"
        finally:
            over[0] = True

    def read() -> None:
        while not over[0]:
            seen.add(call.__reduce__().startswith("call number "))  # type: ignore[attr-defined]
            seen.add(len(call.__defaults__ or ("",)) == 1)

    at_once(name, read, read)
    assert True in seen
