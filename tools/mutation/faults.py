"""Known faults, each with the tests that must notice it: those of `faults.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from mutation.covers import Cover, cover

FAULTS = Path(__file__).with_name("faults.toml")


@dataclass(frozen=True)
class Fault:
    """
    A mistake in one file that was there once, or would be easy to make.

    Attributes:
        id: Its name, for `--only`.

        path: The file, relative to the root of the tree.

        now: A part of the file, which stands there once.

        before: What it becomes.

        tests: Files of tests, or single ones as pytest names them; one of them must fail.

        modules: What is built of the file; None: as for any mutant of it.
    """

    id: str
    path: str
    now: str
    before: str
    tests: list[str]
    modules: list[str] | None = None

    @property
    def place(self) -> str:
        """The file."""
        return self.path

    @property
    def cover(self) -> Cover:
        """What is built, and the tests that run."""
        usual = cover(self.path)
        modules = self.modules if self.modules is not None else usual.modules if usual else ()
        return Cover(tuple(modules), tuple(self.tests))

    @property
    def files(self) -> set[str]:
        """The files of its tests."""
        return {test.partition("::")[0] for test in self.tests}

    def apply(self, source: str) -> str:
        """Return the source with the fault."""
        if source.count(self.now) != 1:
            raise SystemExit(f"faults.toml: {self.id}: {self.path} must have this once:\n{self.now}")
        return source.replace(self.now, self.before)

    def diff(self) -> str:
        """Return the change, with the tests that must notice it."""
        sides = ("-", self.now), ("+", self.before)
        lines = [f"{sign}    {line}" for sign, side in sides for line in side.splitlines()]
        return "\n".join([f"{self.id} {self.path}: {', '.join(self.tests)}", *lines])


def faults() -> list[Fault]:
    """Return what the file beside this one lists."""
    return [Fault(**entry) for entry in tomllib.loads(FAULTS.read_text(encoding="utf-8")).get("fault", [])]
