"""The hedge stage: when a second copy of a call starts."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

from typing_extensions import disjoint_base

from resilio._native.core import Gate, Rest

__all__ = ["ANSWERS", "HedgeGate"]

ANSWERS: tuple[str, ...]

@disjoint_base
class HedgeGate(Gate):
    """Starts a copy of a call that takes long, where that helps."""

    max_hedges: int
    targets: tuple[Callable[..., Any], ...]
    discard: Callable[[Any], Any] | None
    replay_safe: Literal[True] | Callable[..., object]

    def __init__(
        self,
        *,
        quantile: float,
        delays: tuple[float, ...],
        max_extra: float,
        min_delay: float,
        max_delay: float,
        max_hedges: int,
        targets: tuple[Callable[..., Any], ...],
        discard: Callable[[Any], Any] | None,
        replay_safe: bool | Callable[..., object],
    ) -> None: ...
    def reset(self) -> None: ...
    def configure(
        self,
        *,
        quantile: float,
        delays: tuple[float, ...],
        max_extra: float,
        min_delay: float,
        max_delay: float,
        max_hedges: int,
        targets: tuple[Callable[..., Any], ...],
        discard: Callable[[Any], Any] | None,
        replay_safe: bool | Callable[..., object],
    ) -> None: ...
    def due_after(self, started: int, now: int) -> int: ...
    def may_start(self, until_ns: int) -> bool: ...
    def give_back(self) -> None: ...
    def learn(self, seconds: float, *, stopped: bool = False, failed: bool = False) -> None: ...
    def outcome_of(self, rest: Rest, value: object, error: Exception | None) -> int: ...
    def learn_end(self, seconds: float, error: BaseException | None, outcome: int) -> None: ...
    def verdict(self, won: bool) -> None: ...
    def tell_started(self, number: int) -> None: ...
    def tell_won(self, number: int) -> None: ...
    @property
    def delay(self) -> float | None: ...
    @property
    def hedge_counters(self) -> tuple[dict[str, int], int, int]: ...
    def arun(self, rest: Rest) -> Coroutine[Any, Any, Any]: ...
