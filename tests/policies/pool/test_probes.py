"""Probes of ejected endpoints: by HTTP over loopback, and by functions."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import resilio
from oracles.bare_pool import BarePool
from resilio._policies.pool.endpoint import Endpoint
from resilio._policies.pool.probes import Probing, probe_http
from resilio.testing import VirtualTime


class Service:
    """A server on loopback whose health is what the test sets."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status = 200
        self.requests: list[tuple[str, str | None]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.requests.append((self.path, self.headers["Host"]))
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                """Print nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


def test_an_endpoint_is_well_if_it_answers_with_success(service: Service) -> None:
    """A server that answers 503 is up, and not well."""
    probe = probe_http("/health")
    endpoint = Endpoint(f"http://127.0.0.1:{service.port}/v1")
    assert probe(endpoint)
    service.status = 503
    assert not probe(endpoint)
    assert service.requests == [("/health", f"127.0.0.1:{service.port}")] * 2


def test_an_address_is_probed_under_the_name_of_its_host(service: Service) -> None:
    """A server with several hosts answers for the one that is asked for: the address alone names none."""
    probe = probe_http("/health")
    assert probe(Endpoint(f"127.0.0.1:{service.port}", host="search.internal"))
    assert service.requests == [("/health", f"search.internal:{service.port}")]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes no certificate without openssl")
def test_a_certificate_is_checked_against_the_name_of_the_host(tmp_path: Path) -> None:
    """Endpoints from DNS are addresses; their certificate is made out to the host's name."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    name = ["-subj", "/CN=search.internal", "-addext", "subjectAltName=DNS:search.internal"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *name, *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    service = Service(context)
    probe = probe_http("/health", context=ssl.create_default_context(cafile=str(certificate)))
    target = f"https://127.0.0.1:{service.port}"
    try:
        assert probe(Endpoint(target, host="search.internal"))
        with pytest.raises(ssl.SSLCertVerificationError):
            probe(Endpoint(target))
    finally:
        service.close()


def test_a_target_that_names_no_port_cannot_be_probed() -> None:
    """The target "azure-eu" is a name for the caller's function, which knows how to reach it; HTTP does not."""
    with pytest.raises(ValueError, match="target must be a URL or host:port to be probed by HTTP, not 'azure-eu'"):
        probe_http("/health")(Endpoint("azure-eu"))


def test_only_ejected_endpoints_are_probed_once_their_breaker_admits_it(vt: VirtualTime) -> None:
    """A probe of each server from each client every second would be a load of its own."""
    pool = BarePool(Endpoint("a"), Endpoint("b"))
    probed: list[str] = []
    probing = Probing(pool, lambda endpoint: bool(probed.append(endpoint.name) or True))
    probing.refresh()
    pool.fail("b")
    probing.refresh()
    assert probed == [], "its breaker is open: no probe is admitted yet"
    vt.advance(1.1)
    probing.refresh()
    assert probed == ["b"]
    assert pool.breakers["b"].snapshot().successes == 1
    assert pool.done == [("probed well", "b")]


def test_a_failed_probe_opens_the_breaker_again(vt: VirtualTime) -> None:
    """What the probe learns, the callers need not learn: one that is still down stays ejected, for longer each time."""
    pool = BarePool(Endpoint("a"), Endpoint("b"))
    pool.fail("b")
    answers: list[Any] = [False, OSError("unreachable"), True, True]
    waits = []

    def probe(endpoint: Endpoint) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    probing = Probing(pool, probe)
    while answers:
        waits.append(pool._ejected()[0][1])
        vt.advance(waits[-1])
        probing.refresh()
    assert waits[0] < waits[1] < waits[2]
    assert waits[3] == 0.0, "half open: the next probe may follow at once"
    assert pool.breakers["b"].state == "closed"
    assert pool.breakers["b"].snapshot().failures == 3


def test_a_probe_may_be_async(vt: VirtualTime) -> None:
    """Health checks of an async client need not be written twice."""
    pool = BarePool(Endpoint("a"))
    pool.fail("a")
    vt.advance(1.1)

    async def probe(endpoint: Endpoint) -> bool:
        return endpoint.name == "a"

    Probing(pool, probe).refresh()
    assert pool.breakers["a"].snapshot().successes == 1


def test_an_endpoint_that_was_removed_is_not_probed(vt: VirtualTime) -> None:
    """Between the list of the ejected ones and its probe, an endpoint may go."""
    pool = BarePool(Endpoint("a"), Endpoint("b"))
    pool.fail("b")
    vt.advance(1.1)
    endpoint = pool.endpoints[1]
    pool.remove("b")
    Probing(pool, lambda _: pytest.fail("a removed endpoint was probed")).probe(endpoint)


def test_a_thread_probes_until_all_are_well() -> None:
    """A hanging probe of one endpoint delays no other's."""
    pool = BarePool(Endpoint("hangs"), Endpoint("well"))
    release, hung = threading.Event(), threading.Event()
    well = threading.Event()

    def probe(endpoint: Endpoint) -> bool:
        if endpoint.name == "hangs":
            hung.set()
            return release.wait(60.0)
        well.set()
        return True

    pool.breakers["well"].reconfigure(open_for="1ms", max_open_for="1ms")
    pool.breakers["hangs"].reconfigure(open_for="1ms", max_open_for="1ms")
    probing = Probing(pool, probe)
    for name in pool.names:
        pool.fail(name)
    probing.begin()
    assert hung.wait(60.0)
    assert well.wait(60.0)
    release.set()
    probing.rounds.stop()


def test_what_is_no_probe_is_rejected() -> None:
    """A path alone is a likely mistake; the message shows the right form."""
    with pytest.raises(TypeError, match=r"probe must be probe_http\('/health'\), .* not '/health'"):
        resilio.pool("search", Endpoint("a"), probe="/health")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path must be a path that begins with '/'"):
        probe_http("health")
    with pytest.raises(ValueError, match="every must be a time"):
        probe_http("/health", every=0)
    with pytest.raises(TypeError, match=r"context must be an ssl\.SSLContext"):
        probe_http("/health", context="strict")  # type: ignore[arg-type]
