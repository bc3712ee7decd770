"""Both SDKs, each in all its wire formats."""

from __future__ import annotations

import pytest
from servers.sdks import SDKS, Sdk


@pytest.fixture(params=SDKS, ids=repr)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """An SDK; what is not installed is skipped by its name."""
    found: Sdk = request.param
    pytest.importorskip(found.wire.name)
    if found.name == "openai-responses":
        pytest.importorskip("openai.resources.responses", reason="this openai has no responses")
    if "trio" in request.node.name and not hasattr(found.module._utils._sync, "anyio"):
        pytest.skip(f"this {found.wire.name} runs on asyncio only")
    return found
