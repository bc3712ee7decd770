"""What storms share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have nothing logged.

    Up to 3.12 `logging` takes a handler's lock and only then enters the block that gives it back. What interrupts a
    thread between the two leaves it taken for good, and the next thread that logs waits for ever: it hung tests of
    Ctrl-C in threads, and the storm, which throws exceptions into them.
    """
    monkeypatch.setattr(logging.getLogger("resilio"), "disabled", True)
