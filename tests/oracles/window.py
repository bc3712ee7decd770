"""What an outcome window must count, from the list of all outcomes."""

from __future__ import annotations

__all__ = ["ExactWindow"]

BUCKETS = 20


class ExactWindow:
    """Keeps every outcome with its time, and counts anew each time it is asked."""

    def __init__(self, calls: int | None, span_ns: int | None) -> None:
        self.calls = calls
        self.width_ns = None if span_ns is None else span_ns // BUCKETS
        self.outcomes: list[tuple[int, bool, bool]] = []
        self.now_ns = 0

    def record(self, now_ns: int, failed: bool, slow: bool) -> None:
        """Keep one outcome; a time before the latest one is that one."""
        self.now_ns = max(self.now_ns, now_ns)
        self.outcomes.append((self.now_ns, failed, slow))

    def counts(self, now_ns: int) -> tuple[int, int, int]:
        """(total, failed, slow) of what is in the window."""
        self.now_ns = max(self.now_ns, now_ns)
        newest = self.outcomes if self.calls is None else self.outcomes[-self.calls :]
        inside = [outcome for outcome in newest if self._lives(outcome[0])]
        return len(inside), sum(failed for _, failed, _ in inside), sum(slow for _, _, slow in inside)

    def reset(self) -> None:
        """Forget all outcomes."""
        self.outcomes.clear()

    def _lives(self, at_ns: int) -> bool:
        """Whether the bucket of a time is one of the last twenty."""
        return self.width_ns is None or self.now_ns // self.width_ns - at_ns // self.width_ns < BUCKETS
