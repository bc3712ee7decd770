"""gevent: greenlets in one thread, whose blocking calls let each other run; a program patches a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent", reason="gevent is not installed")


def in_child(program: str, *arguments: str) -> str:
    """Run a program after gevent's patches, and return what it has printed."""
    patched = "from gevent import monkey\n\nmonkey.patch_all()\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", patched, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_storm_of_greenlets_that_are_killed(seed: str) -> None:
    """Stages, generators, blocks, keys and queues: each greenlet has its own calls, and every permit comes back."""
    printed = in_child(
        """
        import random
        import sys

        import gevent

        from resilio import bulkhead, circuit_breaker, current, fallback, keyed, pipeline, retry

        chance = random.Random(int(sys.argv[1]))
        permits, direct = bulkhead(25, max_queued=1000, max_wait=60.0), bulkhead(10, max_queued=1000, max_wait=60.0)
        gates = pipeline(circuit_breaker(consecutive=10**6), permits)
        retries = retry(on=OSError, attempts=3, backoff=0.0, budget=None)
        falls_back = fallback(lambda number: -number, on=OSError)
        by_key = keyed(lambda: bulkhead(100), key=lambda number: number % 5)
        mistaken, switched, killed = [], 0, 0


        def others_run(call):
            global switched
            for _ in range(chance.randrange(4)):
                gevent.sleep(0)
                switched += 1
            if current() is not call:
                mistaken.append(call)


        @by_key
        def leaf(number):
            others_run(current())
            if chance.random() < 0.2:
                raise OSError
            return number


        @gates
        def items(number):
            for item in range(number % 4):
                others_run(current())
                yield item


        @falls_back
        @retries
        def top(number):
            call, attempt = current(), current().attempt
            for _ in items(number):
                others_run(call)
            with direct:
                others_run(call)
            got = leaf(number)
            others_run(call)
            assert call.attempt == attempt
            return got


        def run(number):
            for _ in range(20):
                assert abs(top(number)) == number
            others_run(None)


        def kill():
            global killed
            for _ in range(40):
                gevent.sleep(0)
                victim = chance.choice(running)
                killed += not victim.dead
                victim.kill(block=False)


        running = [gevent.spawn(run, number) for number in range(60)]
        gevent.joinall([*running, gevent.spawn(kill)], raise_error=True)
        policies = (permits, direct, retries, falls_back, by_key)
        print(mistaken, [one.snapshot().inflight + one.snapshot().queued for one in policies])
        print(switched > 1000, killed > 5, all(one.snapshot().calls > 300 for one in policies))
        """,
        seed,
    )
    assert printed == "[] [0, 0, 0, 0, 0]\nTrue True True\n"


@pytest.mark.real(3.0)
def test_a_session_of_requests_with_a_standard_stack() -> None:
    pytest.importorskip("requests", reason="requests is not installed")
    printed = in_child(
        """
        import collections
        import http.server
        import threading

        import gevent
        import requests

        from resilio import standard
        from resilio.integrations.requests import Adapter


        class Served(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                gevent.sleep(0)
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"order")

            def log_message(self, *said):
                pass


        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        session, answers = requests.Session(), collections.Counter()
        stack = standard("orders", on="http", idempotent=True)
        session.mount("http://", Adapter(stack, pool_maxsize=30))


        def run():
            for _ in range(10):
                answers[session.get(f"http://127.0.0.1:{server.server_port}/", timeout=60).text] += 1


        gevent.joinall([gevent.spawn(run) for _ in range(30)], raise_error=True)
        print(dict(answers), stack.snapshot().inflight)
        """
    )
    assert printed == "{'order': 300} 0\n"
