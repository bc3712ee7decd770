"""One Python's part: measures in this process and writes a JSON file."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import attrs

from benchmarks.peers import peers
from resilio.bench._results import to_json
from resilio.bench._runner import FULL, QUICK, run

__all__ = ["main"]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--callgrind", action="store_true")
    options = parser.parse_args()
    plan = attrs.evolve(QUICK if options.quick else FULL, callgrind=options.callgrind)
    results = run(plan, peers(), say=_say)
    options.output.write_text(json.dumps(to_json(results)), encoding="utf-8")


def _say(text: str) -> None:
    print(f"{platform.python_version()}: {text}", flush=True)
