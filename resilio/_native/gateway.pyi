"""What every request of a WSGI app passes, in its quick part."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Permit
from resilio._policy import Policy

__all__ = ["Body", "Exchange", "Gateway", "settle", "sized"]

@disjoint_base
class Exchange:
    """
    The permit of one request, ended once, by whatever comes first.

    It is what `start_response` gives the app to write with, and if the parts of the response are all there, the body as
    well, of known length, of which servers make a Content-Length: what is not made costs nothing.

    Attributes:
        permit: The permit, None before it is there and once it has ended.

        status: The response's, 0 before it has begun.

        head: Whether nobody asks for the body.

        whole: Whether the body has been given to its end.
    """

    permit: Permit | None
    status: int
    whole: bool
    @property
    def environ(self) -> MutableMapping[str, Any]: ...
    @property
    def head(self) -> bool: ...
    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """Begin the response for the app; again, as the server allows, with `exc_info`."""

    def __call__(self, data: bytes) -> None:
        """Write a part of the body at once, as apps do that have no iterable."""

    def first_byte(self) -> None:
        """Note that the first part of the body is there: that is the latency of a stream."""

    def failed(self, error: BaseException, /) -> None:
        """End the permit as its gates judge what the app has raised."""

    def answer(self, error: BaseException, /) -> bytes:
        """Answer a refusal if the response has not begun, and return the answer's body; else raise the error."""

    def left(self) -> None:
        """End the permit because the client has left: that says nothing about the app."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def __bool__(self) -> bool: ...
    def __len__(self) -> int: ...
    def close(self) -> None:
        """End the permit because the body is closed, at its end or before."""

    def __del__(self) -> None: ...

@disjoint_base
class Body:
    """What the server iterates over and closes in place of the app's iterable."""

    def __init__(self, exchange: Exchange, parts: Iterator[bytes], close: Callable[[], object] | None) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None:
        """Close the app's iterable, then end the permit."""

@disjoint_base
class Gateway:
    """
    The base of the middleware: which requests go the short way.

    A subclass has `_serve`, `_around`, `_answer`, `_abandoned` and `_tell`, and calls `_open` before it serves.
    """

    app: Callable[[MutableMapping[str, Any], Callable[..., Any]], Iterable[bytes]]
    policy: Policy[Any]
    def _open(
        self,
        app: Callable[..., Iterable[bytes]],
        policy: Policy[Any],
        exchange: type[Exchange],
        *,
        paths: frozenset[str],
        variables: Iterable[str],
        refusals: tuple[type[Exception], ...],
        always_long: bool,
    ) -> None: ...
    def __call__(self, environ: MutableMapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request."""

    def exchange_of(self, environ: MutableMapping[str, Any], start_response: Callable[..., Any]) -> Exchange:
        """Return what holds the permit of a request, none yet."""

def settle(permit: Permit, status: int) -> None:
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""

def sized(exchange: Exchange, parts: Sequence[bytes]) -> Exchange:
    """Return the body of a response whose parts are in a list or tuple."""
