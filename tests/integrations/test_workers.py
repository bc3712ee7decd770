"""Servers of several processes: each worker has the policy for itself, and loses nothing with the others."""

from __future__ import annotations

import os
import signal

import pytest
from serving.sockets import Raw, until
from serving.workers import KINDS, workers

pytestmark = pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs fork")


ALWAYS = {"gunicorn-sync", "uvicorn"}  # one of each protocol, also on the other Pythons


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ALWAYS else pytest.mark.slow) for kind in KINDS]
)
@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.real(3.0)
def test_ls01_each_worker_has_the_policy_for_itself(kind, tmp_path) -> None:
    """
    LS-01: limits count per process, and what one process holds or loses is no other's.

    A permit that is held where the app is loaded is not held in workers; a worker that is killed ends its own request
    alone, and who comes in its place holds nothing; a graceful stop lets what is under way end, and the server too.
    """
    with workers(kind, tmp_path) as server:
        assert server.inflight_of_each() == [0, 0]
        first, one = server.hold()
        second, other = server.hold()
        assert one != other  # both hold one, of a limit of one
        if kind != "gunicorn-sync":  # whose workers accept no other request meanwhile
            assert server.inflight_of_each() == [1, 1]
            with Raw(server.port) as third:
                third.say("GET / HTTP/1.1\nHost: a\nConnection: close\n\n")
                assert " 503" in third.head().split("\r\n")[0]
        if kind != "hypercorn":  # which does not replace a worker
            os.kill(one, signal.SIGKILL)
            assert first.rest() == b""
        server.release()
        assert second.body(second.head()) == b"served"
        for client in (first, second):
            client.socket.close()
        until(lambda: server.inflight_of_each() == [0, 0])  # two again, each ends its permit after the last byte

        server.keep()
        last, _ = server.hold()
        server.stop()
        server.release()
        assert last.body(last.head()) == b"served"
        last.socket.close()
        assert server.process.wait() == 0
