"""The page of recipes: each is a file that runs as a user would run it, its own tests included."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import resilio

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "recipes.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def charges() -> Iterator[tuple[str, list[int]]]:
    """A payment provider: its address, and the orders that it has charged."""
    charged: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            charged.append(json.loads(body)["order"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", charged
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
@pytest.mark.parametrize(
    ("title", "needs", "expected"),
    [
        ("FastAPI", ["fastapi", "httpx2", "prometheus_client"], [7]),
        ("Django", ["django", "requests"], [7]),
        ("A worker", ["httpx2"], [0, 1, 2]),
    ],
)
@pytest.mark.real(3.5)
def test_a_recipe_runs_as_it_stands(
    title: str, needs: list[str], expected: list[int], charges: tuple[str, list[int]], tmp_path: Path
) -> None:
    """A section's snippets, joined, are a module whose tests pass in a process of its own, against a real server."""
    for name in needs:
        pytest.importorskip(name, reason=f"{name} is not installed")
    url, charged = charges
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    snippets = SNIPPET.findall(sections[title])
    assert len(snippets) == 2
    recipe = tmp_path / "test_recipe.py"
    recipe.write_text("\n\n".join(snippets))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", recipe.name],
        cwd=tmp_path,
        env={**os.environ, "PAYMENTS_URL": url, "PYTHONPATH": str(Path(resilio.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    assert sorted(charged) == expected
