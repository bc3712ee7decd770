"""The state of a stream of server-sent events, read from its bytes; the members of a JSON object, found there."""

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
    def usage(self, data: bytes, /) -> dict[str, float]: ...
    def error_in(self, named: bool, data: Mapping[str, Any], /) -> tuple[Mapping[str, Any], bool] | None: ...
    def shows(self, data: Mapping[str, Any], /) -> bool: ...

@disjoint_base
class Kinds:
    """
    The meanings of the types of a provider's events: flags for each.

    BEGINS: it belongs to a stream with a known end mark. UNSEEN: it shows the caller no part of an answer. PING: it
    only keeps the connection alive. ENDS: it completes the answer. FAILS: it may bring an error.
    """

    def __init__(self, kinds: Mapping[str, int]) -> None:
        """
        Keep the flags.

        Args:
            kinds: Flags by type; a type that ends with * stands for all types with that prefix.
        """

@disjoint_base
class Reader:
    """
    Reads the bytes of one answer, and holds them back until they include an event that counts.

    At first only events that are part of the answer count; once some bytes are taken, all but pings do.

    Attributes:
        moved: True if the held bytes include an event that counts.

        complete: True if the answer is complete.

        error: The error in the stream, and whether the SDK raises it; None: none.

        usage: The usage of the answer, as far as it is known.
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
        """True if the answer is incomplete, should it end here."""

    def __init__(self, dialect: _Dialect, *, events: bool) -> None:
        """
        Begin without bytes.

        Args:
            dialect: The dialect of the provider.

            events: Whether it is a stream of events; if not, each chunk counts.
        """

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk."""

    def end(self) -> None:
        """Read the end, which may complete an event: many servers leave out its blank line."""

    def take(self) -> bytes:
        """Return the held bytes, and hold none."""

def members(content: bytes, *names: bytes) -> list[Any]:
    """
    Return values of members of a JSON object, without parsing the others.

    A scalar is returned as its Python value, an object or an array as the bytes of its JSON. A member that is null or
    missing is None; all are if *content* is no object.

    Args:
        content: The JSON of the object, in UTF-8.

        names: The members' names, as bytes, at most 8; as they are written, without escapes.
    """

def object_of(json: bytes) -> dict[str, Any]:
    """
    Return the object in a piece of JSON; an empty one if it is no object.

    Args:
        json: UTF-8, which need not be valid.
    """
