"""`standard` where the modules and functions of POSIX are missing, as on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resilio

WITHOUT = """
import asyncio, importlib.abc, os, sys, warnings

MODULES = {"_posixshmem", "_posixsubprocess", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog"}
MODULES |= {"termios", "tty"}
NAMES = "fork forkpty getuid geteuid getgid getegid register_at_fork setsid killpg getpgid uname statvfs fchmod mkfifo"
NAMES += " sched_yield sched_getaffinity O_NOFOLLOW O_NONBLOCK O_CLOEXEC WNOHANG waitid wait3 wait4 getloadavg sysconf"
NAMES += " posix_fallocate posix_spawn chown fchown lchown pidfd_open openpty"


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


assert "resilio" not in sys.modules
for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in NAMES.split():
    vars(os).pop(name, None)
assert not hasattr(os, "fork") and not hasattr(os, "geteuid")

from resilio import CircuitOpenError, rate_limit, standard

@standard("sync", on=OSError)
def fetch(fail):
    if fail:
        raise OSError("down")
    return 1

@standard("async", on=OSError, idempotent=True)
async def afetch():
    await asyncio.sleep(0)
    return 2

assert fetch(False) == 1
assert asyncio.run(afetch()) == 2
opened = 0
for _ in range(12):
    try:
        fetch(True)
    except CircuitOpenError:
        opened += 1
    except OSError:
        pass
assert opened
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    shared = rate_limit("5/s", name="shared", scope="host")
    assert shared.try_acquire()
assert ["this platform has no numbers of users" in str(one.message) for one in seen] == [True]
assert shared.snapshot().sharing.degraded == "unsupported"
"""


@pytest.mark.real(0.7)
def test_standard_protects_without_posix(tmp_path: Path) -> None:
    """Without fork, file locks and numbers of users calls are guarded; a host's policy is private, with its reason."""
    environment = {**os.environ, "PYTHONPATH": str(Path(resilio.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", WITHOUT]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
