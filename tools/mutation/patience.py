"""A time limit that a busy machine does not shorten: so much work, and so long without any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_RESTS = 60.0  # seconds: a deadlock uses no CPU time, and neither does a test that waits for its own time limit
_LOOK = 0.5
_PROC = Path("/proc")


def wait(child: subprocess.Popen[bytes], limit: float) -> int | None:
    """
    Return the exit code of a child that leads a session; None if its tests hang.

    They hang when the session has used `limit` seconds of CPU time, or none for a minute in which it did not even ask
    for a processor. Where there is no /proc, the limit is one on the clock.
    """
    if sys.platform != "linux":
        return _on_the_clock(child, limit)
    before, rested = 0.0, 0.0
    while (code := _on_the_clock(child, _LOOK)) is None:
        spent, runs = _work(child.pid)
        rested = 0.0 if runs or spent > before else rested + _LOOK
        before = max(before, spent)
        if spent > limit or rested > _RESTS:
            return None
    return code


def _on_the_clock(child: subprocess.Popen[bytes], limit: float) -> int | None:
    try:
        return child.wait(limit)
    except subprocess.TimeoutExpired:
        return None


def _work(session: int) -> tuple[float, bool]:
    """Return the CPU seconds of a session's processes and of their children, and whether one wants a processor."""
    spent, runs = 0, False
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session:
            spent += sum(map(int, fields[11:15]))
            runs |= fields[0] in "RD"
    return spent / os.sysconf("SC_CLK_TCK"), runs
