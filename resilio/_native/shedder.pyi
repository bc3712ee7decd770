from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Gate

__all__ = ["ShedderGate"]

@disjoint_base
class ShedderGate(Gate):
    def __init__(
        self,
        *,
        max_concurrent: int | None,
        target_ns: int = 0,
        tenant: Callable[..., Any] | None = None,
        task: Callable[..., Any] | None = None,
    ) -> None: ...
    def configure(
        self,
        *,
        max_concurrent: int | None,
        target_ns: int,
        tenant: Callable[..., Any] | None,
        task: Callable[..., Any] | None,
    ) -> None: ...
    def reset(self) -> None: ...
    def look(self) -> None: ...
    def shed(self) -> dict[tuple[str, str], int]: ...
    @property
    def overloaded(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def room(self) -> int: ...
    @property
    def shed_share(self) -> float: ...
    @property
    def usual_ns(self) -> tuple[float, float]: ...
    @property
    def tenant_errors(self) -> int: ...
    @property
    def task_errors(self) -> int: ...
