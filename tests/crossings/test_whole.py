"""The matrix is whole: each registered kind, outcome, form of a call and scope is in it, a new one at once."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from crossings import test_clients, test_policies, test_pools, test_scopes
from crossings.recipes import FACTORIES, READY, REJECTING, STRATEGIES, Way
from crossings.server import ANSWERS
from crossings.stacks import FORMS, snapshots

import resilio
from resilio import Outcome, Policy, bulkhead, pipeline
from resilio._failures.outcome_table import TABLE
from resilio._native import core
from resilio._registry.kinds import known_kinds
from resilio.testing import VirtualTime

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

FEWEST = {test_policies: 3796, test_pools: 266, test_scopes: 420, test_clients: 135}
"""Pairs of the largest parts of the matrix; a new policy, form, scope or client makes more."""
EVERYWHERE = frozenset({"metrics"})
"""Rows that are no kind of policy: what reads the counters of all."""


def answer(*endpoint: object) -> int:
    """Answer, with or without an endpoint."""
    return 1


def test_each_kind_of_policy_has_a_recipe() -> None:
    """A new kind is crossed with all others, or fails here."""
    assert known_kinds() | FACTORIES == set(READY)


def test_each_gate_has_a_recipe_of_how_it_rejects() -> None:
    """All but the kinds that run a call in place of admitting it."""
    assert set(REJECTING) == set(READY) - STRATEGIES


@pytest.mark.parametrize("kind", sorted(REJECTING))
def test_a_rejecting_policy_rejects_until_it_is_let_in(vt: VirtualTime, kind: str) -> None:
    """Without that the matrix would cross policies that are only said to be full."""
    part = REJECTING[kind]()
    assert part.policy.try_call(answer).outcome == "rejected"
    part.let_in()
    assert part.policy.try_call(answer).outcome == "success"


@pytest.mark.parametrize("kind", sorted(READY))
def test_a_ready_policy_admits(vt: VirtualTime, kind: str) -> None:
    """A pool gives the function its endpoint."""

    async def later(*endpoint: object) -> int:
        return answer(*endpoint)

    async def call() -> int:
        return await READY[kind](Way(threads=False)).acall(later)

    assert vt.run(call) == 1


def test_each_class_of_policies_is_made_by_a_recipe(vt: VirtualTime) -> None:
    """A class that is exported is crossed, whatever its kind is called."""
    made = {type(READY[kind](Way())) for kind in READY}
    exported = {getattr(resilio, name) for name in resilio.__all__}
    classes = {one for one in exported if inspect.isclass(one) and issubclass(one, Policy)} - {Policy}
    assert classes <= made, classes - made


@pytest.mark.parametrize("kind", sorted(READY))
def test_each_part_of_a_named_pipeline_has_its_name(kind: str) -> None:
    """All were "unnamed" in metrics, in the log and in top. A stack keeps its own name."""
    whole = pipeline(READY[kind](Way(threads=False)), bulkhead(8), name="find")
    parts = [part for part in snapshots(whole.snapshot()) if part.kind != "pipeline"]
    names = [part.name for part in parts]
    assert len(set(names)) == len(parts)
    assert all(name.startswith(("find.", "crossing")) for name in names), names


@pytest.mark.parametrize("part", [row.part for row in TABLE])
def test_each_row_of_the_table_of_outcomes_is_of_a_part_that_is_crossed(part: str) -> None:
    """A row that is added joins: its part is crossed by its kind, or counts in each stack."""
    assert part in READY or part in EVERYWHERE


def test_each_outcome_is_an_answer_of_the_server() -> None:
    """And there is one without a response, one with a time to wait for, and one that takes too long."""
    assert {answer.outcome for answer in ANSWERS.values()} == set(Outcome)
    assert any(answer.told for answer in ANSWERS.values())


def test_each_form_of_a_call_is_used() -> None:
    """By its name, or as a decorated function, a stream or a permit."""
    forms = {name for name in vars(core.Pipeline) if name.endswith(("call", "acquire")) and not name.startswith("_")}
    assert forms - {"try_acquire"} <= set(FORMS)


@pytest.mark.parametrize("part", FEWEST, ids=lambda part: part.__name__)
def test_the_matrix_does_not_shrink(part: Any) -> None:
    """What is drawn from the registries is still found there."""
    pairs = part.PAIRS if isinstance(part.PAIRS, int) else len(part.PAIRS)
    assert pairs >= FEWEST[part]
