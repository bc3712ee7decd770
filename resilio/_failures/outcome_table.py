"""
The table of outcomes: what each part does with a success, a failure, a refusal, and a call that is ignored.

The page `docs/reference/outcomes.md` is generated from it. `tests/failures/test_outcome_table.py` makes a call for each
row and outcome, and compares the counters.
"""

from __future__ import annotations

from typing import Any

import attrs

from resilio._failures.outcome import Outcome

__all__ = ["COUNTED", "COUNTERS", "TABLE", "Row"]

COUNTED: dict[Outcome, dict[str, int]] = {
    Outcome.SUCCESS: {"successes": 1, "failures": 0, "ignored": 0, "refused": 0},
    Outcome.FAILURE: {"successes": 0, "failures": 1, "ignored": 0, "refused": 0},
    Outcome.REFUSED: {"successes": 0, "failures": 0, "ignored": 1, "refused": 1},
    Outcome.IGNORED: {"successes": 0, "failures": 0, "ignored": 1, "refused": 0},
}
"""What each outcome adds to the counters of every part; latencies are those of successes and failures."""


@attrs.frozen
class Row:
    """
    What one part does, in a few words for each outcome.

    Attributes:
        part: The kind of its policy.
    """

    part: str
    success: str
    failure: str
    refused: str
    ignored: str

    def __getitem__(self, outcome: Outcome) -> str:
        text: Any = getattr(self, outcome.name.lower())
        return str(text)


TABLE: tuple[Row, ...] = (
    Row("circuit_breaker", "evidence; closes it", "evidence; opens it", "-; no probe before Retry-After", "-"),
    Row("adaptive_limit", "a sample", "a drop", "a drop", "-"),
    Row("load_shed", "a sample", "a sample if it was slow", "-", "-"),
    Row("bulkhead", "permit back", "permit back", "permit back", "permit back"),
    Row("rate_limit", "tokens spent", "tokens spent", "tokens spent", "tokens spent"),
    Row("standard", "-", "-", "Retry-After shuts its door", "-"),
    Row("spend_limit", "charged", "charged", "costs nothing", "charged"),
    Row("timeout", "a sample", "its ceiling, if time was up", "-", "-"),
    Row(
        "retry",
        "deposit",
        "again, if the budget allows",
        "again, not before Retry-After; no deposit",
        "passes, as a failure",
    ),
    Row("hedge", "wins; a sample", "a copy starts; does not win", "as a failure, no sample", "ends the race"),
    Row("fallback", "passes", "next target", "next target", "passes"),
    Row("pool", "a sample", "30 medians; Retry-After holds", "holds; no sample", "the median at least"),
)
"""The rows. A hyphen: nothing is learnt."""
COUNTERS = Row(
    "metrics",
    'calls_total{outcome="success"}',
    'calls_total{outcome="failure"}',
    'calls_total{outcome="ignored"}, refused_total',
    'calls_total{outcome="ignored"}',
)
"""The counters of each part in the metrics, after "resilio_"."""
