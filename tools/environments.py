"""Virtual environments under .venv/, made once and made anew when what they need has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import tomllib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import interpreters
from interpreters import Interpreter

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"
_STAMP = "resilio-stamp.json"
_MAKING_PIP = threading.Lock()


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds the listed dependencies, and perhaps resilio's wheel."""

    path: Path
    interpreter: Interpreter

    @property
    def python(self) -> str:
        """The interpreter inside."""
        return str(self.path / "bin" / "python")

    def command(self, name: str) -> str:
        """Return the path of a program that one of its packages installs."""
        return str(self.path / "bin" / name)

    def pip(self, *arguments: str) -> None:
        """Run pip for it, quietly; its own words appear if it fails."""
        run(self._pip(*arguments), env=self.interpreter.settings)

    def try_install(self, requirements: list[str]) -> None:
        """Install what may be missing afterwards: all at once, or else each that installs, and say which does not."""
        command = self._pip("install", "--no-compile", *self._wheels_only(), *requirements)
        if subprocess.run(command, check=False, capture_output=True, env=self.interpreter.settings).returncode == 0:
            return
        if len(requirements) == 1:
            print(f"{self.path.name}: {requirements[0]} does not install: SKIPPED", flush=True)
            return
        for requirement in requirements:
            self.try_install([requirement])

    def _wheels_only(self) -> list[str]:
        """Without the GIL few sources compile, after minutes; an older version may have a wheel for every Python."""
        return [] if self.interpreter.gil else ["--only-binary", ":all:"]

    def fill(self, requirements: list[str]) -> None:
        """Install what must be there."""
        self.pip("install", "--no-compile", *self._wheels_only(), *requirements)  # what is imported is compiled then

    def _pip(self, *arguments: str) -> list[str]:
        """Return the command of the one pip that fills every environment, whether its Python comes with one or not."""
        return [
            _python_with_pip(),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            self.python,
            "-q",
            *arguments,
        ]

    def install_wheel(self, wheel: Path) -> None:
        """Put exactly this build of resilio in, unless it is there already."""
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        stamp = self.path / "resilio-wheel.txt"
        if stamp.exists() and stamp.read_text() == digest:
            return
        stamp.unlink(missing_ok=True)
        self.pip("install", "--no-deps", "--force-reinstall", "--no-index", str(wheel))
        stamp.write_text(digest)

    def bring(self, module: Path) -> None:
        """Copy a module in, for all programs that run here, whichever folder they run in."""
        shutil.copy(module, self.path / "lib" / f"python{self.interpreter.minor}" / "site-packages")


def run(command: list[str], **options: object) -> None:
    """Run a command, or end the program with the command and its exit code."""
    code = subprocess.run(command, check=False, **options).returncode  # type: ignore[call-overload]
    if code:
        raise SystemExit(f"exit code {code} from: {' '.join(command)}")


def create(name: str, interpreter: Interpreter) -> Environment:
    """Return the environment `.venv/<name>`, made anew and empty: what fills it is a pip outside of it."""
    environment = Environment(VENVS / name, interpreter)
    shutil.rmtree(environment.path, ignore_errors=True)
    run([interpreter.path, "-m", "venv", "--without-pip", str(environment.path)])
    return environment


def _python_with_pip() -> str:
    """
    Return the interpreter of `.venv/pip`, whose pip is new enough for each Python.

    Made of the first Python that comes with a pip: Debian's has none without python3-venv, an unpacked one never.
    """
    python, made = VENVS / "pip" / "bin" / "python", VENVS / "pip" / _STAMP
    with _MAKING_PIP:
        if not (made.exists() and python.exists()):  # a link to an interpreter that is gone does not exist
            _make_pip(VENVS / "pip")
            made.write_text("{}")
    return str(python)


def _make_pip(path: Path) -> None:
    for interpreter in interpreters.find(say=False):
        shutil.rmtree(path, ignore_errors=True)
        command = [interpreter.path, "-m", "venv", str(path)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            run([str(path / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "pip>=25"])
            return
    raise SystemExit("no Python here comes with pip: apt install python3-venv")


def ensure(
    name: str,
    interpreter: Interpreter,
    *groups: str,
    extras: tuple[str, ...] = (),
    build: bool = False,
    optional: tuple[str, ...] = (),
    like: Environment | None = None,
) -> Environment:
    """
    Return the environment `.venv/<name>`, holding the package's dependencies, extras and dependency groups.

    Args:
        name: The folder under .venv/.

        interpreter: What to make it from.

        groups: PEP 735 groups of pyproject.toml.

        extras: Extras of the distribution.

        build: Put the build requirements in as well.

        optional: Groups of which each requirement that does not install is left out, and said so.

        like: One of the same Python to begin from: what it holds is linked, which takes a tenth of the time.
    """
    wanted = requirements(*groups, extras=extras, build=build)
    extra = [_group(_project()["dependency-groups"], group) for group in optional]
    stamp = {"python": interpreter.full, "path": interpreter.path, "digest": _digest([*wanted, *chain(*extra)])}
    environment = Environment(VENVS / name, interpreter)
    recorded = environment.path / _STAMP
    if not (recorded.exists() and json.loads(recorded.read_text()) == stamp):
        print(f"making .venv/{name} ({len(wanted)} requirements)", flush=True)
        create(name, interpreter)
        if like:
            _link(like, environment)
        environment.fill(wanted)
        for group in extra:
            environment.try_install(group)
        recorded.write_text(json.dumps(stamp))
    return environment


def _link(like: Environment, environment: Environment) -> None:
    """Link all that another environment holds but resilio itself; its commands stay where they are."""
    (packages,) = like.path.glob("lib/python*/site-packages")
    place = environment.path / packages.relative_to(like.path)
    resilio = shutil.ignore_patterns("resilio", "resilio_sdk-*")
    shutil.copytree(packages, place, copy_function=os.link, ignore=resilio, dirs_exist_ok=True)


def requirements(*groups: str, extras: tuple[str, ...] = (), build: bool = False) -> list[str]:
    """Return what pyproject.toml asks for, sorted and each once."""
    project = _project()
    wanted = set(project["project"]["dependencies"])
    for extra in extras:
        wanted.update(project["project"]["optional-dependencies"][extra])
    for group in groups:
        wanted.update(_group(project["dependency-groups"], group))
    if build:
        wanted.update(project["build-system"]["requires"])
    return sorted(wanted)


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _group(groups: dict[str, list], name: str) -> list[str]:
    flat: list[str] = []
    for entry in groups[name]:
        flat += [entry] if isinstance(entry, str) else _group(groups, entry["include-group"])
    return flat


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
