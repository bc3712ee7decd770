"""The servers that integrations are tested against."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator

import pytest
from servers.misbehaving import Misbehaving, closed_port
from servers.postgres import Postgres
from servers.processes import installed


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have each client read one root certificate instead of all, which takes some ms: no test asks any of them."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("certifi"):
            first, end, _ = importlib.import_module("certifi").contents().partition("-----END CERTIFICATE-----\n")
            file = tmp_path_factory.mktemp("authority") / "one.pem"
            file.write_text(first + end)
            patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(autouse=True)
def _what_is_left_open_is_this_tests() -> Iterator[None]:
    """
    Collect at the end of each test, when all that it asked for has ended.

    A socket that it left open is warned of here, and fails this test. It would be some later one, at its collection.
    """
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server that fails on request, new for each test."""
    with Misbehaving() as running:
        yield running


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port that refuses connections for as long as the test lasts."""
    with closed_port() as port:
        yield port


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A database for all tests, which start it again where they kill it, and leave no table that another wants."""
    with installed(Postgres) as server:
        yield server
