"""A greenlet that is not made for threads that run at once is left alone where there is no GIL."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="with the GIL each greenlet is asked"
)


def asked_by_a_guarded_call(version: str) -> int:
    """How often a greenlet module of that version was asked for the current greenlet."""
    program = f"""
        import sys, types
        module = types.ModuleType("greenlet")
        module.__version__, asked = "{version}", []
        module.getcurrent = lambda: asked.append(1)
        sys.modules["greenlet"] = module
        from resilio import bulkhead
        bulkhead(1).call(lambda: None)
        print(len(asked))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHON_GIL": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_an_old_greenlet_is_not_asked() -> None:
    """
    Of greenlet before 3.3 the mere question, in threads that end, brought the process down.

    It cleans up after them in the main thread, with what it takes to be under the GIL.
    """
    assert asked_by_a_guarded_call("3.2.2") == 0


def test_a_greenlet_made_for_it_is_asked() -> None:
    """From 3.3 on greenlet supports builds without the GIL."""
    assert asked_by_a_guarded_call("3.3.0") > 0
