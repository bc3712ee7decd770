"""
The studies whose tables stand in `benchmarks/RESULTS.md`: which laws each table rests on, and which tables are stale.

A law that changes makes the tables that rest on it stale. A table keeps the digest of its laws from the run that wrote
it, and is called stale in the report itself as soon as that digest is another one. That is what
`python -m benchmarks.efficacy._studies --mark` writes, and a test compares.
"""

from __future__ import annotations

import hashlib
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "STALE", "STUDIES", "digest", "is_stale", "mark", "sections", "stamp", "unrecorded"]

ROOT = Path(__file__).resolve().parents[2]
_REPORT = ROOT / "benchmarks" / "RESULTS.md"
_CORE, _GATES = "src_c/include", "src_c/resilio/_native/gates"

HEDGES = (f"{_CORE}/hedging.h", "src_c/resilio/_native/strategies/hedge.pxi", "resilio/_policies/hedge.py")
RETRIES = (
    f"{_CORE}/backoff.h",
    f"{_CORE}/budget*.h",
    "src_c/resilio/_native/budget.pyx",
    "src_c/resilio/_native/strategies/retry*.pxi",
    "resilio/_policies/retry/*.py",
)
BREAKERS = (f"{_GATES}/breaker*.pxi", f"{_CORE}/throttle.h", "src_c/algorithms/shared/breaker*.h")
LIMITS = (f"{_GATES}/limiter*.pxi", "src_c/algorithms/shared/token_bucket.h", f"{_CORE}/own_bucket.h")
LEARNERS = (f"{_CORE}/law*.h", f"{_CORE}/pace.h", f"{_GATES}/adaptive*.pxi")
SHEDDERS = (*LEARNERS, f"{_CORE}/shed*.h", f"{_GATES}/shedder*.pxi")
POOLS = (f"{_CORE}/pool*.h", f"{_GATES}/pool*.pxi", "resilio/_policies/pool/*.py")
STACK = ("resilio/_composition/standard.py", *RETRIES, *BREAKERS)
FLEET = ("resilio/sharing/_fleet/rules/*", "src_c/algorithms/shared/lease*.h", "src_c/algorithms/shared/rates*.h")
MONEY = ("resilio/_policies/spend_limit/*.py", "resilio/sharing/_fleet/rules/spend.*")
TIMEOUTS = ("src_c/resilio/_native/strategies/timing*.pxi", "resilio/_policies/timeout.py")
NONE: tuple[str, ...] = ()

STUDIES: dict[str, tuple[str, ...]] = {
    "Exact checks": (*LIMITS, *RETRIES),
    "Untuned cells": (*STACK, *SHEDDERS, *HEDGES, *TIMEOUTS),
    "Untuned cells that were drawn": (*STACK, *SHEDDERS, *HEDGES, *TIMEOUTS),
    "R1 hedge without queueing": HEDGES,
    "R2 BigTable fan-out": HEDGES,
    "R3 tied requests": HEDGES,
    "R4 exact redundancy": HEDGES,
    "R5 when hedges stop to win": HEDGES,
    "R5 when hedging hurts": HEDGES,
    "R6 retries against load": RETRIES,
    "R7 quota thresholds": LIMITS,
    "R8 a breaker for a host": BREAKERS,
    "R8 an outage seen by a fleet": (*BREAKERS, *FLEET),
    "R8 an outage seen by many": BREAKERS,
    "R8 calls that hang, seen by a fleet": (*BREAKERS, *FLEET),
    "R8 metastable failure": STACK,
    "R8 one broken host of a fleet": (*BREAKERS, *FLEET),
    "R8 with a load shedder": (*STACK, *SHEDDERS),
    "R9 metastable failure in the wild": (*STACK, *SHEDDERS),
    "R10 jitter": RETRIES,
    "R10 killed workers": ("src_c/algorithms/shared/slots.h", "src_c/algorithms/shared/permits.h"),
    "R11 a learner that lags": SHEDDERS,
    "R11 a limit for a fleet": FLEET,
    "R11 a limit for a fleet, in trouble": FLEET,
    "R11 a limit for a host": LEARNERS,
    "R11 a limit for a host, over sockets": LEARNERS,
    "R11 goodput curve": SHEDDERS,
    "R11 limits and breakers through a store, beside others": FLEET,
    "R11 random cells": SHEDDERS,
    "R11 slow step": SHEDDERS,
    "R12 consistent shedding": SHEDDERS,
    "R12 priorities": SHEDDERS,
    "R13 outage and recovery": STACK,
    "R14 a fault of an endpoint": (*POOLS, *BREAKERS),
    "R14 slower endpoints": (*POOLS, *BREAKERS),
    "R14 two regions": (*POOLS, *BREAKERS),
    "R15 a limit in money": MONEY,
    "R15 a limit in money, other lengths": MONEY,
    "R15 a limit in money, shared": MONEY,
    "R17 a provider's quota per minute": LIMITS,
    "R18 providers that fail": (*STACK, *POOLS, *TIMEOUTS),
}
"""The files with the laws of each table: patterns, from the root of the tree."""

STALE = "**Stale**: a law that this table rests on has changed since."
_STAMP = re.compile(r"^Laws: `(\w+)`\.$", re.MULTILINE)
_COMMENT = re.compile(
    r'/\*.*?\*/|""".*?"""|^\s*#(?!\s*(?:define|if|el|end|include|undef)).*?$', re.DOTALL | re.MULTILINE
)


def digest(title: str, root: Path = ROOT) -> str:
    """Return the digest of a table's laws: of their code without comments and blanks."""
    seen = hashlib.sha256()
    for pattern in STUDIES[title]:
        for path in sorted(root.glob(pattern)):
            code = _COMMENT.sub("", path.read_text(encoding="utf-8"))
            seen.update("".join(code.split()).encode())
    return seen.hexdigest()[:12]


def stamp(title: str) -> str:
    """Return the line that a table ends with; of a title without a study it is a KeyError."""
    return f"Laws: `{digest(title)}`."


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of each table of the simulations."""
    _, _, rest = text.partition("\n# Efficacy\n")
    for part in rest.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        yield title, body


def is_stale(title: str, body: str) -> bool:
    """Return whether a table was written with other laws than those of today."""
    found = _STAMP.search(body)
    return found is None or found[1] != digest(title)


def mark(text: str) -> str:
    """Return the report with each stale table called so, and no other."""
    for title, body in list(sections(text)):
        plain = body.replace(f"\n{STALE}\n", "", 1)
        marked = f"\n{STALE}\n{plain}" if is_stale(title, plain) else plain
        text = text.replace(f"\n## {title}\n{body}", f"\n## {title}\n{marked}", 1)
    return text


def unrecorded(text: str) -> list[str]:
    """Return the titles of studies that have no table in the report."""
    there = {title for title, _ in sections(text)}
    return [title for title in STUDIES if title not in there]


def main() -> None:
    """Print which tables are stale, and those without a record."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--mark", action="store_true", help="write into the report which tables are stale")
    options = parser.parse_args()
    text = _REPORT.read_text(encoding="utf-8")
    for title, body in sections(text):
        if is_stale(title, body):
            print(f"stale: {title}")
    for title in unrecorded(text):
        print(f"no record: {title}")
    if options.mark:
        _REPORT.write_text(mark(text), encoding="utf-8")


if __name__ == "__main__":
    main()
