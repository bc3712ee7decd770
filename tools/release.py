"""
What the workflows ask before a release: `tag` against the version, `notes` of CHANGELOG.md, `api` against the last one.

    python tools/release.py tag v0.2.0      # fails if pyproject.toml has another version
    python tools/release.py notes 0.2.0     # prints the section of this version
    python tools/release.py api             # fails if something public is gone or changed
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = "tests/public/public.txt"
"""All that is public, a line for each fact."""


def tag(name: str) -> int:
    """Return 0 if this tag is the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if name == f"v{version}":
        return 0
    print(
        f"the tag is {name}, and pyproject.toml has the version {version}: the tag must be v{version}", file=sys.stderr
    )
    return 1


def notes(version: str, text: str | None = None) -> int:
    """Print the section of a version, without its title; 1: there is none, or it is empty."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8") if text is None else text
    found = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        print(f"CHANGELOG.md has no section [{version}]: move the entries of Unreleased there", file=sys.stderr)
        return 1
    print(found[1].strip())
    return 0


def api(_: str) -> int:
    """Compare what is public with the last tag; before the first release there is nothing to compare."""
    command = ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"]
    last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    if not last:
        print("api: there is no release yet")
        return 0
    shown = subprocess.run(["git", "show", f"{last}:{PUBLIC}"], cwd=ROOT, capture_output=True, text=True, check=False)
    gone = lost(shown.stdout, (ROOT / PUBLIC).read_text(encoding="utf-8"))
    print("\n".join(f"gone or changed since {last}: {line}" for line in gone) or f"api: all of {last} is there")
    return int(bool(gone))


def lost(before: str, now: str) -> list[str]:
    """Return the facts that are no longer true; the texts of errors may change."""
    facts = set(now.splitlines())
    return [line for line in before.splitlines() if line not in facts and not line.startswith("text of ")]


TASKS = {"api": api, "notes": notes, "tag": tag}


def main() -> int:
    """Run one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("about", nargs="?", default="", help="a tag, or a version")
    options = parser.parse_args()
    return TASKS[options.task](options.about)


if __name__ == "__main__":
    sys.exit(main())
