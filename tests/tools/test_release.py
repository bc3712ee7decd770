"""What the workflows ask before a release, and what `make workflows` runs of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="the tools are not here")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`tools/` on the path, as for its own programs."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import release

    yield release
    for name in {"release", "workflows"} - before:
        sys.modules.pop(name, None)


def test_a_tag_is_the_version(tools: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A tag of another version would publish one under the name of the other."""
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tools.tag(f"v{version}") == 0
    assert tools.tag(f"v{version}.1") == 1
    assert f"must be v{version}" in capsys.readouterr().err


def test_the_notes_are_the_section_of_the_version(tools: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A release without notes is none: its section is missing, or empty."""
    text = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-01\n\n### Added\n\n- More.\n\n## [0.1.0]\n\nFirst.\n"
    assert tools.notes("0.2.0", text) == 0
    assert capsys.readouterr().out == "### Added\n\n- More.\n"
    assert tools.notes("0.1.0", text) == 0
    assert tools.notes("Unreleased", text) == 1
    assert tools.notes("0.3.0", text) == 1


def test_what_is_public_may_grow_and_not_shrink(tools: ModuleType) -> None:
    """A name that is new, or an error with another text, breaks no code; a default that moved may."""
    before = "resilio.a(b = 1)\nresilio.c\ntext of b=<bad>: TypeError: b must be one\n"
    assert tools.lost(before, "resilio.a(b = 1)\nresilio.c\nresilio.d\n") == []
    assert tools.lost(before, "resilio.a(b = 2)\nresilio.c\n") == ["resilio.a(b = 1)"]
    assert (ROOT / tools.PUBLIC).is_file()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("twine check --strict dist/*", "there is no twine here"),
        ("make lint docs", "it is a task of its own"),
        ("sudo apt-get update", "it needs the CI"),
        ('python tools/release.py tag "$GITHUB_REF_NAME"', "it needs the CI"),
        ("python3 tools/release.py api", ""),
    ],
)
def test_what_is_not_run_here_has_a_reason(tools: ModuleType, tmp_path: Path, command: str, reason: str) -> None:
    """A step that is left out silently would look as if it had passed."""
    import workflows

    (tmp_path / "python3").touch(mode=0o755)
    assert workflows.why_not(command, str(tmp_path)) == reason


@pytest.mark.skipif(not WORKFLOWS, reason="the workflows are not here")
def test_every_action_is_pinned_by_its_hash() -> None:
    """A tag can be moved to other code, a hash cannot; the version stands beside it for people and for updates."""
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 10
    assert [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v[\d.]+$", line)] == []
