"""The words of a region's file, read as another program would: so a test watches what workers write."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from resilio._native.shared import Region

__all__ = ["Breaker", "Permits", "Words"]

EPOCH, LIVING, ENTRIES, ENTRY_COUNT, LINE = 48, 192, 8192, 1024, 64
"""Of the header and the directory (src_c/algorithms/shared/region.h): another layout is another file name."""
PERMITS, BREAKER = 4, 6


class Words:
    """
    The words of the file at `path`, which stays open: to close it would cost the process its slot.

    Attributes:
        inode: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.inode = os.fstat(self._file).st_ino
        self._memory = mmap.mmap(self._file, 0)

    @classmethod
    def of(cls, region: Region) -> Words | None:
        """Return the words of a region; None: its file is there no more."""
        try:
            words = cls(Path(str(region.path)))
        except FileNotFoundError:
            return None
        return words if words.inode == region.inode else None

    def word(self, at: int) -> int:
        """Return the 64-bit word at this byte."""
        return int(struct.unpack_from("=Q", self._memory, at)[0])

    def write(self, at: int, word: int) -> None:
        """Change the 64-bit word at this byte, as a worker might that is broken."""
        struct.pack_into("=Q", self._memory, at, word)

    def word32(self, at: int) -> int:
        """Return the 32-bit word at this byte."""
        return int(struct.unpack_from("=I", self._memory, at)[0])

    @property
    def epoch_ns(self) -> int:
        """When it was made, on the monotonic clock."""
        return self.word(EPOCH)

    @property
    def living(self) -> set[int]:
        """The slots that have a worker."""
        word = self.word(LIVING)
        return {slot for slot in range(64) if word >> slot & 1}

    def body(self, kind: int, name: str) -> int:
        """Return the byte at which the body of a cell begins."""
        (found,) = (body for a, b, body in self._cells() if (a, b) == (kind, name))
        return found

    def _cells(self) -> Iterator[tuple[int, str, int]]:
        for entry in (self.word(ENTRIES + 8 * i) for i in range(ENTRY_COUNT)):
            if entry:
                at = (entry & 0xFFFFFFFF) * LINE
                kind, size, _, lines = struct.unpack_from("=4I", self._memory, at)
                yield kind, self._memory[at + 24 : at + 24 + size].decode(), at + lines * LINE


@attrs.frozen
class Permits:
    """The permits of a bulkhead (permits.h), of which there are fewer than 257."""

    words: Words
    at: int
    room: int

    @classmethod
    def of(cls, words: Words, name: str, room: int) -> Permits:
        """Return those of this name; `room`: how many are looked at."""
        return cls(words, words.body(PERMITS, name), room)

    def owners(self) -> list[int]:
        """Return the owner words of those that are held."""
        held = (self.words.word32(self.at + LINE * (2 + i)) for i in range(self.room))
        return [owner for owner in held if owner]

    def free(self) -> None:
        """Free all of them under their holders' hands."""
        for i in range(self.room):
            self.words.write(self.at + LINE * (2 + i), 0)


@attrs.frozen
class Breaker:
    """The word and the leases of a breaker (breaker.h)."""

    words: Words
    at: int

    @classmethod
    def of(cls, words: Words, name: str) -> Breaker:
        """Return the one of this name."""
        return cls(words, words.body(BREAKER, name))

    @property
    def generation(self) -> int:
        """How often the state has changed."""
        return self.words.word(self.at) >> 44

    @property
    def state(self) -> int:
        """0 to 5: closed, open, half-open, forced open, forced closed, disabled."""
        return self.words.word(self.at) >> 32 & 7

    def leases(self) -> list[tuple[int, int]]:
        """Return the place and the word of each lease of the generation, whether it has lapsed or not."""
        generation = self.generation
        leases = enumerate(self.words.word(self.at + LINE + 8 * i) for i in range(16))
        return [(i, lease) for i, lease in leases if lease and lease >> 8 & 0xFFFFF == generation]

    def mine(self, slot: int | None) -> list[tuple[int, int]]:
        """Return those of the worker in this slot."""
        return [(i, lease) for i, lease in self.leases() if slot is not None and lease & 0xFF == slot + 1]

    def write(self, place: int, lease: int) -> None:
        """Forge a lease."""
        self.words.write(self.at + LINE + 8 * place, lease)
