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

CORE = NATIVE / "core"
LARGEST_LOOP = 5

COMMENT = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
EXPORTED = re.compile(r"^(?!static)[A-Za-z_][\w *]*?\b(rs_\w+)\([^;{]*\)\s*\{", re.MULTILINE)
INLINE = re.compile(r"^static inline [^;{]*?\b(rs_\w+)\([^;{]*\)\s*\{(.*?)\}$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"\b(rs_\w+)\(")
EXTERN = re.compile(r"^cdef extern from .*?(?=^\S)", re.MULTILINE | re.DOTALL)
SIZED = re.compile(r"\w+\[\d+\]")


def test_cython_takes_the_sizes_of_a_header_s_arrays_from_the_header() -> None:
    """Cython took the 18 cells of `rejected` for 17, so the last reason was lost."""
    sizes = {
        path.name: SIZED.findall(block)
        for path in sorted(NATIVE.glob("*.p[xy]*"))
        for block in EXTERN.findall(path.read_text())
        if SIZED.search(block)
    }
    assert sizes == {}


def _callees(files: dict[str, str], headers: list[str]) -> dict[str, set[str]]:
    """Return the files whose exported functions each file calls, itself or by an inline function of a header."""
    owners = {name: file for file, text in files.items() for name in EXPORTED.findall(text)}
    inline = {name: CALL.findall(body) for text in headers for name, body in INLINE.findall(text)}

    def called(names: list[str], seen: frozenset[str] = frozenset()) -> set[str]:
        found = {owners[name] for name in names if name in owners}
        for name in set(names) & inline.keys() - owners.keys() - seen:
            found |= called(inline[name], seen | {name})
        return found

    return {file: called(CALL.findall(text)) - {file} for file, text in files.items()}


def _reached(callees: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = callees[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def _loops(callees: dict[str, set[str]]) -> set[frozenset[str]]:
    reached = {file: _reached(callees, file) for file in callees}
    return {frozenset(two for two in one_way if file in reached[two]) for file, one_way in reached.items()} - {
        frozenset()
    }


def _read(pattern: str) -> dict[str, str]:
    return {
        path.relative_to(CORE).as_posix(): COMMENT.sub('""', path.read_text()) for path in sorted(CORE.rglob(pattern))
    }


def test_a_loop_is_found() -> None:
    """The measure itself: two files that call each other, one of them by a header's inline function, are a loop."""
    files = {
        "a.c": "int rs_a(void)\n{\n    return rs_quick();\n}\n",
        "b.c": "void *rs_b(int x)\n{\n    rs_a();\n}\n",
        "c.c": "static int rs_own(void)\n{\n    return rs_a();\n}\n",
    }
    assert _loops(_callees(files, ["static inline int rs_quick(void)\n{\n    return rs_b(1);\n}\n"])) == {
        frozenset({"a.c", "b.c"})
    }


def test_files_of_the_core_call_each_other_in_small_loops_only() -> None:
    """A loop of 30 files could be read as a whole or not at all: what belongs together fits into five."""
    callees = _callees(_read("*.c"), list(_read("*.h").values()))
    assert len(callees) > 30
    assert [sorted(loop) for loop in _loops(callees) if len(loop) > LARGEST_LOOP] == []
    assert callees["python.c"] == set()  # the leaf
