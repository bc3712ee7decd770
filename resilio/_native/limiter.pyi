from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

from typing_extensions import disjoint_base

from resilio._native.core import Gate

__all__ = ["Amounts", "LimiterGate"]

@final
class Amounts:
    def __init__(self, *args: object, **kwargs: object) -> NoReturn: ...
    @property
    def shadow(self) -> bool: ...
    def of(self, unit: str) -> float: ...

@disjoint_base
class LimiterGate(Gate):
    def __init__(
        self,
        *,
        rates: Sequence[tuple[str, float, int, float, float | Callable[..., float]]],
        max_queued: int = 0,
        max_wait_ns: int = 0,
    ) -> None: ...
    def configure(
        self,
        *,
        rates: Sequence[tuple[str, float, int, float, float | Callable[..., float]]],
        max_queued: int,
        max_wait_ns: int,
    ) -> None: ...
    def amounts(
        self,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        given: dict[str, float] | None = None,
    ) -> Amounts: ...
    def adjust(self, unit: str, tokens: float) -> None: ...
    def actual(self, given: dict[str, float]) -> Amounts: ...
    def settle_slot(self, address: int, actual: Amounts) -> None: ...
    def fill(self) -> None: ...
    def wait(self, amounts: Amounts) -> float: ...
    def available(self) -> dict[str, float]: ...
    @property
    def cost_errors(self) -> int: ...
