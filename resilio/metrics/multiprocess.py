"""
Metrics of several worker processes as one: each leaves its numbers in a directory, and a scrape adds them up.

    resilio.metrics.multiprocess.start("/run/shop/metrics")         in each worker, where the application is made
    resilio.metrics.prometheus.MultiprocessCollector(registry)      in the process that answers the scrape

Calls are not affected: a thread reads the native counters every two seconds and replaces one small file. The totals of
a worker that ends, or forks, stay exact; one that is killed loses its counts since its last write. A full disk, or a
missing directory, is counted and logged once, and has no other effect.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from resilio._options.validators import reject, seconds
from resilio._policy.types import Time
from resilio._support.after_fork import free_lock
from resilio.metrics import _trouble
from resilio.metrics._book import MOST_NAMES, Book
from resilio.metrics._buckets import BUCKETS, Choice, Chooser
from resilio.metrics._fork import after_fork
from resilio.metrics._read import read_process
from resilio.metrics._shared_files import Place, fold, read_all, write
from resilio.metrics._sheet import Sheet

__all__ = ["Worker", "read", "start", "where"]

VARIABLES = ("RESILIO_MULTIPROC_DIR", "PROMETHEUS_MULTIPROC_DIR")
LONGEST_WAIT = 2.0
"""Maximum seconds that a thread waits for another one that is writing."""

_workers: dict[Path, Worker] = {}
_starting = threading.Lock()
free_lock(sys.modules[__name__], "_starting")


def where(directory: str | Path | None = None) -> Path:
    """
    Return the directory that processes share.

    Args:
        directory: The directory; None: the one in the environment variable RESILIO_MULTIPROC_DIR, or "resilio" below
            the one in PROMETHEUS_MULTIPROC_DIR, apart from its other files.

    Raises:
        ValueError: `directory` is None, and neither variable is set.
    """
    if directory is not None:
        return Path(directory)
    own, theirs = (os.environ.get(variable) for variable in VARIABLES)
    if own:
        return Path(own)
    if theirs:
        return Path(theirs, "resilio")
    return reject("directory", directory, f"a directory, unless {' or '.join(VARIABLES)} is set")


def start(
    directory: str | Path | None = None,
    *,
    interval: Time = 2.0,
    buckets: Choice = BUCKETS,
    max_names: int = MOST_NAMES,
) -> Worker:
    """
    Write this process's numbers from now on, and those of its children from each fork on; one call suffices.

    Args:
        directory: Directory shared by all workers, on a local disk; made if it does not exist. None: see :func:`where`.
            Empty it when the service as a whole restarts.

        interval: Seconds between two writes, > 0: the maximum age of other workers' numbers.

        buckets: As in `ResilioCollector`; the same in all processes.

        max_names: As in `ResilioCollector`.

    Raises:
        ValueError: No directory, or an option out of range. A failed write raises nothing: it is logged once, counted
            in `resilio_exporter_errors_total`, and tried again.
    """
    checked = seconds("interval", interval)
    path = where(directory).absolute()
    with _starting:
        worker = _workers.get(path)
        if worker is None:
            worker = _workers[path] = Worker(path, checked, Book(None, Chooser(buckets), max_names))
            worker._begin()
        elif worker._ended.is_set():
            worker._begin_again()
    return worker


def read(directory: Path) -> Sheet:
    """Return the sum over all processes that share a directory, with this process's current numbers."""
    worker = _workers.get(directory.absolute())
    if worker is not None:
        worker.flush()
    total = Sheet()
    try:
        total = read_all(directory)
        fold(directory)
    except FileNotFoundError:
        pass  # no process has written yet
    except OSError as error:
        _trouble.happened(f"reading {directory}", error)
    if worker is None:
        total.add(read_process())
    return total


class Worker:
    """Writer of this process's numbers; made by :func:`start`."""

    def __init__(self, directory: Path, interval: float, book: Book) -> None:
        """Prepare; nothing is written yet."""
        self._directory = directory
        self._interval = interval
        self._book = book
        self._place: Place | None = None
        self._before = Sheet()
        """What this process does not tell: another told it, or an earlier file."""
        self._last_read = Sheet()
        self._written: dict[str, Any] | None = None
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def flush(self) -> bool:
        """Write the current numbers; return True on success. Never raises."""
        if self._ended.is_set() or not self._writing.acquire(timeout=LONGEST_WAIT):
            return False
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - a full disk must not fail the caller
            _trouble.happened(f"writing metrics to {self._directory}", error)
            return False
        else:
            _trouble.over(f"writing metrics to {self._directory}")
            return True
        finally:
            self._writing.release()

    def stop(self) -> None:
        """Write a last time, and stop; the totals stay, the gauges disappear. Never raises."""
        if self._ended.is_set():
            return
        self.flush()
        self._ended.set()
        self._before = self._last_read
        if self._place is not None:
            self._place.let_go()
            self._place = None
            with suppress(OSError):
                fold(self._directory)

    def forked(self) -> None:
        """Become another process in a forked child, with counts that start at zero."""
        if self._ended.is_set():
            return
        if self._place is not None:
            self._place.let_go()
        self._book.forked()
        self._before = self._last_read = self._book.read()
        self._new_files()
        self._run()

    def _new_files(self) -> None:
        self._place = self._written = None
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def _begin(self) -> None:
        after_fork(self)
        atexit.register(self.stop)
        self._finish_with_multiprocessing()
        self.flush()
        self._run()

    def _begin_again(self) -> None:
        self._new_files()
        self.flush()
        self._run()

    def _finish_with_multiprocessing(self) -> None:
        """Write at the end of a child forked by multiprocessing, which skips `atexit`."""
        from multiprocessing import util

        util.register_after_fork(self, lambda worker: util.Finalize(None, worker.stop, exitpriority=0))

    def _run(self) -> None:
        thread = threading.Thread(target=self._write_on, args=(self._ended,), name="resilio-metrics", daemon=True)
        with suppress(RuntimeError):  # no thread can start, or the interpreter is ending
            thread.start()

    def _write_on(self, ended: threading.Event) -> None:
        while not ended.wait(self._interval):
            self.flush()

    def _write(self) -> None:
        now = self._book.read()
        sheet = Sheet()
        sheet.add(now)
        sheet.add_totals(self._before, -1)
        data, place = sheet.dump(), self._its_place()
        if data != self._written or not place.data.exists():
            write(place.data, data)
            self._written = data
        self._last_read = now

    def _its_place(self) -> Place:
        if self._place is not None and not self._place.stands():  # the directory was emptied
            self._place.let_go()
            self._place = self._written = None
        if self._place is None:
            self._place = Place(self._directory, f"{os.getpid()}-{token_hex(8)}")
            fold(self._directory)
        return self._place
