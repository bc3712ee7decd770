"""Options that change in operation: a spend limit then decides as one that was made with them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from resilio import override, registry
from resilio._policies.spend_limit.config import SpendLimitConfig
from resilio.cost import Price, Prices, SpendLimit, spend_limit
from resilio.testing import VirtualTime

CALL = SimpleNamespace(model="small", size=4000, max_tokens=100)
BEFORE: dict[str, Any] = {
    "limit": "1 USD/day",
    "prices": Prices({"small": Price(input=1, output=1, max_output=100)}),
    "reserve": "max",
}


def reserved(day: SpendLimit) -> float:
    """Return what a call to a model reserves."""
    permit = day.acquire(CALL)
    found = day.spend_now().reserved
    permit.cancel()
    return found


def state(day: SpendLimit) -> str:
    """Return the state once three quarters are spent."""
    day.spend(0.75)
    day.acquire(CALL).cancel()
    return day.state


def at_once(day: SpendLimit) -> float:
    """Return what is left in the beginning."""
    day.reset()
    return day.spend_now().left


OPTIONS: dict[str, tuple[Any, Callable[[SpendLimit], object]]] = {
    "limit": ("2 USD/day", lambda day: day.spend_now().limit),
    "prices": (Prices({"small": Price(input=9, output=9, max_output=100)}), reserved),
    "reserve": (0.25, reserved),
    "soft": (0.5, state),
    "timezone": ("Asia/Tokyo", lambda day: day.spend_now().resets_in),
    "burst": (0.5, at_once),
    "on_store_down": ("open", lambda day: day._explained()),
    "enforce": (False, lambda day: bool(day.try_acquire(SimpleNamespace(model="unknown", size=1, max_tokens=1)))),
}
"""A value of each option beside `BEFORE`, and what it changes."""


@pytest.mark.parametrize("way", ["reconfigure", "override"])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_has_changed_counts(vt: VirtualTime, option: str, way: str) -> None:
    """A limit whose snapshot showed the new options could go by the old ones."""
    value, seen = OPTIONS[option]
    other = spend_limit(**{**BEFORE, option: value})
    made = seen(other)
    assert made != seen(spend_limit(**BEFORE))
    day = spend_limit(**BEFORE)
    if way == "override":
        day = override(day, **{option: value})
    else:
        day.reconfigure(**{option: value})
    assert seen(day) == made
    assert day._gate.cell_wanted() == other._gate.cell_wanted()
    assert day._gate.fleet_cell_wanted() == other._gate.fleet_cell_wanted()
    registry.clear()


def test_each_option_is_changed() -> None:
    """A new option joins, or fails here; of the scope `tests/sharing` has what it changes."""
    assert {field.name for field in attrs.fields(SpendLimitConfig)} - {"scope"} == set(OPTIONS)
