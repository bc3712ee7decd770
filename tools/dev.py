"""What the Makefile calls: each task makes the virtual environments that it needs and runs in them."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.exit("resilio needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3")

import argparse
import functools
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import environments
import free_threaded
import interpreters
import matrix
import newer_pythons
import wheels
import windows
import workflows
from check_prose import main as check_prose
from check_rules import main as check_rules
from environments import ROOT, Environment
from interpreters import Interpreter
from mutation.command import main as mutation
from suite import run_all, run_one, run_others, run_quick


def main() -> int:
    """Run one task."""
    # What is installed is compiled when it is first imported: not to keep that would be to compile it in each process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser(prog="tools/dev.py", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    task, rest = parser.parse_known_args()
    return TASKS[task.task](rest)


def soak(arguments: list[str]) -> int:
    """Run the long storms on every Python present; a turn may take longer than any test of the suite."""
    patience = ["-o", "faulthandler_timeout=1800"]
    return run_all([*patience, *arguments], "soak", kinds=("wheel",))


def coverage(arguments: list[str]) -> int:
    """Run the suite on one Python with coverage."""
    return run_all(arguments, kinds=("coverage",))


def demo(arguments: list[str]) -> int:
    """Run the demo with an installed wheel."""
    environment = _installed("demo", _newest(), extras=("cli", "httpx", "live"), build=False)
    # Ctrl-C is the demo's: it stops its server and shows a partial result; `subprocess.run` would kill it before that.
    signal.signal(signal.SIGINT, lambda *_: None)
    return _call(environment, "-m", "examples.demo", *arguments, path=_alone("examples"))


def bench(arguments: list[str]) -> int:
    """Measure on every Python present, against the peers that install."""
    installed = [_installed(f"bench-{python.minor}", python, optional=("bench",)) for python in interpreters.require()]
    pythons = [environment.python for environment in installed]
    place = _alone("benchmarks")
    code = _call(installed[-1], "-m", "benchmarks", "--pythons", *pythons, *arguments, cwd=place)
    routers = _installed("bench-failover", _newest(), optional=("failover",))
    code = _call(routers, "-m", "benchmarks.shared.fleet", "--record", cwd=place) or code
    return _call(routers, "-m", "benchmarks.failover", "--record", cwd=place) or code


def docs(arguments: list[str]) -> int:
    """Build the documentation; a warning is an error."""
    environment = _installed("docs", _newest(), "docs", extras=("prometheus",))
    target = ROOT / "docs" / "_build"
    shutil.rmtree(target, ignore_errors=True)
    sphinx = ("-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(target / "doctrees"), *arguments)
    code = _call(environment, *sphinx, str(ROOT / "docs"), str(target / "html"))
    if not code:
        print(f"docs: {target / 'html' / 'index.html'}")
    return code


def lint(arguments: list[str]) -> int:
    """Run every check, then fail if one failed."""
    environment = _installed(
        "lint", _newest(), "lint", "typing", extras=("prometheus", "httpx", "cli"), optional=("integrations",)
    )
    python, allowed = environment.python, str(ROOT / "tools" / "stubtest-allowlist.txt")
    checks = {
        "ruff": (python, "-m", "ruff", "check"),
        "format": (python, "-m", "ruff", "format", "--check"),
        "clang-format": (environment.command("clang-format"), "--dry-run", "--Werror", *_c_sources()),
        "cython-lint": (environment.command("cython-lint"), "src_c"),
        "mypy": (python, "-m", "mypy"),
        "pyright": (python, "-m", "pyright", "--pythonpath", python),
        "stubtest": (python, "-m", "mypy.stubtest", "resilio._native", "--allowlist", allowed),
        "types": (python, str(ROOT / "tools" / "check_types.py")),
    }
    # cython-lint looks for pycodestyle on the path
    settings = {**os.environ, "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    failed = [] if check_rules(str(ROOT / "resilio")) == 0 else ["rules"]
    failed += [] if check_prose([str(ROOT / "resilio"), str(ROOT / "src_c")]) == 0 else ["prose"]
    failed += [] if check_prose([str(ROOT / "docs"), str(ROOT / "README.md")]) == 0 else ["prose of pages"]
    for name, command in checks.items():
        print(f"=== {name}", flush=True)
        # these look at the installed package, so they must not see the tree's
        folder = environment.path if name in ("stubtest", "types") else ROOT
        if subprocess.run([*command, *arguments], cwd=folder, env=settings, check=False).returncode:
            failed.append(name)
    print(f"lint: {', '.join(failed)} failed" if failed else "lint: all checks passed")
    return int(bool(failed))


def _c_sources() -> list[str]:
    return [str(path) for path in sorted((ROOT / "src_c").rglob("*.[ch]")) if not path.with_suffix(".pyx").exists()]


def _newest() -> Interpreter:
    """Return the newest Python of this machine, if all there is was unpacked the newest of those."""
    pythons = interpreters.require(say=False)
    return ([python for python in pythons if not python.unpacked] or pythons)[-1]


def _installed(name: str, python: Interpreter, *groups: str, **more: Any) -> Environment:
    """Return an environment that holds the groups, the extras and resilio as built from this tree."""
    make = functools.partial(environments.ensure, name, python, *groups, **{"build": True, **more})
    return wheels.prepare(python, make)[2]


def _alone(folder: str) -> Path:
    """Return a folder in which this folder of the tree is all there is to import."""
    place = wheels.CACHE / f"run-{folder}"
    place.mkdir(parents=True, exist_ok=True)
    link = place / folder
    if not link.exists():
        link.symlink_to(ROOT / folder)
    return place


def _call(environment: Environment, *command: str, cwd: Path | None = None, path: Path | None = None) -> int:
    """
    Run the environment's Python; in the root of the tree it sees the installed package and not the tree's.

    Args:
        environment: Whose Python it is.

        command: The arguments of Python.

        cwd: The current folder; without it, the root of the tree.

        path: A folder to import from.
    """
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if cwd is None:
        settings["PYTHONSAFEPATH"] = "1"
    if path is not None:
        settings["PYTHONPATH"] = str(path)
    return subprocess.run([environment.python, *command], cwd=cwd or ROOT, env=settings, check=False).returncode


def for_windows(_: list[str]) -> int:
    """Compile the native layer for Windows, and run the algorithms under Wine; what cannot be had here is skipped."""
    python = _newest()
    _installed("windows", python)
    return windows.check(wheels.CACHE / f"wheel-{python.minor}-wheel" / "tree")


def of_workflows(_: list[str]) -> int:
    """Run what the public CI runs, as far as this machine can."""
    environment = environments.ensure("release", _newest(), "release", build=True, optional=("actionlint",))
    return workflows.run(environment, workflows.read(environment))


TASKS = {
    "bench": bench,
    "coverage": coverage,
    "demo": demo,
    "docs": docs,
    "free-threaded": free_threaded.main,
    "windows": for_windows,
    "workflows": of_workflows,
    "lint": lint,
    "matrix": matrix.main,
    "mutation": mutation,
    "pythons": newer_pythons.main,
    "quick": run_quick,
    "soak": soak,
    "test": run_one,
    "test-all": run_all,
    "test-others": run_others,
}

if __name__ == "__main__":
    sys.exit(main())
