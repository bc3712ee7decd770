"""The load shedder's numbered scenarios: what others got wrong, one promise each."""

from __future__ import annotations

import contextlib
import random

import anyio
import anyio.lowlevel
import pytest

from resilio import OverloadedError, deadline, ignored_priorities, load_shed, priority, priority_from
from resilio.errors import DeadlineExceededError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


# ---- LS-02: priorities and headroom ----------------------------------------------------------------------------------


@pytest.mark.parametrize("low", ["sheddable", "background"])
@pytest.mark.parametrize("high", ["critical", "standard"])
def test_ls02_low_low_high_on_two_slots(vt, low, high):
    """LS-02: two unimportant calls do not take both slots: an important one is admitted, though it cannot even wait."""
    shed = load_shed(max_concurrent=2)
    with priority(low):
        first, second = shed.try_acquire(), shed.try_acquire()
    assert first
    assert (bool(second), second.reason) == (False, "reserved")
    with priority(high):
        third, fourth = shed.try_acquire(), shed.try_acquire()
    assert third
    assert (bool(fourth), fourth.reason) == (False, "full")
    for permit in (first, third):
        permit.success()
    assert_no_leaks()


@BACKENDS
def test_ls02_an_important_call_is_not_rejected_for_lack_of_slots(vt, backend):
    """LS-02: with all slots taken and the queue full of others, an important call waits, is next, and is served."""
    shed = load_shed(max_concurrent=2)
    served = []

    @shed
    async def serve(name):
        await anyio.sleep(0.1)
        served.append(name)

    async def low(name):
        with contextlib.suppress(OverloadedError):
            await serve(name)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(low, number)
            await anyio.sleep(0.05)
            with priority("critical"):
                group.start_soon(serve, "important")
            await anyio.sleep(0.16)
            assert "important" in served

    vt.run(main, backend=backend)


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
@BACKENDS
def test_ls02_a_spike_of_unimportant_calls_costs_the_important_ones_nothing(vt, backend):
    """LS-02: twelve times the usual prefetching, half as much again as can be served: users are served all the same."""
    shed = load_shed(max_concurrent=10)
    rng = random.Random(7)
    sent, served = {"critical": 0, "sheddable": 0}, {"critical": 0, "sheddable": 0}

    async def one(level):
        sent[level] += 1
        with contextlib.suppress(OverloadedError), priority(level):
            await shed.acall(anyio.sleep, rng.expovariate(100.0))
            served[level] += 1

    async def load(group, level, rate, seconds):
        until = vt.now + seconds
        while vt.now < until:
            group.start_soon(one, level)
            await anyio.sleep(rng.expovariate(rate))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(load, group, "critical", 300.0, 6.0)
            group.start_soon(load, group, "sheddable", 100.0, 2.0)
            await anyio.sleep(2.0)
            group.start_soon(load, group, "sheddable", 1200.0, 4.0)

    vt.run(main, backend=backend)
    assert sent["critical"] > 1500
    assert served["critical"] >= 0.994 * sent["critical"]
    assert served["sheddable"] < 0.8 * sent["sheddable"], "it was a spike"
    assert sum(served.values()) > 0.9 * 1000 * 4, "and what is left over goes to them"


# ---- LS-03: who may choose a priority --------------------------------------------------------------------------------


def test_ls03_a_priority_from_a_client_is_untrusted(vt):
    """LS-03: whatever a client writes into its header, its calls are standard; only who is configured to may choose."""
    shed = load_shed(max_concurrent=1)
    before = ignored_priorities()["untrusted"]

    def handle(headers, *, internal=False):
        with priority(priority_from(headers.get("x-priority"), trusted=internal)):
            answer = shed.try_acquire()
        shown = next(level for (level, _), count in seen().items() if count) if not answer else None
        if answer:
            answer.success()
        return shown

    def seen():
        return shed.rejected_by_priority

    for header in ("critical", "CRITICAL", "0", "critical\r\nx: y"):
        assert priority_from(header) == "standard"
        assert handle({"x-priority": header}) is None
    assert priority_from("critical", trusted=True) == "critical"
    assert ignored_priorities()["untrusted"] - before == 8


@BACKENDS
def test_ls03_a_clients_critical_call_overtakes_nobody(vt, backend):
    """LS-03: in a full queue a stranger's "critical" call is one of many, and an internal one is next."""
    shed = load_shed(max_concurrent=1)
    order = []

    @shed
    async def serve(name):
        await anyio.sleep(0.1)
        order.append(name)

    async def request(name, header, trusted):
        with priority(priority_from(header, trusted=trusted)):
            await serve(name)

    async def main():
        async with anyio.create_task_group() as group:
            for name, header, trusted in [
                ("running", None, False),
                ("first", None, False),
                ("stranger", "critical", False),
                ("internal", "critical", True),
            ]:
                group.start_soon(request, name, header, trusted)
                await anyio.sleep(0.01)

    vt.run(main, backend=backend)
    assert order == ["running", "internal", "first", "stranger"]


# ---- BH-06: deadlines in the queue -----------------------------------------------------------------------------------


@BACKENDS
def test_bh06_who_cannot_be_done_in_time_is_not_queued(vt, backend):
    """BH-06: a call whose wait and median exceed what is left of its deadline is rejected at admission, at once."""
    shed = load_shed(max_concurrent=1)

    @shed
    async def serve():
        await anyio.sleep(0.1)

    async def main():
        for _ in range(20):
            await serve()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(serve)
            await anyio.sleep(0.01)
            began = vt.now
            with deadline(0.3), pytest.raises(DeadlineExceededError) as info:
                await serve()
            assert vt.now == began
            assert info.value.needed > 0.5
            assert info.value.policy == "load_shed"
            with deadline(2.0):
                await serve()

    vt.run(main, backend=backend)


@BACKENDS
def test_bh06_who_cannot_be_done_in_time_any_more_is_rejected_when_its_turn_comes(vt, backend):
    """BH-06: a call that hoped for a quick turn, and whose turn comes too late to be done in time, is not begun."""
    shed = load_shed(max_concurrent=1)
    begun = []

    async def work(name, seconds):
        begun.append(name)
        await anyio.sleep(seconds)

    async def main():
        for _ in range(20):
            await shed.acall(work, "usual", 0.1)
        async with anyio.create_task_group() as group:
            group.start_soon(shed.acall, work, "long", 0.45)
            await anyio.sleep(0.01)
            with deadline(0.5):
                answer = await shed.try_acall(work, "late", 0.1)
            assert vt.now == pytest.approx(2.45), "when its turn came, and not when its time was up"
            assert (answer.error.reason, answer.called) == ("deadline", False)
            assert answer.error.needed == pytest.approx(0.1, rel=0.1)
            assert answer.error.remaining == pytest.approx(0.06, rel=0.1)
        await shed.acall(work, "after", 0.1)

    vt.run(main, backend=backend)
    assert begun[20:] == ["long", "after"]
    assert shed.rejected_by_priority == {("standard", "deadline"): 1}
    assert_no_leaks()
