"""Every duration is a number of seconds, a text like "200ms", or a timedelta: the same three, whichever option."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import resilio
from resilio._options.fields import options_of

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
