"""The other libraries on virtual time."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from migration.pairs import Pair
from resilio import registry
from resilio.testing import VirtualTime


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    """The snippets of several tests give the same names."""
    registry.clear()
    yield
    registry.clear()


@pytest.fixture
def pair(request: pytest.FixtureRequest, vt: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Pair]:
    """The pairs of the page that the test's module is about, by name; skips where the library does not install."""
    library = request.module.LIBRARY
    pytest.importorskip(library, reason=f"{library} does not install here: its snippets are not run")
    _on_virtual_time(library, vt, monkeypatch)
    return lambda name: Pair(library, name, vt)


def _of_limits(vt: VirtualTime) -> list[tuple[str, str, Any]]:
    time = SimpleNamespace(time=lambda: 1e9 + vt.now)
    return [("limits.strategies", "time", time), ("limits.storage.memory", "time", time)]


def _on_virtual_time(library: str, vt: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library see, in the place of the modules that it reads time from, the virtual clock."""

    class Now(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> dt.datetime:
            return dt.datetime.fromtimestamp(vt.now, tz)

    time = SimpleNamespace(monotonic=lambda: vt.now, sleep=vt.advance)
    later = SimpleNamespace(datetime=Now)
    places = {
        "tenacity": [("tenacity", "time", time), ("tenacity.nap", "time", time)],
        "stamina": [("tenacity", "time", time), ("tenacity.nap", "time", time)],
        "backoff": [
            ("backoff._sync", "time", time),
            ("backoff._sync", "datetime", later),
            ("backoff._async", "datetime", later),
        ],
        "circuitbreaker": [("circuitbreaker", "monotonic", time.monotonic)],
        "purgatory": [("purgatory.domain.model", "time", SimpleNamespace(time=lambda: 1e9 + vt.now))],
        "pybreaker": [("pybreaker", "datetime", Now)],
        **dict.fromkeys(("limits", "slowapi", "flask_limiter"), _of_limits(vt)),
    }
    for module, name, stand_in in places[library]:
        monkeypatch.setattr(importlib.import_module(module), name, stand_in)
