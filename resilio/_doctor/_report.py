"""Text of the report."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resilio._doctor._checks import WAYS
from resilio._doctor._watch import Verdict

__all__ = ["conclusion", "describe", "table"]


def describe(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that describe the installation."""
    python, build, clock = facts["python"], facts["build"], facts["clock"]
    yield f"resilio-sdk {facts['resilio']} on {python['implementation']} {python['version']}, {facts['platform']}"
    yield ""
    gil = "with the GIL" if python["gil"] else "without the GIL"
    yield f"{'build':<9}{build['compiler']}, for Python {build['python']}, {gil}{''.join(_slow(build))}"
    yield f"{'clock':<9}{clock['source']}: {clock['why']}"
    if facts["disabled"]:
        yield from _wrapped("switch", f"{facts['disabled']}; the checks below run without it")
    yield from _wrapped("sharing", _sharing(facts["sharing"]))
    if facts.get("store"):
        yield from _wrapped("store", _store(facts["store"]))
    yield from _wrapped("zone", facts["zone"] or "unknown: set RESILIO_ZONE, or zone=... of each pool, to call near")
    for title in ("loops", "needs", "clients"):
        listed = ", ".join(name if name == "asyncio" else f"{name} {number}" for name, number in facts[title].items())
        yield from _wrapped(title, listed or "none found")
    yield from _wrapped("private", _private(facts["private"]))


def _wrapped(title: str, text: str) -> list[str]:
    return textwrap.wrap(f"{title:<9}{text}", 100, subsequent_indent=" " * 9)


def _sharing(found: Mapping[str, Any]) -> str:
    """Return a sentence about policies that the processes of this host have together."""
    if found["problem"] is not None:
        return f'not possible, scope="host" is the process alone: {found["problem"]}'
    groups = ", ".join(f"{name} ({n} {'worker' if n == 1 else 'workers'})" for name, n in found["groups"].items())
    disk = f", which is on a disk ({found['disk']}): a directory in memory (tmpfs) is faster" if found["disk"] else ""
    return f"possible in {found['directory']}{disk}; groups there: {groups or 'none'}"


def _store(found: Mapping[str, Any]) -> str:
    """Return a sentence about the store of a fleet."""
    if found["problem"] is not None:
        return f"{found['at']} gives no answer, so a fleet is each process alone: {found['problem']}"
    first, again = found["first"] * 1000, found["seconds"] * 1000
    return f"{found['at']} answers in {again:.1f} ms, the first time in {first:.1f} ms"


def _private(states: Mapping[str, str]) -> str:
    """Return a sentence with the number of private names in use, and those that failed their proof."""
    failed = ", ".join(name for name, state in states.items() if state == "failed")
    ways = f"; failed their check, so the public way is taken: {failed}" if failed else ""
    used = list(states.values()).count("in use")
    return f"{used} names of Python and its loops that are not public are in use, each proved{ways}"


def _slow(build: Mapping[str, Any]) -> Iterator[str]:
    if build["traced"]:
        yield ", made for coverage: slow"
    if build["sanitized"]:
        yield ", with sanitizers: slow"
    if not build["optimised"]:
        yield ", not optimised"


def table(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yield the lines of a table: a row for each protection, a column for each loop, `-` where there is no check."""
    cells = {(verdict.check, verdict.way): "FAILS" if verdict.problem else "ok" for verdict in verdicts}
    ways = [way for way in WAYS if any(way == column for _, column in cells)]
    yield _row("", ways)
    for check in dict.fromkeys(check for check, _ in cells):
        yield _row(check, [cells.get((check, way), "-") for way in ways])


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:<18}{''.join(f'{cell:<9}' for cell in cells)}".rstrip()


def conclusion(
    verdicts: Sequence[Verdict], disabled: str | None = None, store: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """
    Yield the conclusion: one line if all checks pass, else the protections that fail and advice.

    Args:
        verdicts: The results of the checks.

        disabled: The sentence about the switch that is set for processes started here; None: it is not set.

        store: The answer of the store that was asked; None: none was.
    """
    failed = [verdict for verdict in verdicts if verdict.problem]
    is_away = store is not None and store["problem"] is not None
    if disabled is not None:
        yield f"NOT PROTECTED: {disabled}."
    elif not failed:
        yield f"Everything that can run here protects{', each process by itself' if is_away else ''}."
    if store is not None and is_away:
        yield f"NOT SHARED: {store['at']} gives no answer: {store['problem']}"
    if not failed:
        return
    yield f"NOT PROTECTED: {', '.join(f'{one.check} on {one.way}' for one in failed)}."
    for one in failed:
        yield f"  {one.check} on {one.way}: {one.problem}"
    yield from dict.fromkeys(_advice(one, verdicts) for one in failed)
    yield "Please report it, with what `resilio doctor --json` prints."


def _advice(failed: Verdict, verdicts: Sequence[Verdict]) -> str:
    works = {verdict.way for verdict in verdicts if verdict.check == failed.check and not verdict.problem}
    if failed.way in {"uvloop", "trio"} and "asyncio" in works:
        return f"What to do: install another version of {failed.way}, or run on asyncio, where this works."
    return (
        "What to do: install the newest resilio-sdk, or run a Python that its installation page lists as tested; "
        f"until this command ends with 0, do not rely on {failed.check} on {failed.way}."
    )
