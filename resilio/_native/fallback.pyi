"""The fallback stage; `resilio.fallback` is its public face."""

from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Gate

__all__ = ["FallbackGate", "Target"]

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
        self, *, targets: tuple[Target, ...], handler: Target | None, default: object, has_default: bool, memory: float
    ) -> None: ...
    def configure(
        self, *, targets: tuple[Target, ...], handler: Target | None, default: object, has_default: bool, memory: float
    ) -> None: ...
    def resting(self, now_ns: int) -> list[bool]: ...
    def forget_failures(self) -> None: ...
    @property
    def fallback_counters(self) -> tuple[int, int, int]: ...
