"""The fallback stage; `resilio.fallback` is its public face."""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Gate
from resilio._replayable import Replayable
from resilio._streams import Inside

__all__ = ["FallbackGate", "Passage", "Target"]

@disjoint_base
class Target:
    """Where a call may go instead, and what came of that."""

    def __init__(self, function: Callable[..., Any], name: str, is_async: bool) -> None: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def answered(self) -> int: ...
    @property
    def failed(self) -> int: ...

@disjoint_base
class FallbackGate(Gate):
    """Goes elsewhere with what has failed."""

    def __init__(
        self,
        *,
        targets: tuple[Target, ...],
        handler: Target | None,
        default: object,
        has_default: bool,
        replayable: Replayable,
        memory: float,
    ) -> None: ...
    def configure(
        self,
        *,
        targets: tuple[Target, ...],
        handler: Target | None,
        default: object,
        has_default: bool,
        replayable: Replayable,
        memory: float,
    ) -> None: ...
    @property
    def replayable(self) -> Replayable: ...
    def resting(self, now_ns: int) -> list[bool]: ...
    def forget_failures(self) -> None: ...
    def stream(self, make: Inside) -> Generator[Any, Any, Any]: ...
    def astream(self, make: Inside) -> AsyncGenerator[Any, Any]: ...
    @property
    def fallback_counters(self) -> tuple[int, int, int]: ...

@disjoint_base
class Passage:
    """Where one stream is begun, while it has no items."""

    def __init__(self, gate: FallbackGate, is_async: bool, one_shot: str | None) -> None: ...
    def failed(self, error: Exception) -> tuple[Callable[..., Any] | None, Any, Any]: ...
    def succeeded(self) -> None: ...
