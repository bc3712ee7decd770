"""
The directory of regions: made if it is missing, rejected if others could put files in the place of ours.

A process that is killed while it makes a region leaves a file that no other looks at; the next one removes it.
"""

from __future__ import annotations

import stat
import time
from contextlib import suppress
from pathlib import Path

from resilio._native.shared import NotShared
from resilio.sharing._naming import user

__all__ = ["cleared", "prepared", "type_of_disk"]

OLD = 60.0
"""Seconds after which an unfinished region is not being made any more."""
_IN_MEMORY = ("tmpfs", "ramfs")


def prepared(directory: Path) -> Path:
    """
    Return the directory, made with mode 0700 if there is none; its parent must exist.

    Raises:
        NotShared: It cannot be made, or is not safe.
    """
    mine = user()
    if mine is None:
        raise NotShared("unsupported", "this platform has no numbers of users, which show whose a file is")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        about = directory.stat()
    except FileNotFoundError as error:  # parents that are made would hide a mistyped path
        raise NotShared(
            "no_region", f"{directory}: {directory.parent} does not exist, and only its last part is made"
        ) from error
    except OSError as error:
        raise NotShared("no_region", f"{directory}: {error.strerror or error}") from error
    if about.st_uid not in (0, mine):
        raise NotShared("foreign", f"{directory}: it belongs to user {about.st_uid}, and this is user {mine}")
    if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
        raise NotShared("foreign", f"{directory}: others may write to it; make its mode 0700")
    return directory


def type_of_disk(directory: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """
    Return the type of the file system that a directory is in, if that is not in memory; None: it is, or is not known.

    Args:
        directory: A directory, which need not exist.

        mounts: The kernel's list: a device, a directory and a type in each line.
    """
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return None
    where, best = directory.resolve(), (0, "tmpfs")
    for _, place, kind, *_ in lines:
        parts = Path(place.replace("\\040", " "))
        if where.is_relative_to(parts):
            best = max(best, (len(parts.parts), kind), key=lambda one: one[0])
    return None if best[1] in _IN_MEMORY else best[1]


def cleared(path: Path) -> Path:
    """Return the path of a region, after removing what killed processes have left of making it."""
    for unfinished in path.parent.glob(f"{path.name}.*.new"):
        with suppress(OSError):
            age = time.time() - unfinished.stat().st_mtime  # wall clock: a file has no other
            if age > OLD:
                unfinished.unlink()
    return path
