"""
Compiles the native layer for Windows x86-64 with mingw-w64, and runs the shared algorithms under Wine.

Neither Windows nor its Python is here: the headers are those of CPython's sources, from Debian. What is missing is
SKIPPED out loud. No module is linked or imported; the workflow *wheels* does that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from debian import Apt, UnavailableError, codename
from environments import ROOT
from wheels import CACHE, SAFELY

COMPILER = "x86_64-w64-mingw32-gcc"
HEADERS = CACHE / "windows" / "include"
NEVER = {"deep", "held", "missing", "nowhere", "over", "together", "twice"}
"""Counts of the scenes that are 0 whatever the threads do. Other counts need races, which Wine may not have."""
NOT_THERE = ("pthread.h", "sched.h", "sys/mman.h", "unistd.h")
"""Headers that mingw has and Windows has not."""
_SOURCE = "python3.13"
_PARTS = ("include", "algorithms", "resilio/_native/core", "")
_QUIET = ("-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-sign-compare", "-Wno-cast-function-type")


def compiled(tree: Path) -> int:
    """Compile each C file of a tree in which Cython has run; return the number of those that do not compile."""
    sources = [*(tree / "src_c").rglob("core/**/*.c"), *(tree / "build" / "cython").rglob("*.c")]
    with ThreadPoolExecutor(2) as pool:
        wrong = [text for text in pool.map(lambda source: _compiled(tree, source), sources) if text]
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"windows: {len(sources) - len(wrong)} of {len(sources)} files compile with {COMPILER}")
    return len(wrong)


def _compiled(tree: Path, source: Path) -> str:
    folders = [_without_posix(), HEADERS, *(tree / "src_c" / name for name in _PARTS)]
    options = ["-std=gnu11", "-O0", "-c", "-o", os.devnull, "-Wall", "-Wextra", *_QUIET]
    command = [COMPILER, *options, *(f"-I{folder}" for folder in folders), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def _without_posix() -> Path:
    """Return a folder in which the headers that Windows has not are errors."""
    folder = CACHE / "windows" / "without"
    for name in NOT_THERE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#error Windows has no {name}; see src_c/algorithms/platform.h\n")
    return folder


def headers() -> None:
    """Bring the headers of CPython for Windows, once, or raise UnavailableError."""
    if (HEADERS / "pyconfig.h").exists():
        return
    unpacked = CACHE / "windows" / "python"
    with Apt(codename(), "deb-src") as apt:
        apt.get("source", "--download-only", "--tar-only", _SOURCE)
        (archive,) = apt.folder.glob("*.orig.tar.*")
        with tarfile.open(archive) as packed:
            wanted = [one for one in packed if "/Include/" in one.name or one.name.endswith("/PC/pyconfig.h.in")]
            packed.extractall(unpacked, wanted, **SAFELY)
    (source,) = unpacked.iterdir()
    shutil.copytree(source / "Include", HEADERS, dirs_exist_ok=True)
    shutil.copy(source / "PC" / "pyconfig.h.in", HEADERS / "pyconfig.h")


def ran(folder: Path) -> int:
    """Run each scene of the shared algorithms under Wine; return the number of those that go wrong."""
    wrong = 0
    for scene in scenes():
        counts = _ran(scene, folder)
        broken = not counts or any(counts[name] for name in NEVER & counts.keys())
        print(f"windows: {scene.stem}: {'WRONG' if broken else 'ok'} {counts}", flush=True)
        wrong += broken
    return wrong


def scenes() -> Iterator[Path]:
    """Yield the programs for threads; the one of a region needs files that processes share."""
    folder = ROOT / "tests" / "sharing" / "sanitized"
    yield from (path for path in sorted(folder.glob("*.c")) if path.stem != "region")


def _ran(scene: Path, folder: Path) -> dict[str, int]:
    program = folder / f"{scene.stem}.exe"
    folders = [f"-I{path}" for path in (scene.parent, ROOT / "src_c" / "algorithms", ROOT / "src_c" / "include")]
    command = [COMPILER, "-std=gnu11", "-O1", *folders, str(scene), "-o", str(program), "-static", "-pthread", "-lm"]
    subprocess.run(command, check=True)
    quiet = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": str(folder / "wine")}
    done = subprocess.run(["wine", str(program)], env=quiet, capture_output=True, text=True, check=False)
    lines = [] if done.returncode else done.stdout.splitlines()
    return {name: int(number) for name, number in map(str.split, lines)}


def check(tree: Path) -> int:
    """Do all of it; 0 if nothing is wrong, or nothing can be asked here."""
    if shutil.which(COMPILER) is None:
        print(f"windows: SKIPPED, there is no {COMPILER} (Debian: apt install gcc-mingw-w64-x86-64)")
        return 0
    try:
        headers()
        wrong = compiled(tree)
    except UnavailableError as error:
        print(f"windows: SKIPPED, the headers of CPython for Windows cannot be had: {error}")
        wrong = 0
    if shutil.which("wine") is None:
        print("windows: SKIPPED, the algorithms are not run: there is no wine (Debian: apt install wine64 wine)")
        return int(bool(wrong))
    folder = CACHE / "windows" / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    return int(bool(wrong + ran(folder)))
