"""Names in TLS: each endpoint is asked for its own, and its certificate must have it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.replica import Replica, certificate, replicas

from resilio import Endpoint, pool

NAMES = ("a.pool.test", "b.pool.test")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for both names, with its key."""
    made = certificate(tmp_path_factory.mktemp("tls"), *NAMES)
    if made is None:
        pytest.skip("openssl is not installed")
    return made


@pytest.fixture(scope="module")
def _secure(authority: Path) -> Iterator[tuple[Replica, ...]]:
    with replicas("a", "b", tls=authority) as found:
        yield found


@pytest.fixture
def secure(_secure: tuple[Replica, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[Replica, ...]:
    """Replicas over TLS, whose names lead to loopback."""
    look_up = socket.getaddrinfo

    def on_loopback(host: Any, *args: Any, **options: Any) -> Any:
        known = host.decode() if isinstance(host, bytes) else host
        return look_up("127.0.0.1" if known in NAMES else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", on_loopback)
    for one in _secure:
        one.fresh()
    return _secure


def verifying(caller: Any, policy: Any, authority: Path) -> Any:
    """Return a client that trusts this certificate alone."""
    file = authority.with_name("cert.pem")
    return caller(policy, verify=file if "requests" in caller.needs else ssl.create_default_context(cafile=str(file)))


def test_the_name_in_tls_is_the_endpoints(caller: Any, secure: tuple[Replica, ...], authority: Path) -> None:
    """Not that of the pool, by which the caller has asked: `Host`, TLS and the certificate's name are one server's."""
    named = [Endpoint(f"https://{name}:{one.port}", name=one.name) for name, one in zip(NAMES, secure, strict=True)]
    search = pool("search", *named)
    client = verifying(caller, search, authority)
    search.drain(client.get("/who").text)
    client.get("/who")
    for name, one in zip(NAMES, secure, strict=True):
        assert {(asked["sni"], asked["headers"]["host"]) for asked in one.seen} == {(name, f"{name}:{one.port}")}


def test_a_label_names_the_server_behind_an_address(caller: Any, secure: tuple[Replica, ...], authority: Path) -> None:
    """Addresses from a resolver have no certificate of their own: `host` is the name that it must have."""
    named = [Endpoint(f"https://{one.host}", name=one.name, host=name) for name, one in zip(NAMES, secure, strict=True)]
    search = pool("search", *named)
    client = verifying(caller, search, authority)
    search.drain(client.get("/who").text)
    client.get("/who")
    for name, one in zip(NAMES, secure, strict=True):
        assert {(asked["sni"], asked["headers"]["host"]) for asked in one.seen} == {(name, f"{name}:{one.port}")}
