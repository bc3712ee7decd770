"""The types of what the guides show: what is made for a client or a framework is what that takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resilio

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_what_the_guides_show_passes_a_strict_check_of_types(tmp_path: Path) -> None:
    """
    No user of mypy has to silence it: transports are the client's, and apps of each framework can be wrapped.

    It said that an AsyncTransport is no AsyncBaseTransport, and that the apps of Flask and Django are no apps.
    """
    for needed in ("mypy", "httpx", "httpx2", "fastapi", "starlette", "flask"):
        pytest.importorskip(needed)
    home, path = Path(resilio.__file__).parents[1], {}
    if home.name != "site-packages":  # a source tree, which is not where mypy looks
        path["MYPYPATH"] = str(home)
    options = ("--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(HERE / "typed_guides.py"))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options],
        cwd=tmp_path,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
