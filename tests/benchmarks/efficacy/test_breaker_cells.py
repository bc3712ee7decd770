"""The cells of `benchmarks.efficacy.untuned` that a breaker decides: what it rejects, nothing else answers."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.once, pytest.mark.slow]


@pytest.fixture(scope="module")
def answered(efficacy):
    """Gives the share of calls that a stack answers in a declared cell."""
    cells, run = efficacy("untuned.cells").CELLS, efficacy("untuned._run").run

    def share(name, stack="standard", seed=1):
        (cell,) = (cell for cell in cells if str(cell) == name)
        return run(cell, stack, seed).answered

    return share


@pytest.mark.parametrize(
    "cell",
    [
        "zones: a zone of two is down, 4 of 8",
        "replicas: 3 of 8 are down",
        "tenants: 40 % of the calls are a broken tenant's: the others",
        "tenants: 55 % of the calls are a broken tenant's: the others",
        "budgets: brownout: 40 % fail for 20 s",
        "batches: 100 at a time, 12 % fail at once",
    ],
)
def test_a_part_that_fails_is_not_made_a_whole_outage(answered, cell):
    """With four of eight replicas down it answered .02, where the bare call has .50, and beside a broken tenant .02."""
    assert answered(cell) >= 0.98 * answered(cell, "nothing")


@pytest.mark.parametrize(
    ("cell", "least"),
    [
        ("storms: a buffered outage of 10 s, 50 clients", 0.4),
        ("storms: a buffered outage of 10 s, 50 clients with a deadline of 1 s", 0.4),
        ("storms: a buffered outage of 10 s, 1 client", 0.9),
        ("cold: a dependency that comes back cold, 1 client", 0.6),
        ("cold: a dependency that comes back cold, 20 clients", 0.55),
        ("tiers: two tiers, held up for 8 s", 0.5),
        ("tiers: three tiers, held up for 5 s", 0.8),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_callers_who_leave_do_not_keep_a_server_down(answered, cell, least, seed):
    """A server worked for callers who had gone: nothing failed, and of 50 clients none was answered any more."""
    assert answered(cell, seed=seed) >= least
