"""What a response holds of policies until its body has ended, in the part that each passes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Self

from typing_extensions import disjoint_base

from resilio._native.core import Permit

__all__ = ["AsyncBody", "Bodies", "Body", "Held", "Parts", "RawBody", "next_untold", "note_abandoned", "untold"]

@disjoint_base
class Held:
    """
    The permits of one response: what they end as is said once, by whoever is first; all later calls change nothing.

    Dropped with permits, it has been abandoned.
    """

    label: str
    @property
    def _permits(self) -> list[Permit]: ...
    def __init__(self, label: str = "a response") -> None: ...
    def __bool__(self) -> bool: ...
    def add(self, permit: Permit) -> None:
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""

    def ended(self) -> None:
        """The body is complete: each gate counts what it has thought of the headers."""

    def failed(self, error: BaseException) -> None:
        """The body broke off with `error`: each gate judges it by its own rules, a cancellation is no outcome."""

    def aborted(self) -> None:
        """The caller wants no more: no outcome, unless the headers already were a failure."""

    def abandoned(self) -> None:
        """Nobody closed it: as `aborted`, counted by each gate and logged now and then."""

    def _next(self) -> Permit | None:
        """Take a permit that nobody else has taken, for those who end it in a way of their own."""

    def __del__(self) -> None: ...

@disjoint_base
class Parts(Iterator[bytes]):
    """The parts of a body, as an iterator gives them; their end, or an error, is that of the body."""

    def __init__(self, held: Held, iterator: Iterator[bytes]) -> None: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None:
        """Close the iterator, as who breaks off `yield from` does."""

@disjoint_base
class RawBody(Held):
    """
    What stands for urllib3's response, where requests or who uses it reads the body: by whatever method, the last byte
    ends the permits, and an error breaks the body off. All else is the response's own, and set there.
    """

    @property
    def _inner(self) -> Any: ...
    @property
    def _original_response(self) -> Any: ...
    def __init__(
        self,
        inner: Any,
        label: str,
        request: Any,
        permits: list[Permit],
        told: Callable[[BaseException], BaseException],
    ) -> None: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def _seen(self, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what `read` does, which reads the response."""

    @property
    def data(self) -> bytes:
        """All of the body."""

    def json(self) -> Any:
        """What the body says in JSON."""

    def read(self, amt: int | None = None, *args: Any, **options: Any) -> bytes:
        """Return so many bytes of the body, or all that is left, as urllib3 does."""

    def read_chunked(self, *args: Any, **options: Any) -> Iterator[bytes]:
        """Give the body in chunks, as the server has sent it."""

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Iterator[bytes]:
        """Give the body in parts, as urllib3 does."""

    def close(self) -> None:
        """End the permits, then the connection's use."""

@disjoint_base
class _HttpBody(Held):
    _inner: Any
    _iterator: Any
    @property
    def headers(self) -> Any: ...
    def __init__(self, inner: Any, headers: Any, permits: list[Permit]) -> None: ...
    def at_end(self) -> None:
        """Its last part has been read."""

class AsyncBody(_HttpBody, AsyncIterator[bytes]):
    """The body of a response under guard, as its own iterator: its permits end with it."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[bytes]: ...
    def asend(self, value: None) -> Awaitable[bytes]:
        """Return the next part, awaited, as of an async generator."""

    def aclose(self) -> Awaitable[None]:
        """End the permits, then, awaited, the connection's use."""

class Body(_HttpBody, Iterator[bytes]):
    """The same for threads."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None:
        """End the permits, then the connection's use."""

@disjoint_base
class Bodies:
    """Puts the bodies of one transport under guard."""

    def __init__(self, kind: type[Any]) -> None: ...
    def around(self, inner: Any, headers: Any, permits: list[Permit]) -> Any:
        """
        Return the body of a response under guard.

        Args:
            inner: Its stream.

            headers: Those of the response; of an answer to HEAD, those of an empty one.

            permits: What ends with the body.
        """

    def hold(self, permit: Permit, response: Any) -> None:
        """Have gates judge a response by its headers, and put their permit with its body; with none it ends."""

    def take(self, request: Any, response: Any, permits: list[Permit]) -> Any:
        """
        Put the body of a response under guard, and its permits with it; they end now where nobody would read one.

        Args:
            request: Whose response it is; None: nobody knows.

            response: Its headers are here.

            permits: What ends with the body.
        """

def next_untold() -> str | None:
    """Return the label of something that was abandoned, and forget it; None: there is nothing to tell."""

def note_abandoned(label: str) -> None:
    """Remember what to log: a finaliser runs in the middle of anything, a handler's own lock included."""

def untold() -> bool:
    """Tell whether something was abandoned that is not in the log yet."""
