"""Real servers of several workers, and multiprocessing: workers find each other however they are started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from servers.processes import die_with_parent
from serving.sockets import listening
from workers_of_host import until

from resilio._native.shared import Region

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]

WORKERS = 3
_GUNICORN = (
    "gunicorn",
    "--workers",
    str(WORKERS),
    "--log-level",
    "critical",
    "--timeout",
    "600",
    "--bind",
    "fd://{fd}",
)
_UVICORN = (
    "uvicorn",
    "--workers",
    str(WORKERS),
    "--log-level",
    "error",
    "--timeout-worker-healthcheck",
    "600",  # a worker that has not begun within 5 s would be killed, and started again
    "--fd",
    "{fd}",
)
_WSGI, _ASGI = "serving.sharing_app:wsgi", "serving.sharing_app:asgi"
KINDS = {
    "gunicorn-sync": (*_GUNICORN, _WSGI),
    "gunicorn-gthread": (*_GUNICORN, "--threads", "4", _WSGI),
    "gunicorn-gevent": (*_GUNICORN, "-k", "gevent", _WSGI),
    "gunicorn-uvicorn": (*_GUNICORN, "-k", "uvicorn.workers.UvicornWorker", _ASGI),
    "gunicorn-preload": (*_GUNICORN, "--preload", _WSGI),
    "gunicorn-max-requests": (*_GUNICORN, "--preload", "--max-requests", "20", _WSGI),
    "uvicorn": (*_UVICORN, _ASGI),
}
NEEDS = {"gunicorn-gevent": "gevent", "gunicorn-uvicorn": "uvicorn"}


class Server:
    """A server that answers on a socket of the test's own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, path: str = "/") -> dict[str, Any]:
        """What a worker says, whichever has answered."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=600) as response:
            return json.loads(response.read())  # type: ignore[no-any-return]

    def all(self) -> dict[int, dict[str, Any]]:
        """What each worker has said last, by process id, once all have answered."""
        said: dict[int, dict[str, Any]] = {}

        def enough() -> bool:
            with ThreadPoolExecutor(2 * WORKERS) as pool, suppress(URLError, OSError):
                said.update((one["pid"], one) for one in pool.map(self.ask, ["/"] * 2 * WORKERS))
            return len(said) >= WORKERS

        until(enough, f"{WORKERS} workers have answered")
        return said


@contextmanager
def served(kind: str, directory: Path) -> Iterator[Server]:
    """Serve until the block ends."""
    for module in (KINDS[kind][0], NEEDS.get(kind, "json")):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    listener = listening()
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RESILIO_SHARED_DIR": str(directory)}
    environment.pop("RESILIO_HOST_NAME", None)
    command = [sys.executable, "-m", *(part.format(fd=listener.fileno()) for part in KINDS[kind])]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**environment, "PYTHONWARNINGS": "ignore"},
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel, and nothing of Python's
        )
    server = Server(process, listener.getsockname()[1])
    try:
        yield server
    except BaseException:
        print((directory / "log").read_text())
        raise
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        listener.close()


def region_of(directory: Path) -> Region:
    """The one region that the server's processes have made."""
    (path,) = directory.glob("resilio-h2-*")
    return Region.open(path, 0)


def killed_while_it_worked(server: Server, region: Region) -> int:
    """
    Kill a worker that has its slot, and return its process id.

    It is stopped before: a worker that has served all of its requests would end by itself between a look and the kill.
    """
    while True:
        pid = server.ask()["pid"]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: state_of(pid) in "TZ", "the worker has stopped or ended")
            works = state_of(pid) == "T" and pid in {one for _, one, *_ in region.workers()}
            os.kill(pid, signal.SIGKILL if works else signal.SIGCONT)
            if works:
                return pid


def permit_kept_at(server: Server) -> None:
    """Have a worker keep a permit: ask until one is free. It answers after 600 s only."""
    while not server.ask("/hold")["passed"]:
        time.sleep(0.01)


def is_permit_free(server: Server) -> bool:
    """Return whether a worker that lives has had a permit: one that is being killed may still take the connection."""
    with suppress(OSError):
        return bool(server.ask("/permit")["passed"])
    return False


def state_of(pid: int) -> str:
    """The letter for the state of a process: T if it is stopped; Z if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # its parent knows
        return "Z"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_workers_of_a_server_find_each_other(kind: str, directory: Path) -> None:
    """
    They share one file by default, each with a slot; the parent, which makes no calls, is no worker.

    A worker that is killed is found, and the one that the server starts in its place is one of them.
    """
    with served(kind, directory) as server:
        first = server.all()
        until(lambda: server.ask()["peers"] == WORKERS, "all share")
        assert {one["degraded"] for one in first.values()} == {None}
        assert len({one["group"] for one in first.values()}) == 1
        region = region_of(directory)
        assert server.process.pid not in {pid for _, pid, *_ in region.workers()}
        victim = killed_while_it_worked(server, region)
        until(lambda: victim not in {pid for _, pid, *_ in region.workers()}, "the dead worker's slot is free")
        until(lambda: victim not in server.all() and server.ask()["peers"] == WORKERS, "another has taken its place")
        region.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_of_a_server_admits_its_rate_over_all_workers(kind: str, directory: Path) -> None:
    """Users of gunicorn ask why "100/s" admits 300 with three workers: over all of them it admits 100."""
    with served(kind, directory) as server:
        server.all()
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(server.ask, ["/limit"] * 600))
        most = 100 + 100 * (time.monotonic() - begun)
        passed = [one for one in said if one["passed"]]
        assert len({one["pid"] for one in passed}) > 1, "the load went to one worker"
        assert 100 <= len(passed) <= most


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gunicorn-sync", "gunicorn-uvicorn", "uvicorn"])
def test_permits_of_a_killed_worker_are_free_again(kind: str, directory: Path) -> None:
    """
    nginx and litellm leak here: what a worker held when it was killed stays taken until all are restarted.

    The look at the permits takes one itself for a moment. A request to keep one that came just then was rejected, and
    the test waited for ever for all to be taken.
    """
    with served(kind, directory) as server:
        workers = server.all()
        with ThreadPoolExecutor(4) as pool:
            held = [pool.submit(permit_kept_at, server) for _ in range(2)]
            until(lambda: not server.ask("/permit")["passed"], "all permits are taken")
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            until(lambda: is_permit_free(server), "the permits of the dead are free")
            assert all(one.exception() is not None for one in held), "its worker was killed"


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_find_each_other(way: str, directory: Path, tmp_path: Path) -> None:
    """A child of a fork takes a slot of its own, a spawned process finds the group by the same name."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM.format(way=way))
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "RESILIO_SHARED_DIR": str(directory), "PYTHONWARNINGS": "ignore"}
    environment.pop("RESILIO_HOST_NAME", None)
    result = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert sorted(one["slot"] for one in said) == [0, 1, 2]
    assert len({one["group"] for one in said}) == 1
    assert len(list(directory.glob("resilio-h2-*"))) == 1


@pytest.mark.slow
def test_children_of_celery_find_each_other(directory: Path, tmp_path: Path) -> None:
    """The prefork pool forks after the application is loaded; its parent takes no slot."""
    pytest.importorskip("celery", reason="celery is not installed")
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "PYTHONWARNINGS": "ignore",
        "RESILIO_SHARED_DIR": str(directory),
        "RESILIO_TEST_FOLDER": str(tmp_path),
    }
    environment.pop("RESILIO_HOST_NAME", None)
    command = ["celery", "-A", "serving.sharing_tasks", "worker", "--pool", "prefork", "--concurrency", str(WORKERS)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--without-gossip", "--without-mingle"],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel, and nothing of Python's
        )
    try:
        until(lambda: len(list(tmp_path.glob("child-*"))) == WORKERS, "all children have started")
        region = region_of(directory)
        until(lambda: len(region.workers()) == WORKERS, "each has a slot")
        children = {int(path.name.removeprefix("child-")) for path in tmp_path.glob("child-*")}
        assert {pid for _, pid, *_ in region.workers()} == children
        region.close()
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


_PROGRAM = """
import json, multiprocessing
from serving.sharing_app import worker

def child(pipe):
    pipe.send(worker.call())
    pipe.recv()

if __name__ == "__main__":
    context = multiprocessing.get_context({way!r})
    said, children = [worker.call()], []
    for _ in range(2):
        mine, theirs = context.Pipe()
        one = context.Process(target=child, args=(theirs,))
        one.start()
        said.append(mine.recv())
        children.append((one, mine))
    print(json.dumps(said))
    for one, pipe in children:
        pipe.send(None)
        one.join()
"""
