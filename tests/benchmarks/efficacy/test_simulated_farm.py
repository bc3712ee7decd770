"""The servers of the hedging simulation, against what is known of queues."""

from __future__ import annotations

import asyncio
import random

import pytest

from resilio.testing import virtual_time

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

MEAN = 0.01


@pytest.fixture
def farm(efficacy):
    """The module."""
    return efficacy("_farm")


async def offered(farm, dispatch, load, calls):
    """Return the mean seconds that calls take, exponential ones of 10 ms at ten servers."""
    loop, draw, took = asyncio.get_running_loop(), random.Random(5), []
    servers = farm.Farm(dispatch, stops=True)

    async def call(job, since):
        await servers.send(job)
        took.append(loop.time() - since)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(calls):
            await asyncio.sleep(draw.expovariate(load * 10 / MEAN))
            tasks.create_task(call(farm.Job([draw.expovariate(1 / MEAN)], servers.picks(draw)), loop.time()))
    return sum(took) / calls


@pytest.mark.parametrize(
    ("dispatch", "mean"),
    # M/M/1; the mean field of the power of two choices (Mitzenmacher 1996); M/M/10, Erlang's C being 0.0361.
    [("random", 0.02), ("shortest of two", 0.01266), ("central queue", 0.010072)],
)
def test_calls_take_as_long_as_the_queueing_formulas_say(farm, dispatch, mean):
    """At half of the load, within 5 %; two choices among ten servers are 3 % worse than among infinitely many."""
    with virtual_time() as vt:
        assert vt.run(offered, farm, dispatch, 0.5, 20_000) == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize(("stops", "second"), [(True, 0.005), (False, 0.011)])
@pytest.mark.parametrize("dispatch", ["random", "central queue"])
def test_a_server_that_stops_is_free_as_soon_as_nobody_waits(farm, dispatch, stops, second):
    """A call of 10 ms is given up after 4: one of 1 ms that came behind it is answered at 5, or else at 11."""

    async def give_up():
        servers, loop = farm.Farm(dispatch, stops, size=1), asyncio.get_running_loop()
        long = asyncio.create_task(servers.send(farm.Job([0.01], [0, 0])))
        dropped = asyncio.create_task(servers.send(farm.Job([0.5], [0, 0])))
        await asyncio.sleep(0)
        short = asyncio.create_task(servers.send(farm.Job([0.001], [0, 0])))
        loop.call_later(0.002 if stops else 5.0, dropped.cancel)
        loop.call_later(0.004, long.cancel)
        await asyncio.wait([short])
        return loop.time()

    expected = second if stops else second + 0.5
    with virtual_time() as vt:
        assert vt.run(give_up) == pytest.approx(expected)


@pytest.mark.parametrize("dispatch", ["random", "shortest of two"])
def test_a_copy_goes_to_another_server(farm, dispatch):
    """With three servers the second copy never meets the first one."""

    async def copies():
        servers, loop = farm.Farm(dispatch, stops=True, size=3), asyncio.get_running_loop()
        for seed in range(20):
            begin = loop.time()
            job = farm.Job([0.01, 0.01], servers.picks(random.Random(seed)))
            await asyncio.gather(servers.send(job), servers.send(job))
            assert loop.time() - begin == pytest.approx(0.01)
        assert (servers.calls, servers.copies, servers.most_extra) == (20, 20, 1.0)

    with virtual_time() as vt:
        vt.run(copies)
