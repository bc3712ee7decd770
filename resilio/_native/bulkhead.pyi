from collections.abc import Callable
from typing import Any, Final

from typing_extensions import disjoint_base

from resilio._native.core import Gate, Waiter

__all__ = ["PATIENT", "BulkheadGate"]

PATIENT: Final[Any]

@disjoint_base
class BulkheadGate(Gate):
    def __init__(
        self,
        *,
        max_concurrent: int,
        max_queued: int = 0,
        max_wait_ns: int = 0,
        order: str = "fifo",
        weight: int | Callable[..., int] = 1,
    ) -> None: ...
    def configure(
        self, *, max_concurrent: int, max_queued: int, max_wait_ns: int, order: str, weight: int | Callable[..., int]
    ) -> None: ...
    def close(self) -> None: ...
    def open(self) -> None: ...
    def watch(self, waiter: Waiter) -> bool: ...
    def unwatch(self, waiter: Waiter) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def weight_errors(self) -> int: ...
