"""What many gates of one kind have counted, added up; and of one gate what is new."""

from typing import Any, final

from resilio._native.core import Gate
from resilio._native.primitives import LatencyHistogram

__all__ = ["News", "Sums"]

@final
class News:
    """Tells the numbers of one gate, and each later time those that have changed since."""

    def __init__(self) -> None: ...
    @property
    def latency(self) -> LatencyHistogram | None: ...
    def read(self, gate: Gate, now_ns: int) -> dict[str, Any]: ...

class Sums(Gate):
    """Adds gates up; what a gate tells of its calls, this tells of all of theirs."""

    def __init__(self, like: Gate) -> None: ...
    def add(self, gates: list[Gate]) -> None: ...
