"""
Share of the package's public names whose types are known, as pyright counts it: at least 99 %.

What is left are transports and adapters: their base class is the client's, of which there are two, or has no types.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

LEAST = 0.99
_COMMAND = ("-m", "pyright", "--verifytypes", "resilio", "--ignoreexternal", "--outputjson")


def main() -> int:
    """Print the share and what lacks types; return 1 if there is too much of it, or nothing to look at."""
    found = subprocess.run([sys.executable, *_COMMAND], capture_output=True, text=True, check=False)
    report = json.loads(found.stdout)["typeCompleteness"]
    print("\n".join(unknown(report)))
    share = report["completenessScore"]
    print(f"types: {share:.1%} of the public names are typed, at least {LEAST:.0%} must be")
    return int(share < LEAST)


def unknown(report: dict[str, Any]) -> Iterator[str]:
    """Yield each name whose type is unknown or ambiguous, with the first reason."""
    for symbol in report["symbols"]:
        reasons = [each["message"].splitlines()[0] for each in symbol.get("diagnostics", ())]
        if reasons and (symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]):
            yield f"{symbol['name']}: {reasons[0]}"


if __name__ == "__main__":
    sys.exit(main())
