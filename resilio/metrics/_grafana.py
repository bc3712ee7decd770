"""The JSON that Grafana imports: what kinds of panels look like, and where they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import attrs

__all__ = ["BREAKER", "OPEN", "Graph", "Number", "Row", "by", "dashboard", "rate", "series"]

BREAKER = 'kind="circuit_breaker"'
OPEN = 'state="open"'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


def series(metric: str, *matchers: str) -> str:
    """Return a selector of a metric, for the kinds and policies that the page has chosen."""
    chosen = ('kind=~"$kind"', 'policy=~"$policy"')
    return f"resilio_{metric}{{{','.join(chosen + matchers)}}}"


def rate(metric: str, *matchers: str) -> str:
    """Return the increase of a counter in a second."""
    return f"rate({series(metric, *matchers)}[$__rate_interval])"


def by(labels: str, expression: str, how: str = "sum") -> str:
    """Return an aggregation that keeps these labels."""
    return f"{how} by ({labels}) ({expression})"


@attrs.frozen
class Row:
    """A heading; the panels after it stand side by side below it."""

    title: str
    type: ClassVar = "row"
    size: ClassVar = (_WIDTH, 1)

    def body(self) -> dict[str, Any]:
        """Return what Grafana wants to know of a row alone."""
        return {"collapsed": False, "panels": []}


@attrs.frozen
class Number:
    """
    The current value, large.

    Attributes:
        title: Title.

        unit: Unit, as Grafana names it.

        expressions: PromQL by its legend.

        description: Text behind the title's sign.

        red_from: Value from which on the number is red, below it green; None for no color.
    """

    title: str
    unit: str
    expressions: Mapping[str, str]
    description: str = ""
    red_from: int | None = None
    type: ClassVar = "stat"
    size: ClassVar = (4, 4)

    def body(self) -> dict[str, Any]:
        """Return what Grafana wants to know of a number."""
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        colors = {}
        if self.red_from is not None:
            steps = [{"color": "green", "value": None}, {"color": "red", "value": self.red_from}]
            colors = {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
        return _body(self, options, {"min": 0, "custom": {}} | colors)


@attrs.frozen
class Graph:
    """
    Values over time; other attributes as those of a number.

    Attributes:
        stacked: Whether values stand on one another, because they add up.

        style: "line" or "bars".

        minimum: Where the axis begins; None where Grafana chooses.
    """

    title: str
    unit: str
    expressions: Mapping[str, str]
    description: str = ""
    stacked: bool = False
    style: str = "line"
    minimum: int | None = 0
    type: ClassVar = "timeseries"
    size: ClassVar = (8, 8)

    def body(self) -> dict[str, Any]:
        """Return what Grafana wants to know of a graph."""
        drawn = {"drawStyle": self.style, "lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
        stacked = {"stacking": {"mode": "normal"}} if self.stacked else {}
        least = {} if self.minimum is None else {"min": self.minimum}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        return _body(self, options, least | {"custom": drawn | stacked})


def _body(panel: Number | Graph, options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    targets = [
        {"datasource": _SOURCE, "expr": expression, "legendFormat": legend, "refId": letter, "range": True}
        for letter, (legend, expression) in zip("ABCD", panel.expressions.items(), strict=False)
    ]
    return {
        "description": panel.description,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit} | defaults, "overrides": []},
        "options": options,
    }


def _placed(panels: Iterable[Row | Number | Graph]) -> Iterator[dict[str, Any]]:
    """Yield the panels from left to right, each line of them below the one before."""
    x = y = below = 0
    for number, panel in enumerate(panels, 1):
        width, height = panel.size
        if x + width > _WIDTH or isinstance(panel, Row):
            x, y = 0, below
        place = {"gridPos": {"x": x, "y": y, "w": width, "h": height}}
        yield {"id": number, "type": panel.type, "title": panel.title} | place | panel.body()
        x, below = x + width, y + height


def dashboard(panels: Iterable[Row | Number | Graph]) -> str:
    """Return the dashboard as the JSON that Grafana imports."""
    page = {
        "title": "resilio",
        "uid": "resilio",
        "description": "What every policy does: calls, rejections, breakers, limits, retries, and where the time goes.",
        "tags": ["resilio"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_breakers_open()]},
        "links": [],
        "panels": list(_placed(panels)),
    }
    return json.dumps(page, indent=1) + "\n"


def _variables() -> Iterator[dict[str, Any]]:
    source = {"label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    yield {"name": "datasource"} | source
    for name, selected in (("kind", ""), ("policy", '{kind=~"$kind"}')):
        query = f"label_values(resilio_policies{selected}, {name})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        }


def _breakers_open() -> dict[str, Any]:
    opened = f"increase({series('state_changes_total', BREAKER, OPEN)}[1m])"
    return {
        "name": "Breakers open",
        "enable": True,
        "iconColor": "red",
        "datasource": _SOURCE,
        "expr": by("policy", opened) + " > 0",
        "titleFormat": "{{policy}} opened",
        "step": "60s",
    }
