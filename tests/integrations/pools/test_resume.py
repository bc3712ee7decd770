"""Downloads that break off after their first byte, and go on elsewhere because the caller chose how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from integrations.pools.callers import AsyncHttpx, AsyncHttpx2, Caller, Httpx, Httpx2
from servers.replica import Replica

from resilio import Endpoint, Pool, pool

Two = tuple[Replica, Replica]
WHOLE = b"abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(params=[AsyncHttpx, AsyncHttpx2, Httpx, Httpx2], ids=lambda kind: kind.__name__)
def resuming(request: pytest.FixtureRequest, ordered: Pool) -> Iterator[Caller]:
    """A client whose downloads go on by range requests, to the second endpoint where the first one fails."""
    with request.param(ordered, resume="range") as client:
        yield client


@pytest.fixture
def ordered(two: Two) -> Pool:
    """A pool that calls the first endpoint until it has failed once."""
    return pool("search", *(Endpoint(one.url, name=one.name) for one in two), balance="order", each=None)


def read(client: Caller, path: str) -> bytes:
    """Read a download to its end."""
    return b"".join(client.parts(path))


def test_a_download_goes_on_where_it_broke_off(resuming: Caller, two: Two, ordered: Pool) -> None:
    """The rest is asked for on the condition that it is of the same representation; the failure is the first one's."""
    assert read(resuming, "/file?break-a=10") == WHOLE
    asked = [one["headers"] for server in two for one in server.seen]
    assert [(one.get("range"), one.get("if-range")) for one in asked][1:] == [
        ("bytes=10-", '"v1"'),
        ("bytes=20-", '"v1"'),
    ]
    assert [ordered[name].snapshot().inflight for name in "ab"] == [0, 0]


def test_another_representation_is_not_the_rest(resuming: Caller, two: Two) -> None:
    """A replica with another version sends all of it: the reader gets the error, and not a mixture."""
    two[1].fail(503)
    with pytest.raises(Exception, match="peer closed") as caught:
        read(resuming, "/file?break-a=0&tag-a=W/weak")
    assert type(caught.value).__module__.partition(".")[0] in ("httpx", "httpx2")


def test_a_download_without_progress_ends(resuming: Caller, two: Two) -> None:
    """Each continuation must bring a byte: a server that only breaks off is not asked for ever."""
    two[1].kill()
    with pytest.raises(Exception, match="peer closed"):
        read(resuming, "/file?break-a=0")
    assert len(two[0].seen) == 1


def test_a_body_is_not_resumed_unless_the_caller_chose_how(two: Two) -> None:
    """The default: the reader gets the error."""
    pytest.importorskip("httpx2")
    with Httpx2(pool("search", Endpoint(two[0].url))) as client, pytest.raises(Exception, match="peer closed"):
        read(client, "/file?break-a=10")
    assert len(two[0].seen) == 1


def test_an_unknown_way_is_rejected(two: Two) -> None:
    """The error names the ways there are."""
    pytest.importorskip("httpx2")
    options: Any = {"resume": "restart"}
    with pytest.raises(ValueError, match="resume must be"):
        Httpx2(pool("search", Endpoint(two[0].url)), **options)
