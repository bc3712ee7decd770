"""`resilio export`: the Grafana dashboard and the alert rules that belong to the metrics of this version."""

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
    """Print the dashboard or the rules to standard output."""
    parser = argparse.ArgumentParser(
        prog="resilio export",
        description="Print the Grafana dashboard as JSON, to be imported, or the alert rules for Prometheus as YAML.",
    )
    parser.add_argument("what", choices=sorted(ASSETS), help="grafana: the dashboard; alerts: the rules")
    print(text_of(parser.parse_args(argv).what), end="")
    return 0
