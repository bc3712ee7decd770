"""What the page about slowapi shows, run beside slowapi."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migration.hosts import admitted_by, hosts_of
from migration.pairs import Pair, Side
from migration.workers import passed
from resilio.testing import VirtualTime

LIBRARY = "slowapi"

pytest.importorskip("fastapi", reason="FastAPI does not install here")
pytest.importorskip("httpx", reason="httpx does not install here")

from starlette.testclient import TestClient  # noqa: E402

Pairs = Callable[[str], Pair]


def _get(side: Side, path: str, peer: str = "10.0.0.1") -> Any:
    return TestClient(side["app"], client=(peer, 50000)).get(path)


def _statuses(side: Side, path: str, count: int, peer: str = "10.0.0.1") -> list[int]:
    return [_get(side, path, peer).status_code for _ in range(count)]


def test_a_peer_may_make_three_requests(pair: Pairs, vt: VirtualTime) -> None:
    """The fourth is answered with 429, another peer's is not, and a minute later all pass again."""
    for side in pair("endpoint").both():
        assert _statuses(side, "/orders", 4) == [200, 200, 200, 429]
        assert _statuses(side, "/orders", 1, peer="10.0.0.2") == [200]
        vt.advance(121.0)
        assert _statuses(side, "/orders", 1) == [200]


def test_only_ours_says_when_to_come_back(pair: Pairs) -> None:
    """The other one has headers that are off by default."""
    found = []
    for side in pair("endpoint").both():
        _statuses(side, "/orders", 3)
        found.append(_get(side, "/orders").headers.get("retry-after"))
    assert found[0] is None
    assert 60 <= int(found[1]) <= 90


@pytest.mark.parametrize("name", ["default", "shared"])
def test_a_limit_is_shared_by_endpoints(pair: Pairs, name: str) -> None:
    """Of the application, or of those that name it."""
    sides = pair("default").both() if name == "default" else pair("shared").both()
    for side in sides:
        assert [*_statuses(side, "/orders", 2), *_statuses(side, "/stock", 2)] == [200, 200, 200, 429]


CLIENT = """
from starlette.testclient import TestClient
client = TestClient(app)
def allowed():
    return client.get("/orders").status_code == 200
"""


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
def test_workers_have_one_limit(pair: Pairs, resilio_shared_host: Path) -> None:
    """Three workers let thirty requests pass, ours ten."""
    assert pair("workers")
    assert [passed(LIBRARY, side, CLIENT) for side in (0, 1)] == [30, 10]


@pytest.mark.once
@pytest.mark.untraced
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("side", [0, 1])
def test_hosts_have_one_limit(pair: Pairs, side: int, tmp_path: Path) -> None:
    """Three hosts let twenty requests of a peer pass in all: of slowapi by a trip each, of ours on lease."""
    assert pair("hosts")
    with hosts_of(LIBRARY, side, tmp_path, CLIENT) as hosts:
        answered = 'per_peer["testclient"].snapshot().sharing.peers == 3' if side else "True"
        admitted = admitted_by(hosts, answered)
    assert admitted == 20 if side == 0 else 3 <= admitted <= 25 + 3
