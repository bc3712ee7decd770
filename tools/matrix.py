"""
`make matrix`: the tests of each integration with the oldest version of its client that is supported, and the newest.

The oldest is the lower bound in pyproject.toml, on the oldest Python; the newest is what pip finds, on the newest. Each
has an environment of its own under .venv/, with the wheel of this tree. `make matrix ARGS="redis aiohttp"` runs some;
`ARGS="--write"` puts the table into docs/how-to/integrations/index.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import environments
import interpreters
import wheels
from environments import ROOT, Environment
from interpreters import Interpreter

PAGE = ROOT / "docs" / "how-to" / "integrations" / "index.md"
_BOUND = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<lowest>[\d.]+)")
_TABLE = re.compile(r"(?<=<!-- matrix: begin -->\n).*?(?=<!-- matrix: end -->)", re.DOTALL)
_TESTED = ("passed", "failed", "skipped")


@dataclass(frozen=True)
class Client:
    """
    A package that resilio is plugged into.

    `tests` are patterns below tests/, `beside` what they need besides the package, and `old` what its oldest version
    needs in an older version than pip would choose.
    """

    package: str
    tests: tuple[str, ...]
    beside: tuple[str, ...] = ()
    old: tuple[str, ...] = ()


CLIENTS = (
    Client("httpx", ("integrations/test_httpx*.py",), ("h2", "httpx2")),
    Client("httpx2", ("integrations/test_httpx*.py",), ("h2", "httpx")),
    Client("requests", ("integrations/test_requests*.py",)),
    Client("aiohttp", ("integrations/test_aiohttp*.py",)),
    Client("grpcio", ("integrations/test_grpc*.py",)),
    Client("openai", ("integrations/llm/test_calls.py", "integrations/llm/test_streams.py"), old=("httpx<0.28",)),
    Client("anthropic", ("integrations/llm/test_calls.py", "integrations/llm/test_streams.py"), old=("httpx<0.28",)),
    Client("mcp", ("integrations/test_mcp.py",), ("uvicorn",)),
    Client("starlette", ("integrations/test_asgi*.py",), ("uvicorn", "hypercorn", "h2")),
    Client("fastapi", ("integrations/test_asgi*.py",), ("uvicorn", "hypercorn", "h2")),
    Client("gunicorn", ("integrations/test_workers.py",), ("uvicorn", "hypercorn")),
    Client("flask", ("integrations/test_wsgi*.py",)),
    Client("django", ("integrations/test_wsgi*.py",)),
    Client("redis", ("integrations/test_redis.py", "integrations/test_guides.py", "sharing/fleet/test_valkey.py")),
    Client("valkey", ("integrations/test_redis.py", "integrations/test_guides.py", "sharing/fleet/test_valkey.py")),
    Client(
        "sqlalchemy",
        ("integrations/test_sqlalchemy.py", "integrations/test_frozen_postgres.py", "integrations/test_guides.py"),
        ("asyncpg", "psycopg[binary]", "greenlet"),
    ),
    Client("asyncpg", ("integrations/test_asyncpg.py", "integrations/test_guides.py")),
    Client("prometheus-client", ("metrics/test_prometheus.py", "metrics/test_multiprocess.py")),
    Client("opentelemetry-sdk", ("metrics/test_otel.py",), ("opentelemetry-api",)),
    Client("structlog", ("metrics/test_logging.py",)),
)


@dataclass
class Cell:
    """One client in one version on one Python, and how its tests went."""

    client: Client
    python: Interpreter
    which: str
    version: str = ""
    outcome: str = ""
    failed: bool = False

    @property
    def name(self) -> str:
        """What its folders are called."""
        return f"matrix-{self.client.package}-{self.which}"


def main(arguments: list[str]) -> int:
    """Run the cells, two at once, print the table, and return 1 if one failed."""
    options = _options(arguments)
    pythons = interpreters.require()
    chosen = [client for client in CLIENTS if not options.clients or client.package in options.clients]
    oldest, newest = pythons[0], pythons[-1]
    source = wheels.unpack_sdist(_builder(oldest))
    built = {
        python.minor: wheels.build_wheel(source, _builder(python), f"{python.minor}-wheel")
        for python in (oldest, newest)
    }
    tree = _tree(source)
    cells = [
        Cell(client, python, which) for client in chosen for python, which in ((oldest, "oldest"), (newest, "newest"))
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cell: _run(cell, built[cell.python.minor], tree, options.pin), cells))
    table = _table(cells, oldest, newest)
    print(table)
    if options.write:
        PAGE.write_text(_TABLE.sub(lambda _: table, PAGE.read_text()))
    return int(any(cell.failed for cell in cells))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/dev.py matrix", description=__doc__)
    parser.add_argument("clients", nargs="*", choices=[[], *(client.package for client in CLIENTS)], metavar="CLIENT")
    parser.add_argument(
        "--pin", action="append", default=[], help="a requirement for `oldest` instead of the lower bound"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    return parser.parse_args(arguments)


def _builder(python: Interpreter) -> Environment:
    """Return what wheels are built in."""
    return environments.ensure(f"matrix-build-{python.minor}", python, build=True)


def _tree(source: Path) -> Path:
    """Copy all but the package, which would stand for that of the wheel."""
    tree = wheels.CACHE / "run-matrix"
    shutil.rmtree(tree, ignore_errors=True)
    unwanted = ["resilio", "resilio_sdk.egg-info", "src_c"]
    shutil.copytree(source, tree, ignore=lambda folder, _: unwanted if Path(folder) == source else [])
    return tree


def _run(cell: Cell, wheel: Path, tree: Path, pins: list[str]) -> None:
    files = [str(path) for pattern in cell.client.tests for path in sorted((tree / "tests").glob(pattern))]
    if not files:
        cell.outcome = "no test"
        return
    environment = _environment(cell, pins)
    if environment is None:
        cell.outcome, cell.failed = "does not install", True
        return
    environment.install_wheel(wheel)
    cell.version = _version(environment, cell.client.package)
    report = wheels.CACHE / f"{cell.name}.xml"
    report.unlink(missing_ok=True)
    # An old client's own use of what is deprecated by now is not what is tested.
    quiet = ("-W", "default::DeprecationWarning", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")
    command = [
        environment.python,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not soak and not slow",
        f"--junitxml={report}",
        *quiet,
        *files,
    ]
    settings = {**os.environ, "RESILIO_TEST_INSTALLED": "1", "RESILIO_SOURCE_TREE": str(ROOT)}
    settings.pop("PYTHONPATH", None)
    with (wheels.CACHE / f"{cell.name}.log").open("wb") as log:
        code = subprocess.run(command, cwd=tree, env=settings, check=False, stdout=log, stderr=log).returncode
    cell.outcome, cell.failed = _counted(report), code != 0
    print(f"{cell.name} {cell.version}: {cell.outcome}{' FAILED, see ' + log.name if code else ''}", flush=True)


def _environment(cell: Cell, pins: list[str]) -> Environment | None:
    """Return the environment of a cell, made anew if anything that it should hold is another; None if pip fails."""
    wanted = [*environments.requirements("test-core"), *_packages(cell, pins)]
    environment = Environment(environments.VENVS / cell.name, cell.python)
    stamp = {"python": cell.python.full, "wanted": wanted}
    recorded = environment.path / "matrix.json"
    if recorded.exists() and json.loads(recorded.read_text()) == stamp:
        return environment
    environments.create(cell.name, cell.python)
    try:
        environment.fill(wanted)
    except SystemExit as error:
        print(f"{cell.name}: {error}", flush=True)
        return None
    recorded.write_text(json.dumps(stamp))
    return environment


def _packages(cell: Cell, pins: list[str]) -> list[str]:
    client = cell.client
    if cell.which == "newest":
        return [client.package, *client.beside]
    if pins:
        return [*pins, *client.beside]
    return [f"{client.package}=={lowest(client.package)}", *client.beside, *client.old]


def lowest(package: str) -> str:
    """Return the lower bound that pyproject.toml has for a package."""
    project = environments._project()
    listed = [*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()]
    for requirement in (one for group in listed for one in group if isinstance(one, str)):
        found = _BOUND.match(requirement)
        if found and found["name"] == package:
            return found["lowest"]
    raise SystemExit(f"pyproject.toml has no lower bound for {package}")


def _version(environment: Environment, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run(
        [environment.python, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def _counted(report: Path) -> str:
    if not report.exists():
        return "nothing ran"
    suite: dict[str, Any] = next(ET.parse(report).getroot().iter("testsuite")).attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    counts = (int(suite["tests"]) - failed - skipped, failed, skipped)
    return ", ".join(f"{count} {what}" for count, what in zip(counts, _TESTED, strict=True) if count)


def _table(cells: list[Cell], oldest: Interpreter, newest: Interpreter) -> str:
    lines = [f"| client | oldest, on Python {oldest.minor} | newest, on Python {newest.minor} |", "|---|---|---|"]
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        columns = (first.client.package, *(f"{cell.version}: {cell.outcome}".strip(": ") for cell in (first, second)))
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"
