from collections.abc import AsyncGenerator, Awaitable, Generator
from types import TracebackType
from typing import Any, Self, final

from typing_extensions import disjoint_base

from resilio._backoff import Backoff, Schedule
from resilio._native.budget import RetryBudget
from resilio._native.core import Gate
from resilio._replayable import Replayable
from resilio._streams import Inside

__all__ = ["STOP_REASONS", "RetryGate", "Scope", "TriedBlock", "Tries"]

STOP_REASONS: tuple[str, ...]

@disjoint_base
class RetryGate(Gate):
    """Tries once more what has failed, as often and as soon as its options, the budget and the deadline let it."""

    def __init__(
        self,
        *,
        attempts: int | None,
        backoff: Backoff | Schedule | Any,
        max_retry_after: float,
        replayable: Replayable,
        budget: RetryBudget | None,
        named: tuple[type[BaseException], ...],
    ) -> None: ...
    def configure(
        self,
        *,
        attempts: int | None,
        backoff: Backoff | Schedule | Any,
        max_retry_after: float,
        replayable: Replayable,
        budget: RetryBudget | None,
        named: tuple[type[BaseException], ...],
    ) -> None: ...
    def forget(self) -> None: ...
    def stream(self, make: Inside) -> Generator[Any, Any, Any]: ...
    def astream(self, make: Inside) -> AsyncGenerator[Any, Any]: ...
    @property
    def budget(self) -> RetryBudget | None: ...
    @property
    def pace(self) -> tuple[float, float]: ...
    @property
    def replayable(self) -> Replayable: ...
    @property
    def retry_counters(self) -> tuple[int, dict[str, int]]: ...

@final
class Scope:
    """One retry under way: whose it is, and who pays for retries inside of it."""

@disjoint_base
class TriedBlock:
    """A block that is one attempt of a loop."""

    @property
    def _loop(self) -> Any: ...
    def __new__(cls, loop: Any, *rest: Any) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...

@final
class Tries:
    """The attempts of one call."""

    shown: BaseException | None
    def __new__(cls, gate: RetryGate) -> Tries: ...
    @property
    def number(self) -> int: ...
    @property
    def stop_reason(self) -> str | None: ...
    @property
    def counts(self) -> bool: ...
    def enter(self, generator: object = None) -> None: ...
    def leave(self) -> None: ...
    def raised(self, error: Exception, threaded: bool, one_shot: str | None = None) -> float | None: ...
    def returned(self, value: object, threaded: bool) -> float | None: ...
    def succeeded(self) -> None: ...
    def refund(self) -> None: ...

def release(value: object, may_await: bool) -> Awaitable[object] | None: ...
