"""
The pytest plugin: fixtures, and a fresh registry for every test.

Policies made in a test leave the registry at its end. Older ones, such as those at module level, keep their names and
options, and are reset, budgets included. `resilio_reset = false` in the ini file turns this off.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilio import registry
from resilio._registry import names
from resilio.testing._leaks import assert_no_leaks
from resilio.testing._recorder import RecordedEvents, record_events
from resilio.testing._virtual_time import VirtualTime, virtual_time

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini("resilio_reset", "Forget and reset resilio's policies after each test.", type="bool", default=True)


@pytest.fixture(autouse=True)
def _resilio_reset(request: pytest.FixtureRequest) -> Iterator[None]:
    """Isolate the test's policies from the next test's."""
    if not request.config.getini("resilio_reset"):
        yield
        return
    with registry.isolated():
        yield
    for policy in names.everything():  # budgets too: tokens spent in one test would be missing in the next
        policy._start_over()


@pytest.fixture
def resilio_virtual_time() -> Iterator[VirtualTime]:
    """Virtual time for the whole test: `vt.run(async_function)`, `vt.advance(seconds)`, `vt.now`."""
    with virtual_time() as vt:
        yield vt


@pytest.fixture
def resilio_events() -> Iterator[RecordedEvents]:
    """Events of all policies during the test: changes of state, rejections, retries, ends of calls."""
    with record_events() as events:
        yield events


@pytest.fixture
def resilio_no_leaks() -> Iterator[None]:
    """Fail the test if a policy holds a permit, a place in a queue or a lease when it ends."""
    yield
    assert_no_leaks()
