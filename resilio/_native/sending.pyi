"""Requests of clients that are admitted as they are made."""

from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Admission as Admission
from resilio._native.core import Call, Gate, Permit

@disjoint_base
class Asked:
    """A call as it is asked for."""

    method: str
    request: Any
    @property
    def options(self) -> dict[str, Any]: ...

@disjoint_base
class Direct:
    """Makes calls of a method that are admitted at once."""

    def __init__(
        self,
        method: str,
        begin: Callable[[Any], Permit | tuple[Call[Permit], Any]],
        make: Callable[..., Any],
        otherwise: Callable[..., Any],
        failed: Callable[[Permit, Any], object],
        news: Callable[[], object],
        gates: tuple[Gate, ...],
        asked: type[Asked],
    ) -> None: ...
    def __call__(self, request: Any, /, **options: Any) -> Any: ...
