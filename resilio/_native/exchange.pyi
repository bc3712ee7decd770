"""What every request of an ASGI app passes, in its quick part."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any, TypeAlias, TypeVar, final

from typing_extensions import disjoint_base

from resilio._native.core import Permit
from resilio._policy import Policy

__all__ = ["Entrance", "Exchange", "Serving", "settle", "shorten"]

_M = TypeVar("_M", bound=type[Entrance])
_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

@disjoint_base
class Exchange:
    """The permit of one request; what is sent for the app goes through `send`."""

    _receive: _Receive
    _send: _Send
    permit: Permit | None
    started: int
    _streams: bool
    def __init__(self, receive: _Receive, send: _Send) -> None: ...
    def send(self, message: MutableMapping[str, Any], /) -> Awaitable[None]:
        """
        Send for the app, and end the permit with the last byte of the body.

        A body that is short and all there is as good as taken; otherwise the end is when the server has taken it.
        """

@disjoint_base
class Entrance:
    """
    The base of the middleware: which requests go the short way.

    A subclass has `_go_on` and `_answer`, and calls `_open` before it serves.
    """

    app: Callable[[_Scope, _Receive, _Send], Awaitable[None]]
    policy: Policy[Any]
    def _open(
        self,
        app: Callable[[_Scope, _Receive, _Send], Awaitable[None]],
        policy: Policy[Any],
        http: type[Exchange],
        *,
        paths: frozenset[str],
        headers: Iterable[bytes],
        refusals: tuple[type[Exception], ...],
        always_long: bool,
    ) -> None: ...

@final
class Serving(Coroutine[Any, Any, None]):
    """One request on its short way: a coroutine to all who drive it."""

    @property
    def cr_await(self) -> Any: ...
    def __await__(self) -> Serving: ...  # type: ignore[override]
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any:
        """Go on with *value*."""

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""

    def close(self) -> None:
        """End it: the app is closed, and then the permit is given up."""

def settle(permit: Permit, status: int) -> None:
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""

def shorten(middleware: _M) -> _M:
    """
    Have calls of a class below `Entrance` go the short way where there is one; else they go to its `__call__`.

    That stays what it is to all who look at it, a coroutine function; a subclass that has another uses only that.
    """
