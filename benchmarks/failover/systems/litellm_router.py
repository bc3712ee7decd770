"""`litellm.Router` with two deployments: as the source of the scenarios sets it up, and with all that tunes it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import attrs

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would ask the internet for prices

import litellm
from litellm.router import RetryPolicy

from benchmarks.failover._evidence import FALLBACK, PRIMARY, Answer
from benchmarks.failover._play import PROMPT, Ask, Place
from benchmarks.failover.systems._chat import STREAMED, read

__all__ = ["ROUTER", "TUNED"]

litellm.suppress_debug_info = True
litellm.telemetry = False

_BUDGET: dict[str, Any] = {"num_retries": 2, "timeout": 30.0}
_TUNED: dict[str, Any] = {
    **_BUDGET,
    "stream_timeout": 10.0,
    "allowed_fails": 1,
    "cooldown_time": 30.0,
    "retry_policy": RetryPolicy(
        TimeoutErrorRetries=0,
        RateLimitErrorRetries=2,
        InternalServerErrorRetries=2,
        BadRequestErrorRetries=0,
        ContentPolicyViolationErrorRetries=0,
    ),
}


def _deployment(name: str, url: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "key"},
    }


@attrs.frozen
class _Router:
    name: str
    options: dict[str, Any]
    has_fallback: bool = True

    @asynccontextmanager
    async def opened(self, place: Place) -> AsyncIterator[Ask]:
        """Make a router of the two endpoints; the second is the fallback for each reason that there is."""
        router = litellm.Router(
            model_list=[_deployment(PRIMARY, place.primary), _deployment(FALLBACK, place.fallback)],
            fallbacks=[{PRIMARY: [FALLBACK]}],
            context_window_fallbacks=[{PRIMARY: [FALLBACK]}],
            **self.options,
        )
        options: Any = STREAMED if place.stream else {}

        async def ask() -> Answer:
            answer = await router.acompletion(model=PRIMARY, messages=PROMPT, **options)
            return await read(answer, stream=place.stream)

        yield ask


_VERSION = f"litellm {version('litellm')}"
ROUTER = _Router(_VERSION, _BUDGET)
TUNED = _Router(f"{_VERSION}, tuned", _TUNED)
