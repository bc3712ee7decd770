"""
The pytest plugin: fixtures, and a fresh registry for every test.

Names made in a test are forgotten at its end; policies and budgets from before (module level) keep their names and
options, and start the next test as new. `resilio_reset = false` in the ini file turns that off.
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
    for policy in names.everything():  # budgets too: what one test has spent would be missing in the next
        policy._start_over()


@pytest.fixture
def resilio_virtual_time() -> Iterator[VirtualTime]:
    """Virtual time for the whole test: `vt.run(async_function)`, `vt.advance(seconds)`, `vt.now`."""
    with virtual_time() as vt:
        yield vt


@pytest.fixture
def resilio_events() -> Iterator[RecordedEvents]:
    """What all policies did during the test: changes of state, refusals, retries, ends of calls."""
    with record_events() as events:
        yield events


@pytest.fixture
def resilio_no_leaks() -> Iterator[None]:
    """Fail the test if a policy holds a permit, a place in a queue or a lease when it ends."""
    yield
    assert_no_leaks()
