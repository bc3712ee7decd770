"""The algorithms of shared memory, in every order of their steps and with every death, as interleave.h describes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALGORITHMS = HERE.parents[2] / "src_c" / "algorithms"
CASES = sorted(HERE.glob("*.c"))
COMPILER = next(filter(shutil.which, [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]), None)
OPTIONS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Wno-unused-function"]
SLOW = {"lease"}  # twenty seconds
SECONDS = {"breaker": 4.5, "courier": 8.0, "keys": 3.5, "limit": 4.5, "window": 6.0}
TORN = {"swap": "-DINTERLEAVE_TORN_SWAP", "add": "-DINTERLEAVE_TORN_ADD"}

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: the shared algorithms, for want of a C compiler"),
    pytest.mark.skipif(not ALGORITHMS.exists(), reason="NOT TESTED: the shared algorithms, whose source is not here"),
]


def _mutants(case: Path) -> list[str]:
    return re.findall(r"^ \* mutant: (.+)$", case.read_text(), re.MULTILINE)


def _size(case: Path) -> pytest.MarkDecorator:
    return pytest.mark.slow if case.stem in SLOW else pytest.mark.real(SECONDS.get(case.stem, 1.5))


MUTANTS = [pytest.param(case, mutant, id=f"{case.stem}: {mutant}") for case in CASES for mutant in _mutants(case)]


def _run(case: Path, folder: Path, *options: str, algorithms: Path = ALGORITHMS) -> subprocess.CompletedProcess[str]:
    """Compile the case against these algorithms, and run it."""
    program = folder / case.stem
    folders = [f"-I{folder}" for folder in (HERE, algorithms, ALGORITHMS.parent / "include")]
    command = [str(COMPILER), *OPTIONS, *options, *folders, str(case), "-o", str(program), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ucontext.h" in built.stderr:
        pytest.skip("NOT TESTED: the shared algorithms; this system has no <ucontext.h>")
    assert built.returncode == 0, built.stderr
    assert algorithms is not ALGORITHMS or "warning" not in built.stderr, built.stderr
    return subprocess.run([str(program)], capture_output=True, text=True, check=False)


def _mutated(text: str, folder: Path) -> Path:
    """Return a copy of the algorithms in which one line, `FILE: TEXT => OTHER TEXT`, is another one."""
    name, old, new = re.fullmatch(r"(\S+): (.*) => (.*)", text).groups()  # type: ignore[union-attr]
    copy = folder / "algorithms"
    shutil.copytree(ALGORITHMS, copy)
    before = (copy / name).read_text()
    assert before.count(old) == 1, f"{old!r} must stand once in {name}: the mutant is out of date"
    (copy / name).write_text(before.replace(old, new))
    return copy


@pytest.mark.parametrize("case", [pytest.param(case, marks=_size(case), id=case.stem) for case in CASES])
def test_every_interleaving_holds(case: Path, tmp_path: Path) -> None:
    """No order of steps, and no death after any of them, violates what the algorithm promises."""
    ran = _run(case, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " states, " in ran.stdout, "nothing was visited"


@pytest.mark.slow
@pytest.mark.parametrize(("case", "mutant"), MUTANTS)
def test_a_broken_algorithm_is_caught(case: Path, mutant: str, tmp_path: Path) -> None:
    """A broken algorithm violates a promise in some interleaving: what cannot fail would prove nothing."""
    if mutant in TORN:
        ran = _run(case, tmp_path, TORN[mutant])
    elif mutant.startswith("-D"):
        ran = _run(case, tmp_path, mutant)
    else:
        ran = _run(case, tmp_path, algorithms=_mutated(mutant, tmp_path))
    assert "violated: " in ran.stdout, f"not caught: {ran.stdout}{ran.stderr}"
    assert ran.returncode == 1
