"""
The group of processes that share, by default: its directory and its name.

Workers of one service find each other without configuration, and two services of one user do not meet. So the name is
made of the user, the interpreter, the application and the working directory: what workers have in common however they
were started, by fork or by spawn.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from resilio._options.validators import reject

__all__ = [
    "DIRECTORY",
    "LAYOUT",
    "NAME",
    "absolute",
    "application",
    "default_directory",
    "default_name",
    "file_name",
    "user",
]

DIRECTORY = "RESILIO_SHARED_DIR"
NAME = "RESILIO_HOST_NAME"
LAYOUT = "h2"
"""The layout of a region, in its file's name: two versions of the library never meet in one file."""

_APPLICATION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")
"""An argument that names an application, as "shop.wsgi:app"."""
_BEFORE_APPLICATION = ("-A", "--app", "--application", "--module")
_SIGN = re.compile(r"[^A-Za-z0-9._-]")
MOST_SIGNS = 100


def default_directory() -> Path:
    """
    Return a directory for this user alone, in memory if there is one; it need not exist.

    Raises:
        ValueError: The environment variable has a relative path: each process would take it from its own directory.
    """
    given = os.environ.get(DIRECTORY)
    if given:
        return absolute(f"environment variable {DIRECTORY}", Path(given))
    running = os.environ.get("XDG_RUNTIME_DIR")
    if running and os.access(running, os.W_OK | os.X_OK):
        return Path(running, "resilio")
    return Path(f"/dev/shm/resilio-{user()}")  # noqa: S108 - a directory of our own there, made 0700 and checked


def user() -> int | None:
    """Return the number of this process's user; None: the platform has none, and shares no memory."""
    number: Callable[[], int] | None = getattr(os, "geteuid", None)
    return None if number is None else number()


def absolute(name: str, directory: Path) -> Path:
    """Return the directory; a ValueError names the option if its path is relative."""
    if not directory.is_absolute():
        reject(name, str(directory), "an absolute path, as all processes have to find one directory")
    return directory


def default_name() -> str:
    """Return the name of this process's group: `RESILIO_HOST_NAME`, or one made of the application."""
    given = os.environ.get(NAME)
    return given or f"{user()}-{hashlib.sha256(repr(application()).encode()).hexdigest()[:16]}"


def application() -> tuple[str, ...]:
    """
    Return what identifies the application: interpreter, program, the arguments that name it, working directory.

    Other arguments do not count: workers of one service may differ in a port or a number. `sys.argv` is what
    `multiprocessing` hands on to a process that it spawns.
    """
    program, *arguments = sys.argv or [""]
    found = str(Path(program).resolve()) if program and Path(program).exists() else program
    return (sys.executable or "", found, *_naming(arguments), str(Path.cwd()))


def _naming(arguments: list[str]) -> list[str]:
    """Return the arguments that name an application."""
    after = [value for flag, value in pairwise(arguments) if flag in _BEFORE_APPLICATION]
    return [*after, *(one for one in arguments if _APPLICATION.fullmatch(one) and one not in after)]


def file_name(name: str) -> str:
    """Return the name of a group's file: signs that a path could not have, or would read otherwise, are replaced."""
    plain = _SIGN.sub("_", name)[:MOST_SIGNS]
    if plain != name:
        plain += f"-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return f"resilio-{LAYOUT}-{plain}"
