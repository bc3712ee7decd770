"""What `tests/conftest.py` does for all tests: nothing stays frozen for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import resilio

pytest_plugins = "pytester"

pytestmark = pytest.mark.once
CONFTEST = Path(__file__).parents[1] / "conftest.py"

PAGE = """
import gc

class Page:
    '''What is in a cycle, so that only a collection frees it.'''
    def __init__(self):
        self.me = self

used = [Page()]
"""
USES_IT = """
import page
import pytest

@pytest.mark.parametrize("number", range(45))
def test_it_is_used(number):
    assert page.used
"""
IS_GONE = """
import gc
import weakref
import page

def test_it_is_garbage():
    gone = weakref.ref(page.used.pop())
    page.gone = gone
"""
IS_COLLECTED = """
import gc
import page

def test_it_is_collected():
    assert page.gone() is None
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite with the conftest of this one."""
    roots = [str(Path(resilio.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), *roots]))
    monkeypatch.delenv("RESILIO_TEST_INSTALLED", raising=False)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    pytester.makeconftest(CONFTEST.read_text())
    return pytester


@pytest.mark.real(1.0)
def test_what_was_frozen_while_it_was_in_use_is_collected_later(suite: pytest.Pytester) -> None:
    """
    A page that was there when the suite froze its heap, and was garbage afterwards, listened to the end of the run.

    So tests failed, far from it, that count listeners.
    """
    files = {"page": PAGE, "a/test_use": USES_IT, "b/test_gone": IS_GONE, "c/test_collected": IS_COLLECTED}
    for name, source in files.items():
        path = suite.path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    suite.runpytest_subprocess("-q").assert_outcomes(passed=47)
