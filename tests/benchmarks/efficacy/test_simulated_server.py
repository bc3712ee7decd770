"""The server of the simulations and what is written down about it, against what is known without them."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest

from resilio.testing import virtual_time


@pytest.fixture
def server(efficacy):
    """Makes a server of 100 requests a second in the event loop that runs."""
    return lambda **options: efficacy("_server").Server(100.0, random.Random(7), **options)


def test_a_server_answers_as_the_queueing_formula_says(server):
    """Poisson arrivals at half its capacity: an answer takes 1 / (100 - 50) s on average, within 5 %."""

    async def load():
        loop, queue, draw, took = asyncio.get_running_loop(), server(), random.Random(8), []

        def answered(sent):
            return lambda _: took.append(loop.time() - sent)

        for _ in range(10_000):
            await asyncio.sleep(draw.expovariate(50.0))
            queue.answer().add_done_callback(answered(loop.time()))
        await asyncio.sleep(5.0)
        return took

    with virtual_time() as vt:
        took = vt.run(load)
    assert len(took) == 10_000
    assert statistics.mean(took) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("drops_expired", [False, True])
def test_a_server_works_for_callers_who_have_gone_unless_it_drops_them(server, drops_expired):
    """A second's work that is cut off for 2 s holds up the next request, except where it is dropped."""

    async def load():
        loop, queue = asyncio.get_running_loop(), server(drops_expired=drops_expired)
        queue.cut_off(0.0, 2.0)
        old = [queue.answer() for _ in range(100)]
        await asyncio.sleep(1.999)
        await queue.answer()
        return loop.time(), sum(answer.done() for answer in old), queue.sent

    with virtual_time() as vt:
        answered, old, sent = vt.run(load)
    assert sent == 101
    assert old == (0 if drops_expired else 100)
    assert answered == pytest.approx(2.01 if drops_expired else 3.0, abs=0.05 if drops_expired else 0.4)


def test_recovery_is_where_the_first_good_window_begins(efficacy):
    """Ten calls a second, all served from 3 s after the outage: 95 % of 2 s are reached one call before that."""
    watch = efficacy("_recovery").Watch(healed=100.0)
    assert watch.begin(99.9) == -1
    for tenth in range(100):
        watch.served[watch.begin(100.0 + tenth / 10)] = tenth >= 30
    watch.look(102.0)
    assert watch.recovery is None
    watch.look(110.0)
    assert watch.recovery == pytest.approx(2.9)


def test_no_recovery_is_never(efficacy):
    """The worst of some runs is "never" if one did not recover."""
    assert efficacy("_recovery").seconds([1.0, 2.0, float("inf")]) == "2.0 / never / never"


def test_results_are_replaced_in_their_place_and_kept(efficacy, tmp_path):
    """A section replaces its namesake, sections stand in the order of their numbers, and what is before them stays."""
    results, path = efficacy("_results"), tmp_path / "RESULTS.md"
    path.write_text("# Microbenchmarks\n\nfast\n")
    assert results.kept(path) == ""
    for title, value in (("R10 jitter", "1"), ("R8 metastable failure", "2"), ("R10 jitter", "3")):
        results.record(title, results.section("About.", ["what", "seen"], [["it", value]]), path)
    text = path.read_text()
    assert text.startswith("# Microbenchmarks\n\nfast\n\n# Efficacy\n")
    assert text.index("## R8 metastable failure") < text.index("## R10 jitter")
    assert "| it | 3 |" in text
    assert "| it | 1 |" not in text
    assert text == "# Microbenchmarks\n\nfast\n" + results.kept(path)
