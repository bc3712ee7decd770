"""The pages of docs/how-to/observability: their snippets run, and their table of metrics is the catalogue."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._text import full_name

pytestmark = pytest.mark.once

PAGES = Path(__file__).parents[2] / "docs" / "how-to" / "observability"
NEEDS = {
    "prometheus.md": "prometheus_client",
    "multiprocess.md": "prometheus_client",
    "opentelemetry.md": "opentelemetry.sdk",
    "logging.md": "structlog",
}
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->"


@pytest.mark.parametrize("page", NEEDS)
def test_the_snippets_of_a_page_run(page: str, tmp_path: Path) -> None:
    """From top to bottom, in a process of their own."""
    pytest.importorskip(NEEDS[page], reason=f"{NEEDS[page]} is not installed")
    code = "\n".join(FENCE.findall((PAGES / page).read_text())).replace("/tmp/shop-metrics", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    if page == "logging.md":
        assert "INFO:resilio:bulkhead 'pool' rejected 1 calls in " in done.stderr
        assert '"new_state": "closed_down"' in done.stdout


def table() -> str:
    """The table of all metrics."""
    rows = [
        f"| `{full_name(one)}` | {one.type} | {', '.join(f'`{label}`' for label in one.labels) or '-'} | {one.text} |"
        for one in CATALOGUE.values()
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"


def test_the_table_of_metrics_is_the_catalogue() -> None:
    """Run this file to write it anew."""
    text = (PAGES / "prometheus.md").read_text()
    assert text.partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    page = PAGES / "prometheus.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
