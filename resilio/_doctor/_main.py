"""The command `resilio doctor`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import attrs

from resilio._doctor._facts import facts
from resilio._doctor._report import conclusion, describe, table
from resilio._doctor._store import store_at
from resilio._doctor._watch import PATIENCE, verdicts
from resilio._options.validators import seconds_of_argument

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Print the facts and the result of each check; return 1 if one fails."""
    options = _parser().parse_args(argv)
    found = facts()
    if options.store is not None:
        found["store"] = store_at(options.store, options.store_timeout)
    if not options.json:
        print("\n".join([*describe(found), ""]), flush=True)
    seen = list(verdicts(options.patience))
    is_away = options.store is not None and found["store"]["problem"] is not None
    failed = found["disabled"] is not None or is_away or any(verdict.problem for verdict in seen)
    if options.json:
        checks = [{**attrs.asdict(verdict), "protects": not verdict.problem} for verdict in seen]
        print(json.dumps({**found, "checks": checks, "protects": not failed}, indent=2))
    else:
        print("\n".join([*table(seen), "", *conclusion(seen, found["disabled"], found.get("store"))]), flush=True)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilio doctor",
        description="Says what is installed here, and runs each protection to see whether it fires; it ends with 1 if "
        "one does not. That takes two seconds on an idle machine; a busy one makes it slower and nothing else.",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=PATIENCE,
        metavar="TIME",
        help="how long a check may take, like 30 or 2m, before it counts as one that never ends (%(default)g)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="ask the store of a fleet as its courier would, like valkey://cache:6379 or postgresql://db/shop: it ends "
        "with 1 if that gives no answer",
    )
    parser.add_argument(
        "--store-timeout",
        type=_seconds,
        default=0.05,
        metavar="TIME",
        help="the timeout=... of that fleet (%(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = seconds_of_argument(text)
    if seconds > 3600:
        raise argparse.ArgumentTypeError(f"must be at most an hour, not {text}")
    return seconds
