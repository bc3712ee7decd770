"""
A directory in which processes leave their numbers, and what has become of those that ended.

Each process has two files: `<id>.json`, replaced as a whole at each write, and `<id>.lock`, locked as long as the
process lives. The kernel frees a lock whatever ends its owner, so a process number that is used again deceives nobody.
The totals of ended processes are folded into `ended.json` and their files removed, so that files do not pile up.

Nothing is counted twice or lost: `ended.json` names the files it has taken in, and it is replaced before they are
removed; a reader that saw it change, or a file vanish, reads again. No reader waits for anybody.
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
except ImportError as error:
    raise ImportError("resilio.metrics.multiprocess needs file locks (fcntl), which this system has not") from error

__all__ = ["Place", "fold", "read_all", "write"]

ENDED = "ended.json"
FOLDING = "folding.lock"
TRIES = 10

_NOT_OURS = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a file raises that another program has left in the directory: it is passed over."""


class Place:
    """
    The files of one process, until it lets go of them.

    Args:
        directory: Made if it is not there.

        identity: What the files are called, unique among all processes that ever used the directory.

    Raises:
        OSError: The directory cannot be made, or not be written to.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        """Take a lock that says that this process lives."""
        directory.mkdir(parents=True, exist_ok=True)
        self.data = directory / f"{identity}.json"
        self._lock_file = directory / f"{identity}.lock"
        temporary = directory / f"{identity}.lock.new"
        self._lock = os.open(temporary, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.replace(self._lock_file)  # seen from now on, and locked already
        except OSError:
            self.let_go()
            with suppress(OSError):
                temporary.unlink()
            raise

    def stands(self) -> bool:
        """Tell whether the files are where they were made."""
        return self._lock_file.exists()

    def let_go(self) -> None:
        """Let others take the files for those of a process that has ended; in a child: of the parent's, do nothing."""
        with suppress(OSError):
            os.close(self._lock)


def write(path: Path, data: Any) -> None:
    """
    Replace a file as a whole, or leave it as it is.

    Raises:
        OSError: It could not be written.
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
    """The totals of ended processes, and the files that they were in."""

    sheet: Sheet = attrs.field(factory=Sheet)
    taken: frozenset[str] = frozenset()
    stamp: tuple[int, ...] | None = None


def read_all(directory: Path) -> Sheet:
    """
    Return the sum of all processes: totals of those that ended, totals and gauges of those alive.

    Args:
        directory: One that is not there has nothing in it.
    """
    total = Sheet()
    for _ in range(TRIES):
        total, steady = _read_once(directory)
        if steady:
            break
    return total


def _read_once(directory: Path) -> tuple[Sheet, bool]:
    """The sum, and whether nobody has folded meanwhile."""
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
    Take the totals of ended processes into one file and remove theirs, unless another process is at it.

    Raises:
        OSError: A file could not be written; then nothing has changed.
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
            for file in (path.with_suffix(".json"), path):  # the lock last: it is what says that one ended
                file.unlink(missing_ok=True)
        for path in _cut_short(directory):
            path.unlink(missing_ok=True)


def _cut_short(directory: Path) -> list[Path]:
    """What those have left that were killed as they wrote; who folds holds the lock, and has written."""
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
    """Whether a lock, and the data beside it, can be a process's; a directory or a pipe is another program's."""
    data = lock.with_suffix(".json")
    return lock.is_file() and (data.is_file() or not data.exists())


def _alive(path: Path) -> bool:
    """Whether the process that a file belongs to lives: it holds its lock."""
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:  # another user's, say: what cannot be asked is left alone
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _data_files(directory: Path) -> list[Path]:
    """The files of processes; what is no regular file is another program's, and reading a pipe might not end."""
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
    """Return what a file has; reading a pipe might not end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return json.loads(path.read_bytes())


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
