"""`make mutation`: what is changed in each language, that it is found again, and that the tree is as before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).parents[2]))
TOOLS = ROOT / "tools"

pytestmark = [pytest.mark.once, pytest.mark.skipif(not TOOLS.is_dir(), reason="the tools are not here")]


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules of the tool."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(TOOLS))
    names = ("command", "covers", "faults", "mutators", "patience", "sample", "workspace")
    yield SimpleNamespace(**{name: importlib.import_module(f"mutation.{name}") for name in names})
    for name in set(sys.modules) - before:
        del sys.modules[name]


PYTHON = '''
"""If x < 1: a docstring is no code."""
import os  # 1 < 2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    LIMIT = 3


def ready(count: int, most: int = 10) -> bool:
    """Return True if count < most."""
    self.seen -= 1
    if count < most and not self.closed:
        note("count < most")
    return self.open is None
'''

CYTHON = """
cdef extern from "gate.h":
    enum:
        RS_MOST = 7

cdef int admit(rs_gate *gate, int64_t n) noexcept nogil:
    cdef int64_t left = <int64_t>gate.left - n
    gate.calls += 1
    if left <= 0 or gate.full:
        return 1
    rs_gate_count(gate)
"""

C = """
#define RS_MOST (1 + 2)
struct rs_pair { int first[4]; };
static const int table[] = {1, 2};
/* if (a < b) */
static int admit(rs_gate *gate, int64_t n)
{
    int64_t left = (int64_t)gate->left - n;   // a + b
    if (left <= 0 || !gate->open)
        gate->refused++;
    Py_DECREF(gate);
    return left > 1 ? left : 0;
}
"""

PLACES = {
    "a.py": (
        PYTHON,
        {
            "def ready(count: int, most: int = 11) -> bool:",
            "self.seen += 1",
            "self.seen -= 0",
            "pass",
            "if count <= most and not self.closed:",
            "if count >= most and not self.closed:",
            "if count < most or not self.closed:",
            "if count < most and self.closed:",
            "return self.open is not None",
            "return None",
        },
    ),
    "a.pxi": (
        CYTHON,
        {
            "cdef int64_t left = <int64_t>gate.left + n",
            "gate.calls -= 1",
            "gate.calls += 0",
            "pass",
            "if left < 0 or gate.full:",
            "if left > 0 or gate.full:",
            "if left <= 1 or gate.full:",
            "if left <= 0 and gate.full:",
            "return 0",
        },
    ),
    "a.c": (
        C,
        {
            "int64_t left = (int64_t)gate->left + n;   // a + b",
            "if (left < 0 || !gate->open)",
            "if (left > 0 || !gate->open)",
            "if (left <= 1 || !gate->open)",
            "if (left <= 0 && !gate->open)",
            "if (left <= 0 || gate->open)",
            "gate->refused--;",
            ";",
            "return left >= 1 ? left : 0;",
            "return left <= 1 ? left : 0;",
            "return left > 0 ? left : 0;",
            "return left > 1 ? left : 1;",
            "return 0;",
        },
    ),
}


@pytest.mark.parametrize("path", PLACES)
def test_each_change_is_a_mistake_in_code(mutation, path: str) -> None:
    """No string, comment, import, declaration or macro is touched, no cast or pointer is taken for a comparison."""
    source, expected = PLACES[path]
    made = mutation.mutators.mutants(path, source)
    assert {mutant.after for mutant in made} == expected
    for mutant in made:
        lines = mutant.apply(source).splitlines()
        assert len(lines) == len(source.splitlines())
        assert lines[mutant.line - 1].strip() == mutant.after


def test_a_mutant_keeps_its_id_while_its_line_is_the_same(mutation) -> None:
    """`--only ID` finds it after edits elsewhere in the file; equal lines have mutants of their own."""
    source = "def f(self):\n    self.n -= 1\n    if self.n:\n        self.n -= 1\n"
    made = mutation.mutators.mutants("a.py", source)
    later = mutation.mutators.mutants("a.py", "x = 3\n\n" + source)
    assert len({mutant.id for mutant in made}) == len(made)
    assert {mutant.id for mutant in made} < {mutant.id for mutant in later}


def test_the_sample_of_a_seed_is_always_the_same(mutation) -> None:
    """One mutant of a line, the same ones for the same seed."""
    made = mutation.mutators.mutants("a.py", PYTHON)
    first, again, other = ([one.id for one in mutation.sample.draw(made, seed)] for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == len({mutant.line for mutant in made})


def test_every_file_of_policies_gates_and_core_has_tests(mutation) -> None:
    """What is listed as covering exists, and no source of these folders is left out; one of the strategies was."""
    assert [path for path in mutation.covers.all_tests() if not (ROOT / path).exists()] == []
    folders = ("resilio/_policies", "resilio/_policy", "resilio/_composition", "src_c/include")
    for folder in (*folders, *(f"src_c/resilio/_native/{part}" for part in ("core", "gates", "strategies"))):
        paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*")]
        sources = [path for path in paths if path.endswith(mutation.covers.ENDINGS)]
        assert [path for path in sources if not mutation.covers.cover(path)] == []


def test_each_equivalent_gives_its_reason(mutation) -> None:
    """The list is short, and says of each change why no test can notice it."""
    for one in mutation.sample.equivalents():
        assert one.before != one.after
        assert len(one.reason) > 20, one


def test_each_known_fault_has_its_place_and_its_tests(mutation) -> None:
    """It can be made in the code of today, and what must notice it is there."""
    known = mutation.faults.faults()
    assert len({one.id for one in known}) == len(known)
    for one in known:
        source = (ROOT / one.path).read_text(encoding="utf-8")
        assert one.apply(source) != source
        assert one.cover.modules or not one.path.startswith("src_c/")
        assert [path for path in one.files if not (ROOT / path).exists()] == []


def test_an_equivalent_may_be_one_of_equal_lines(mutation) -> None:
    """A `return 0` that CPython ignores listed all others of its file, which it does not ignore."""
    made = [one for one in mutation.mutators.mutants("b/a.c", C + C) if one.after == "gate->refused--;"]
    assert len(made) == 2
    for number, found in [(None, made), (0, made[:1]), (1, made[1:])]:
        one = mutation.sample.Equivalent("a.c", "gate->refused++;", "gate->refused--;", "a reason", number)
        assert [mutant for mutant in made if one.matches(mutant)] == found


@pytest.fixture
def tree(tmp_path: Path, mutation, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one file of Python and its test."""
    covers = mutation.covers.Cover((), ("tests/test_a.py",))
    monkeypatch.setattr(mutation.workspace, "cover", lambda path: covers if path == "a.py" else None)
    (tmp_path / "tests").mkdir()
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "a.py").write_text("def least(n):\n    return n > 1\n")
    (tmp_path / "tests/conftest.py").write_text(
        "from hypothesis import settings\nsettings.register_profile('mutation')\n"
    )
    monkeypatch.setattr(mutation.workspace, "files", lambda root: ["a.py", "setup.py", *named(root / "tests")])
    return tmp_path


def named(folder: Path) -> list[str]:
    return [f"tests/{path.name}" for path in folder.glob("*.py")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "limit", "verdict"),
    [
        ("assert a.least(2) and not a.least(1)", 600.0, "caught"),
        ("assert a.least(2)", 600.0, "survived"),
        ("while a.least(1): pass", 3.0, "caught by the time limit"),
        ("import threading; a.least(1) and threading.Event().wait()", 600.0, "caught by the time limit"),
        ("held = [b'x' * (1 << 20) for _ in iter(lambda: a.least(1), False)]", 600.0, "caught by the time limit"),
    ],
)
def test_a_mutant_is_tried_in_a_copy(
    mutation, monkeypatch: pytest.MonkeyPatch, tree: Path, test: str, limit: float, verdict: str
) -> None:
    """
    Its tests run against the change; afterwards the copy, as the tree, has the source as it was.

    The time limit was one on the clock: on a busy machine it caught mutants that no test notices. Memory was limited
    by its addresses: tests of many fleets, which map more than they use, could not run at all.
    """
    monkeypatch.setattr(mutation.patience, "_RESTS", 10.0)
    monkeypatch.setattr(mutation.patience, "_MOST", 512 << 20)
    (tree / "tests/test_a.py").write_text(f"import a\n\n\ndef test_least():\n    {test}\n")
    source = (tree / "a.py").read_text()
    workspace = mutation.workspace.Workspace(tree, tree / "copy", sys.executable, limit=limit, narrow=True)
    workspace.prepare()
    changed = next(one for one in mutation.mutators.mutants("a.py", source) if ">=" in one.after)
    assert workspace.try_out(changed) == verdict
    assert (tree / "copy/a.py").read_text() == (tree / "a.py").read_text() == source


@pytest.mark.slow
@pytest.mark.parametrize(("test", "verdict"), [("assert not a.least(1)", "caught"), ("a.least(1)", "survived")])
def test_a_known_fault_is_tried_with_its_tests_alone(mutation, tree: Path, test: str, verdict: str) -> None:
    """Another test of the file may fail for it: that proves nothing of the one that is named."""
    (tree / "tests/test_a.py").write_text(f"import a\n\n\ndef test_of_it():\n    {test}\n")
    fault = mutation.faults.Fault("a", "a.py", "n > 1", "n > 0", ["tests/test_a.py::test_of_it"])
    workspace = mutation.workspace.Workspace(tree, tree / "copy", sys.executable, limit=600.0)
    workspace.prepare()
    assert workspace.try_out(fault) == verdict


def test_too_few_caught_or_too_many_equivalents_fail_the_run(mutation) -> None:
    """95 % of what is not equivalent are wanted, 10 % may be equivalent; what does not build counts nowhere."""
    (mutant, *_) = mutation.mutators.mutants("a.py", PYTHON)
    for caught, survived, equivalent, failed in [(19, 1, 2, False), (18, 2, 0, True), (17, 0, 3, True)]:
        report = mutation.command.Report(caught + survived + equivalent)
        verdicts = ["does not build"] + ["caught"] * caught + ["survived"] * survived + ["equivalent"] * equivalent
        for place, verdict in enumerate(verdicts):
            report.note(place, mutant, verdict)
        assert report.is_full()
        assert report.failed() is failed
        assert f"{survived}: {report.caught:.1f} % caught" in "\n".join(report.lines())
