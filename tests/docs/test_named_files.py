"""The pages for contributors name files that exist."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.once

SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).resolve().parents[2]))
ROOMS = ("benchmarks", "docs", "resilio", "src_c", "tests", "tools")
NAMED = re.compile(r"`([\w./*-]+(?:\.(?:py|pyi|pyx|pxi|pxd|c|h|lua|md)|/))`")
FENCE = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"(?<![\w./])([\w/]*\w\.(?:py|pyi|pyx|pxi|pxd|c|h)|(?:resilio|src_c)/[\w/]+)(?![\w.*])")
OF_OTHERS = {"Python.h"}


def _pages() -> Iterator[Path]:
    yield SOURCE / "CONTRIBUTING.md"
    for name in ("architecture", "strategies", "native-layer"):
        yield SOURCE / "docs" / "explanation" / f"{name}.md"
    yield from sorted((SOURCE / "docs" / "contributing").glob("*.md"))
    yield from sorted((SOURCE / "tests").rglob("README.md"))


def _there() -> set[str]:
    """Return all files and folders of the project, beginning with a "/"."""
    found = set()
    for room in ROOMS:
        for folder, folders, files in os.walk(SOURCE / room):
            folders[:] = [name for name in folders if not name.startswith((".", "__"))]
            here = f"/{Path(folder).relative_to(SOURCE).as_posix()}"
            found |= {f"{here}/", *(f"{here}/{name}" for name in files)}
    return found | {f"/{path.name}" for path in SOURCE.iterdir()}


def _is_named(path: str, name: str) -> bool:
    """Return True if a name may mean this file or folder; a module of Cython is named without its ending."""
    return fnmatch(path, f"*/{name}") or fnmatch(path, f"*/{name}/") or fnmatch(path, f"*/{name}.pyi")


def _names(text: str) -> Iterator[str]:
    """Yield what a page names: files and folders in backticks, and those of its drawings."""
    yield from NAMED.findall(text)
    for drawing in FENCE.findall(text):
        yield from FENCED.findall(drawing)


def test_each_file_that_a_page_names_exists() -> None:
    """The anatomy of a policy sent its readers to two pages that had moved, a drawing to modules that were merged."""
    there = _there()
    named = {(page, name) for page in _pages() for name in _names(page.read_text(encoding="utf-8"))}
    assert len(named) > 100, "the check reads the pages"
    lost = [
        f"{page.relative_to(SOURCE)}: {name}"
        for page, name in sorted(named)
        if name not in OF_OTHERS and not any(_is_named(path, name) for path in there)
    ]
    assert lost == []


@pytest.mark.parametrize("picture", sorted((SOURCE / "docs" / "_static").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_shows_something(picture: Path) -> None:
    """The picture of the pool, which `benchmarks/efficacy/pools.py --picture` draws, was an empty file for a time."""
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert sum(1 for _ in root.iter()) > 20
