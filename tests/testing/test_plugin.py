"""The pytest plugin: its fixtures, the fresh registry, and its peace with pytest-asyncio and anyio's plugin."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import resilio

pytest_plugins = "pytester"

Run = Callable[..., pytest.RunResult]
BOTH_MODES = pytest.mark.parametrize(
    ("mode", "mark"), [("strict", "@pytest.mark.asyncio"), pytest.param("auto", "", marks=pytest.mark.slow)]
)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest in a process of its own over the given source, with the plugin loaded as it is installed."""
    installed = any(point.name == "resilio" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "resilio.testing.plugin"]
    if not installed:
        root = str(Path(resilio.__file__).parents[1])
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))

    def run(source: str, *arguments: str, ini: str = "", conftest: str = "") -> pytest.RunResult:
        # the second: a child that is measured, but finds no Cython sources in its folder, says so
        warnings = "filterwarnings =\n    error\n    ignore:Disabling plug-in\n"
        pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{warnings}{ini}")
        pytester.makeconftest(conftest)
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *plugin, *arguments)

    return run


REGISTRY = """
from resilio import circuit_breaker, registry

payments = circuit_breaker("payments", consecutive=1)

def fail():
    raise OSError

def test_trips_and_names():
    other = circuit_breaker("other")
    try:
        payments.call(fail)
    except OSError:
        pass
    assert payments.snapshot().state == "open"
    assert registry.get("other") is other

def test_starts_afresh():
    assert registry.get("payments") is payments
    assert payments.snapshot().state == {state!r}
    assert ("other" in [policy.name for policy in registry.all()]) is {known}
"""


@pytest.mark.real(1.0)
@pytest.mark.once
def test_each_test_starts_with_a_fresh_registry(run: Run) -> None:
    """A name made in a test is forgotten; a policy of the module keeps its name and starts afresh."""
    run(REGISTRY.format(state="closed", known=False)).assert_outcomes(passed=2)


SPENT = """
import pytest
from resilio import RetryBudget, bulkhead, constant, pipeline, retry, standard

shared = RetryBudget("shared")
again = retry(on=OSError, backoff=constant(0), budget=shared)
payments = standard("payments", on=OSError, idempotent=True, backoff=constant(0))
search = pipeline(bulkhead(1), name="search")

@pytest.mark.parametrize("turn", range(2))
def test_an_outage_and_a_shutdown(turn):
    calls = []

    def down():
        calls.append(turn)
        raise OSError

    assert search.try_call(int).error is None
    for stack in (again, payments):
        for _ in range(5):
            stack.try_call(down)
        assert len(calls) == 8
        calls.clear()
    search.drain(timeout=0)
"""


@pytest.mark.real(1.0)
@pytest.mark.once
def test_an_outage_of_one_test_is_not_that_of_the_next(run: Run) -> None:
    """Budgets that have names, as each standard stack's, stayed empty, and what a test had drained stayed shut."""
    run(SPENT).assert_outcomes(passed=2)


INITIAL = """
import pytest
from resilio import circuit_breaker

made = {state: circuit_breaker(state, initial=state) for state in ("forced_open", "forced_closed", "disabled")}

@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize("state", made)
def test_starts_as_it_was_made(state, turn):
    assert made[state].state == state
    made[state].force_open() if turn else made[state].reset()
"""


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_a_breaker_starts_each_test_in_the_state_that_it_was_made_in(run: Run) -> None:
    """One that was made `forced_open`, `forced_closed` or `disabled` is so again, whatever the test before did."""
    run(INITIAL).assert_outcomes(passed=6)


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_the_reset_can_be_turned_off(run: Run) -> None:
    """`resilio_reset = false` leaves state and names as they are."""
    run(REGISTRY.format(state="open", known=True), ini="resilio_reset = false").assert_outcomes(passed=2)


FIXTURES = """
import pytest
from resilio import circuit_breaker

def fail():
    raise OSError

def test_virtual_time(resilio_virtual_time):
    import asyncio
    resilio_virtual_time.run(asyncio.sleep, 3600)
    assert resilio_virtual_time.now == 3600

def test_events(resilio_events):
    with pytest.raises(OSError):
        circuit_breaker("payments", consecutive=1).call(fail)
    assert resilio_events.states("payments") == ["open"]

def test_leak(resilio_no_leaks):
    global permit
    permit = circuit_breaker("payments").acquire()
"""


@pytest.mark.real(1.0)
@pytest.mark.once
def test_the_fixtures_do_what_they_say(run: Run) -> None:
    """Virtual time, events, and an error at the end of a test that leaks."""
    result = run(FIXTURES)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*circuit_breaker 'payments': inflight 1*", "*held by <Permit of *"])


ASYNCIO = """
import asyncio
import pytest
from resilio import circuit_breaker

breaker = circuit_breaker("payments", consecutive=1)

@breaker
async def call():
    await asyncio.sleep(0)
    raise OSError

{mark}
async def test_guarded(resilio_events, resilio_no_leaks):
    with pytest.raises(OSError):
        await call()
    assert resilio_events.states() == ["open"]

{mark}
async def test_closed_again():
    assert breaker.snapshot().state == "closed"
"""
FACTORY = """
import asyncio
from resilio.testing import virtual_event_loop

def pytest_asyncio_loop_factories(config, item):
    if "resilio_virtual_time" in item.fixturenames:
        return {"virtual": virtual_event_loop}
    return {"asyncio": asyncio.new_event_loop}
"""
SLEEPER = """
import asyncio
import pytest

{mark}
async def test_jumps(resilio_virtual_time):
    await asyncio.sleep(86400)
    assert resilio_virtual_time.now == 86400
"""


@pytest.mark.untraced  # others trace the same lines in less time
@BOTH_MODES
def test_it_works_beside_pytest_asyncio(run: Run, mode: str, mark: str) -> None:
    """Fixtures and the reset work in async tests, in both modes."""
    run(ASYNCIO.format(mark=mark), f"--asyncio-mode={mode}").assert_outcomes(passed=2)


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
@BOTH_MODES
def test_virtual_time_drives_pytest_asyncio(run: Run, mode: str, mark: str) -> None:
    """With the documented hook the plugin's own loop jumps."""
    run(SLEEPER.format(mark=mark), f"--asyncio-mode={mode}", conftest=FACTORY).assert_outcomes(passed=1)


BACKEND = """
import pytest

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request, resilio_virtual_time):
    return resilio_virtual_time.anyio_backend(request.param)
"""


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
def test_it_works_beside_anyio(run: Run) -> None:
    """Fixtures and the reset work in anyio's async tests, on asyncio and trio."""
    source = ASYNCIO.replace("asyncio.sleep", "anyio.sleep").replace("import asyncio", "import anyio")
    result = run(source.format(mark="@pytest.mark.anyio"))
    result.assert_outcomes(passed=4)


def test_virtual_time_drives_anyio(run: Run) -> None:
    """With the documented fixture anyio's runner jumps, on asyncio and trio, beside pytest-asyncio."""
    source = SLEEPER.replace("asyncio.sleep", "anyio.sleep").replace("import asyncio", "import anyio")
    run(source.format(mark="@pytest.mark.anyio"), conftest=BACKEND).assert_outcomes(passed=2)
