"""`resilio shared`: the groups of processes that share policies on this host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from resilio.sharing._groups import Group, groups
from resilio.sharing._naming import DIRECTORY, default_directory, file_name

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """List groups, show one, or remove its file; return 1 if there is no such group, or it is in use."""
    options = _parser().parse_args(argv)
    found = list(groups(options.directory))
    if options.action == "ls":
        print("\n".join(_list(options.directory, found)))
        return 0
    chosen = [group for group in found if options.name in (group.name, group.path.name)]
    if not chosen:  # the name that its service has given
        chosen = [group for group in found if group.path.name == file_name(options.name)]
    if not chosen:
        known = ", ".join(group.name for group in found) or "none"
        print(f"resilio shared: no group {options.name!r} in {options.directory}; there are: {known}", file=sys.stderr)
        return 1
    if options.action == "rm":
        return _remove(chosen[0], force=options.force)
    print("\n".join(_show(chosen[0])))
    return 0


def _list(directory: Path, found: Sequence[Group]) -> Iterator[str]:
    if not found:
        yield f"no processes share policies in {directory}"
        return
    yield f"{'group':<40} {'workers':>7} {'policies':>8} {'memory':>16}"
    for group in found:
        if group.problem is not None:
            yield f"{group.name:<40} {group.problem}"
        else:
            memory = f"{_bytes(group.used)} of {_bytes(group.size)}"
            yield f"{group.name:<40} {len(group.workers):>7} {len(group.stocks):>8} {memory:>16}"


def _show(group: Group) -> Iterator[str]:
    yield f"{group.path}: {group.problem or f'{_bytes(group.used)} of {_bytes(group.size)} in use'}"
    yield ""
    yield f"{'slot':>4} {'process':>8} {'for':>9} {'last beat':>10}"
    for one in group.workers:
        role = "  learns for all" if one.leads else ""
        yield f"{one.slot:>4} {one.pid:>8} {_ago(one.since):>9} {_ago(one.beat):>10}{role}"
    yield ""
    yield f"{'kind':<15} {'policy':<30} {'memory':>8}  options"
    for stock in group.stocks:
        yield f"{stock.kind:<15} {stock.name:<30} {_bytes(stock.size):>8}  {stock.options}".rstrip()


def _remove(group: Group, *, force: bool) -> int:
    if group.workers and not force:
        n = len(group.workers)
        text = f"{group.name} has {n} {'worker' if n == 1 else 'workers'}: all limits and breakers would begin anew"
        print(f"resilio shared: {text}; add --force to remove it", file=sys.stderr)
        return 1
    group.path.unlink(missing_ok=True)
    print(f"removed {group.path}")
    return 0


def _bytes(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} GiB"


def _ago(seconds: float) -> str:
    for limit, unit in ((120.0, 1.0), (7200.0, 60.0), (172800.0, 3600.0)):
        if seconds < limit:
            return f"{seconds / unit:.0f} {'s' if unit == 1.0 else 'min' if unit == 60.0 else 'h'}"
    return f"{seconds / 86400:.0f} d"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilio shared", description="Shows which processes of this host share policies, and what they share."
    )
    try:
        default = default_directory()
    except ValueError as error:
        parser.error(str(error))
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("ls", "list the groups of processes"),
        ("show", "show the processes of a group, and the policies that they share"),
        ("rm", "remove a group's file: its processes, if any, make a new one"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument(
            "--directory",
            type=Path,
            default=default,
            help=f"where the files are (default: by {DIRECTORY} and XDG_RUNTIME_DIR, here %(default)s)",
        )
        if name != "ls":
            action.add_argument("name", help="the group: its name, or as `resilio shared ls` prints it")
        if name == "rm":
            action.add_argument("--force", action="store_true", help="also if processes use it")
    return parser
