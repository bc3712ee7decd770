"""`make windows`: what it compiles, and what it says where it cannot."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="the source tree is not here")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The tool, with an empty cache."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import windows

    monkeypatch.setattr(windows, "CACHE", tmp_path)
    monkeypatch.setattr(windows, "HEADERS", tmp_path)
    yield windows
    sys.modules.pop("windows", None)


def test_what_is_not_here_is_skipped_out_loud(
    windows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without mingw-w64 nothing is compiled, and the task says so and how to get it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert windows.check(tmp_path) == 0
    assert "SKIPPED, there is no x86_64-w64-mingw32-gcc (Debian: apt install" in capsys.readouterr().out


@pytest.mark.real(2.0)
def test_a_file_that_needs_posix_does_not_compile(
    windows: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """mingw has POSIX threads, and Windows has not: only platform.h may know of both."""
    if shutil.which(windows.COMPILER) is None:
        pytest.skip("NOT TESTED: mingw-w64 is not here")
    core = tmp_path / "tree" / "src_c" / "resilio" / "_native" / "core"
    core.mkdir(parents=True)
    (core / "posix.c").write_text("#include <pthread.h>\n")
    (core / "both.c").write_text('#include "platform.h"\nint64_t both(void) { return rs_monotonic_ns(); }\n')
    shutil.copytree(TOOLS.parent / "src_c" / "algorithms", tmp_path / "tree" / "src_c" / "algorithms")
    assert windows.compiled(tmp_path / "tree") == 1
    assert "Windows has no pthread.h" in (said := capsys.readouterr().out)
    assert "1 of 2 files compile" in said


def test_every_scene_has_a_count_that_is_never_more_than_nought(windows: ModuleType) -> None:
    """A scene that could not go wrong would prove nothing."""
    scenes = list(windows.scenes())
    assert len(scenes) >= 8
    silent = {scene.stem for scene in scenes if not any(f"{name} %" in scene.read_text() for name in windows.NEVER)}
    assert silent == {"learning", "limits"}
