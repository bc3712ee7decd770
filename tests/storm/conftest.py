"""What storms share."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Iterator

import pytest

from storm.alarms import Interrupts


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have nothing logged.

    Up to 3.12 `logging` takes a handler's lock and only then enters the block that gives it back. What interrupts a
    thread between the two leaves it taken for good, and the next thread that logs waits for ever: it hung tests of
    Ctrl-C in threads, and the storm, which throws exceptions into them.
    """
    monkeypatch.setattr(logging.getLogger("resilio"), "disabled", True)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Have the collector stand still: Python swallows a Ctrl-C that comes in one of its callbacks."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def interrupts(unlogged: None) -> Iterator[Interrupts]:
    """Install the handlers for the test."""
    interrupts = Interrupts()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    sys.unraisablehook = interrupts.note
    before = signal.signal(signal.SIGALRM, interrupts.handle), signal.signal(signal.SIGINT, interrupts.resend)
    yield interrupts
    sys.setswitchinterval(interval)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before[0])
    signal.signal(signal.SIGINT, before[1])
    sys.unraisablehook = interrupts.unraisable
