from typing import Any, Literal

from typing_extensions import disjoint_base

from resilio._native.core import Gate, Rest
from resilio.errors import CallTimeoutError, DeadlineExceededError

__all__ = ["DeadlineGate", "TimeoutGate"]

@disjoint_base
class TimeoutGate(Gate):
    def __init__(
        self,
        *,
        total_ns: int = ...,
        first_ns: int = ...,
        idle_ns: int = ...,
        q: float = 0.0,
        factor: float = 1.0,
        floor_ns: int = 0,
        ceiling_ns: int = ...,
        threads: bool = False,
    ) -> None: ...
    def configure(
        self,
        *,
        total_ns: int = ...,
        first_ns: int = ...,
        idle_ns: int = ...,
        q: float = 0.0,
        factor: float = 1.0,
        floor_ns: int = 0,
        ceiling_ns: int = ...,
        threads: bool = False,
    ) -> None: ...
    @property
    def total(self) -> float | None: ...
    @property
    def first(self) -> float | None: ...
    @property
    def idle(self) -> float | None: ...
    @property
    def learned_from(self) -> int: ...
    @property
    def abandoned(self) -> int: ...
    def timed_out(
        self, at_ns: int, limit: float, clock: Literal["total", "first", "idle"] = "total"
    ) -> CallTimeoutError | DeadlineExceededError: ...
    async def arun(self, rest: Rest) -> Any: ...
    def run(self, rest: Rest) -> Any: ...

@disjoint_base
class DeadlineGate(Gate):
    def __init__(self, allowed_ns: int) -> None: ...
    def configure(self, allowed_ns: int) -> None: ...
    @property
    def allowed(self) -> float: ...
    def passed(self) -> DeadlineExceededError: ...
    async def arun(self, rest: Rest) -> Any: ...
