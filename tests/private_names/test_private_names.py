"""What is not public is listed once, is proved before it is used, and has a public way beside it that works."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import resilio
from resilio import _private_names
from resilio._native import core

HERE = Path(__file__).resolve().parents[1]
SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", HERE.parent))
PACKAGE = Path(resilio.__file__).parent
NATIVE = SOURCE / "src_c"
LISTED = {word for entry in _private_names.PRIVATE_NAMES for word in entry.words}
STATES = {"in use", "unused", "failed", "not applicable"}

has_sources = pytest.mark.skipif(not NATIVE.is_dir(), reason="the sources of the native layer are not here")


# ---- the list and the sources


def _is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


class _Names(ast.NodeVisitor):
    """The private names that a file defines, and those that it reads of others."""

    def __init__(self) -> None:
        self.defined: set[str] = set()
        self.read: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.defined.add(node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815 - as `ast` calls them

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.defined.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        own = of in ("self", "cls")
        if not _is_private(of) and of != "cls":  # a module or a class of ours
            (self.defined if own and isinstance(node.ctx, ast.Store) else self.read).add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr", "delattr"):
            self.read.update(each.value for each in node.args[1:2] if isinstance(each, ast.Constant))
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:  # the members of a class that `type` makes
        self.defined.update(
            each.value for each in node.keys if isinstance(each, ast.Constant) and _is_private(each.value)
        )
        self.generic_visit(node)


def _foreign_names() -> Iterator[tuple[str, str]]:
    """Private names that a file reads and that nothing of ours near it defines."""
    native = "\n".join(path.read_text() for path in (PACKAGE / "_native").glob("*.pyi"))
    files = {}
    for path in (each for each in PACKAGE.rglob("*.py") if each.parent.name != "_private_names"):
        files[path] = names = _Names()
        names.visit(ast.parse(path.read_text()))
    by_folder: dict[Path, set[str]] = defaultdict(set)
    for path, names in files.items():
        by_folder[path.parent] |= names.defined
    rooms = [folder for folder in by_folder if str(folder.relative_to(PACKAGE)).startswith((".", "_"))]
    below = set().union(*(by_folder[folder] for folder in rooms))  # what all others may build on
    for path, names in files.items():
        ours = names.defined | below | by_folder[path.parent / f"_{path.stem}"]  # `_httpx` of `httpx.py`
        if "integrations" not in path.relative_to(PACKAGE).parts:
            ours |= by_folder[path.parent]
        for name in filter(_is_private, names.read - ours):
            if not name.startswith("_resilio") and not re.search(rf"\b{name}\b", native):
                yield name, str(path.relative_to(PACKAGE.parent))


@pytest.mark.real(1.0)
def test_no_private_name_of_others_is_read_that_is_not_listed() -> None:
    """
    A name that its owner may rename is listed with its check and its public way.

    On 3.14 one that was not listed, asyncio's table of running tasks, went empty, and timeouts never fired.
    """
    assert sorted({found for found in _foreign_names() if found[0] not in LISTED}) == []


@has_sources
def test_no_private_name_of_the_interpreter_is_used_in_c_that_is_not_listed() -> None:
    """Functions below `_Py`, fields of the interpreter's own structs, and private names as text."""
    found = set()
    for path in (each for each in NATIVE.rglob("*") if each.suffix in (".c", ".h", ".pyx", ".pxi")):
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
        used = re.findall(r"\b_Py_?[A-Z]\w*", code)
        used += re.findall(r"\(\(Py(?!Type|Tuple|List|AsyncM)\w+ ?\*\)\w+\)->(\w+)", code)
        used += re.findall(r"PyThreadState_Get\(\)->(\w+)", code) + re.findall(
            r"->(ob_ref_\w+|gi_code|d_method)\b", code
        )
        used += [name for name in re.findall(r'[^{]"(_[a-z]\w+)"', code) if not _is_our_own(name)]
        found |= {(name, path.name) for name in used if name not in LISTED}
    assert sorted(found) == []


def _is_our_own(name: str) -> bool:
    """Tell whether it is an attribute of the package's own, or one that it puts on others' objects."""
    if name.startswith("_resilio") or name == "_api":
        return True
    in_python = (path.read_text() for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyi"))
    in_c = (path.read_text() for path in NATIVE.rglob("*.c"))
    in_cython = (path.read_text() for path in NATIVE.rglob("*.pyx"))
    if any(re.search(rf"^{name} = ", text, re.MULTILINE) for text in in_cython):
        return True
    return any(re.search(rf"(?:def |self\.|class ){name}\b", text) for text in in_python) or any(
        f'{{"{name}",' in text for text in in_c
    )


def test_every_entry_says_all_of_itself() -> None:
    """What, whose, where, on which versions, the check, and what is done otherwise; the files named are there."""
    for entry in _private_names.PRIVATE_NAMES:
        assert all((entry.name, entry.of, entry.versions, entry.check, entry.otherwise)), entry
        for place in entry.where:
            root = PACKAGE.parent if place.startswith("resilio/") else SOURCE
            assert not (SOURCE / "src_c").is_dir() or (root / place).is_file(), place
    assert len({entry.name for entry in _private_names.PRIVATE_NAMES}) == len(_private_names.PRIVATE_NAMES)


@pytest.mark.once
def test_the_page_is_made_of_the_list() -> None:
    """`python -m resilio._private_names` writes it."""
    assert (SOURCE / "docs" / "reference" / "private-names.md").read_text() == _private_names.page()


# ---- what holds here


def test_the_report_tells_the_state_of_this_process() -> None:
    """Nothing that is in use here has failed, on a Python that the library is tested with."""
    states = {entry.name: state for entry, state in _private_names.report()}
    assert set(states.values()) <= STATES
    if _public_only():
        pytest.skip("this process takes public ways alone")
    assert [name for name, state in states.items() if state == "failed"] == []


def _public_only() -> bool:
    return core._private_state()["with_order"] == "failed"


def test_what_is_not_found_has_failed() -> None:
    """A module without the name, one that cannot be asked, and one that is not installed."""
    from resilio._private_names._record import attribute, of_module

    assert attribute("asyncio", "Task.cancel")() == "in use"
    assert attribute("asyncio", "Task._gone")() == "failed"
    assert of_module("asyncio", lambda found: 1 / 0 > 0)() == "failed"
    assert attribute("not_installed_anywhere", "name")() == "not applicable"


def test_an_entry_cannot_be_changed() -> None:
    """It is data."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        _private_names.PRIVATE_NAMES[0].name = "other"  # type: ignore[misc]


# ---- public ways alone

CALLS = """
import asyncio, sys, time
import resilio
from resilio import bulkhead, circuit_breaker, deadline, pipeline, retry, timeout
from resilio._native import core

in_use = {name for name, state in core._private_state().items() if state == "in use"}
assert in_use <= {"with_order"}, in_use
pool, breaker = bulkhead(1, name="pool"), circuit_breaker(name="breaker")
tries = []

@pipeline(timeout(30), breaker, pool)
async def answer(x):
    tries.append(x)
    await asyncio.sleep(0)
    return x

@timeout(0.01)
async def endless():
    await asyncio.Event().wait()

@retry(on=OSError, attempts=3, backoff=0)
async def flaky(left=[2]):
    if left[0]:
        left[0] -= 1
        raise OSError
    return None if not left else "well"

@breaker
def plain(x):
    return x

async def main():
    assert [await answer(x) for x in (1, None, "x", (2,))] == [1, None, "x", (2,)]
    assert await asyncio.gather(asyncio.create_task(flaky())) == ["well"]
    try:
        await endless()
    except resilio.CallTimeoutError:
        pass
    else:
        raise AssertionError("the timeout has not fired")
    async with pool:
        assert pool.used == 1
    async with deadline(5):
        assert 0 < resilio.remaining() <= 5
    assert resilio.remaining() is None

asyncio.run(main())
with pool, deadline(5):
    assert (plain(7), pool.used) == (7, 1)
assert (pool.used, breaker.snapshot().failures, breaker.snapshot().inflight) == (0, 0, 0)
try:
    import greenlet
except ImportError:
    pass
else:
    assert greenlet.greenlet(lambda: plain(8)).switch() == 8
print("well")
"""


def _in_a_process(code: str, root: Path, **environment: str) -> None:
    settings = {**os.environ, "PYTHONPATH": str(root), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,  # before all else on the path
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_calls_go_by_public_ways_alone_where_the_environment_says_so() -> None:
    """`RESILIO_PUBLIC_ONLY=1`: timeouts fire, retries retry, blocks give back, results come out."""
    _in_a_process(CALLS + "assert not in_use, in_use\n", PACKAGE.parent, RESILIO_PUBLIC_ONLY="1")


ORDER = """
import resilio._native.proofs as proofs
proofs.with_order = lambda: ("entry", "entry", "exit")
from resilio import bulkhead
from resilio._native import core
assert core._private_state()["with_order"] == "failed"
pool = bulkhead(1)
with pool:
    assert pool.used == 1
assert pool.used == 0
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants a folder of links")
def test_a_with_statement_that_fetches_otherwise_is_served_by_hand(tmp_path: Path) -> None:
    """A Python that fetched more than an entry and an exit would have blocks own the wrong permit."""
    shutil.copytree(
        PACKAGE, tmp_path / "resilio", symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "static")
    )
    proofs = tmp_path / "resilio" / "_native" / "proofs.py"
    proofs.write_text(proofs.read_text() + '\n\ndef with_order():\n    return ("entry", "entry", "exit")\n')
    _in_a_process(ORDER.split("\n", 3)[3], tmp_path, RESILIO_PUBLIC_ONLY="0")


GREENLETS = """
import greenlet
class Table:
    pass
greenlet._C_API = None
from resilio import circuit_breaker
from resilio._native import core
breaker = circuit_breaker()
assert greenlet.greenlet(lambda: breaker.call(int)).switch() == 0
assert core._private_state()["greenlet"] == "failed"
print("well")
"""


def test_greenlets_are_asked_for_by_their_public_name_where_the_table_is_gone() -> None:
    """Once without its table, calls of a greenlet were taken for those of another."""
    pytest.importorskip("greenlet")
    if _public_only():
        pytest.skip("this process takes public ways alone")
    _in_a_process(GREENLETS, PACKAGE.parent)


NEWER = """
from resilio._native import core
in_use = {name for name, state in core._private_state().items() if state == "in use"}
assert in_use == {"with_order"}, in_use
print("well")
"""
"""A block by hand costs 2.4 us, ten times as much: a newer Python keeps what is proved by watching it."""


@has_sources
@pytest.mark.slow
@pytest.mark.once
def test_a_build_without_private_ways_runs_calls(tmp_path: Path) -> None:
    """What a Python newer than those tested gets: a core compiled with RS_PUBLIC_ONLY, which knows nobody's layout."""
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) or shutil.which("cc")
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no compiler, or no headers of this Python")
    shutil.copytree(PACKAGE, tmp_path / "resilio", ignore=shutil.ignore_patterns("__pycache__", "core.*.so", "static"))
    _compile_core(compiler, tmp_path / "resilio" / "_native")
    _in_a_process(CALLS, tmp_path)
    _in_a_process(NEWER, tmp_path, RESILIO_PUBLIC_ONLY="0")


def _compile_core(compiler: str, into: Path) -> None:
    """Build the core alone, quickly, with two processes."""
    target = into / f"core{sysconfig.get_config_var('EXT_SUFFIX')}"
    core = NATIVE / "resilio" / "_native" / "core"
    sources = sorted(core.rglob("*.c"))
    options = ["-O0", "-fPIC", "-std=gnu11", "-fvisibility=hidden", "-DRS_PUBLIC_ONLY", "-Werror=implicit"]
    headers = Path(sysconfig.get_path("include"))
    options += [f"-I{headers}", f"-I{headers.parent}", f"-I{NATIVE / 'include'}", f"-I{core}"]
    running = [
        subprocess.Popen([compiler, *options, "-c", *map(str, half)], cwd=into)
        for half in (sources[::2], sources[1::2])
    ]
    assert [each.wait(timeout=300) for each in running] == [0, 0]
    subprocess.run([compiler, "-shared", *map(str, into.glob("*.o")), "-o", str(target)], check=True, timeout=120)
