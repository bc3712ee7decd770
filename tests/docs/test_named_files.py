"""The pages for contributors name files that exist."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).resolve().parents[2]))
ROOMS = ("benchmarks", "docs", "resilio", "src_c", "tests", "tools")
NAMED = re.compile(r"`([\w./*-]+(?:\.(?:py|pyi|pyx|pxi|pxd|c|h|lua|md)|/))`")
OF_OTHERS = {"Python.h"}


def _pages() -> Iterator[Path]:
    yield SOURCE / "CONTRIBUTING.md"
    yield SOURCE / "docs" / "explanation" / "architecture.md"
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


def test_each_file_that_a_page_names_exists() -> None:
    """The anatomy of a policy sent its readers to two pages that had moved."""
    there = _there()
    named = {(page, name) for page in _pages() for name in NAMED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 100, "the check reads the pages"
    lost = [
        f"{page.relative_to(SOURCE)}: {name}"
        for page, name in sorted(named)
        if name not in OF_OTHERS and not any(fnmatch(path, f"*/{name}") for path in there)
    ]
    assert lost == []
