"""
A directory in which processes leave their numbers, and the totals of those that ended.

Each process has two files: `<id>.json`, replaced as a whole at each write, and `<id>.lock`, locked as long as the
process lives. The kernel frees a lock however its owner ends, so a reused process id causes no confusion. The totals of
ended processes are folded into `ended.json` and their files removed, so that files do not pile up.

Nothing is counted twice or lost: `ended.json` names the files folded into it, and it is replaced before they are
removed. A reader that saw it change, or a file vanish, reads again. Readers never wait.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from resilio.metrics import _trouble
from resilio.metrics._sheet import Sheet

try:
    import fcntl
except ImportError as _error:
    raise ImportError("resilio.metrics.multiprocess needs file locks (fcntl), which this system has not") from _error

__all__ = ["Place", "fold", "read_all", "write"]

ENDED = "ended.json"
FOLDING = "folding.lock"
TRIES = 10

_NOT_OURS = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""Exceptions raised by reading another program's file, which is skipped."""


class Place:
    """
    The files of one process, until it releases them.

    Args:
        directory: The directory; made if it does not exist.

        identity: Stem of the file names, unique among all processes that ever used the directory.

    Raises:
        OSError: The directory cannot be made or written to.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        """Take the lock that marks this process as alive."""
        directory.mkdir(parents=True, exist_ok=True)
        self.data = directory / f"{identity}.json"
        self._lock_file = directory / f"{identity}.lock"
        temporary = directory / f"{identity}.lock.new"
        self._lock = os.open(temporary, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.replace(self._lock_file)  # visible from now on, and already locked
        except OSError:
            self.let_go()
            with suppress(OSError):
                temporary.unlink()
            raise

    def stands(self) -> bool:
        """Return True if the lock file still exists where it was made."""
        return self._lock_file.exists()

    def let_go(self) -> None:
        """Release the lock, which marks the process as ended; in a forked child, leave the parent's lock held."""
        with suppress(OSError):
            os.close(self._lock)


def write(path: Path, data: Any) -> None:
    """
    Replace a file atomically.

    Raises:
        OSError: It could not be written, and is unchanged.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


@attrs.define
class _Ended:
    """Totals of ended processes, and the stems of the files folded into them."""

    sheet: Sheet = attrs.field(factory=Sheet)
    taken: frozenset[str] = frozenset()
    stamp: tuple[int, ...] | None = None


def read_all(directory: Path) -> Sheet:
    """
    Return the sum over all processes: totals of the ended ones, totals and gauges of those alive.

    Args:
        directory: The directory; empty numbers if it does not exist.
    """
    total = Sheet()
    for _ in range(TRIES):
        total, steady = _read_once(directory)
        if steady:
            break
    return total


def _read_once(directory: Path) -> tuple[Sheet, bool]:
    """Return the sum, and whether no process folded files meanwhile."""
    ended = _load_ended(directory)
    total = Sheet()
    total.add_totals(ended.sheet)
    for path in _data_files(directory):
        if path.stem in ended.taken:
            continue
        try:
            sheet = _load(path)
        except FileNotFoundError:
            return total, False
        if sheet is None:
            continue
        if _alive(path):
            total.add(sheet)
        else:
            total.add_totals(sheet)
    return total, _stamp(directory / ENDED) == ended.stamp


def fold(directory: Path) -> None:
    """
    Fold the totals of ended processes into one file and remove theirs, unless another process is folding.

    Raises:
        OSError: A file could not be written; nothing has changed.
    """
    with _folding(directory) as mine:
        if not mine:
            return
        ended = _load_ended(directory)
        locks = [path for path in directory.glob("*.lock") if path.name != FOLDING and _is_pair(path)]
        dead = [path for path in locks if not _alive(path)]
        new = [path for path in dead if path.stem not in ended.taken]
        if new:
            for path in new:
                with suppress(FileNotFoundError):
                    ended.sheet.add_totals(_load(path.with_suffix(".json")) or Sheet())
            taken = sorted(path.stem for path in dead)
            write(directory / ENDED, {"taken": taken, **ended.sheet.dump()})
        for path in dead:
            for file in (path.with_suffix(".json"), path):  # the lock last: it marks the process as ended
                file.unlink(missing_ok=True)
        for path in _cut_short(directory):
            path.unlink(missing_ok=True)


def _cut_short(directory: Path) -> list[Path]:
    """Return temporary files of processes that were killed while writing; called by the folding process alone."""
    found = [path for path in directory.glob("*.json.*.new") if path.is_file()]
    written = [(path, directory / path.name.partition(".")[0]) for path in found]
    return [path for path, owner in written if not _alive(owner)]


@contextmanager
def _folding(directory: Path) -> Iterator[bool]:
    lock = os.open(directory / FOLDING, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def _is_pair(lock: Path) -> bool:
    """Return True if a lock and its data can be those of a process; a directory or a pipe is another program's."""
    data = lock.with_suffix(".json")
    return lock.is_file() and (data.is_file() or not data.exists())


def _alive(path: Path) -> bool:
    """Return True if the process of a file is alive, that is, holds its lock."""
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:  # such as another user's lock: leave its files alone
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _data_files(directory: Path) -> list[Path]:
    """Return the data files of processes; anything but a regular file is another program's, and a pipe may block."""
    return [path for path in sorted(directory.glob("*.json")) if path.name != ENDED and path.is_file()]


def _load_ended(directory: Path) -> _Ended:
    path = directory / ENDED
    for _ in range(TRIES):
        stamp = _stamp(path)
        if stamp is None:
            return _Ended()
        try:
            data = _contents(path)
            found = _Ended(Sheet.load(data), frozenset(data["taken"]), stamp)
        except FileNotFoundError:
            continue
        except _NOT_OURS as error:
            _trouble.happened(f"reading {path}", error)
            return _Ended(stamp=stamp)
        if _stamp(path) == stamp:
            return found
    return _Ended()


def _load(path: Path) -> Sheet | None:
    try:
        return Sheet.load(_contents(path))
    except FileNotFoundError:
        raise
    except _NOT_OURS as error:
        _trouble.happened(f"reading {path}", error)
        return None


def _contents(path: Path) -> Any:
    """Return the contents of a regular file; reading a pipe may block."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return json.loads(path.read_bytes())


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
