"""What all tests share."""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import itertools
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from resilio.testing import VirtualTime

_SUITE = os.getpid()
_ROOT = Path(__file__).parents[1]
_INSTALLED = os.environ.get("RESILIO_TEST_INSTALLED") == "1"  # by `make test`
_TRACED = os.environ.get("RESILIO_COVERAGE") == "1"
_MOST = int(os.environ.get("RESILIO_TEST_EXAMPLES", "0"))  # examples of a property at most; 0: as many as it asks for


# `benchmarks` and `examples` are not installed. Last on the path: an installed resilio goes first.
sys.path.append(str(_ROOT))


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what the tests take for granted: Ctrl-C, and resilio's own plugin."""
    # A shell starts background jobs with SIGINT ignored. Python then installs no handler, here and in every child, and
    # a test that presses Ctrl-C would press nothing.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _load_plugin(config)
    _choose_examples()
    if _runs_tests(config):
        config.pluginmanager.register(SpareCollections())


def _load_plugin(config: pytest.Config) -> None:
    """Load resilio's own plugin where no installed entry point has done so."""
    if not config.pluginmanager.has_plugin("resilio") and importlib.util.find_spec("resilio.testing"):
        config.pluginmanager.import_plugin("resilio.testing.plugin")


def _choose_examples() -> None:
    """Try the same examples at every `make test`, others at each run of pytest; fewer where it says so."""
    # No limits in wall-clock time: an example of 295 ms failed a test on a busy machine.
    calm = {"deadline": None, **({"max_examples": _MOST} if _MOST else {})}
    settings.register_profile("random", suppress_health_check=[HealthCheck.too_slow], **calm)
    settings.register_profile("repeated", settings.get_profile("random"), derandomize=True)
    settings.register_profile("traced", derandomize=True, suppress_health_check=list(HealthCheck), **calm)
    # For `make mutation`: the same examples each time, and no smaller ones, since its report shows no example.
    found = [Phase.explicit, Phase.generate]
    settings.register_profile("mutation", derandomize=True, database=None, phases=found, **calm)
    settings.load_profile("traced" if _TRACED else "repeated" if _INSTALLED else "random")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Reject to test anything but the installed package where that was asked for."""
    if _INSTALLED:
        from resilio import errors

        assert "site-packages" in Path(errors.__file__).parts, f"resilio was imported from {errors.__file__}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End a forked child that has left its test: it would run the rest of the suite a second time."""
    if os.getpid() != _SUITE:
        problem = f": {call.excinfo.getrepr(style='short')}" if call.excinfo else ""
        os.write(2, f"a child process got out of {item.nodeid}{problem}\n".encode())
        os._exit(70)


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a forked child; return what it returned, or fail with its traceback."""
    return _in_child


_LONGEST_CHILD = 200
"""Seconds until a child that hangs shows its stacks and ends: its test fails, and not the whole run a bit later."""


def _in_child(function: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(_LONGEST_CHILD)
        try:
            answer = pickle.dumps((function(), None))
        except BaseException:
            answer = pickle.dumps((None, traceback.format_exc()))
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    nothing = (None, f"the child ended without an answer, wait status {status:#x}")
    value, problem = pickle.loads(answer) if answer else nothing
    assert problem is None, problem
    return value


_RACING = {"hasty_threads", "interrupts", "race"}
_ONCE = {"efficacy", "micro"}  # folders whose tests say the same on every Python


def _runs_tests(config: pytest.Config) -> bool:
    """Return False in the process of pytest-xdist that only hands tests to its workers."""
    return hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)


class SpareCollections:
    """Keeps what the suite itself is made of from the many collections of the leak checks."""

    def __init__(self) -> None:
        self._ended = itertools.count(1)
        self._folder = ""

    def pytest_collection_finish(self) -> None:
        """Freeze the tests themselves."""
        gc.collect()
        gc.freeze()

    def pytest_runtest_logfinish(self) -> None:
        """Freeze the reports of the tests so far, too: thousands, which every collection would walk through."""
        if next(self._ended) % 20 == 0:
            gc.collect()
            gc.freeze()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """
        Collect at each new folder what was in use when it was frozen, and is garbage since.

        A page of the tests of `live` listened to all policies for the rest of the run: no collection saw it any more.
        """
        folder = nodeid.partition("::")[0].rpartition("/")[0]
        if folder != self._folder:
            self._folder = folder
            gc.unfreeze()
            gc.collect()
            gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before marks are selected by -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Mark what races by its fixtures, and what runs once by its folder.

    Leave `soak` out unless the command line names marks of its own.
    """
    for item in items:
        if _RACING & set(getattr(item, "fixturenames", ())):
            item.add_marker("untraced")
        if _ONCE & set(item.path.parts):
            item.add_marker("once")
        machine = getattr(item, "cls", None)
        if _MOST and isinstance(getattr(machine, "settings", None), settings):
            machine.settings = settings(machine.settings, max_examples=min(_MOST, machine.settings.max_examples))
    if config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=soak)
    items[:] = [item for item in items if item not in soak]


@pytest.fixture
def vt(resilio_virtual_time: VirtualTime) -> VirtualTime:
    """Virtual time for the test; with `@pytest.mark.anyio` its event loop runs on it too."""
    return resilio_virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run async tests on asyncio and on trio, in virtual time where the test asks for `vt`."""
    if "vt" not in request.fixturenames:
        return request.param, {}
    vt: VirtualTime = request.getfixturevalue("vt")
    return vt.anyio_backend(request.param)
