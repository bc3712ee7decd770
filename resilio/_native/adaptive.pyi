from typing_extensions import disjoint_base

from resilio._native.core import Gate

__all__ = ["AdaptiveGate"]

@disjoint_base
class AdaptiveGate(Gate):
    def __init__(
        self,
        *,
        law: str = "default",
        start: float = 20,
        floor: float = 1,
        ceiling: float = 1000,
        max_queued: int = 0,
        max_wait_ns: int = 0,
    ) -> None: ...
    def configure(
        self, *, law: str, start: float, floor: float, ceiling: float, max_queued: int, max_wait_ns: int
    ) -> None: ...
    def reset(self) -> None: ...
    def drain_moves(self) -> list[tuple[float, float]]: ...
    def state(self) -> tuple[float, float, float, float, int, int]: ...
    @property
    def limit(self) -> float: ...
    @property
    def used(self) -> int: ...
