"""
All that is public stands in `public.txt`, a line for each fact, so that a change of it is seen in review.

`python tests/public/test_public.py` writes the file anew.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.once, pytest.mark.real(2)]  # 170 files are parsed; the facts are the same on every Python

FILE = Path(__file__).with_name("public.txt")
WHAT_TO_DO = "run `python tests/public/test_public.py`, and add a line to CHANGELOG.md: users can see this change"


def facts() -> list[str]:
    """Return all facts, sorted."""
    from public import names, texts

    return sorted({*names.lines(), *texts.lines()})


def difference(before: list[str], now: list[str]) -> str:
    """Return the lines that are gone and the new ones, with what to do; empty if there are none."""
    from public.names import NOT_READ

    unread = [line for line in now if f"({NOT_READ}: " in line]
    for line in unread:
        print(f"not compared: {line}")
    functions = tuple(line.partition("(")[0] + "(" for line in unread)
    before, now = ([line for line in lines if not line.startswith(functions)] for lines in (before, now))
    changed = [line for line in difflib.ndiff(before, now) if line[0] in "+-"] if before != now else []
    return "\n".join([*changed, WHAT_TO_DO]) if changed else ""


def test_what_is_public_is_what_the_file_has() -> None:
    """Names, signatures, defaults, fields, metrics, commands, and the texts of errors: none is lost unseen."""
    found = difference(FILE.read_text(encoding="utf-8").splitlines(), facts())
    if found:
        pytest.fail(found, pytrace=False)


def test_a_change_is_shown_with_what_to_do() -> None:
    """The two lines of a default that moved and one sentence; a function of a missing client is left out."""
    grpc = "resilio.integrations.grpc.server_interceptor"
    before = ["resilio.a(b = 1)", f"{grpc}(max: int = 3)", "resilio.c"]
    now = ["resilio.a(b = 2)", f"{grpc}(not read: No module named 'grpc')", "resilio.c"]
    assert difference(before, now).splitlines() == ["- resilio.a(b = 1)", "+ resilio.a(b = 2)", WHAT_TO_DO]
    assert difference(before, [*before[:1], *now[1:]]) == ""


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    lines = facts()
    missing = [line for line in lines if "(not read: " in line]
    if missing:
        sys.exit("\n".join(["install the clients first", *missing]))
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
