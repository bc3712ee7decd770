"""The budget of a gateway under the callers of `spend`: litellm's router, with a budget for its provider, in memory."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import attrs

__all__ = ["Overspent", "litellm_budget"]


@attrs.frozen
class Overspent:
    """
    What was spent until a call was rejected.

    Attributes:
        share: All of it, as a share of the limit.

        calls: The calls that were made.
    """

    share: float
    calls: int


INPUT, OUTPUT = 1e-6, 1e-5
"""Prices of a token, in dollars."""
A_CALL = 10 * INPUT + 20 * OUTPUT
"""What its made-up answer costs: 10 tokens, answered by 20."""


async def _play(router: Any, limit: float, callers: int, seed: int) -> Overspent:
    chance, spent, calls = random.Random(seed), 0.0, 0

    async def caller() -> None:
        nonlocal spent, calls
        while spent < 3 * limit:
            takes = min(chance.lognormvariate(0.2, 0.6), 10)
            try:
                answer = await router.acompletion(
                    model="m", messages=[{"role": "user", "content": "?"}], mock_response="yes", mock_delay=takes
                )
            except ValueError:  # the budget is crossed
                return
            calls += 1
            spent += answer.usage.prompt_tokens * INPUT + answer.usage.completion_tokens * OUTPUT

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Overspent(spent / limit, calls)


def litellm_budget(callers: int, pays: int, seed: int) -> Overspent:
    """
    Return what a hundred callers spend of a budget, in real time.

    Args:
        callers: How many call, one call after the other.

        pays: The calls that the budget pays for.

        seed: Of the times that calls take.

    Raises:
        ImportError: litellm is not installed.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would ask the internet for prices
    import litellm
    from litellm.types.utils import BudgetConfig

    litellm.suppress_debug_info, litellm.telemetry = True, False
    limit = pays * A_CALL
    parameters = {"model": f"openai/made-up-{seed}", "api_key": "key", "mock_response": "yes"}
    prices = {"input_cost_per_token": INPUT, "output_cost_per_token": OUTPUT}

    async def run() -> Overspent:
        router = litellm.Router(
            model_list=[{"model_name": "m", "litellm_params": {**parameters, **prices}}],
            num_retries=0,
            provider_budget_config={"openai": BudgetConfig(time_period="1d", budget_limit=limit)},
        )
        return await _play(router, limit, callers, seed)

    return asyncio.run(run())
