"""
Builds the sdist, and every wheel from the unpacked sdist.

So a wheel never holds a leftover of an earlier build, and a file missing from the sdist is noticed here. Wheels are
kept under .cache/ by the digest of what they are built from: what did not change is not built again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import environments
from environments import ROOT, Environment
from interpreters import Interpreter

CACHE = ROOT / ".cache"
_SILENCE = 5.0  # seconds
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in Debian 12's 3.11.2
_BUILD_PARTS = ("resilio", "src_c", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def prepare(
    python: Interpreter, make: Callable[[], Environment], coverage: bool = False
) -> tuple[Path, Path, Environment]:
    """
    Make an environment and compile at once, and put the wheel in.

    Args:
        python: Whose wheel it is.

        make: Returns the environment, filled.

        coverage: As `build_wheel` takes it.

    Returns:
        The unpacked sdist, the wheel, the environment.
    """
    builder = environments.ensure(f"build-{python.minor}", python, build=True)
    source = unpack_sdist(builder)
    with ThreadPoolExecutor(1) as beside:
        made = beside.submit(make)
        wheel = build_wheel(source, builder, f"{python.minor}-{'coverage' if coverage else 'wheel'}", coverage)
        environment = made.result()
    environment.install_wheel(wheel)
    return source, wheel, environment


def unpack_sdist(environment: Environment) -> Path:
    """
    Return a fresh folder that holds what the sdist of this tree holds.

    Args:
        environment: One with the build requirements.
    """
    fresh = CACHE / "sdist"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for manifest in ROOT.glob("*.egg-info/SOURCES.txt"):
        manifest.unlink()  # setuptools would carry over what an earlier build listed
    _backend(environment, "build_sdist", fresh, cwd=ROOT)
    (archive,) = fresh.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(fresh, **SAFELY)
    (tree,) = (path for path in fresh.iterdir() if path.is_dir())
    return tree


def build_wheel(source: Path, environment: Environment, tag: str, coverage: bool = False) -> Path:
    """
    Return the wheel of this source for this Python; its folder also holds `tree`, where it was built.

    Args:
        source: What `unpack_sdist` returned.

        environment: One with the build requirements, of the Python to build for.

        tag: Names the build: two tags never share a folder.

        coverage: Make Cython lines traceable; the build tree keeps the generated C beside its source.
    """
    folder = CACHE / f"wheel-{tag}"
    stamp = folder / "digest.txt"
    digest = _digest(source)
    if not (stamp.exists() and stamp.read_text() == digest):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder / "tree")
        if not coverage:
            _share_translation(folder / "tree", digest)
        settings = {**environment.interpreter.settings, "RESILIO_COVERAGE": "1" if coverage else "0"}
        # Debug information, which Debian's Python asks for, takes a fifth of the compiler's time.
        settings["CPPFLAGS"] = f"{os.environ.get('CPPFLAGS', '')} -g0".strip()
        print(f"compiling {len(list((source / 'src_c').rglob('*.pyx'))) + 1} modules, about a minute", flush=True)
        _backend(environment, "build_wheel", folder, cwd=folder / "tree", env=settings)
        stamp.write_text(digest)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _share_translation(tree: Path, digest: str) -> None:
    """
    Bring what Cython made of the same sources for another Python: it is the same C.

    As files of now: Cython would make anew what is older than the declarations that an environment came with.
    """
    for stamp in CACHE.glob("wheel-*/digest.txt"):
        translated = stamp.parent / "tree" / "build" / "cython"
        if stamp.read_text() == digest and translated.exists():
            shutil.copytree(translated, tree / "build" / "cython", copy_function=shutil.copy)
            return


def _backend(environment: Environment, hook: str, target: Path, **options: Any) -> None:
    """Call the build backend inside the environment: no isolated one has to be made and filled."""
    program = f"import setuptools.build_meta as backend, sys; backend.{hook}(sys.argv[1])"
    log = target / f"{hook}.log"
    with log.open("w") as output:
        command = [environment.python, "-c", program, str(target)]
        code = _wait(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options), hook)
    if code:
        raise SystemExit(f"{log.read_text()}\n{hook} failed with exit code {code}; the log is {log}")
    for line in log.read_text().splitlines():
        if " warning: " in line:  # a compiler's; setuptools starts a line with it
            print(line, flush=True)


def _wait(process: subprocess.Popen[bytes], what: str) -> int:
    """Wait for the end, with a sign of life now and then; return the exit code."""
    started = time.monotonic()
    while True:
        try:
            return process.wait(_SILENCE)
        except subprocess.TimeoutExpired:
            print(f"  {what}: {time.monotonic() - started:.0f} s", flush=True)


def _digest(tree: Path) -> str:
    digest = hashlib.sha256()
    parts = [tree / part for part in _BUILD_PARTS]
    for path in sorted(path for part in parts for path in (part.rglob("*") if part.is_dir() else [part])):
        if path.is_file():
            digest.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
