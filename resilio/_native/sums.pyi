"""What many gates of one kind have counted, added up."""

from resilio._native.core import Gate

__all__ = ["Sums"]

class Sums(Gate):
    """Adds gates up; what a gate tells of its calls, this tells of all of theirs."""

    def __init__(self, like: Gate) -> None: ...
    def add(self, gates: list[Gate]) -> None: ...
