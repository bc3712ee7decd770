"""What is in the distribution, what a build says when it cannot work, and what importing the package costs others."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import resilio

HERE = Path(__file__).resolve().parents[1]
SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", HERE.parent))
NATIVE = (
    "budget",
    "clock",
    "core",
    "custom",
    "gates",
    "keyed",
    "pool",
    "primitives",
    "shared",
    "simulation",
    "sse",
    "strategies",
)

installed = pytest.mark.skipif(
    os.environ.get("RESILIO_TEST_INSTALLED") != "1",
    reason="says something of an installed wheel, `make test` builds one",
)
builds = pytest.mark.skipif(not importlib.util.find_spec("setuptools"), reason="setuptools is not installed")


def run(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run this Python elsewhere, so that no tree's package is on its path by accident."""
    environment = {**os.environ, **settings}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what git holds, with a generated C file in each place where a build leaves one."""
    if not (SOURCE / "resilio").is_dir():
        pytest.skip("the source tree is not here")
    unwanted = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "*.so", "__pycache__", "_build", "demo-output"
    )
    copy = shutil.copytree(SOURCE, tmp_path / "tree", ignore=unwanted)
    generated = copy / "build" / "cython" / "src_c" / "resilio" / "_native"
    generated.mkdir(parents=True)
    for name in NATIVE:
        if name != "core":
            (generated / f"{name}.c").write_text("#error generated\n")
            (copy / "src_c" / "resilio" / "_native" / f"{name}.c").write_text("#error generated\n")
    return copy


@pytest.mark.real(2.0)
@pytest.mark.once
@builds
def test_sdist_holds_what_was_written_by_hand_and_nothing_generated(tree: Path, tmp_path: Path) -> None:
    """The sdist has every hand-written C file and header, every .pyx and stub, the tests and docs; no generated C."""
    program = "import setuptools.build_meta as backend, sys; print(backend.build_sdist(sys.argv[1]))"
    result = run("-c", program, str(tmp_path), cwd=tree)
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {
        str(path.relative_to(tree))
        for folder, pattern in (
            ("src_c/include", "*.h"),
            ("src_c/algorithms", "**/*.h"),
            ("src_c/resilio/_native/core", "*.[ch]"),
            ("src_c/resilio", "*.p[yx]*"),
            ("resilio", "*.py*"),
            ("resilio", "*.toml"),
            ("tests", "*.py"),
            ("docs", "*.md"),
            ("tools", "*.py"),
        )
        for path in (tree / folder).rglob(pattern)
    }
    assert wanted <= names
    assert {
        "LICENSE",
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "Makefile",
        "README.md",
        "setup.py",
        "pyproject.toml",
    } <= names
    in_c = {name for name in names if name.endswith(".c")}
    by_hand = ("src_c/resilio/_native/core/", "tests/sharing/", "tests/policies/pool/")
    assert in_c == {name for name in in_c if name.startswith(by_hand)}
    assert in_c, "the hand-written C is missing"
    assert not {name for name in names if name.endswith((".so", ".pyc")) or name.startswith("build")}


@installed
def test_wheel_holds_modules_stubs_and_marker_only() -> None:
    """The wheel has .py, .pyi, .so, py.typed and data, an .so and a stub a native module, and no sources in C."""
    files = importlib.metadata.files("resilio-sdk") or []
    inside = {str(path) for path in files if path.parts[0] == "resilio" and "__pycache__" not in path.parts}
    data = {
        Path(name).parent.as_posix() for name in inside if Path(name).suffix not in {".py", ".pyi", ".so", ".typed"}
    }
    assert data == {
        "resilio/live/static",
        "resilio/metrics/assets",
        "resilio/simulation/scenarios",
        "resilio/sharing/_fleet/rules",
    }
    assert {
        f"resilio/live/static/{name}" for name in ("index.html", "live.css", "live.js", "store.js", "icon.svg")
    } <= inside
    modules = {Path(name).name.partition(".")[0] for name in inside if name.endswith(".so")}
    assert modules == set(NATIVE)
    assert {f"resilio/_native/{name}.pyi" for name in NATIVE} <= inside
    assert {path.parts[0] for path in files} & {"tests", "benchmarks", "docs", "src_c", "tools"} == set()


@installed
def test_metadata_names_entry_points_and_extras() -> None:
    """The console script, the pytest plugin and the extras are those of the documentation."""
    distribution = importlib.metadata.distribution("resilio-sdk")
    points = {(point.group, point.name, point.value) for point in distribution.entry_points}
    assert ("console_scripts", "resilio", "resilio.cli:main") in points
    assert ("pytest11", "resilio", "resilio.testing.plugin") in points
    extras = set(distribution.metadata.get_all("Provides-Extra") or [])
    assert extras == set(tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@installed
def test_console_script_and_module_start(tmp_path: Path) -> None:
    """`resilio --help` and `python -m resilio --help` say the same."""
    script = subprocess.run(
        [str(Path(sys.executable).with_name("resilio")), "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    module = run("-m", "resilio", "--help", cwd=tmp_path)
    assert module.returncode == 0, module.stderr
    assert "simulate" in script.stdout
    assert "simulate" in module.stdout


def test_import_loads_no_extra_and_no_event_loop(tmp_path: Path) -> None:
    """`import resilio` brings in no event loop library, no extra and no other distribution but anyio and attrs."""
    program = """
import sys, anyio, attrs
before = set(sys.modules)
import resilio
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    result = run("-c", program, cwd=tmp_path, PYTHONPATH=str(Path(resilio.__file__).parents[1]))
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    heavy = {
        "asyncio",
        "trio",
        "uvloop",
        "httpx",
        "httpx2",
        "prometheus_client",
        "rich",
        "matplotlib",
        "pytest",
        "numpy",
    }
    assert loaded & heavy == set()
    assert {name for name in loaded if name not in sys.stdlib_module_names} <= {"resilio", "cython_runtime"} | {
        name for name in loaded if name.startswith("_cython")
    }


@builds
def test_missing_compiler_is_named_with_what_to_install(tree: Path) -> None:
    """A build without a C compiler ends with what to install, and no traceback."""
    result = run("setup.py", "build_ext", cwd=tree, CC="no-such-compiler")
    assert result.returncode != 0
    assert "a C compiler ('no-such-compiler' was not found)" in result.stderr
    assert "apt install gcc python3-dev" in result.stderr
    assert "Traceback" not in result.stderr


@builds
def test_a_wheel_without_a_compiler_says_nothing_else(tree: Path) -> None:
    """535 lines of copying stood before what to install; pip shows all of them."""
    program = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    result = run("-c", program, str(tree / "dist"), cwd=tree, CC="no-such-compiler")
    assert result.returncode != 0
    assert result.stdout == ""
    first, *_, last = result.stderr.strip().splitlines()
    assert first.startswith("resilio-sdk needs a C compiler ('no-such-compiler' was not found)")
    assert last.strip().startswith("Windows:")


@builds
def test_missing_headers_are_named_with_what_to_install(tree: Path) -> None:
    """A build without Python.h ends with what to install, and no traceback."""
    program = """
import runpy, sys, sysconfig
real = sysconfig.get_path
sysconfig.get_path = lambda name, *rest, **options: "/nowhere" if name == "include" else real(name, *rest, **options)
sys.argv = ["setup.py", "build_ext"]
runpy.run_path("setup.py", run_name="__main__")
"""
    result = run("-c", program, cwd=tree)
    assert result.returncode != 0
    assert "the headers of this Python (/nowhere/Python.h was not found)" in result.stderr
    assert "apt install gcc python3-dev" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.once
@pytest.mark.slow
@builds
def test_a_tree_that_was_built_another_way_is_built_anew(tree: Path) -> None:
    """setuptools compares times alone: `RESILIO_DEBUG=1` left the stripped modules of a built tree as they were."""
    pytest.importorskip("Cython")
    shutil.rmtree(tree / "build")
    (tree / "src_c" / "resilio" / "_native" / "clock.c").unlink()
    seen = []
    for debug, place in (("0", ["--inplace"]), ("1", ["--inplace"]), ("1", ["--inplace"]), ("0", [])):
        settings = {
            "RESILIO_ONLY": "clock",
            "RESILIO_DEBUG": debug,
            "RESILIO_COVERAGE": "",
            "RESILIO_SANITIZE": "",
        }
        result = run("setup.py", "-q", "build_ext", *place, cwd=tree, **settings)
        assert result.returncode == 0, result.stderr
        folder = tree / "resilio" if place else next((tree / "build").glob("lib.*"))  # where a wheel takes it from
        (module,) = folder.rglob("clock.*.so")
        seen.append((module.stat().st_size, module.stat().st_mtime_ns))
    stripped, symbols, again, last = seen
    assert symbols[0] > 2 * stripped[0]
    assert again == symbols, "nothing has changed: nothing is built"
    assert last[0] == stripped[0]


@pytest.mark.slow
@installed
def test_type_checker_agrees_with_the_typing_tests(tmp_path: Path) -> None:
    """Strict mypy finds in the installed package the types that tests/typing asserts."""
    pytest.importorskip("mypy")
    shutil.copytree(HERE / "typing", tmp_path / "checks")
    result = run("-m", "mypy", "--strict", "--warn-unused-ignores", "checks", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
