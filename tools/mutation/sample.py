"""The mutants of the tree, a seeded sample of them, and those that are known to change nothing."""

from __future__ import annotations

import hashlib
import subprocess
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mutation.covers import cover
from mutation.mutators import Mutant, mutants

EQUIVALENTS = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Equivalent:
    """
    A change that no test can notice, found by its file and line; a path that has moved is found by its name.

    Attributes:
        number: Which one of equal lines of the file, from 0; None for each of them.
    """

    file: str
    before: str
    after: str
    reason: str
    number: int | None = None

    def matches(self, mutant: Mutant) -> bool:
        """Return True if this is the change."""
        same = (self.before, self.after) == (mutant.before, mutant.after) and Path(mutant.path).name == self.file
        return same and self.number in (None, mutant.number)


def equivalents() -> list[Equivalent]:
    """Return what the file beside this one lists."""
    return [Equivalent(**entry) for entry in tomllib.loads(EQUIVALENTS.read_text()).get("equivalent", [])]


def files(root: Path) -> list[str]:
    """Return the files of the tree that git knows, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(path for path in listed if (root / path).is_file())


def every_mutant(root: Path) -> list[Mutant]:
    """Return all mutants of what is mutated, in the order of the files."""
    mutated = [path for path in files(root) if cover(path)]
    return [mutant for path in mutated for mutant in mutants(path, (root / path).read_text(encoding="utf-8"))]


def draw(made: list[Mutant], seed: int) -> list[Mutant]:
    """
    Return one mutant of each line, lines in random order: a long formula is drawn no more often than a flag.

    The order is that of hashes. So an edit of one file changes nothing in what is drawn of the others.
    """
    by_line: defaultdict[tuple[str, int], list[Mutant]] = defaultdict(list)
    for mutant in made:
        by_line[mutant.path, mutant.line].append(mutant)

    def chance(mutant: Mutant) -> bytes:
        return hashlib.sha1(f"{seed} {mutant.id}".encode(), usedforsecurity=False).digest()

    return [min(line, key=chance) for line in sorted(by_line.values(), key=lambda line: chance(line[0]))]
