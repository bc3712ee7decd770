"""`resilio dashboard`: the Grafana dashboard and the alert rules that belong to the metrics of this version."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files

__all__ = ["ASSETS", "main", "text_of"]

ASSETS = {"grafana": "dashboard.json", "alerts": "alerts.yml"}
"""File name of each asset."""


def text_of(what: str) -> str:
    """
    Return the text of an asset.

    Args:
        what: "grafana": the dashboard as JSON; "alerts": the rules for Prometheus as YAML.
    """
    return files("resilio.metrics").joinpath("assets", ASSETS[what]).read_text(encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """Print the dashboard, or with `--alerts` the rules, to standard output."""
    parser = argparse.ArgumentParser(
        prog="resilio dashboard",
        description="Prints the Grafana dashboard (import it as JSON), or the alert rules for Prometheus.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--grafana", action="store_true", help="the dashboard as JSON; the default")
    which.add_argument("--alerts", action="store_true", help="the alert rules as YAML")
    options = parser.parse_args(argv)
    print(text_of("alerts" if options.alerts else "grafana"), end="")
    return 0
