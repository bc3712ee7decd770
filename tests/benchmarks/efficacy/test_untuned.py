"""The cells that no default was tuned to: the same seed gives the same bytes, and each peer does what it documents."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from resilio._native import clock
from resilio.testing import virtual_time

pytestmark = pytest.mark.once

STATIC = Path(__file__).parents[3] / "docs" / "_static"

CELLS = {
    "Flaky": ("batches", "100 at a time, 12 % fail at once"),
    "Replicas": ("replicas", "3 of 8 are down for 10 s"),
    "Quota": ("quotas", "users of a model at 80 % of its quota, in bursts"),
    "Door": ("herds", "200 clients are asked to come back in 5 s"),
    "Served": ("cold", "a dependency that comes back cold, 1 client"),
    "Tiers": ("tiers", "two tiers, held up for 8 s"),
}


@pytest.fixture(scope="module")
def untuned(efficacy):
    """Gives a module of `benchmarks.efficacy.untuned`."""
    return lambda name: efficacy(f"untuned.{name}")


@pytest.fixture(scope="module")
def peers(untuned):
    """What others do by default."""
    return untuned("_baselines")


@pytest.fixture(scope="module")
def failing(untuned):
    """Makes a way to send that notes the times, and what the outcome of each request is."""

    class Failing:
        def __init__(self, *outcomes, status=503, asks=None):
            self.outcomes, self.times = iter(outcomes), []
            self.error = untuned("_cell").StatusError(status, asks)

        async def __call__(self, call):
            self.times.append(asyncio.get_running_loop().time())
            if not next(self.outcomes, False):
                raise self.error

        @property
        def waits(self):
            return [later - sooner for sooner, later in itertools.pairwise(self.times)]

    return Failing


def make(peer, send, calls=1, pause=0.0):
    """Make calls one after the other, and return which ones succeeded."""

    async def go():
        ended = []
        for _ in range(calls):
            try:
                await peer(send, None)
            except Exception:
                ended.append(False)
            else:
                ended.append(True)
            await asyncio.sleep(pause)
        return ended

    with virtual_time() as vt:
        return vt.run(go)


def fresh(run, cell):
    """Run the naive client and `standard` in a process that has run nothing else, and return what they print."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [json.dumps(pool.submit(run, cell, name, 3).result().as_json()) for name in ("naive", "standard")]


def hour():
    """Return the hour of the clock that virtual time begins after."""
    return clock.now_ns() // (3600 * 10**9)


@pytest.mark.parametrize("world", CELLS)
def test_a_cell_says_the_same_twice(untuned, world):
    """
    A cell of each world, with the naive client and `standard`: the same seed gives the same bytes.

    In processes of their own, as virtual time begins at the next full hour each time: seconds are floats, and the last
    bit of a later one may change which of two calls is first.
    """
    cells, run = untuned("cells").CELLS, untuned("_run").run
    cell = next(cell for cell in cells if (cell.family, cell.name) == CELLS[world])
    assert cell.world.func.__name__ == world
    shorter = min(cell.load.seconds, cell.since + (200.0 if world == "Quota" else 2.0))
    cell = dataclasses.replace(cell, load=dataclasses.replace(cell.load, seconds=shorter))
    begun = None
    while begun != hour():  # the two have to begin in the same one
        begun = hour()
        first, again = fresh(run, cell), fresh(run, cell)
    assert first == again
    assert json.loads(first[0])["calls"] > 0


def test_half_of_the_cells_are_drawn_and_no_two_have_the_same_name(untuned):
    """At least sixty, every family of the declared ones is drawn from as well, and a seed draws the same again."""
    cells = untuned("cells")
    drawn = cells.drawn(1)
    names = [str(cell) for cell in (*cells.CELLS, *drawn)]
    assert len(cells.CELLS) >= 30
    assert len(drawn) >= 30
    assert len(set(names)) == len(names)
    assert set(cells.families(drawn)) == set(cells.families(cells.CELLS))
    assert [str(cell) for cell in cells.drawn(1)] == [str(cell) for cell in drawn]


def test_a_server_cell_meets_the_seven_baselines(untuned):
    """Under twice what four workers can serve, those that drop what waits too long answer what is possible."""
    cell = next(cell for cell in untuned("cells").CELLS if cell.family == "CPU-bound" and cell.overloaded)
    cell = dataclasses.replace(cell, load=dataclasses.replace(cell.load, seconds=6.0))
    run = untuned("_run").run
    assert run(cell, "nothing").answered < 0.01
    assert run(cell, "CoDel-FB").answered == pytest.approx(cell.oracle, abs=0.05)


def test_the_naive_client_tries_three_times_at_once(peers, failing):
    """Whatever the failure was; an attempt may take ten seconds."""
    send = failing(status=404)
    assert make(peers.Naive(), send) == [False]
    assert send.waits == [0.0, 0.0]


def test_envoy_retries_once_within_25_ms_and_three_calls_at_a_time(peers, failing):
    """A burst of ten failures: three are tried again. A 429 is not."""
    send = failing()
    make(peers.Envoy(1), send)
    assert len(send.times) == 2
    assert 0 <= send.waits[0] <= 0.025
    assert (make(peers.Envoy(1), throttled := failing(status=429)), len(throttled.times)) == ([False], 1)

    async def burst(peer, send):
        await asyncio.gather(*(peer(send, None) for _ in range(10)), return_exceptions=True)

    with virtual_time() as vt:
        vt.run(burst, peers.Envoy(1), many := failing())
    assert len(many.times) == 13


def test_grpc_waits_from_a_tenth_and_stops_at_half_of_its_tokens(peers, failing):
    """Four attempts, the waits doubled within 20 %; the second call finds six tokens, and its failure leaves five."""
    send = failing()
    make(peers.Grpc(1), send, calls=2, pause=10.0)
    assert len(send.times) == 5
    for wait, middle in zip(send.waits[:3], (0.1, 0.2, 0.4), strict=True):
        assert 0.8 * middle <= wait <= 1.2 * middle


def test_aws_pays_14_tokens_for_a_retry_and_5_for_one_after_a_throttle(peers, failing):
    """500 tokens are 17 failing calls of two retries and one of one; a success gives back what its retry took."""
    send = failing()
    peer = peers.AWS(1)
    make(peer, send, calls=30)
    assert (peer.tokens, len(send.times)) == (500 - 35 * 14, 30 + 35)
    fresh = peers.AWS(1)
    assert make(fresh, failing(False, True)) == [True]
    assert fresh.tokens == 500
    make(fresh, throttled := failing(status=429))
    assert fresh.tokens == 500 - 2 * 5
    assert throttled.waits[0] <= 1.0
    assert throttled.waits[1] <= 2.0


@pytest.mark.parametrize(("asks", "low", "high"), [(3.0, 3.0, 3.0), (60.0, 5.0, 5.1)])
def test_aws_obeys_a_retry_after_up_to_five_seconds_beyond_its_own_wait(peers, failing, asks, low, high):
    """Three seconds are waited; of a minute, no more than five and the wait that was drawn."""
    make(peers.AWS(1), send := failing(asks=asks))
    assert all(low <= wait <= high for wait in send.waits)


def test_polly_obeys_retry_after_exactly_and_opens_at_ten_in_a_hundred(peers, failing):
    """Of a hundred requests ten fail: the next is rejected for five seconds, then there is a probe."""
    make(peers.Polly(1), send := failing(asks=1.5))
    assert send.waits == pytest.approx([1.5] * 3)
    make(peers.Polly(1), send := failing())
    assert len(send.times) == 4
    assert sum(send.waits) < 30.0
    peer = peers.Polly(1)
    assert all(make(peer, send := failing(*([True] * 90), *([False, True] * 10)), calls=90))
    peer.seen.extend((0.0, True) for _ in range(9))
    peer.failed = 9
    assert make(peer, send := failing(status=503), calls=2) == [False, False]
    assert len(send.times) == 1


def test_resilience4j_waits_half_a_second_and_opens_at_fifty_of_a_hundred(peers, failing):
    """Three attempts half a second apart; after a hundred failures the breaker is open for a minute."""
    peer = peers.Resilience4j()
    make(peer, send := failing(), calls=34)
    assert send.waits[:2] == [0.5, 0.5]
    assert len(send.times) == 100
    make(peer, send := failing(), calls=10)
    assert len(send.times) == 0


@pytest.mark.parametrize(("name", "longest"), [("OpenAI", [0.5, 1.0]), ("Tenacity", [1.0, 2.0, 4.0, 8.0, 16.0])])
def test_clients_of_models_wait_longer_each_time(peers, failing, name, longest):
    """The SDK draws the last quarter of a wait only, tenacity all of it."""
    make(getattr(peers, name)(1), send := failing())
    assert len(send.waits) == len(longest)
    for wait, most in zip(send.waits, longest, strict=True):
        assert (0.75 * most if name == "OpenAI" else 0.0) <= wait <= most


@pytest.fixture(scope="module")
def a_row(untuned):
    """A cell of low traffic, run by all stacks."""
    cell = next(cell for cell in untuned("cells").CELLS if cell.name == "1 call in 10 s, 5 % fail")
    return untuned("_table").rows([(cell, untuned("_run").compared(cell))])


def test_a_record_replaces_the_tables_and_leaves_the_words(untuned, a_row, tmp_path):
    """A second record gives the same bytes; what stands around the tables of the report and of the page stays."""
    report, page = tmp_path / "RESULTS.md", tmp_path / "defaults.md"
    report.write_text("# Figures\n\nmeasured\n")
    page.write_text(
        "Before.\n\n<!-- untuned: declared -->\nold\n<!-- end -->\n\n"
        "Between.\n\n<!-- untuned: drawn -->\nold\n<!-- end -->\n"
    )
    for _ in range(2):
        untuned("_record").record(a_row, 1, 2, report, page)
        written = report.read_text(), page.read_text()
    assert (report.read_text(), page.read_text()) == written
    assert written[0].startswith("# Figures\n\nmeasured\n")
    assert "## Untuned cells\n\nSeed 1 of the calls." in written[0]
    assert written[0].count("low traffic: 1 call in 10 s, 5 % fail") == 1
    assert "old" not in written[1]
    assert "| low traffic, `standard` | 1 | - | 1 call in 10 s, 5 % fail |" in written[1]
    assert written[1].startswith("Before.\n\n<!-- untuned: declared -->\nOf 1 comparisons 0 miss a must.")
    assert "<!-- end -->\n\nBetween.\n\n" in written[1]


def test_processes_answer_as_one_does(untuned, a_row):
    """Cells travel to processes of their own; what comes back is what this one finds."""
    module = untuned("_runs")
    [elsewhere] = module.runs([a_row[0].cell], 1, 1, module.Finished(None, (1, 1)))
    assert elsewhere[1] == a_row[0].seen


def test_an_interrupted_run_continues_with_the_cells_that_are_left(untuned, a_row, tmp_path, monkeypatch):
    """A run of an hour was cut off before its end, and all was lost: now its file has the cells that were finished."""
    module, path, row = untuned("_runs"), tmp_path / "finished.jsonl", a_row[0]
    module.Finished(path, (1, 2)).add(row.cell, row.seen)
    monkeypatch.setattr(module, "alone", None)  # cannot be sent to a process to any avail
    assert list(module.runs([row.cell], 1, 1, module.Finished(path, (1, 2)))) == [(row.cell, row.seen)]
    assert module.Finished(path, (2, 2)).seen == {}
    assert module.Finished(path, (1, 1)).seen == {}


@pytest.mark.parametrize("name", ["law-budget.svg", "law-load-shed.svg", "law-retry-after.svg"])
def test_a_picture_of_a_law_is_what_the_law_does_today(untuned, name):
    """The pages show a law by a run of it: drawn again, a picture has the same bytes, or the law has changed since."""
    pictures, processes = untuned("pictures"), untuned("_runs").processes
    with processes(1) as pool:
        again = pool.submit(pictures.drawn, name).result()
    assert again == (STATIC / name).read_text(encoding="utf-8")


def test_only_a_run_of_all_cells_is_recorded(untuned, capsys):
    """Otherwise the report would lose the cells that were left out."""
    with pytest.raises(SystemExit):
        untuned("__main__").main(["--record", "--family", "low traffic"])
    assert "--record is for a run of all cells" in capsys.readouterr().err
