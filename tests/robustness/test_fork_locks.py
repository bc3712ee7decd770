"""
A process that forks while another thread of it holds a lock: in the child nobody would ever release it.

Locks that were not renewed hung the child at its first header of priority, its first call of a model, or its first look
at the page of another process.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio._support import after_fork as _after_fork
from resilio.integrations.llm._estimate import Estimates
from resilio.live._feed import Remote

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

OF_MODULES = (
    ("resilio._context.priority", "_counting"),
    ("resilio.integrations._shared.headers", "_counting"),
    ("resilio._time_ledger.slow_calls", "_lock"),
    ("resilio._policies.retry.retrying", "_lock"),
    ("resilio.metrics._read_keyed", "_lock"),
    ("resilio.metrics.multiprocess", "_starting"),
    ("resilio._registry.names", "lock"),
    ("resilio._registry.names", "listing"),
    ("resilio._events.subscriptions", "_lock"),
    ("resilio._policies.deadline", "_becoming"),
    ("resilio._native.keyed", "_lock"),
    ("resilio.testing._virtual_time", "_entering"),
)


def is_free_in_a_child(owner: Any, attribute: str, in_child: Callable[[Callable[[], Any]], Any]) -> bool:
    """Fork while another thread holds the lock, and try it in the child."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(owner, attribute):
            held.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        return bool(in_child(lambda: getattr(owner, attribute).acquire(blocking=False)))
    finally:
        over.set()
        holder.join()


@pytest.mark.parametrize(("module", "attribute"), OF_MODULES)
def test_a_lock_of_a_module_is_free_in_a_child(module: str, attribute: str, in_child: Any) -> None:
    """Whatever another thread of the parent was doing, the child goes on."""
    assert is_free_in_a_child(importlib.import_module(module), attribute, in_child)


@pytest.mark.parametrize("make", [Estimates, lambda: Remote("http://127.0.0.1:1/resilio")], ids=["estimates", "remote"])
def test_a_lock_of_an_object_is_free_in_a_child(make: Callable[[], Any], in_child: Any) -> None:
    """So it is with what each client, or each page that is watched, has a lock of its own for."""
    assert is_free_in_a_child(make(), "_lock", in_child)


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    """What the child of a fork would renew is held weakly."""
    before = len(_after_fork._locks)
    estimates = Estimates()
    assert len(_after_fork._locks) == before + 1
    del estimates
    assert len(_after_fork._locks) == before


def test_hooks_run_by_their_stages_though_one_fails(in_child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of the stages, whatever was imported first, and a hook that raises does not stop the others."""
    ran: list[str] = []
    hooks: dict[Any, list[Any]] = {stage: [] for stage in _after_fork.STAGES}
    monkeypatch.setattr(_after_fork, "_hooks", hooks)
    for stage in reversed(_after_fork.STAGES):
        _after_fork.in_child(stage, lambda: 1 / 0)
        _after_fork.in_child(stage, lambda stage=stage: ran.append(stage))
    assert in_child(lambda: ran) == list(_after_fork.STAGES)
    assert ran == [], "the parent is no child"


def test_nothing_else_registers_with_the_process() -> None:
    """There is one hook of this library, so that their order is that of its stages."""
    package = Path(resilio.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "register_at_fork(" in path.read_text(encoding="utf-8")]
    assert users == ["after_fork.py"], "the whole package is read: once it was one folder of it"


def test_importing_the_package_registers_once() -> None:
    """A program that forks often pays for one hook."""
    program = (
        "import os; calls = []; os.register_at_fork = lambda **hooks: calls.append(hooks)\n"
        "import resilio._native.core, resilio._native.keyed, resilio._native.budget, resilio.metrics\n"
        "print(sum(1 for hooks in calls if getattr(hooks['after_in_child'], '__module__', '').startswith('resilio')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
