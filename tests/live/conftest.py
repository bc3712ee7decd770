"""What the tests of the live page share: a page of the policies of one test only, and a client that speaks ASGI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilio import registry
from resilio.live import _hub


@pytest.fixture(autouse=True)
def _nobody_else() -> Iterator[None]:
    """No policies but those of the test."""
    with registry.isolated():
        registry.clear()
        yield


@pytest.fixture(autouse=True)
def _no_hub_goes_on() -> Iterator[None]:
    """No thread reads for a page whose test is over: it would for three more intervals, and sample rejections."""
    yield
    for hub in list(_hub._hubs):
        thread, hub._thread = hub._thread, None
        if thread is not None:
            hub._asked.set()
            thread.join()
