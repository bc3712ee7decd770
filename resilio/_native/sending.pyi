"""One request under way, with its permit."""

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, final, overload

from typing_extensions import disjoint_base

from resilio._native.core import Call, Gate, Permit

@disjoint_base
class Admission:
    """The gates in front of a client's requests, and what becomes of their permits."""

    def __init__(
        self,
        acquire: Callable[[Any], Permit | tuple[Call[Permit], Any]] | None,
        hold: Callable[[Permit, Any], object],
        settle: Callable[[Permit | None, BaseException, Any], BaseException | None],
        aside: Callable[[Any, Any], Awaitable[Any]] | None = None,
        news: Callable[[], object] | None = None,
        fails_from: int = 0,
    ) -> None: ...
    def __call__(self, request: Any, send: Callable[[Any], Awaitable[Any]], /) -> Awaitable[Any]: ...

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

@final
class Sending:
    """One request under way: a coroutine to everybody else."""

    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_running(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    @overload
    def throw(
        self, type: type[BaseException], value: object = None, traceback: TracebackType | None = None, /
    ) -> Any: ...
    @overload
    def throw(self, type: BaseException, value: None = None, traceback: TracebackType | None = None, /) -> Any: ...
    def close(self) -> None: ...

def is_whole(response: Any, fails_from: int, /) -> bool: ...
