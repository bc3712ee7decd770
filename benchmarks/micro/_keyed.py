"""What a breaker for each key costs: to look one up among many, and to hold one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import cycle, islice
from time import thread_time_ns
from typing import Any

import attrs

import resilio
from benchmarks.micro._attempt_work import public
from benchmarks.micro._comparison import Comparison, Subject, Unavailable, compare
from benchmarks.micro._harness import Effort
from benchmarks.micro._loops import Loop, feeds, idles_feeding, own_code
from benchmarks.micro._memory import bytes_each
from benchmarks.micro._results import Row, Skip, Table
from benchmarks.micro._subjects import subject
from benchmarks.micro._targets import MANY

__all__ = ["PeerKeyed", "bare_breaker", "keyed_breaker", "keyed_table", "keys"]

_MOST = 1_000_000
_MODULE = __name__


@attrs.frozen
class PeerKeyed:
    """
    Another library's breaker for each key.

    Attributes:
        make: Takes how many keys there will be, and returns the function from a key to its breaker.

        factory: "module:function" from a number to the breaker of the key of that number, for the bytes a key.
    """

    make: Callable[[int], Callable[[str], Any]]
    factory: str


def keys(many: int) -> list[str]:
    """Return that many keys, in a random order."""
    made = [f"host-{number}" for number in range(many)]
    random.Random(1).shuffle(made)
    return made


def bare_breaker(_number: int) -> Any:
    """A breaker such as each key gets, without a key."""
    return _breaker()


def keyed_breaker(number: int) -> Any:
    """The breaker of one more key."""
    return _shared()[f"host-{number}"]


def _breaker(*_key: object) -> Any:
    return resilio.circuit_breaker()


def _keyed() -> Any:
    return public("keyed")(_breaker, key=lambda host: host, max_keys=_MOST)


@cache
def _shared() -> Any:
    return _keyed()


def keyed_table(many: int, effort: Effort, peers: Mapping[str, PeerKeyed]) -> Table:
    """
    Return the table of lookups, in nanoseconds, and of bytes a key.

    Args:
        many: How many keys there are.

        effort: Of the lookups.

        peers: Other libraries' breakers for each key, by the library's name.
    """
    lookups = asyncio.run(compare(_lookups(many), _peers(many, peers), effort))
    measured = list(_memory(many, peers))
    rows = (row for row in measured if isinstance(row, Row))
    skips = (skip for skip in measured if isinstance(skip, Skip))
    return attrs.evolve(lookups, rows=(*lookups.rows, *rows), skips=(*lookups.skips, *skips))


def _lookups(many: int) -> Comparison:
    names = keys(many)
    return Comparison(
        "keyed",
        "A circuit breaker for each key",
        "Nanoseconds a lookup, keys in a random order; bytes a key, its breaker, registration and allocator included.",
        drive=lambda loop: loop,
        check=_check,
        base=lambda: idles_feeding(names),
        own=[
            Subject(
                f"dict[key], {many:,} keys", lambda: _subscripts(dict.fromkeys(names), names), note="for comparison"
            ),
            subject(
                f"resilio keyed[key], {many:,} keys", lambda: _subscripts(_keyed(), names), _target("lookup", many)
            ),
            subject("resilio keyed[key], one key", lambda: _subscripts(_keyed(), names[:1])),
        ],
    )


def _target(what: str, many: int) -> str | None:
    return f"keyed_{what}" if many >= MANY else None


async def _check(loop: Loop) -> None:
    await loop(1)


def _subscripts(mapping: Any, names: Sequence[str]) -> Loop:
    """Return the loop of `mapping[key]`, every key once looked up before."""

    async def loop(n: int) -> int:
        steps = islice(cycle(names), n)
        start = thread_time_ns()
        for name in steps:
            mapping[name]
        return thread_time_ns() - start

    for name in names:
        mapping[name]
    return own_code(loop)


def _peers(many: int, peers: Mapping[str, PeerKeyed]) -> list[Subject]:
    return [_peer(f"{name}, {many:,} keys", peer, many) for name, peer in peers.items()]


def _peer(title: str, peer: PeerKeyed, many: int) -> Subject:
    def make() -> Loop:
        names, lookup = keys(many), peer.make(many)
        for name in names:
            lookup(name)
        return feeds(lookup, names)

    return Subject(title, make, "none")


def _memory(many: int, peers: Mapping[str, PeerKeyed]) -> Iterable[Row | Skip]:
    bare_title, keyed_title = "resilio breaker, no key", f"resilio keyed breaker, of {many:,} keys"
    bare = _bytes(bare_title, f"{_MODULE}:bare_breaker", many)
    keyed = _bytes(keyed_title, f"{_MODULE}:keyed_breaker", many, needs="keyed")
    yield bare
    yield keyed
    beyond = "resilio keyed breaker, beyond a breaker without key"
    if isinstance(bare, Row) and isinstance(keyed, Row):
        yield Row(beyond, keyed.value - bare.value, "bytes", target=_target("memory", many))
    else:
        yield Skip(beyond, "one of the two was not measured")
    for name, peer in peers.items():
        yield _bytes(f"{name}, of {many:,} keys", peer.factory, many)


def _bytes(title: str, factory: str, many: int, *, needs: str | None = None) -> Row | Skip:
    try:
        if needs is not None:
            public(needs)
        return Row(title, bytes_each(factory, many), "bytes")
    except Unavailable as reason:
        return Skip(title, str(reason))
