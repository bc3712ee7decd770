"""
The table of outcomes is what the parts do, and what the page says.

`python tests/failures/test_outcome_table.py` writes the page anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from resilio import (
    Endpoint,
    Outcome,
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    fallback,
    hedge,
    load_shed,
    pool,
    rate_limit,
    retry,
    spend_limit,
    standard,
    timeout,
)
from resilio._failures.outcome import judge_error
from resilio._failures.outcome_table import COUNTED, COUNTERS, TABLE
from resilio.metrics._read import read_policy
from resilio.presets import Preset

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "outcomes.md"
ORDER = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.REFUSED, Outcome.IGNORED)
BY_PERMIT = ("adaptive_limit", "load_shed", "bulkhead", "rate_limit", "spend_limit")
ASYNC = ("hedge", "timeout")
MAKE: dict[str, Any] = {
    "circuit_breaker": lambda judge: circuit_breaker(on=judge, consecutive=1),
    "adaptive_limit": lambda judge: adaptive_limit(),
    "load_shed": lambda judge: load_shed(),
    "bulkhead": lambda judge: bulkhead(1),
    "rate_limit": lambda judge: rate_limit("1/day"),
    "spend_limit": lambda judge: spend_limit("1 USD/day", reserve=0.25),
    "standard": lambda judge: standard("of the table", on=of_rule(judge), attempts=1),
    "timeout": lambda judge: judged(timeout("p99*3", ceiling=9.0), judge),
    "retry": lambda judge: retry(on=judge, attempts=2, backoff=0, budget=None),
    "hedge": lambda judge: hedge(idempotent=True, on=judge),
    "fallback": lambda judge: fallback(lambda *rest: "elsewhere", on=judge),
    "pool": lambda judge: pool(None, Endpoint("a"), on=judge, each=lambda endpoint: bulkhead(9)),
}


class End(Exception):
    """What a call raises; the judge has the verdict."""


class EndWithTime(End):
    """The same of a server that names a time."""

    retry_after = 2.0


def of_rule(judge: Any) -> Preset:
    """Return a preset by which an exception is what the judge says."""
    nothing: Any = lambda error: False  # noqa: E731
    refused = lambda error: judge(error) is Outcome.REFUSED  # noqa: E731
    return Preset(failing=judge, momentary=nothing, unsent=nothing, refused=refused)


def judged(policy: Any, judge: Any) -> Any:
    """Return a policy without a rule of its own, which judges as in a client's pipeline."""
    policy._gate.judge_error = judge_error(judge)
    return policy


def rewritten() -> str:
    """Return the page with its table as it has to be."""
    head = "| part | success | failure | refused | ignored |\n|---|---|---|---|---|\n"
    rows = "".join(f"| `{row.part}` | {' | '.join(row[one] for one in ORDER)} |\n" for row in TABLE)
    rows += (
        f"| metrics | {' | '.join(', '.join(f'`{name}`' for name in COUNTERS[one].split(', ')) for one in ORDER)} |\n"
    )
    fresh = f"<!-- outcomes -->\n{head}{rows}<!-- end -->"
    return re.sub(r"<!-- outcomes -->\n.*?<!-- end -->", lambda _: fresh, PAGE.read_text(), flags=re.DOTALL)


def ended(part: str, outcome: Outcome, vt: Any, raised: type[End] = End) -> tuple[Any, int]:
    """Make one call that ends so; return the policy and the number of attempts."""
    policy, attempts = MAKE[part](lambda error: outcome), []

    def fn(*given: Any) -> str:
        attempts.append(given)
        vt.advance(0.01)
        if outcome is Outcome.SUCCESS:
            return "here"
        raise raised

    async def later(*given: Any) -> str:
        return fn(*given)

    if part in BY_PERMIT:
        permit = policy.try_acquire()
        vt.advance(0.01)
        {0: permit.success, 1: permit.failure, 2: permit.ignore, 3: permit.refused}[outcome]()
    elif part in ASYNC:

        async def main() -> None:
            await policy.try_acall(later)

        vt.run(main)
    else:
        policy.try_call(fn)
    return policy, len(attempts)


@pytest.mark.parametrize("outcome", ORDER, ids=lambda one: one.name.lower())
@pytest.mark.parametrize("part", [row.part for row in TABLE])
def test_each_part_counts_what_the_table_says(part: str, outcome: Outcome, vt: Any) -> None:
    """One call a cell. An elsewhere that answers makes a fallback's call a success; a raised one never is."""
    policy, _ = ended(part, outcome, vt)
    counted = {name: getattr(policy.snapshot(), name) for name in COUNTED[outcome]}
    assert counted == COUNTED[_counted_as(part, outcome)]
    assert policy.snapshot().inflight == 0


def _counted_as(part: str, outcome: Outcome) -> Outcome:
    if part == "fallback" and outcome in (Outcome.FAILURE, Outcome.REFUSED):
        return Outcome.SUCCESS
    # what a retry is not asked to repeat has failed
    return Outcome.FAILURE if part == "retry" and outcome is Outcome.IGNORED else outcome


@pytest.mark.parametrize("outcome", ORDER, ids=lambda one: one.name.lower())
def test_what_follows_is_what_the_table_says(outcome: Outcome, vt: Any) -> None:
    """The breaker opens on a failure alone; failures and refusals are tried again; those and latencies part there."""
    breaker, _ = ended("circuit_breaker", outcome, vt)
    assert (breaker.state == "open") is (outcome is Outcome.FAILURE)
    _, attempts = ended("retry", outcome, vt)
    assert attempts == (2 if outcome in (Outcome.FAILURE, Outcome.REFUSED) else 1)
    limit, _ = ended("rate_limit", outcome, vt)
    assert max(limit.available.values()) < 1
    assert breaker.latency.count == (1 if outcome in (Outcome.SUCCESS, Outcome.FAILURE) else 0)
    endpoints, _ = ended("pool", outcome, vt)
    held = endpoints.try_call(lambda endpoint: "again").outcome == "rejected"
    assert held is (outcome is Outcome.REFUSED)
    money, _ = ended("spend_limit", outcome, vt)
    assert money.snapshot().spend.used == (0.0 if outcome is Outcome.REFUSED else 0.25)
    learned, _ = ended("timeout", outcome, vt)
    assert learned.learned_from == (outcome is Outcome.SUCCESS)
    stack, _ = ended("standard", outcome, vt, EndWithTime)
    assert (stack.policies[2].paused > 0) is (outcome is Outcome.REFUSED)


@pytest.mark.parametrize("outcome", ORDER, ids=lambda one: one.name.lower())
@pytest.mark.parametrize("part", [row.part for row in TABLE])
def test_the_metrics_count_what_the_table_says(part: str, outcome: Outcome, vt: Any) -> None:
    """Each counter that the last row names for an outcome is one higher for its call, and no other."""
    policy, _ = ended(part, outcome, vt)
    sheet = read_policy(policy, lambda kind, name: ())
    expected = _counted_as(part, outcome)
    raised = {
        f'{name}_total{{outcome="{labels[2]}"}}' if name == "calls" else f"{name}_total"
        for (name, labels), count in sheet.counters.items()
        if name in ("calls", "refused") and count and labels[2:] != ("rejected",)
    }
    assert raised == set(COUNTERS[expected].split(", "))


@pytest.mark.parametrize("limit", [False, True])
def test_an_execution_that_raises_is_no_success_of_a_fallback(limit: bool) -> None:
    """Its exception leads to no target: the Result said failure, and the counters one success."""
    policy = fallback(lambda: "elsewhere", on=OSError) if not limit else fallback(on=OSError, handler=_raises)

    def fn() -> None:
        raise OSError if limit else KeyError

    assert policy.try_call(fn).outcome == "failure"
    assert (policy.snapshot().successes, policy.snapshot().failures) == (0, 1)


def _raises(error: Exception) -> None:
    raise KeyError


def test_the_page_is_generated() -> None:
    """The table of the docs is that of the code."""
    assert rewritten() == PAGE.read_text(), "run python tests/failures/test_outcome_table.py"


def test_outcomes_have_the_numbers_of_the_core():
    """The core hands a judge's answer on as a number, which Python and gate.h name alike."""
    header = Path(__file__).parents[2] / "src_c" / "include" / "gate.h"
    if not header.is_file():
        pytest.skip("the sources are not here")
    named = re.search(r"typedef enum \{(.*?)\} rs_outcome;", header.read_text())[1]
    assert dict(re.findall(r"RS_(\w+) = (\d)", named)) == {one.name: str(int(one)) for one in Outcome}


if __name__ == "__main__":
    PAGE.write_text(rewritten())
