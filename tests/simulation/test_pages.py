"""
What the pages say that `resilio simulate` prints and draws is what it prints and draws.

`python tests/simulation/test_pages.py` writes the outputs and the picture anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import pytest

from resilio import cli

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("how-to/simulation-tutorial.md", "reference/simulation.md", "explanation/defaults.md")
PICTURES = DOCS / "_static"
LONG = ("overload", "priorities")
_FENCE = re.compile(r"<!-- (?:file: (?P<file>\S+)|output) -->\n```(?:toml|console)\n(?P<body>.*?)```\n", re.DOTALL)


def run(command: str) -> str:
    """Run `$ resilio ...` here, and return it with what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main([*command.split()[2:], "--quiet"]) == 0
    return f"{command}\n{out.getvalue()}"


def rewritten(text: str, without: tuple[str, ...] = ()) -> str:
    """
    Return the page with the outputs that its scenarios have; they are left in this folder, with their pictures.

    Args:
        text: Of the page.

        without: Scenarios that are not run.
    """

    def fresh(match: re.Match[str]) -> str:
        if match["file"]:
            Path(match["file"]).write_text(match["body"])
            return match[0]
        command = match["body"].splitlines()[0]
        if set(without) & set(command.split()):
            return match[0]
        return match[0].replace(match["body"], run(command))

    return _FENCE.sub(fresh, text)


@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
@pytest.mark.parametrize(
    ("name", "without"),
    [
        pytest.param(PAGES[0], (), marks=pytest.mark.slow),
        pytest.param(PAGES[2], (), marks=pytest.mark.slow),
        pytest.param(PAGES[1], LONG, marks=pytest.mark.slow),
        pytest.param(PAGES[1], (), marks=pytest.mark.soak),
    ],
)
def test_a_page_shows_what_the_command_prints(name, without, tmp_path, monkeypatch):
    """Each scenario of the page runs, and its table and its picture are those of the page."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / name).read_text(encoding="utf-8")
    assert _FENCE.search(text)
    assert all(name in text for name in without)
    assert rewritten(text, without) == text, "`python tests/simulation/test_pages.py` writes the outputs anew"
    for picture in Path().glob("*.svg"):
        assert picture.read_bytes() == (PICTURES / picture.name).read_bytes(), picture
        assert f"_static/{picture.name}" in text


def main() -> None:
    """Write the outputs of all pages."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in PAGES:
            page = DOCS / name
            page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
        for picture in Path().glob("*.svg"):
            (PICTURES / picture.name).write_bytes(picture.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
