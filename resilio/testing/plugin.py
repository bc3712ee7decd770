"""
The pytest plugin: fixtures, and a fresh registry for every test.

Policies made in a test leave the registry at its end. Older ones, such as those at module level, keep their names and
options, and are reset, budgets included. `resilio_reset = false` in the ini file turns this off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilio import registry
from resilio._options.scope import fleets, set_private
from resilio._registry import names
from resilio.testing._leaks import assert_no_leaks
from resilio.testing._recorder import RecordedEvents, record_events
from resilio.testing._virtual_time import VirtualTime, virtual_time

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini("resilio_reset", "Forget and reset resilio's policies after each test.", type="bool", default=True)


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001 - a hook's signature
    """Share policies with no other process: tests do not meet each other, nor a service that runs here."""
    set_private("pytest", on=True)


def pytest_unconfigure(config: pytest.Config) -> None:  # noqa: ARG001 - a hook's signature
    """End what `pytest_configure` began."""
    set_private("pytest", on=False)


@pytest.fixture(autouse=True)
def _resilio_reset(request: pytest.FixtureRequest) -> Iterator[None]:
    """Isolate the test's policies from the next test's."""
    if not request.config.getini("resilio_reset"):
        yield
        return
    known, known_fleets = dict(_hosts()), set(fleets)
    with registry.isolated():
        yield
    if fleets:
        sys.modules["resilio.sharing._fleet.fleet"].start_over(known_fleets)
    if _hosts() or known:
        sys.modules["resilio.sharing._host"].start_over(known)
    for policy in names.everything():  # budgets too: tokens spent in one test would be missing in the next
        policy._start_over()


def _hosts() -> dict[Any, Any]:
    """Return the hosts of this process; none as long as nothing is shared."""
    sharing = sys.modules.get("resilio.sharing._host")
    return {} if sharing is None else sharing.hosts


@pytest.fixture
def resilio_shared_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Real sharing for the test, with processes that it starts: `scope="host"` is a group of the test's own."""
    monkeypatch.setenv("RESILIO_SHARED_DIR", str(tmp_path / "resilio"))
    monkeypatch.setenv("RESILIO_HOST_NAME", "test")
    set_private("pytest", on=False)
    yield tmp_path / "resilio"
    set_private("pytest", on=True)


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
