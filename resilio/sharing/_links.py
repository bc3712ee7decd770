"""
The ties between policies and their hosts: what a policy's gate wants of a region, and how it gets it.

A gate that can be shared has two methods. `cell_wanted()` returns the kind of cell, the options that define the stock
in canonical form, and the bytes; `share(cell)` uses that cell from now on, `share(None)` the gate's own state. A gate
whose keys have one table together has two more, `keys_wanted(max_keys)` and `share_key(cell, key)`.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from resilio._native.shared import Region, SharedFull
from resilio.sharing import _report

if TYPE_CHECKING:
    from resilio._policy.snapshot import Sharing

__all__ = ["KeyedLink", "Link", "canonical"]

Wanted = tuple[int, bytes, int]


class Link:
    """
    The tie of one policy to its host.

    Attributes:
        trouble: Why this policy alone does not share: "region_full"; None: it does if its host does.

        wanted: What its gate has asked for; None: nothing yet.
    """

    __slots__ = ("host", "trouble", "wanted")

    def __init__(self, host: Any) -> None:
        """Tie a policy to its host."""
        self.host: Any = host
        self.trouble: str | None = None
        self.wanted: Wanted | None = None

    def sharing(self) -> Sharing:
        """Return how the policy shares now."""
        sharing: Sharing = self.host.sharing(self.trouble)
        return sharing

    def is_settled(self, policy: Any) -> bool:
        """Return True if the policy's options ask for what it has."""
        return bool(self.wanted == policy._sharing_gate().cell_wanted())

    def give(self, policy: Any, region: Region | None) -> None:
        """Give the policy its cell of this region; None: its own state."""
        gate = policy._sharing_gate()
        self.trouble = None
        self.wanted = wanted = gate.cell_wanted()
        gate.share(None if region is None else self._cell(region, policy, wanted, policy.name))

    def _cell(self, region: Region, policy: Any, wanted: Wanted, name: str) -> Any:
        kind, stock, size = wanted
        try:
            return region.cell(kind, name, stock, size)
        except SharedFull as error:
            if self.trouble is None:
                _report.full(self.host, policy, error)
            self.trouble = "region_full"
            return None


class KeyedLink(Link):
    """The tie of a keyed policy, and of the policies of its keys: one table of the region, or a cell for each key."""

    __slots__ = ("region",)

    def __init__(self, host: Any) -> None:
        """Tie a keyed policy to its host."""
        super().__init__(host)
        self.region: Region | None = None

    def is_settled(self, policy: Any) -> bool:  # noqa: ARG002 - as of a single policy
        """Return True: what a key wants is given to it when its policy is made or changed."""
        return True

    def give(self, policy: Any, region: Region | None) -> None:
        """Give each key what it wants of this region."""
        self.region, self.trouble = region, None
        for key, one in [*policy.items(), (None, policy.overflow)]:
            self.give_key(policy, one, key)

    def give_key(self, keyed: Any, one: Any, key: Any) -> None:
        """Give the policy of one key what it wants; a key without a form that all agree on stays here."""
        text = canonical(key)
        with self.host.lock:  # the region stays while a key is given its part
            self._give_parts(keyed, one, text)

    def _give_parts(self, keyed: Any, one: Any, text: bytes | None) -> None:
        for i, (part, gate) in enumerate(shareable(one)):
            part._link = self
            name = keyed.name if i == 0 else f"{keyed.name}#{i}"
            if self.region is None or text is None:
                gate.share(None)
            elif hasattr(gate, "share_key"):
                cell = self._cell(self.region, keyed, gate.keys_wanted(keyed.config.max_keys), name)
                gate.share_key(cell, text) if cell is not None else gate.share(None)
            else:
                gate.share(self._cell(self.region, keyed, gate.cell_wanted(), f"{name}[{text.decode('latin-1')}]"))

    def _cell(self, region: Region, policy: Any, wanted: Wanted, name: str) -> Any:
        """Return a cell for a key unless the region is half full: the other half is for policies without keys."""
        if region.used > region.size // 2 and all(name != there for _, there, _, _ in region.cells()):
            if self.trouble is None:
                _report.full(self.host, policy, SharedFull("keys with a cell each may fill half of the region"))
            self.trouble = "region_full"
            return None
        return super()._cell(region, policy, wanted, name)

    def take_back(self, keyed: Any) -> None:
        """Let every key be the process's own again."""
        for one in [*(policy for _, policy in keyed.items()), keyed.overflow]:
            for part, gate in shareable(one):
                part._link = None
                gate.share(None)


def shareable(policy: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what can be shared of a key's policy, with its gates: itself, or parts of a pipeline."""
    for gate in policy.gates:
        if hasattr(gate, "share") and gate.policy is not None:
            yield gate.policy, gate


def canonical(key: Any) -> bytes | None:
    """
    Return a key in the form that all processes agree on; None if it has none.

    Two keys have the same form only if they are the same key of a dict, of the same type.
    """
    if type(key) is tuple:
        parts = [canonical(one) for one in key]
        return None if None in parts else _part("t", b"".join(filter(None, parts)))
    if isinstance(key, enum.Enum):
        return _part("e", f"{type(key).__qualname__}.{key.name}".encode("utf-8", "surrogatepass"))
    form = _FORMS.get(type(key))
    return None if form is None else _part(type(key).__name__, form(key))


_FORMS: dict[type, Callable[[Any], bytes]] = {
    bytes: bytes,
    str: lambda key: key.encode("utf-8", "surrogatepass"),
    uuid.UUID: lambda key: key.bytes,
    **dict.fromkeys((bool, float, int, type(None)), lambda key: repr(key).encode()),
}
"""The form of a key by its type; of a subclass none is known."""


def _part(kind: str, raw: bytes) -> bytes:
    return b"%b%d:%b" % (kind.encode(), len(raw), raw)
