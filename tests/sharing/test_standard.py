"""The scope of a standard stack: that of its parts, by its own name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilio import RetryBudget, configure, registry, standard
from resilio._options.scope import fleets
from resilio.sharing import Fleet, MemoryEngine, host
from resilio.testing import virtual_time

SHARED = {"rate_limit", "circuit_breaker", "bulkhead", "retry_budget"}


def made(**options: Any) -> Any:
    """A stack with all the parts that can be shared."""
    return standard("payments", on="http", rates=["100/s"], **options)


def parts(stack: Any) -> list[Any]:
    """Its parts, and the budget that they pay with."""
    return [*stack.policies, *(one.config.budget for one in stack.policies if one.kind == "retry")]


def shared(stack: Any) -> set[str]:
    """The kinds of its parts that are shared."""
    return {part.kind for part in parts(stack) if part.snapshot().sharing is not None}


def test_a_stack_of_the_host_has_shared_parts() -> None:
    """The whole has no state to share, and was rejected for it."""
    stack = made(scope="host")
    assert shared(stack) == SHARED
    assert stack.snapshot().sharing is None
    assert stack.call(int) == 0


def test_the_environment_shares_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RESILIO_SCOPE=host no stack could be made at all."""
    monkeypatch.setenv("RESILIO_SCOPE", "host")
    assert shared(made()) == SHARED - {"bulkhead"}


def by_configure(stack: Any, scope: str) -> None:
    configure({stack.name: {"scope": scope}})


def by_hand(stack: Any, scope: str) -> None:
    stack.reconfigure(scope=scope)


@pytest.mark.parametrize("change", [by_configure, by_hand])
def test_the_scope_is_changed_by_the_stack_s_own_name(change: Callable[[Any, str], None]) -> None:
    """There and back, with the state of the parts, which stay the same objects."""
    stack = made()
    before = parts(stack)
    stack.policies[2].reset()
    assert shared(stack) == set()
    change(stack, "host")
    assert (shared(stack), parts(stack), stack.config.scope) == (SHARED, before, "host")
    change(stack, "process")
    assert (shared(stack), parts(stack)) == (set(), before)


@pytest.mark.parametrize("early", [True, False])
def test_a_definition_finds_the_stack_that_configure_has_changed(early: bool) -> None:
    """Its options are the same: those of `configure` come on top, whether they were there first or not."""
    if not early:
        made()
    configure({"payments": {"scope": "host"}})
    stack = made()
    assert made() is stack
    assert shared(stack) == SHARED


def test_options_that_are_set_early_reach_the_parts() -> None:
    """`configure` before the definition changed the record of the whole, which nothing reads."""
    configure({"payments": {"attempts": 7, "max_concurrent": 5}})
    stack = made()
    kept = {part.kind: part.config for part in stack.policies}
    assert (kept["retry"].attempts, kept["bulkhead"].max_concurrent) == (7, 5)
    assert made() is stack


@pytest.mark.parametrize("names", [("payments", "payments.bulkhead"), ("payments.bulkhead", "payments")])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_set_for_a_part_counts_for_it(names: tuple[str, str], early: bool, at_once: bool) -> None:
    """In any order, in one table or in two, before the stack is made or after."""
    scopes = {"payments": {"scope": "host"}, "payments.bulkhead": {"scope": "process"}}
    if not early:
        made()
    for table in [{name: scopes[name] for name in names}] if at_once else [{name: scopes[name]} for name in names]:
        configure(table)
    assert shared(made()) == SHARED - {"bulkhead"}


def test_a_caller_s_own_budget_stays() -> None:
    """It may be that of other policies too."""
    stack = made(budget=RetryBudget("common"), scope="host")
    assert shared(stack) == SHARED - {"retry_budget"}


def test_other_options_belong_to_the_parts() -> None:
    """The error names one; a scope that does not exist changes nothing."""
    stack = made()
    with pytest.raises(TypeError, match=r"scope can be changed, not its attempts: .*'payments.retry'"):
        configure({"payments": {"attempts": 7}})
    with pytest.raises(ValueError, match="scope must be 'process', 'host', what"):
        configure({"payments": {"scope": "hots"}})
    assert shared(stack) == set()
    assert not registry.pending()


# ---- of a fleet ------------------------------------------------------------------------------------------------------

OF_FLEET = {"rate_limit", "circuit_breaker", "retry_budget"}


def fleet_of(group: Any = None) -> Fleet:
    return Fleet("shop", MemoryEngine(), is_stepped=True, group=group)


def scopes(stack: Any) -> dict[str, str]:
    """The scope that each part shares its state in."""
    found = {part.kind: part.snapshot().sharing for part in parts(stack)}
    return {kind: sharing.scope for kind, sharing in found.items() if sharing is not None}


def test_a_stack_of_a_fleet_has_the_fleets_parts() -> None:
    """Its retry budget could not be a fleet's, so no stack could: a TypeError named the budget, not the way out."""
    with virtual_time():
        stack = made(scope=fleet_of())
        assert {kind for kind, scope in scopes(stack).items() if scope == "fleet:shop"} >= OF_FLEET
        assert stack.call(int) == 0
        notes = " ".join(stack.explain().notes)
        assert "rate_limit (3): shared by 1 of fleet:shop" in notes
        assert "retry (2): of its budget the savings are each host's, the reserve is shared by 1 of fleet:shop" in notes


def test_what_a_fleet_does_not_share_is_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack is made all the same, and its explanation says which part is narrower."""
    monkeypatch.setattr(Fleet, "of_part", lambda fleet, gate: of_part(fleet, gate, "Bulkhead"))
    with virtual_time():
        group = host("shop")
        stack = made(scope=fleet_of(group))
        assert scopes(stack)["bulkhead"] == "host:shop"
        assert {kind for kind, scope in scopes(stack).items() if scope == "fleet:shop"} == OF_FLEET
        assert "bulkhead of the host: no part of fleet('shop')" in stack.explain().notes


def of_part(fleet: Any, gate: Any, without: str) -> Any:
    """The scope of a part by a fleet that has no gates of one kind."""
    name = gate.__name__ if isinstance(gate, type) else type(gate).__name__
    is_shared = hasattr(gate, "share_fleet") and not name.startswith(without)
    return fleet if is_shared else fleet.group if fleet.has_host else "process"


@pytest.mark.parametrize("change", [by_configure, by_hand])
def test_a_stack_goes_into_a_fleet_and_back(
    change: Callable[[Any, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the fleet in a file, or by the object."""
    with virtual_time():
        everywhere = fleet_of()
        monkeypatch.setitem(fleets, "shop", everywhere)
        stack = made()
        before = parts(stack)
        change(stack, "shop")
        assert {kind for kind, scope in scopes(stack).items() if scope == "fleet:shop"} >= OF_FLEET
        assert parts(stack) == before
        change(stack, "process")
        assert scopes(stack) == {}
        assert not everywhere.courier.has_ties


def test_what_is_set_for_a_part_counts_in_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a host."""
    with virtual_time():
        monkeypatch.setitem(fleets, "shop", fleet_of())
        configure({"payments": {"scope": "shop"}, "payments.circuit_breaker": {"scope": "process"}})
        assert "circuit_breaker" not in scopes(made())
