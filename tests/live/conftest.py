"""What the tests of the live page share: a page of the policies of one test only, and a client that speaks ASGI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilio import registry


@pytest.fixture(autouse=True)
def _nobody_else() -> Iterator[None]:
    """No policies but those of the test."""
    with registry.isolated():
        registry.clear()
        yield
