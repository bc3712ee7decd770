"""
The published simulation of backoff and jitter, with the real backoffs: fewer runs than
`python -m benchmarks.efficacy.jitter`.

Runs are seeded, so a figure changes only with the library.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

RUNS = 10


@pytest.fixture(scope="module")
def jitter(efficacy):
    """The simulation."""
    return efficacy("jitter")


@pytest.fixture(scope="module")
def seen(jitter):
    """The means of ten runs at 50 and 100 clients."""
    return {(clients, name): jitter.mean_of(name, clients, RUNS) for clients in (50, 100) for name in jitter.BACKOFFS}


# Ten runs: the mean number of calls has a standard error of about 1 %, and the time, which the last client decides, of
# 5 %; the published figures have a third of that.
CALLS, TIME = 0.03, 0.15


@pytest.mark.parametrize("clients", [50, 100])
@pytest.mark.parametrize("backoff", ["none", "exponential", "equal jitter", "full jitter", "decorrelated jitter"])
def test_time_and_calls_are_the_published_ones(jitter, seen, clients, backoff):
    """The same calls and the same time to completion, for every backoff."""
    ms, calls = jitter.PUBLISHED[clients][backoff]
    run = seen[clients, backoff]
    assert run.calls == pytest.approx(calls, rel=CALLS)
    assert run.ms == pytest.approx(ms, rel=TIME)


def test_the_order_is_the_published_one(seen):
    """At 100 clients full jitter takes the fewest calls, at most half of none, and 93 % less time than no jitter."""
    calls = {name: run.calls for (clients, name), run in seen.items() if clients == 100 and "Retry" not in name}
    assert sorted(calls, key=calls.__getitem__) == [
        "full jitter",
        "equal jitter",
        "decorrelated jitter",
        "exponential",
        "none",
    ]
    assert calls["full jitter"] <= calls["none"] / 2
    assert seen[100, "full jitter"].ms <= 0.08 * seen[100, "exponential"].ms


@pytest.mark.parametrize("clients", [50, 100])
def test_rt07_who_heeds_retry_after_takes_fewer_calls_than_full_jitter(jitter, seen, clients):
    """RT-07: a server that gives turns out is asked little more than twice by each, and sooner done."""
    run, alone = seen[clients, jitter.ORDERLY], seen[clients, "full jitter"]
    assert run.calls <= 0.5 * alone.calls
    assert run.ms <= alone.ms


def test_the_table_has_a_row_for_every_cell(jitter, capsys):
    """Each backoff at each number of clients, beside the published figures."""
    jitter.main(["--runs", "1"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 3 * len(jitter.BACKOFFS)
    assert sum("| 4,860 |" in row and "| 797 |" in row for row in rows) == 1
