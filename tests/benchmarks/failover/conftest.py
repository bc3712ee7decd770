"""The SDKs, after their first call."""

from __future__ import annotations

import anyio
import pytest

from benchmarks.failover._catalogue import WELL, Scenario
from benchmarks.failover._play import play


@pytest.fixture(scope="session")
def warm_sdks() -> None:
    """
    Let each SDK make its first call in real time, of which virtual time waits for ten seconds only.

    That call asks in a thread what platform this is, which took longer on a busy machine.
    """
    pytest.importorskip("openai")
    pytest.importorskip("anthropic")
    from benchmarks.failover.systems.ours import Pooled

    for sdk in ("openai", "anthropic"):
        anyio.run(lambda sdk=sdk: play(Scenario("warm", "all well", WELL, (), 60.0), Pooled(sdk, sdk), stream=False))
