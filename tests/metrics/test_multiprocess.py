"""Several processes as one: totals add up exactly, whoever was forked, ended, killed or could not write."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from servers.processes import die_with_parent

from resilio import circuit_breaker, spend_limit
from resilio.metrics import _shared_files, _trouble, multiprocess
from resilio.metrics._sheet import Buckets, Sheet
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime

CALLS = ("calls", ("circuit_breaker", "shared", "success"))
POLICIES = ("policies", ("circuit_breaker", "shared"))
SHARED = ("circuit_breaker", "shared")

BEGIN = """
    import json, os, signal, sys, threading
    from pathlib import Path
    from resilio import circuit_breaker
    from resilio.metrics import multiprocess

    def calls(n):
        for _ in range(n):
            policy.call(int)

    def end(*ways):  # children forked and awaited, one after the other
        for way in ways:
            child = os.fork()
            if not child:
                way()
                sys.exit(0)
            os.waitpid(child, 0)

    def told():
        sheet = multiprocess.read(directory)
        own = ("circuit_breaker", "shared")
        return {
            "calls": sheet.counters.get(("calls", (*own, "success")), 0),
            "timed": sheet.durations[own].counts[-1] if own in sheet.durations else 0,
            "policies": sheet.gauges.get(("policies", own), 0),
            "errors": sheet.counters.get(("exporter_errors", ()), 0),
            "files": len(list(directory.glob("*.json"))),
        }

    directory = Path(sys.argv[1])
    policy = circuit_breaker("shared")
"""


def run(script: str, directory: Path) -> Any:
    """Run a script in a process of its own, as forks must not see our threads; return what it prints last."""
    code = textwrap.dedent(BEGIN) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """A worker of this process that writes when it is told to."""
    made = multiprocess.start(tmp_path / "shared", interval=3600)
    yield made
    made.stop()
    multiprocess._workers.clear()


def test_children_of_a_fork_tell_what_they_counted_and_nothing_of_their_parents(tmp_path: Path) -> None:
    """A parent's ten calls are told once, by whomever; each child's calls are added, those of a grandchild too."""
    found = run(
        """
        calls(10)
        worker = multiprocess.start(directory, interval=3600)
        end(lambda: calls(5), lambda: calls(6), lambda: end(lambda: calls(100)))
        calls(3)
        print(json.dumps(told()))
        """,
        tmp_path,
    )
    assert found == {"calls": 124, "timed": 124, "policies": 1, "errors": 0, "files": 2}


def test_killed_workers_keep_what_they_had_written(tmp_path: Path) -> None:
    """SIGKILL loses what came after the last write and nothing before it, and nothing is told twice."""
    found = run(
        """
        worker = multiprocess.start(directory, interval=3600)

        def killed():
            calls(7)
            worker.flush()
            calls(1000)
            os.kill(os.getpid(), signal.SIGKILL)

        end(*[killed] * 20)
        first = told()
        print(json.dumps([first, told(), told()]))
        """,
        tmp_path,
    )
    assert [one["calls"] for one in found] == [140] * 3
    assert [one["policies"] for one in found] == [1] * 3
    assert found[-1]["files"] == 2  # the parent's, and that of all who have ended


def test_children_of_multiprocessing_write_at_their_end(tmp_path: Path) -> None:
    """They skip `atexit`, with either way to start them."""
    found = run(
        """
        import multiprocessing

        worker = multiprocess.start(directory, interval=3600)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=calls, args=(11,)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print(json.dumps([told(), [child.exitcode for child in children]]))
        """,
        tmp_path,
    )
    assert found[0]["calls"] == 33
    assert found[1] == [0, 0, 0]


@pytest.mark.real(1.0)
@pytest.mark.untraced  # others trace the same lines in less time
def test_files_do_not_pile_up_without_any_scrape(tmp_path: Path) -> None:
    """A worker that starts takes in the totals of those that have ended."""
    found = run(
        """
        worker = multiprocess.start(directory, interval=3600)
        end(*[lambda: calls(1)] * 30)
        print(json.dumps(len(list(directory.iterdir()))))
        """,
        tmp_path,
    )
    assert found <= 6  # the parent's two, the ended ones', the lock of the folding, and at most one that has just ended


def test_totals_outlive_all_processes(tmp_path: Path) -> None:
    """A service that is started anew goes on counting where it was; the gauges of those that ended are gone."""
    once = "multiprocess.start(directory, interval=3600)\ncalls(4)\nprint(json.dumps(told()))"
    assert [run(once, tmp_path)["calls"] for _ in range(3)] == [4, 8, 12]
    rest = multiprocess.read(tmp_path)
    assert rest.counters[CALLS] == 12
    assert POLICIES not in rest.gauges


def test_a_full_disk_fails_nothing_and_is_counted(tmp_path: Path) -> None:
    """Calls go on, the log has one line, and when there is room again all numbers are there."""
    found = run(
        """
        import logging, resource

        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logging.getLogger("resilio").addHandler(handler)
        worker = multiprocess.start(directory, interval=3600)
        calls(5)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # EFBIG where a full disk says ENOSPC
        went_well = [worker.flush() for _ in range(3)]
        calls(5)
        full = told()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(json.dumps([went_well, full, told(), lines, [p.name for p in directory.glob("*.new")]]))
        """,
        tmp_path,
    )
    went_well, full, after, lines, rest = found
    assert went_well == [False] * 3
    assert full["calls"] == 0
    assert after["calls"] == 10
    assert after["errors"] >= 4
    assert len(lines) == 1
    assert "writing metrics" in lines[0]
    assert rest == []


def test_time_that_passes_alone_writes_no_file(worker: Any, vt: VirtualTime) -> None:
    """Each look at a spend limit, or at a fleet, wrote a file of another time until the reset, or since the answer."""
    money = spend_limit("50 USD/day", reserve=0.1, name="money")
    shop = Fleet("shop", MemoryEngine(), is_stepped=True)
    breaker = circuit_breaker("shared", scope=shop)
    shop.step()
    files = set()
    for _ in range(60):
        vt.advance(0.015)
        assert worker.flush()
        files.add(next(worker._directory.glob("*.json")).stat().st_ino)
    gauges = multiprocess.read(worker._directory).gauges
    assert gauges["shared_age_seconds", SHARED] == 0
    assert gauges["spend_resets_seconds", ("spend_limit", "money")] % 60 == 0
    assert len(files) <= 2  # a minute may begin meanwhile
    assert breaker.state == "closed"
    assert money.snapshot().spend.resets_in > 0


def test_a_directory_that_is_gone_is_made_again(worker: Any) -> None:
    """Somebody has cleaned up: the next write has all of this process, and calls have noticed nothing."""
    policy = circuit_breaker("shared")
    policy.call(int)
    before = multiprocess.read(worker._directory).counters[CALLS]
    shutil.rmtree(worker._directory)
    policy.call(int)
    assert worker.flush()
    assert multiprocess.read(worker._directory).counters[CALLS] == before + 1


def test_a_directory_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path, caplog: Any) -> None:
    """`start` returns, calls go on, and the failure is in the numbers and once in the log."""
    caplog.set_level(logging.WARNING, "resilio")
    (tmp_path / "file").write_text("not a directory")
    before = _trouble.errors()
    worker = multiprocess.start(tmp_path / "file" / "shared", interval=3600)
    try:
        assert not worker.flush()
        circuit_breaker("shared").call(int)
        multiprocess.read(worker._directory)
        assert _trouble.errors() >= before + 3
        assert len([record for record in caplog.records if "writing metrics" in record.getMessage()]) == 1
    finally:
        worker.stop()
        multiprocess._workers.clear()
        _trouble.over(f"writing metrics to {worker._directory}")


def test_a_worker_that_starts_again_tells_nothing_twice(worker: Any) -> None:
    """What it had told before it stopped is among the totals of those that ended."""
    policy = circuit_breaker("shared")
    policy.call(int)
    total = multiprocess.read(worker._directory).counters[CALLS]
    worker.stop()
    worker.stop()
    policy.call(int)
    assert multiprocess.read(worker._directory).counters[CALLS] == total
    assert multiprocess.start(worker._directory) is worker
    assert multiprocess.start(worker._directory) is worker
    policy.call(int)
    assert multiprocess.read(worker._directory).counters[CALLS] == total + 2


def test_nothing_is_written_while_nothing_changes(worker: Any) -> None:
    """An idle process leaves the disk alone."""
    worker.flush()
    path = worker._place.data
    first = path.stat().st_ino, path.stat().st_mtime_ns
    assert worker.flush()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == first
    circuit_breaker("shared").call(int)
    worker.flush()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != first


def test_the_thread_writes_by_itself(tmp_path: Path) -> None:
    """Nobody needs to ask: it ends with the worker."""
    worker = multiprocess.start(tmp_path / "own", interval=0.01)
    try:
        thread = next(one for one in threading.enumerate() if one.name == "resilio-metrics" and one.is_alive())
        circuit_breaker("shared").call(int)
        while not _shared_files.read_all(worker._directory).counters.get(CALLS):
            time.sleep(0.01)
    finally:
        worker.stop()
        multiprocess._workers.clear()
    thread.join()


def test_one_who_writes_for_ever_delays_nobody(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape and the end of the process wait for a hanging disk for a bounded time, and calls not at all."""
    monkeypatch.setattr(multiprocess, "LONGEST_WAIT", 0.01)
    with worker._writing:
        assert not worker.flush()
        circuit_breaker("shared").call(int)
        assert isinstance(multiprocess.read(worker._directory), Sheet)


def test_a_reader_that_meets_a_folding_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that vanish, and totals that grow, between two looks: the sum is that of one moment."""
    for name in "abc":
        place = _shared_files.Place(tmp_path, name)
        _shared_files.write(place.data, Sheet(counters={CALLS: 1}).dump())
        place.let_go()
    load, folded = _shared_files._load, []

    def fold_first(path: Path) -> Sheet | None:
        if not folded:
            folded.append(path)
            _shared_files.fold(tmp_path)
        return load(path)

    monkeypatch.setattr(_shared_files, "_load", fold_first)
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 3
    assert len(folded) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended.json", "folding.lock"]


def test_what_was_being_written_by_one_that_was_killed_does_not_pile_up(tmp_path: Path) -> None:
    """Its file has another name until it is whole; one of a process that lives is let be."""
    alive, dead = (_shared_files.Place(tmp_path, name) for name in ("1-a", "2-b"))
    left = [tmp_path / name for name in ("1-a.json.1.new", "2-b.json.2.new", "3-c.json.3.new", "ended.json.4.new")]
    for path in left:
        path.write_text("{")
    dead.let_go()
    _shared_files.fold(tmp_path)
    assert [path.exists() for path in left] == [True, False, False, False]
    alive.let_go()
    _shared_files.fold(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended.json", "folding.lock"]


def test_a_folding_that_is_cut_short_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between taking totals in and removing files: the totals name the files they have."""
    place = _shared_files.Place(tmp_path, "one")
    _shared_files.write(place.data, Sheet(counters={CALLS: 5}).dump())
    place.let_go()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            _shared_files.fold(tmp_path)
    assert (tmp_path / "one.json").exists()
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 5
    _shared_files.fold(tmp_path)
    assert not (tmp_path / "one.json").exists()
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 5


def test_two_never_fold_at_once(tmp_path: Path) -> None:
    """Whoever comes second leaves it to the first."""
    with _shared_files._folding(tmp_path) as mine, _shared_files._folding(tmp_path) as other:
        assert (mine, other) == (True, False)
        _shared_files.fold(tmp_path)
    assert not (tmp_path / "ended.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[",
        '{"counters": [], "gauges": [], "durations": []}',
        '{"counters": {"no such": [[1]]}, "gauges": {}, "durations": []}',
    ],
)
def test_a_file_that_somebody_else_wrote_costs_itself_only(tmp_path: Path, text: str) -> None:
    """It is counted, and the others are added up."""
    good = _shared_files.Place(tmp_path, "good")
    _shared_files.write(good.data, Sheet(counters={CALLS: 5}).dump())
    bad = _shared_files.Place(tmp_path, "bad")
    bad.data.write_text(text)
    before = _trouble.errors()
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 5
    assert _trouble.errors() == before + 1
    bad.let_go()
    _shared_files.fold(tmp_path)
    assert not bad.data.exists()
    (tmp_path / "ended.json").write_text(text)
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 5
    good.let_go()


def test_a_sheet_goes_through_json() -> None:
    """Counters, gauges and histograms come back as they were; a histogram with another number of bounds is rejected."""
    sheet = Sheet({CALLS: 3, ("call_seconds", (*SHARED, "queue")): 0.25}, {POLICIES: 2.0})
    sheet.durations[SHARED] = Buckets((0.1, float("inf")), [1, 4], 1.5)
    data = json.loads(json.dumps(sheet.dump()))
    assert Sheet.load(data) == sheet
    data["durations"][0][2].append(2.0)
    with pytest.raises(ValueError, match="as many counts as bounds"):
        Sheet.load(data)
    for row in (["circuit_breaker", 1], ["circuit_breaker", "shared", "success", "one"]):
        with pytest.raises(ValueError, match="a row of calls has 3 labels and a number"):
            Sheet.load({"counters": {"calls": [row]}, "gauges": {}, "durations": []})


def test_histograms_with_other_bounds_do_not_mix() -> None:
    """After a deployment with other buckets the newer ones stand: a sum would be wrong."""
    old, new = Sheet(), Sheet()
    old.durations[SHARED] = Buckets((0.1, float("inf")), [1, 4], 1.5)
    new.durations[SHARED] = Buckets((0.2, float("inf")), [2, 2], 0.5)
    old.add(new)
    assert old.durations[SHARED].counts == [2, 2]


def test_where_the_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As given, or as one of two environment variables says, beside the files of prometheus_client."""
    for variable in multiprocess.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match="RESILIO_MULTIPROC_DIR"):
        multiprocess.where()
    assert multiprocess.where("/given") == Path("/given")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert multiprocess.where() == tmp_path / "resilio"
    monkeypatch.setenv("RESILIO_MULTIPROC_DIR", "/own")
    assert multiprocess.where() == Path("/own")
    with pytest.raises(ValueError, match="interval"):
        multiprocess.start(tmp_path, interval=0)


def test_a_collector_shows_all_processes(worker: Any) -> None:
    """In prometheus_client's registry, made anew for each scrape or not; who is no worker shows its own failures."""
    prometheus_client = pytest.importorskip("prometheus_client")
    from resilio.metrics.prometheus import MultiprocessCollector, generate_latest

    circuit_breaker("shared").call(int)
    other = _shared_files.Place(worker._directory, "other")
    _shared_files.write(other.data, Sheet(counters={CALLS: 1000}, gauges={POLICIES: 1}).dump())
    for _ in range(2):
        registry = prometheus_client.CollectorRegistry()
        MultiprocessCollector(registry, worker._directory)
        labels = {"kind": "circuit_breaker", "policy": "shared"}
        calls = registry.get_sample_value("resilio_calls_total", labels | {"outcome": "success"})
        assert calls == 1000 + multiprocess.read(worker._directory).counters[CALLS] - 1000 > 1000
        assert registry.get_sample_value("resilio_policies", labels) == 2
        assert b"resilio_calls_total{" in generate_latest(registry)
    other.let_go()
    registry = prometheus_client.CollectorRegistry()
    MultiprocessCollector(registry, worker._directory / "nothing" / "there")
    assert registry.get_sample_value("resilio_exporter_errors_total", {}) is not None


APP = """
import os
from pathlib import Path
from resilio import circuit_breaker
from resilio.metrics import multiprocess
from prometheus_client import CollectorRegistry
from resilio.metrics.prometheus import MultiprocessCollector, generate_latest
from servers.processes import die_with_parent

die_with_parent()
policy = circuit_breaker("served")
worker = multiprocess.start(interval=3600)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = str(os.getpid()).encode()
    if scope["path"] == "/call":
        policy.call(int)
        worker.flush()
    elif scope["path"] == "/metrics":
        registry = CollectorRegistry()
        MultiprocessCollector(registry)
        body = generate_latest(registry)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def get(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.mark.slow
def test_workers_of_uvicorn_add_up_after_kills(tmp_path: Path) -> None:
    """Real workers behind one port: whichever is asked tells all calls, also those of workers that were killed."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("prometheus_client")
    (tmp_path / "served.py").write_text(APP)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "RESILIO_MULTIPROC_DIR": str(tmp_path / "metrics")}
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "uvicorn", "served:app", "--workers", "3", "--port", str(port), "--lifespan", "off"]
    server = subprocess.Popen(
        [sys.executable, *command, "--log-level", "critical"],
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel, and nothing of Python's
    )
    try:
        while get(port, "/pid") is None:
            assert server.poll() is None
            time.sleep(0.05)
        answered, killed = 0, set()
        for turn in range(3):
            workers = set()
            for _ in range(40):
                worker = get(port, "/call")
                if worker is not None:
                    answered += 1
                    workers.add(int(worker))
            victim = min(workers - killed)
            killed.add(victim)
            if turn < 2:
                os.kill(victim, signal.SIGKILL)
        text = None
        while text is None:
            text = get(port, "/metrics")
        line = f'resilio_calls_total{{kind="circuit_breaker",policy="served",outcome="success"}} {answered}\n'
        assert line.encode() in text
        assert answered > 60
        assert len(killed) == 3
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


# ---- what seldom happens ---------------------------------------------------------------------------------------------


def test_without_file_locks_it_says_so() -> None:
    """One clear error on a system that has none."""
    script = "import sys\nsys.modules['fcntl'] = None\nimport resilio.metrics.multiprocess"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: resilio.metrics.multiprocess needs file locks (fcntl)" in done.stderr


def test_a_lock_that_cannot_be_had_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without locks: the write fails as a whole, and is tried again."""
    files = Path("/proc/self/fd")
    opened = len(list(files.iterdir())) if files.is_dir() else None

    def reject(*_: Any) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(_shared_files.fcntl, "flock", reject)
    for _ in range(3):
        with pytest.raises(OSError, match="no locks here"):
            _shared_files.Place(tmp_path, "one")
    assert list(tmp_path.iterdir()) == []  # each try has a name of its own: they would pile up
    if opened is not None:
        assert len(list(files.iterdir())) == opened


def test_a_reader_gives_up_waiting_for_a_quiet_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If others fold without end it answers with what it saw last."""
    place = _shared_files.Place(tmp_path, "one")
    _shared_files.write(place.data, Sheet(counters={CALLS: 5}).dump())
    _shared_files.write(tmp_path / "ended.json", {"taken": [], **Sheet(counters={CALLS: 1}).dump()})
    stamps = iter(range(1000))
    monkeypatch.setattr(_shared_files, "_stamp", lambda path: (next(stamps),))
    assert _shared_files.read_all(tmp_path).counters[CALLS] == 5  # the totals of ended ones were never read whole
    place.let_go()


def test_a_file_whose_lock_is_gone_is_that_of_an_ended_process(tmp_path: Path) -> None:
    """Somebody has removed it; and totals that vanish while they are read are read again."""
    _shared_files.write(tmp_path / "one.json", Sheet(counters={CALLS: 5}, gauges={POLICIES: 1}).dump())
    found = _shared_files.read_all(tmp_path)
    assert (found.counters[CALLS], found.gauges) == (5, {})


def test_what_cannot_be_read_fails_no_scrape(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted, and what there is is told."""

    def reject(*_: Any) -> None:
        raise PermissionError("not yours")

    before = _trouble.errors()
    monkeypatch.setattr(multiprocess, "fold", reject)
    assert isinstance(multiprocess.read(worker._directory), Sheet)
    assert _trouble.errors() == before + 1
