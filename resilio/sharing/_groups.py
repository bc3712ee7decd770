"""The groups of processes that have a file in a directory, seen from outside: no slot is taken, nothing is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from resilio._native.shared import NotShared, Region, find
from resilio.sharing._directory import prepared
from resilio.sharing._naming import LAYOUT
from resilio.sharing._stock_texts import in_units

__all__ = ["KINDS", "Group", "Stock", "Worker", "groups", "problem_of"]

PREFIX = f"resilio-{LAYOUT}-"
KINDS = (
    "",
    "limit",
    "window",
    "keys",
    "permits",
    "adaptive limit",
    "breaker",
    "budget",
    "lease",
    "verdict",
    "slots",
    "spend",
    "money",
    "reserve",
)
"""The kinds of cells, by their numbers."""


@attrs.frozen
class Worker:
    """
    A process that shares.

    Attributes:
        slot: The number of its slot.

        pid: Its process id, as it was there.

        since: Seconds since it came.

        beat: Seconds since it last beat, four times a second if it runs.

        leads: True if it learns for all.
    """

    slot: int
    pid: int
    since: float
    beat: float
    leads: bool


@attrs.frozen
class Stock:
    """
    The stock that policies of one kind, name and options have together.

    Attributes:
        kind: One of `KINDS`.

        name: The name of the policies.

        options: The options that define the stock, with their units.

        size: Bytes.
    """

    kind: str
    name: str
    options: str
    size: int


@attrs.frozen
class Group:
    """
    A group of processes.

    Attributes:
        name: The end of its file's name.

        path: Its file.

        problem: Why it cannot be read; None: it can.

        size: Bytes in all.

        used: Bytes in use.

        workers: Its processes.

        stocks: What they share.
    """

    name: str
    path: Path
    problem: str | None = None
    size: int = 0
    used: int = 0
    workers: tuple[Worker, ...] = ()
    stocks: tuple[Stock, ...] = ()


def groups(directory: Path) -> Iterator[Group]:
    """Yield the groups of a directory by name; none if it does not exist."""
    paths = sorted(directory.glob(f"{PREFIX}*")) if directory.is_dir() else []
    for path in paths:
        if path.suffix != ".new":
            yield _read(path)


def _read(path: Path) -> Group:
    name = path.name.removeprefix(PREFIX)
    mine = find(path)
    try:
        region = mine or Region.open(path, 0)
    except NotShared as error:
        return Group(name, path, str(error))
    leader = region.leader
    workers = tuple(Worker(*about, about[0] == leader) for about in region.workers())
    stocks = tuple(_stock(*cell) for cell in region.cells())
    group = Group(name, path, None, region.size, region.used, workers, tuple(sorted(stocks, key=_order)))
    if mine is None:
        region.close()
    return group


def _stock(kind: int, name: str, options: bytes, size: int) -> Stock:
    called = KINDS[kind] if kind < len(KINDS) else str(kind)
    return Stock(called, name, in_units(called, options), size)


def _order(stock: Stock) -> tuple[str, str, str]:
    return stock.name, stock.kind, stock.options


def problem_of(directory: Path) -> str | None:
    """Return why processes could not share memory in this directory; None: they can. A file is made and removed."""
    path = directory / f"{PREFIX}probe-{os.getpid()}"
    existed = directory.is_dir()
    try:
        region = Region.open(prepared(directory) / path.name, 64 << 10)
        region.join()
        problem = region.trouble
        region.close()
    except NotShared as error:
        problem = str(error)
    with suppress(OSError):
        path.unlink()
        if not existed:
            directory.rmdir()
    return problem
