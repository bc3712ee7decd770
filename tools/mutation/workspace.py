"""A copy of the tree in which one mutant at a time is built and tested."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutation.covers import REST, Cover, cover
from mutation.mutators import Mutant
from mutation.sample import files

NATIVE = "src_c/resilio/_native"
CAUGHT, SURVIVED, HUNG = "caught", "survived", "caught by the time limit"
UNBUILT, SAME = "does not build", "builds the same"
REDRAWN = {UNBUILT, SAME}
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutation")
_MARKS = "not slow and not once and not soak"
_PATIENCE = 30.0  # seconds beside five times what the tests take on the unchanged tree
_MEMORY = 8 << 30
_SOURCES = {".py", ".pyx", ".pxi", ".pxd", ".c", ".h"}


@dataclass
class Workspace:
    """
    The copy.

    Attributes:
        python: The interpreter that builds and tests, with what the tests need.

        limit: Seconds for the tests of a mutant; None for a multiple of what they take on the unchanged tree.

        narrow: Run no tests but those that are listed for the file.
    """

    root: Path
    place: Path
    python: str
    limit: float | None = None
    narrow: bool = False

    def prepare(self) -> None:
        """Bring the copy up to date and build it, which takes no time when nothing has changed."""
        known = files(self.root)
        for path in known:
            copy_if_changed(self.root / path, self.place / path)
        for kept in self.place.glob("**/*"):
            name = kept.relative_to(self.place).as_posix()
            if kept.suffix in _SOURCES and not name.startswith("build/") and name not in known:
                kept.unlink()
        if self._built.exists() and self._built.read_text() == self._digest("setup.py", "src_c/"):
            return
        modules = ["core", *(path.stem for path in sorted((self.place / NATIVE).glob("*.pyx")))]
        if self._build(tuple(modules)):
            raise SystemExit(f"the unchanged tree does not build: see {self.place / 'build.log'}")
        self._built.write_text(self._digest("setup.py", "src_c/"))

    @property
    def _built(self) -> Path:
        """The file that says what the modules were built from; missing while a mutant is in place."""
        return self.place / "built.txt"

    def _clean_seconds(self, path: str) -> float:
        """Return what a path of tests takes on the unchanged tree; it must pass, or "caught" would mean nothing."""
        known = self.place / "clean.json"
        times = json.loads(known.read_text()) if known.exists() else {}
        key = f"{path} {self._digest('resilio/', 'src_c/', path)}"
        if key not in times:
            begun = time.monotonic()
            if self._tests((path,), 1800.0):
                raise SystemExit(f"{path} fails on the unchanged tree: see {self.place / 'tests.log'}")
            times[key] = time.monotonic() - begun
            known.write_text(json.dumps(times))
        return times[key]

    def try_out(self, mutant: Mutant) -> str:
        """Return what became of a mutant; the copy is as before."""
        covers = cover(mutant.path)
        assert covers is not None
        # The first path alone: most are caught there, and to collect the others would take longer.
        stages = [covers.tests[:1], covers.tests[1:], () if self.narrow else REST]
        limits = [self.limit or _PATIENCE + 5 * sum(map(self._clean_seconds, stage)) for stage in stages]
        with self._changed(mutant, covers) as problem:
            if problem:
                return problem
            for stage, limit in zip(stages, limits, strict=True):
                code = self._tests(stage, limit) if stage else 0
                if code != 0:
                    return HUNG if code is None else CAUGHT
        return SURVIVED

    @contextlib.contextmanager
    def _changed(self, mutant: Mutant, covers: Cover) -> Iterator[str]:
        """Apply and build a mutant, with what is wrong with it; put the source and the modules back at the end."""
        target = self.place / mutant.path
        source = target.read_text(encoding="utf-8")
        built = {path: path.read_bytes() for name in covers.modules for path in self._module(name)}
        stamp = self._built.read_text()
        self._built.unlink()
        _write(target, mutant.apply(source))
        try:
            yield self._problem(mutant, covers, built)
        finally:
            _write(target, source)
            for path, content in built.items():
                path.unlink(missing_ok=True)  # not written over: a process may still have it mapped
                path.write_bytes(content)
            self._built.write_text(stamp)

    def _problem(self, mutant: Mutant, covers: Cover, built: dict[Path, bytes]) -> str:
        if not covers.modules:
            try:
                compile((self.place / mutant.path).read_text(encoding="utf-8"), mutant.path, "exec")
            except SyntaxError:
                return UNBUILT
            return ""
        if self._build(covers.modules):
            return UNBUILT
        same = all(path.exists() and path.read_bytes() == content for path, content in built.items())
        return SAME if same else ""

    def _module(self, name: str) -> list[Path]:
        return sorted((self.place / "resilio/_native").glob(f"{name}.*.so"))

    def _build(self, modules: tuple[str, ...]) -> int:
        """Build these modules, unoptimised; return the exit code."""
        command = [self.python, "setup.py", "-q", "build_ext", "--inplace", "--force", "--parallel=1"]
        with (self.place / "build.log").open("wb") as log:
            settings = {**os.environ, "RESILIO_ONLY": ",".join(modules)}
            return subprocess.run(command, cwd=self.place, env=settings, stdout=log, stderr=log, check=False).returncode

    def _tests(self, paths: tuple[str, ...], limit: float) -> int | None:
        """Return pytest's exit code, or None if it took longer than the limit."""
        command = [self.python, *_PYTEST, "-m", _MARKS, *dict.fromkeys(paths)]
        settings = {**os.environ, "RESILIO_TEST_EXAMPLES": "15", "PYTHONPATH": str(self.place)}
        with (self.place / "tests.log").open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            child = subprocess.Popen(command, cwd=self.place, env=settings, start_new_session=True, **streams)
            if sys.platform == "linux":
                resource.prlimit(child.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))  # a loop may allocate for ever
            try:
                return child.wait(limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # and what it has started
                child.wait()

    def _digest(self, *beginnings: str) -> str:
        """Return what identifies the files whose paths begin so."""
        state = hashlib.sha256()
        for name in files(self.root):
            if name.startswith(beginnings) and not name.endswith((".md", ".pyi")):
                state.update((self.root / name).read_bytes())
        return state.hexdigest()[:16]


def copy_if_changed(source: Path, target: Path) -> None:
    """Copy a file unless it is the same: what is built from it stays valid."""
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, source: str) -> None:
    """Write a file, and forget what was compiled of it: a change of equal length in the same second would go unseen."""
    path.write_text(source, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
