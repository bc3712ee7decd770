"""What a stream of server-sent events has said so far, told by its bytes; the members of a JSON object, found there."""

from collections.abc import Mapping
from typing import Any, Protocol

from typing_extensions import disjoint_base

__all__ = ["BEGINS", "ENDS", "FAILS", "PING", "UNSEEN", "Kinds", "Reader", "members", "object_of"]

BEGINS: int
UNSEEN: int
PING: int
ENDS: int
FAILS: int

class _Dialect(Protocol):
    @property
    def kinds(self) -> Kinds: ...
    def usage(self, told: bytes, /) -> dict[str, float]: ...
    def error_in(self, named: bool, data: Mapping[str, Any], /) -> tuple[Mapping[str, Any], bool] | None: ...
    def shows(self, data: Mapping[str, Any], /) -> bool: ...

@disjoint_base
class Kinds:
    """
    What the types of a provider's events mean: of each some of these.

    BEGINS: it belongs to a stream of which it is known how it ends. UNSEEN: its caller sees nothing of an answer in it.
    PING: it only keeps the connection alive. ENDS: the answer is whole with it. FAILS: it may bring an error.
    """

    def __init__(self, kinds: Mapping[str, int]) -> None:
        """
        Keep them.

        Args:
            kinds: Flags by type; a type that ends with * is that of all types which begin so.
        """

@disjoint_base
class Reader:
    """
    Reads the bytes of one answer, and gives them on when they make a difference.

    Attributes:
        moved: Whether what is held has an event that counts: before the first one the caller sees only those that are
            a part of the answer, then all but pings.

        complete: Whether the answer is whole.

        error: The error that the stream has brought, and whether the SDK raises it; None: none.

        usage: What the answer has cost, as far as it is known.
    """

    @property
    def moved(self) -> bool: ...
    @property
    def complete(self) -> bool: ...
    @property
    def error(self) -> tuple[Mapping[str, Any], bool] | None: ...
    @property
    def usage(self) -> dict[str, float]: ...
    @property
    def cut(self) -> bool:
        """Whether the answer is not whole, if this was its end."""

    def __init__(self, dialect: _Dialect, *, events: bool) -> None:
        """
        Have read nothing.

        Args:
            dialect: Of the provider.

            events: Whether it is a stream of events at all; of anything else each chunk counts.
        """

    def feed(self, chunk: bytes) -> None:
        """Read on."""

    def end(self) -> None:
        """Read the end, which may complete an event: many servers leave out its blank line."""

    def take(self) -> bytes:
        """Return what is held, which is the caller's from now on."""

def members(content: bytes, *names: bytes) -> list[Any]:
    """
    Return values of members of a JSON object, without parsing the others: scalars as they are, of objects and arrays
    the bytes of their JSON. None for each that is null, or not there, or if it is no object.

    Args:
        content: The JSON of the object, in UTF-8.

        names: The members' names, as bytes, at most 8; as they are written, without escapes.
    """

def object_of(json: bytes) -> dict[str, Any]:
    """
    Return the object that a piece of JSON is; an empty one if it is none.

    Args:
        json: In UTF-8, which need not be valid.
    """
