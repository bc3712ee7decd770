"""A copy of the tree in which one mutant at a time is built and tested."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from mutation import patience
from mutation.covers import REST, Cover, cover
from mutation.faults import Fault
from mutation.mutators import Mutant
from mutation.sample import files

NATIVE = "src_c/resilio/_native"
CAUGHT, SURVIVED, HUNG = "caught", "survived", "caught by the time limit"
UNBUILT, SAME = "does not build", "builds the same"
REDRAWN = {UNBUILT, SAME}
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutation")
_MARKS = "not slow and not once and not soak"
_PATIENCE = 30.0  # CPU seconds beside five times what the tests take on the unchanged tree
_MEASURING = threading.Lock()
_SOURCES = {".py", ".pyx", ".pxi", ".pxd", ".c", ".h"}


@dataclass
class Workspace:
    """
    The copy.

    Attributes:
        python: The interpreter that builds and tests, with what the tests need.

        limit: CPU seconds for the tests of a mutant; None for a multiple of what they take on the unchanged tree.

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

    def measure(self, paths: Iterable[str]) -> dict[str, float]:
        """
        Return the seconds that each file of tests takes on the unchanged tree: those below the paths, and earlier ones.

        They must pass, or "caught" would mean nothing. All workers share what one of them has measured.
        """
        known, state = self.place.with_name("mutation-clean.json"), self._digest("resilio/", "src_c/", "tests/")
        with _MEASURING:
            kept = json.loads(known.read_text()) if known.exists() else {}
            if kept.get("state") != state:
                kept = {"state": state, "paths": [], "seconds": {}}
            wanted = {path for path in paths if not _is_below(path, kept["paths"])}
            missing = sorted(path for path in wanted if not _is_below(path, wanted - {path}))
            if missing:
                kept["seconds"] |= self._timed(missing)
                kept["paths"] += missing
                known.write_text(json.dumps(kept))
        return kept["seconds"]

    def _timed(self, paths: list[str]) -> dict[str, float]:
        report, seconds = self.place / "clean.xml", defaultdict[str, float](float)
        if self._tests(paths, 3600.0, f"--junitxml={report}", "-o", "junit_family=xunit1"):
            raise SystemExit(f"the tests fail on the unchanged tree: see {self.place / 'tests.log'}")
        for case in ET.parse(report).getroot().iter("testcase"):
            seconds[case.get("file", "")] += float(case.get("time", 0))
        return seconds

    def _stages(self, covers: Cover) -> Iterator[tuple[list[str], float]]:
        """
        Yield files of tests that run together, each file once, with their seconds: the quickest of a path first.

        The first path alone, since most are caught there: to collect the others would take longer.
        """
        ran: set[str] = set()
        for paths in (covers.tests[:1], covers.tests[1:], () if self.narrow else REST):
            seconds, stage = self.measure(paths), dict[str, None]()
            for path in paths:
                inside = [file for file in seconds if _is_below(file, [path]) and file not in ran]
                stage |= dict.fromkeys(sorted(inside, key=seconds.__getitem__))
            ran |= stage.keys()
            if stage:
                yield list(stage), sum(seconds[file] for file in stage)

    def try_out(self, mutant: Mutant | Fault) -> str:
        """Return what became of a mutant, or of a known fault, for which its tests alone run; the copy is as before."""
        if isinstance(mutant, Fault):
            covers = mutant.cover
            seconds = self.measure(mutant.files)
            stages = [(mutant.tests, sum(took for file, took in seconds.items() if _is_below(file, mutant.files)))]
        else:
            covers = cover(mutant.path)
            assert covers is not None
            stages = list(self._stages(covers))
        with self._changed(mutant, covers) as problem:
            if problem:
                return problem
            for stage, seconds in stages:
                code = self._tests(stage, self.limit or _PATIENCE + 5 * seconds)
                if code != 0:
                    return HUNG if code is None else CAUGHT
        return SURVIVED

    @contextlib.contextmanager
    def _changed(self, mutant: Mutant | Fault, covers: Cover) -> Iterator[str]:
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

    def _problem(self, mutant: Mutant | Fault, covers: Cover, built: dict[Path, bytes]) -> str:
        if not covers.modules and not mutant.path.endswith(".py"):
            return ""
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
            if shutil.which("ccache"):  # of the core's files all but one are as before
                settings |= {"CC": "ccache cc", "CCACHE_DIR": str(self.place / "ccache")}
            return subprocess.run(command, cwd=self.place, env=settings, stdout=log, stderr=log, check=False).returncode

    def _tests(self, paths: list[str], limit: float, *options: str) -> int | None:
        """Return pytest's exit code, or None if it hangs: it took more CPU time than the limit, or it rests."""
        command = [self.python, *_PYTEST, "-m", _MARKS, *options, *paths]
        settings = {**os.environ, "RESILIO_TEST_EXAMPLES": "15", "PYTHONPATH": str(self.place)}
        with (self.place / "tests.log").open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            child = subprocess.Popen(command, cwd=self.place, env=settings, start_new_session=True, **streams)
            try:
                return patience.wait(child, limit)
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


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


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
