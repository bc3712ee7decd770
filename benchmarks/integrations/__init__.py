"""What integrations cost over sockets: against the bare client or server, taking turns in one run."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.micro._child import child
from benchmarks.micro._results import Row, Skip

__all__ = ["MODULES", "throughput"]

MODULES = ("clients", "aio_clients", "servers", "models")
"""Each has `throughput(seconds)`, which returns the rows of the report, measured within about so long."""

_MEASURE = """
import importlib, json, sys
import attrs
found = importlib.import_module(sys.argv[1]).throughput(float(sys.argv[2]))
print(json.dumps([[type(one).__name__, attrs.asdict(one)] for one in found]))
"""


def throughput(seconds: float) -> Sequence[Row | Skip]:
    """
    Return what is lost through all clients and servers, each kind measured in a process of its own.

    Whatever cannot be measured says so in its place.

    Args:
        seconds: That all of it may take.
    """
    found: list[Row | Skip] = []
    for name in MODULES:
        arguments = ["-W", "ignore", "-c", _MEASURE, f"{__name__}.{name}", str(seconds / len(MODULES))]
        try:
            found += [
                Row(**fields) if kind == "Row" else Skip(**fields) for kind, fields in json.loads(child(arguments))
            ]
        except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
            found.append(Skip(f"benchmarks.integrations.{name}", f"raised {type(error).__name__}: {error}"))
    return found
