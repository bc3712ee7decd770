"""Limits that a busy machine does not shorten: so much work, so long without any, and so much memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_RESTS = 60.0  # seconds: a deadlock uses no CPU time, and neither does a test that waits for its own time limit
_LOOK = 0.5
_MOST = 6 << 30  # bytes in use; of addresses alone, a test of many fleets maps more than the machine has
_PROC = Path("/proc")


def wait(child: subprocess.Popen[bytes], limit: float) -> int | None:
    """
    Return the exit code of a child that leads a session; None if its tests hang.

    They hang when the session has used `limit` seconds of CPU time, or none for a minute in which it did not even ask
    for a processor. A loop that allocates for ever ends likewise. Where there is no /proc, the limit is one on the
    clock.
    """
    if sys.platform != "linux":
        return _on_the_clock(child, limit)
    before, rested = 0.0, 0.0
    while (code := _on_the_clock(child, _LOOK)) is None:
        spent, runs, used = _work(child.pid)
        rested = 0.0 if runs or spent > before else rested + _LOOK
        before = max(before, spent)
        if spent > limit or rested > _RESTS or used > _MOST:
            return None
    return code


def _on_the_clock(child: subprocess.Popen[bytes], limit: float) -> int | None:
    try:
        return child.wait(limit)
    except subprocess.TimeoutExpired:
        return None


def _work(session: int) -> tuple[float, bool, int]:
    """Return a session's CPU seconds, children included, whether a process wants a processor, and bytes in use."""
    spent, runs, pages = 0, False, 0
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session:
            spent += sum(map(int, fields[11:15]))
            runs |= fields[0] in "RD"
            pages += int(fields[21])
    return spent / os.sysconf("SC_CLK_TCK"), runs, pages * os.sysconf("SC_PAGE_SIZE")
