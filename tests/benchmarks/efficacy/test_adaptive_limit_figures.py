"""
The adaptive limit's published efficacy, reproduced with the real gate: a few cells of R11, fewer calls, one seed.

Answers that come too late are timeouts. `python -m benchmarks.efficacy.overload` prints the whole table with more.
"""

from __future__ import annotations

import pytest

from resilio import adaptive_limit

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture
def overload(efficacy):
    """The simulation, with the library's clock in its hands, and how to put an adaptive limit before a cell."""
    guarded = efficacy("_guarded")
    with guarded.on_virtual_time():
        yield efficacy("_cells"), lambda law="default": lambda mean: guarded.Rejecting(adaptive_limit(law=law))


@pytest.mark.parametrize(
    ("workers", "cv", "load"),
    [(4, 1.0, 1.5), (10, 1.0, 0.9), (10, 2.0, 2.0), (50, 1.0, 1.2), (50, 2.0, 0.9), (50, 1.0, 3.0)],
)
def test_it_serves_what_the_best_of_all_others_serves(overload, workers, cv, load):
    """0.98 of the best and 0.95 of the possible, less 0.01 for so few calls, and a p99 as if not busy."""
    module, limit = overload
    cell = module.Cell(workers, cv, load)
    reference = module.reference(cell, 10_000, 1)
    ours = module.figures(limit(), cell, 10_000, 1)
    assert ours.goodput >= 0.97 * reference.figures[reference.best].goodput
    assert ours.goodput >= 0.94 * min(load, 1.0)
    assert load < 1.2 or ours.p99 <= 1.5 * reference.p99


@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
@pytest.mark.parametrize(("workers", "load"), [(4, 1.2), (10, 0.9), (50, 2.0)])
def test_it_is_back_soon_after_a_slow_step(overload, workers, load):
    """Everything takes ten times as long for a while: 0.95 is served again within 200 mean times of service."""
    module, limit = overload
    assert module.returned(limit(), module.Cell(workers, 1.0, load)) <= 200


@pytest.mark.parametrize("law", ["gradient", "vegas", "aimd"])
def test_the_other_laws_have_cells_in_which_they_collapse(overload, law):
    """Why there is a default of our own: each of them serves less than 0.9 of it somewhere."""
    module, limit = overload
    worst = 1.0
    for workers in (4, 50):
        cell = module.Cell(workers, 1.0, 1.2)
        ours = module.figures(limit(), cell, 5_000, 1).goodput
        worst = min(worst, module.figures(limit(law), cell, 5_000, 1).goodput / ours)
    assert worst < 0.9
