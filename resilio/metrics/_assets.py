"""`resilio export`: the Grafana dashboard and the alert rules that belong to the metrics of this version."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

__all__ = ["main", "text_of"]

_FILES = {"alerts": "alerts.yml", "grafana": "grafana.json"}


def text_of(what: Literal["grafana", "alerts"]) -> str:
    """
    Return the text of an asset.

    Args:
        what: "grafana": the dashboard as JSON; "alerts": the rules for Prometheus as YAML.
    """
    return files("resilio.metrics").joinpath("assets", _FILES[what]).read_text(encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """Print the dashboard or the rules to standard output."""
    parser = argparse.ArgumentParser(
        prog="resilio export",
        description="Print the Grafana dashboard as JSON, to be imported, or the alert rules for Prometheus as YAML.",
    )
    parser.add_argument("what", choices=list(_FILES), help="grafana: the dashboard; alerts: the rules")
    print(text_of(parser.parse_args(argv).what), end="")
    return 0
