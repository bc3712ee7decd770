"""Answers that carry their error in a field, as those of MCP tools do: `failed_if` judges them in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from resilio import adaptive_limit, circuit_breaker, fallback, override, pipeline, retry, standard


@attrs.frozen
class ToolResult:
    """The answer of a tool."""

    is_error: bool


def is_error(answer: Any) -> bool:
    return bool(answer.is_error)


FAILED, WORKED = ToolResult(is_error=True), ToolResult(is_error=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: circuit_breaker(failed_if=is_error),
        lambda: circuit_breaker(on="http", failed_if=is_error),
        lambda: adaptive_limit(failed_if=is_error),
        lambda: retry(on="http", failed_if=is_error, attempts=1),
        lambda: fallback(on="http", failed_if=is_error, handler=lambda error: error),
        lambda: pipeline(circuit_breaker(failed_if=is_error)).policies[0],
    ],
    ids=["breaker", "breaker with a preset", "adaptive limit", "retry", "fallback", "part of a pipeline"],
)
def test_an_answer_that_says_error_is_a_failure(make: Callable[[], Any]) -> None:
    """With a preset as well, whose own rule for results it replaces; an answer without an error is none."""
    policy = make()
    policy.call(lambda: WORKED)
    worked = policy.snapshot()
    policy.call(lambda: FAILED)
    failed = policy.snapshot()
    assert (worked.successes, worked.failures) == (1, 0)
    assert (failed.successes, failed.failures) == (1, 1)


@pytest.mark.anyio
async def test_a_stack_judges_answers_by_its_parts() -> None:
    """Its breaker opens at answers that say error, its retry asks again, and the caller gets the last answer."""
    stack = standard("tools", on="http", idempotent=True, backoff=0.0)
    asked: list[int] = []
    judged = override(
        stack,
        retry={"failed_if": is_error},
        hedge={"failed_if": is_error},
        circuit_breaker={"failed_if": is_error},
    )

    async def tool() -> ToolResult:
        asked.append(1)
        return FAILED if len(asked) < 3 else WORKED

    assert await judged.acall(tool) is WORKED
    assert len(asked) == 3
    breaker = next(part for part in judged.policies if part.kind == "circuit_breaker")
    assert (breaker.snapshot().failures, breaker.snapshot().successes) == (2, 1)
