"""The guides to databases run as they stand, from top to bottom, against real servers."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docs.pages import snippets_of
from docs.test_docs_snippets import _execute
from servers.postgres import Postgres
from servers.processes import ServerProcess, installed
from servers.valkey import Valkey

from resilio import registry

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "integrations"


def run_page(page: Path, namespace: dict[str, Any]) -> None:
    """Execute every snippet in one event loop: pools belong to theirs."""
    text = page.read_text()
    registry.clear()
    try:
        with asyncio.Runner() as loop:
            runner: Callable[[Any], Any] = lambda function: loop.run(function())  # noqa: E731
            for snippet in snippets_of(text):
                assert snippet.directive is None
                _execute(snippet, page, namespace, runner)
    finally:
        registry.clear()


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = types.ModuleType("__main__")
    monkeypatch.setitem(__import__("sys").modules, "__main__", module)
    return vars(module)


@pytest.mark.parametrize("package", ["redis", "valkey"])
@pytest.mark.real(1.0)
def test_the_guide_to_redis(package: str, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the other client too: it has the same names."""
    pytest.importorskip(package)
    page = GUIDES / "redis.md"
    with installed(Valkey) as server:
        monkeypatch.setenv("CACHE_URL", f"{package}://127.0.0.1:{server.port}")
        namespace.update(stop_the_server=server.kill, start_the_server=server.start)
        if package == "valkey":
            page = _for_valkey(page, server)
        run_page(page, namespace)


def _for_valkey(page: Path, server: ServerProcess) -> Path:
    text = (
        page.read_text()
        .replace("redis.Redis", "valkey.Valkey")
        .replace("import redis.asyncio as redis", "import valkey.asyncio as valkey")
    )
    text = text.replace("bounded(redis", "bounded(valkey").replace("budget_retry(redis", "budget_retry(valkey")
    copy = server.folder / "valkey.md"
    copy.write_text(text)
    return copy


@pytest.mark.parametrize(
    ("guide", "packages"), [("sqlalchemy", ["sqlalchemy", "greenlet", "psycopg"]), ("asyncpg", [])]
)
@pytest.mark.real(1.0)
def test_the_guides_to_postgresql(
    postgres: Postgres, guide: str, packages: list[str], namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of orders is all that they take for granted."""
    for package in [*packages, "asyncpg"]:
        pytest.importorskip(package)
    asyncio.run(_make_orders(postgres))
    plain = f"postgresql://{postgres.dsn}"
    monkeypatch.setenv("DATABASE_URL", plain.replace("://", "+asyncpg://") if guide == "sqlalchemy" else plain)
    monkeypatch.setenv("SYNC_DATABASE_URL", plain.replace("://", "+psycopg://"))
    run_page(GUIDES / f"{guide}.md", namespace)
    if guide == "sqlalchemy":
        namespace["reports"].dispose()
        asyncio.run(namespace["engine"].dispose())


async def _make_orders(server: Postgres) -> None:
    import asyncpg

    connection = await asyncpg.connect(f"postgresql://{server.dsn}")
    await connection.execute("DROP TABLE IF EXISTS orders")
    await connection.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)")
    await connection.close()
