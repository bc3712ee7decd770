"""The map of the native layer, computed from its sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[1] / "src_c" / "resilio" / "_native"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not NATIVE.is_dir(), reason="the sources are not beside the tests"),
]

EXTERN = re.compile(r"^cdef extern from .*?(?=^\S)", re.MULTILINE | re.DOTALL)
SIZED = re.compile(r"\w+\[\d+\]")


def test_cython_takes_the_sizes_of_a_header_s_arrays_from_the_header() -> None:
    """Cython took the 18 cells of `refused` for 17, so the last reason was lost."""
    sizes = {
        path.name: SIZED.findall(block)
        for path in sorted(NATIVE.glob("*.p[xy]*"))
        for block in EXTERN.findall(path.read_text())
        if SIZED.search(block)
    }
    assert sizes == {}
