"""A pool of guarded clients passes all sixteen scenarios, whatever the providers and the form of the answers."""

from __future__ import annotations

import pytest

pytest.importorskip("openai")
pytest.importorskip("anthropic")

from benchmarks.failover._catalogue import SCENARIOS
from benchmarks.failover._judge import judge
from benchmarks.failover._play import play
from benchmarks.failover.systems.ours import Pooled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("warm_sdks"),
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
]
PROVIDERS = [("openai", "openai"), ("anthropic", "openai"), ("openai", "anthropic"), ("anthropic", "anthropic")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.key)
async def test_a_pool_passes(scenario, vt, anyio_backend_name):
    """The scenario as the source has it: chat completions, streamed, two deployments."""
    found = await play(scenario, Pooled())
    verdict = judge(found, scenario.checks, scenario.ideal)
    assert verdict.outcome == "pass", (verdict.reason, found)


@pytest.mark.once
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("providers", PROVIDERS[1:], ids="-".join)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.key)
async def test_a_pool_of_other_providers_passes(scenario, providers, stream, vt, anyio_backend_name):
    """The provider that fails and the one that helps out need not be of one kind, nor answers be streamed."""
    found = await play(scenario, Pooled(*providers), stream=stream)
    verdict = judge(found, scenario.checks, scenario.ideal)
    assert verdict.outcome == "pass", (verdict.reason, found)
