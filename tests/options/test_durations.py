"""Every duration is a number of seconds, a text like "200ms", or a timedelta: the same three, whichever option."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

import resilio
from resilio._options.fields import options_of
from resilio._options.validators import seconds_of_argument

REQUIRED: dict[str, Callable[..., Any]] = {
    "circuit_breaker": resilio.circuit_breaker,
    "rate_limit": lambda **options: resilio.rate_limit("100/s", **options),
    "bulkhead": lambda **options: resilio.bulkhead(5, max_queued=5, **{"max_wait": 1.0} | options),
    "adaptive_limit": lambda **options: resilio.adaptive_limit(max_queued=5, **{"max_wait": 1.0} | options),
    "load_shed": resilio.load_shed,
    "retry": lambda **options: resilio.retry(on=OSError, **options),
    "RetryBudget": resilio.RetryBudget,
    "hedge": lambda **options: resilio.hedge(idempotent=True, **options),
    "timeout": lambda **options: resilio.timeout(**_timeout(options)),
    "fallback": lambda **options: resilio.fallback(on=OSError, default=None, **options),
    "deadline": resilio.deadline,
    "keyed": lambda **options: resilio.keyed(resilio.circuit_breaker, key="host", **options),
    "standard": lambda **options: resilio.standard("durations", on="http", **options),
}


def _timeout(options: dict[str, Any]) -> dict[str, Any]:
    if "floor" in options:
        return {"total": "p99*3", "ceiling": 3600.0} | options
    return {"total": "p99*3"} | options if "ceiling" in options else options


def durations() -> list[tuple[str, str]]:
    """Return the policy and the name of every option whose unit is seconds."""
    records = {name: _record(getattr(resilio, name)) for name in REQUIRED}
    return [
        (name, field.name)
        for name, record in records.items()
        for field in options_of(record)
        if field.metadata.get("unit") == "seconds"
    ]


def _record(factory: Any) -> Any:
    return getattr(factory, "options_record", None) or factory.Config


def test_all_durations_are_looked_at() -> None:
    """A new policy, or an option without a unit, is missed here first."""
    found = {name for name, _ in durations()}
    assert {"circuit_breaker", "timeout", "deadline", "hedge", "standard", "keyed"} <= found


@pytest.mark.parametrize(("policy", "option"), durations())
def test_a_duration_has_three_forms(policy: str, option: str) -> None:
    """`timeout("2s")` was an error, `open_for="2s"` was not: each option had forms of its own."""
    made = [REQUIRED[policy](**{option: value}) for value in (2, 2.0, "2s", "2000ms", timedelta(seconds=2))]
    seen = [getattr(one.config, option) for one in made]
    assert seen == [seen[0]] * 5


def test_a_preset_and_a_command_take_the_same_forms() -> None:
    """`attrs.evolve(presets.http, timeout="5s")` kept the text, and every stack of it failed at its first call."""
    changed = attrs.evolve(resilio.presets.http, timeout="5s", first=timedelta(seconds=2), max_wait=0)  # type: ignore[arg-type]
    assert (changed.timeout, changed.first, changed.max_wait) == (5.0, 2.0, 0.0)
    assert [seconds_of_argument(text) for text in ("2", "2.5", "200ms", "2m")] == [2.0, 2.5, 0.2, 120.0]
    for wrong in ("0", "-1", "nan", "soon"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"the time must be .*{wrong}"):
            seconds_of_argument(wrong)
