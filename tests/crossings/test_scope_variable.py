"""Policy x `RESILIO_SCOPE` x what a platform lacks: a worker has the calls at once that the code gives it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crossings.recipes import FACTORIES, READY, Way
from crossings.stacks import snapshots
from crossings.test_scopes import SHARED

from resilio import registry
from resilio._policy.base import make
from resilio.sharing import SharingWarning, _make, _report
from resilio.testing import assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

DEEP = 10
"""Calls at once of a worker: more than bulkheads have here, and for two workers not more than other limits have."""
KINDS = [kind for kind in READY if kind in {*SHARED, *FACTORIES} - {"retry_budget"}]
"""Those with the option `scope` whose calls are admitted or not."""
LACKS = ("nothing", "users", "directory", "memory", "space")


@pytest.fixture
def directory_in_memory() -> Iterator[str]:
    """A directory in `/dev/shm`: a disk that is asked for more than it has is full for all, for seconds."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no memory here that could be full")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield name


@pytest.fixture(params=LACKS)
def lack(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, resilio_shared_host: Path, tmp_path: Path
) -> str:
    """Name what the platform lacks, under the variable."""
    monkeypatch.setenv("RESILIO_SCOPE", "host")
    monkeypatch.setattr(_report, "_warned", set())
    if request.param == "users":
        monkeypatch.delattr(os, "geteuid")
    elif request.param == "directory":
        (tmp_path / "file").touch()
        monkeypatch.setenv("RESILIO_SHARED_DIR", str(tmp_path / "file"))
    elif request.param == "memory":  # as where there is no /dev/shm
        monkeypatch.setenv("RESILIO_SHARED_DIR", str(tmp_path / "shm" / "resilio"))
    elif request.param == "space":
        monkeypatch.setenv("RESILIO_SHARED_DIR", request.getfixturevalue("directory_in_memory"))
        about = os.statvfs("/dev/shm")
        monkeypatch.setattr(_make, "SIZE", 2 * about.f_frsize * about.f_blocks)
    return str(request.param)


def at_once(policy: Any, deep: int = DEEP, last: Callable[[], None] = int) -> int:
    """Return how many calls are admitted within each other; *last* is called within them all."""
    inside = 0

    def work(*endpoint: Any) -> None:
        nonlocal inside
        inside = 1 + at_once(policy, deep - 1, last)

    if deep == 0 or policy.try_call(work).outcome != "success":
        last()
    return inside


def worker(kind: str) -> Any:
    """Return the policy of another worker: of the same name and options."""
    registry.clear()
    plain = READY[kind](Way())
    return make(type(plain), f"crossing {kind}", plain.config)


@pytest.mark.parametrize("kind", KINDS)
def test_each_worker_has_the_calls_that_the_code_gives_it(kind: str, lack: str) -> None:
    """Three workers with pools of five got 5, 0 and 0. What cannot be shared is a warning with the reason."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SharingWarning)
        alone, one, other = at_once(READY[kind](Way())), worker(kind), worker(kind)
        others: list[int] = []
        assert at_once(one, last=lambda: others.append(at_once(other))) == alone
    assert others == [alone]
    is_shared = kind != "bulkhead" and lack == "nothing"
    if kind != "keyed":  # its keys have cells
        assert is_shared is any(part.sharing and not part.sharing.degraded for part in snapshots(one.snapshot()))
    reasons = {warning.category for warning in caught if warning.category is SharingWarning}
    assert bool(reasons) is (lack != "nothing" and kind != "bulkhead"), [str(warning.message) for warning in caught]
    assert_no_leaks()
