"""
The rule for commit messages: `area: verb object` in at most 60 characters, then an empty line, then the reason.

`pre-commit install` makes it run on each message.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 60
_SUBJECT = re.compile(r"[\w.+-]+(, [\w.+-]+)*: \S.*[^.]")


def main(file: str) -> int:
    """Print every breach in the message of a file; return 1 if there is one."""
    breaches = list(breaches_in(Path(file).read_text(encoding="utf-8")))
    print("\n".join(breaches), end="\n" if breaches else "")
    return int(bool(breaches))


def breaches_in(message: str) -> Iterator[str]:
    """Yield what is wrong with a message; lines that begin with "#" are git's own."""
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return
    if _SUBJECT.fullmatch(subject) is None:
        yield f"the subject must be like 'retry: count rejected attempts', without a period, not {subject!r}"
    if len(subject) > LONGEST:
        yield f"the subject has {len(subject)} characters, at most {LONGEST} are allowed: the body says why"
    if len(lines) > 1 and lines[1]:
        yield "the second line must be empty"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
