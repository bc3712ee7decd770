"""
List of the private names, layouts and behaviours of other projects that the library relies on.

Each has a check that proves it before use, and a public alternative. On a Python newer than those tested, or with
`RESILIO_PUBLIC_ONLY=1`, the core takes the alternative for all of its own. `python -m resilio._private_names` makes
`docs/reference/private-names.md` from this list.
"""

from __future__ import annotations

from resilio._private_names._clients import CLIENTS
from resilio._private_names._interpreter import INTERPRETER
from resilio._private_names._record import Private, State

__all__ = ["PRIVATE_NAMES", "Private", "State", "page", "report"]

PRIVATE_NAMES: tuple[Private, ...] = (*INTERPRETER, *CLIENTS)

_HEAD = """# Private names

resilio relies on some names, layouts and behaviours that their owners do not promise: for speed, or because there is no
public way to know. Each is proved before it is used, and has a way beside it that is taken where the proof fails.

- A Python newer than those tested (3.11 to 3.15) gets the public ways, for the core reads no private layout there. The
  order of a `with` is no layout: the core watches two blocks, and relies on what it saw.
- `RESILIO_PUBLIC_ONLY=1` in the environment, when the process starts, leaves all to the public ways, on any Python: a
  way to see whether one of these is behind a trouble. Calls cost more then, and a Ctrl-C between the entry of a
  `with policy:` and its body may keep a permit.
- `-DRS_PUBLIC_ONLY` for the compiler leaves the private ways out of the build.
- `resilio doctor` shows which of them are in use on a machine.
"""


def report() -> tuple[tuple[Private, State], ...]:
    """Return each entry with its state in this process: in use, unused so far, failed, or not applicable."""
    return tuple((entry, entry.state()) for entry in PRIVATE_NAMES)


def page() -> str:
    """Return the page of the documentation."""
    return _HEAD + "".join(f"\n## {title}\n\n{_table(entries)}" for title, entries in _SECTIONS)


_SECTIONS = (("Of interpreters and event loops", INTERPRETER), ("Of clients and servers", CLIENTS))


def _table(entries: tuple[Private, ...]) -> str:
    rows = (
        (
            entry.name,
            entry.of,
            "<br>".join(f"`{place}`" for place in entry.where),
            entry.versions,
            entry.check,
            entry.otherwise,
        )
        for entry in entries
    )
    head = ("what", "of", "where", "versions", "the check", "otherwise")
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
