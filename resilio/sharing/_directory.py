"""The directory of regions: made if it is missing, refused if others could put files in the place of ours."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from resilio._native.shared import NotShared

__all__ = ["prepared"]


def prepared(directory: Path) -> Path:
    """
    Return the directory, made with mode 0700 if there is none.

    Raises:
        NotShared: It cannot be made, or is not safe.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = directory.stat()
    except OSError as error:
        raise NotShared("no_region", f"{directory}: {error.strerror or error}") from error
    if about.st_uid not in (0, os.geteuid()):
        raise NotShared("foreign", f"{directory}: it belongs to user {about.st_uid}, and this is user {os.geteuid()}")
    if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
        raise NotShared("foreign", f"{directory}: others may write to it; make its mode 0700")
    return directory
