"""
The ties between policies and their hosts: what a policy's gate wants of a region, and how it gets it.

A gate that can be shared has two methods. `cell_wanted()` returns the kind of cell, the options that define the stock
in canonical form, and the bytes; `share(cell)` uses that cell from now on, `share(None)` the gate's own state. A gate
whose keys have one table together has two more, `keys_wanted(max_keys)` and `share_key(cell, key)`.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from resilio._native.shared import Region, SharedFull
from resilio._options.scope import PROCESS
from resilio.sharing import _report

if TYPE_CHECKING:
    from resilio._policy.snapshot import Sharing

__all__ = ["KeyLink", "KeyedLink", "Link", "canonical", "shareable", "stage_name"]

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

    def is_of(self, scope: Any) -> bool:
        """Return True if it ties to this scope."""
        return self.host is scope

    def sharing(self) -> Sharing:
        """Return how the policy shares now."""
        sharing: Sharing = self.host.sharing(self.trouble)
        return sharing

    def sharing_of(self, policy: Any) -> Sharing:
        """Return how the policy shares now, with what all processes have together: its `_numbers_of_all`, if any."""
        sharing = self.sharing()
        return sharing if sharing.degraded else attrs.evolve(sharing, **getattr(policy, "_numbers_of_all", dict)())

    def is_settled(self, policy: Any) -> bool:
        """Return True if the policy's options ask for what it has."""
        return bool(self.wanted == policy._sharing_gate().cell_wanted())

    def give(self, policy: Any, region: Region | None) -> None:
        """Give the policy its cell of this region; None: its own state."""
        gate = policy._sharing_gate()
        self.trouble = None
        self.wanted = wanted = gate.cell_wanted()
        gate.share(None if region is None else self.cell_in(region, policy, wanted, policy.name))

    def _spare(self) -> int:
        """Return the bytes that a region shall have left after it has grown; 0: it does not grow."""
        return self.host.size if self.host.grows else 0

    def cell_in(self, region: Region, policy: Any, wanted: Wanted, name: str) -> Any:
        """Return a cell of the region; None, and a report of it, if there is no room."""
        kind, stock, size = wanted
        try:
            return region.cell(kind, name, stock, size, grow=self._spare())
        except SharedFull as error:
            if self.trouble is None:
                _report.full(self.host, policy, error)
            self.trouble = "region_full"
            return None


class KeyLink(Link):
    """The tie of the policies of keys of one fate: all that are shared, or all that are not for one reason."""

    __slots__ = ()

    def __init__(self, host: Any, trouble: str | None) -> None:
        """Tie policies of keys to the host of their keyed policy."""
        super().__init__(host)
        self.trouble = trouble


class KeyedLink(Link):
    """
    The tie of a keyed policy: one table of the region for all keys, or a cell for each key.

    Attributes:
        region: The region in use; None: none.

        ties: Of the policies of keys, by what keeps them from being shared.

        given: True once a key has been given a part of the region.

        apart: True once a key has not, though there is one.

        in_code: True if the code asks for the scope, False if the environment does.
    """

    __slots__ = ("apart", "given", "in_code", "region", "ties")

    def __init__(self, host: Any) -> None:
        """Tie a keyed policy to its host."""
        super().__init__(host)
        self.region: Region | None = None
        self.ties: dict[str | None, KeyLink] = {why: KeyLink(host, why) for why in (None, "region_full", "no_form")}
        self.given: bool = False
        self.apart: bool = False
        self.in_code: bool = True

    def sharing(self) -> Sharing:
        """Return how the keys are shared now; if some have found no room, those that have are shared all the same."""
        now = self.host.sharing() if self.given else super().sharing()
        return now if now.degraded or self.trouble is None else attrs.evolve(now, degraded=self.trouble)

    def sharing_of(self, policy: Any) -> Sharing:
        """Return how the keys are shared now, and how many are not."""
        sharing = self.sharing()
        return attrs.evolve(sharing, alone=self._alone(policy._all())) if self.apart else sharing

    def _alone(self, policies: Iterable[Any]) -> int:
        fates = ([part._link for part, _ in shareable(one)] for one in policies)
        return sum(any(tie is not None and tie.trouble is not None for tie in ties) for ties in fates)

    def is_settled(self, policy: Any) -> bool:
        """Return True unless other parts of a key are shared now: what a key wants is given to it when it is made."""
        return self.in_code == (policy.config.scope is not None)

    def give(self, policy: Any, region: Region | None) -> None:
        """Give each key what it wants of this region."""
        self.region, self.trouble, self.given, self.apart = region, None, False, False
        self.in_code = policy.config.scope is not None
        for key, one in [*policy.items(), (None, policy.overflow)]:
            self.give_key(policy, one, key)

    def give_key(self, keyed: Any, one: Any, key: Any) -> None:
        """Give the policy of one key what it wants; a key without a form that all agree on stays here."""
        text = canonical(key)
        with self.host.lock:  # the region stays while a key is given its part
            for i, (part, gate) in enumerate(shareable(one, in_code=self.in_code)):
                why = self._give_part(keyed, gate, text, stage_name(keyed, i))
                part._link = self.ties[why]
                self.apart |= why is not None

    def _give_part(self, keyed: Any, gate: Any, text: bytes | None, name: str) -> str | None:
        """Give a gate its part of the region, or its own state; return why the latter, None if there is no region."""
        if self.region is None or text is None:
            gate.share(None)
            return None if self.region is None else "no_form"
        try:
            if hasattr(gate, "share_key"):
                gate.share_key(self.region.cell(*_cell_of_all(keyed, gate, name), grow=self._spare()), text)
            else:
                kind, stock, size = gate.cell_wanted()
                named = f"{_before_key(name)}{text.decode('latin-1')}]"
                gate.share(self.region.cell(kind, named, stock, size, leave=self.host.size // 2))
        except SharedFull as error:
            gate.share(None)
            if self.trouble is None:
                there = sum(one.startswith(_before_key(name)) for _, one, _, _ in self.region.cells())
                _report.keys_full(self.host, keyed, there, error)
            self.trouble = "region_full"
            return "region_full"
        self.given = True
        return None

    def reset(self, keyed: Any, spare: Any) -> None:
        """
        Reset the state of all keys of the host, those too that only other processes know.

        Args:
            keyed: The keyed policy.

            spare: A policy as its factory makes them, which no call uses.
        """
        with self.host.lock:
            for i, (part, gate) in enumerate(shareable(spare, in_code=self.in_code)):
                if self.region is not None:
                    self._reset_part(self.region, keyed, part, gate, stage_name(keyed, i))
                part._link = None
                gate.share(None)

    def _reset_part(self, region: Region, keyed: Any, part: Any, gate: Any, name: str) -> None:
        if hasattr(gate, "share_key"):
            with suppress(SharedFull):
                gate.fill_keys(region.cell(*_cell_of_all(keyed, gate, name)))
            return
        wanted = gate.cell_wanted()
        for kind, named, stock, size in region.cells():
            if (kind, stock, size) == wanted and named.startswith(_before_key(name)):
                gate.share(region.cell(kind, named, stock, size))
                part._start_over()

    def take_back(self, keyed: Any) -> None:
        """Let every key be the process's own again."""
        for one in [*(policy for _, policy in keyed.items()), keyed.overflow]:
            for part, gate in shareable(one):
                part._link = None
                gate.share(None)


def stage_name(keyed: Any, number: int) -> str:
    """Return the name under which the policies of one stage of a key's pipeline are shared."""
    return str(keyed.name) if number == 0 else f"{keyed.name}#{number}"


def _before_key(name: str) -> str:
    return f"{name}["


def _cell_of_all(keyed: Any, gate: Any, name: str) -> tuple[int, str, bytes, int]:
    """Return the kind, name, stock and size of the table that all keys have together."""
    kind, stock, size = gate.keys_wanted(keyed.config.max_keys)
    return kind, name, stock, size


def shareable(policy: Any, *, in_code: bool = True) -> Iterator[tuple[Any, Any]]:
    """
    Yield what can be shared of a key's policy, with its gates: itself, or parts of a pipeline.

    Args:
        policy: The policy of a key.

        in_code: False: only the environment asks for a wider scope, so a part that has "process" keeps it.
    """
    for gate in policy.gates:
        part = gate.policy
        if hasattr(gate, "share") and part is not None and (in_code or part.config.scope != PROCESS):
            yield part, gate


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
