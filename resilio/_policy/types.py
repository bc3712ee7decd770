"""Types of many signatures, declared once: the form that users write, and the form that a record of options keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from resilio.presets import Preset

__all__ = [
    "Converted",
    "Failures",
    "Ignored",
    "Judged",
    "Order",
    "PresetName",
    "Rule",
    "Seconds",
    "SecondsOrNone",
    "Time",
    "Unjudged",
]

G = TypeVar("G")
K = TypeVar("K")

Time = float | str | timedelta
"""A duration: seconds, a text like "5s" or "200ms", or a timedelta."""
Order = Literal["fifo", "lifo", "adaptive"]
PresetName = Literal["database", "http", "mcp", "model", "redis"]
Judged = Callable[[Any], object]
"""A predicate of a result or an exception; it may also return an Outcome."""

if TYPE_CHECKING:
    # Declared as aliases: else mypy, which reads `presets` from within this module, takes the second for Any in users'
    # code.
    Ignored: TypeAlias = type[BaseException] | Iterable[type[BaseException]] | Judged
    Rule: TypeAlias = Ignored | PresetName | Preset


class Converted(Generic[G, K]):
    """An option that users write as a `G` and the record keeps as a `K`: a descriptor to type checkers, never made."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, cls: type) -> G: ...
        @overload
        def __get__(self, record: object, cls: type) -> K: ...
        def __get__(self, record: Any, cls: type) -> Any: ...
        def __set__(self, record: object, value: G) -> None: ...


Seconds = Converted[Time, float]
SecondsOrNone = Converted[Time | None, float | None]
Failures = Converted["Rule", Any]
Unjudged = Converted["Ignored", Any]
