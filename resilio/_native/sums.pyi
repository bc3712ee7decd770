"""The added counters of many gates of one kind, and the changes of one gate."""

from typing import Any, final

from resilio._native.core import Gate
from resilio._native.primitives import LatencyHistogram

__all__ = ["News", "Sums"]

@final
class News:
    """Reads the numbers of one gate: at first all, later those that have changed since the last reading."""

    def __init__(self) -> None: ...
    @property
    def latency(self) -> LatencyHistogram | None: ...
    def read(self, gate: Gate, now_ns: int) -> dict[str, Any]: ...

class Sums(Gate):
    """The added counters of several gates, with the readings of a single gate."""

    def __init__(self, like: Gate) -> None: ...
    def add(self, gates: list[Gate]) -> None: ...
