"""Virtual environments under .venv/, made once and made anew when what they need has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from interpreters import Interpreter

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"
_STAMP = "resilio-stamp.json"


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds the listed dependencies, and perhaps resilio's wheel."""

    path: Path

    @property
    def python(self) -> str:
        """The interpreter inside."""
        return str(self.path / "bin" / "python")

    def pip(self, *arguments: str) -> None:
        """Run pip inside, quietly; its own words appear if it fails."""
        run([self.python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])

    def try_install(self, requirements: list[str]) -> None:
        """Install what may be missing afterwards: all at once, or else each that installs, and say which does not."""
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        command = [*pip, "install", "--no-compile", *requirements]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return
        if len(requirements) == 1:
            print(f"{self.path.name}: {requirements[0]} does not install: SKIPPED", flush=True)
            return
        for requirement in requirements:
            self.try_install([requirement])

    def install_wheel(self, wheel: Path) -> None:
        """Put exactly this build of resilio in, unless it is there already."""
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        stamp = self.path / "resilio-wheel.txt"
        if stamp.exists() and stamp.read_text() == digest:
            return
        stamp.unlink(missing_ok=True)
        self.pip("install", "--no-deps", "--force-reinstall", "--no-index", str(wheel))
        stamp.write_text(digest)


def run(command: list[str], **options: object) -> None:
    """Run a command, or end the program with the command and its exit code."""
    code = subprocess.run(command, check=False, **options).returncode  # type: ignore[call-overload]
    if code:
        raise SystemExit(f"exit code {code} from: {' '.join(command)}")


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
    environment = Environment(VENVS / name)
    recorded = environment.path / _STAMP
    if not (recorded.exists() and json.loads(recorded.read_text()) == stamp):
        print(f"making .venv/{name} ({len(wanted)} requirements)", flush=True)
        shutil.rmtree(environment.path, ignore_errors=True)
        run([interpreter.path, "-m", "venv", *(["--without-pip"] if like else []), str(environment.path)])
        if like:
            _link(like, environment)
        else:
            environment.try_install(["pip>=25"])  # the one that came with an older Python takes twice as long
        environment.pip("install", "--no-compile", *wanted)  # what is imported is compiled then
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
