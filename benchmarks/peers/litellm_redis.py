"""litellm's router over a Redis: usage and budgets of its deployments for all processes; answers are made up here."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would ask the internet for prices

import litellm
from litellm.types.utils import BudgetConfig

from benchmarks.micro._loops import own_code
from benchmarks.peers._redis import server

DISTRIBUTION = "litellm, Redis"
NOTES = {"fleet_limit": "a completion with a made-up answer, by its router with usage-based routing; in its own loop"}
CLOCK = {"fleet_limit": "time"}

litellm.suppress_debug_info = True
litellm.telemetry = False


async def _router(**options: Any) -> Any:
    """Make a router; with a budget it starts tasks, so it needs a running loop."""
    place = urlsplit(server())
    parameters = {"model": "openai/gpt-4o-mini", "api_key": "key", "mock_response": "yes", "rpm": 10**6}
    return litellm.Router(
        model_list=[{"model_name": "model", "litellm_params": parameters}],
        redis_host=place.hostname,
        redis_port=place.port,
        num_retries=0,
        **options,
    )


def _completing(f: Any, **options: Any) -> Any:
    loop, messages = asyncio.new_event_loop(), [{"role": "user", "content": "?"}]
    router = loop.run_until_complete(_router(**options))

    def complete() -> Any:
        loop.run_until_complete(router.acompletion(model="model", messages=messages))
        return f()

    return own_code(complete)


def fleet_limit(f: Any) -> Any:
    return _completing(f, routing_strategy="usage-based-routing-v2")


def fleet_budget(f: Any) -> Any:
    return _completing(f, provider_budget_config={"openai": BudgetConfig(time_period="1d", budget_limit=10**6)})
