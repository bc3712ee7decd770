"""Endpoint of a pool: where a call may go, and what the pool and the called function have to know about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast

import attrs

from resilio._options.validators import number, policy_name, positive_int, reject
from resilio._support.show import show

__all__ = ["ABSURD_WEIGHT", "LAST_LEVEL", "Endpoint", "endpoints_of", "model_at"]

ABSURD_WEIGHT = 1e6
LEAST_WEIGHT = 1e-6
LAST_LEVEL = 31
TARGET_LENGTH = 2000


def _target(value: object) -> str:
    right = (
        f"a URL or an address, like 'https://a.search.internal': printable, 1 to {TARGET_LENGTH} characters, no blanks"
    )
    if not isinstance(value, str):
        reject("target", value, right, TypeError)
    if not 0 < len(value) <= TARGET_LENGTH or not value.isprintable() or any(sign.isspace() for sign in value):
        reject("target", value, right)
    return value


def _name(value: object) -> str:
    return policy_name("name", value) or ""


def _zone(value: object) -> str | None:
    return policy_name("zone", value)


def _level(value: object) -> int | None:
    checked: int | None = positive_int("level", value, zero_ok=True, none_ok=True, high=LAST_LEVEL)
    return checked


def checked_weight(value: object) -> float:
    """Return a weight as a float from a millionth to a million."""
    return number("weight", value, low=LEAST_WEIGHT, high=ABSURD_WEIGHT)


@attrs.frozen(init=False, repr=False)
class Endpoint:
    """
    A place where the calls of a pool may go; a frozen record.

    Two endpoints are equal if all that was given for them is; `use` is compared by identity.

    Attributes:
        target: A URL ("https://a.search.internal"), an address ("10.0.0.7:443"), or any text that the called function
            understands.

        name: What it is called in the pool, in metrics and in messages.

        zone: Where it is, like "eu-1a"; None if unknown.

        level: Its level, 0 is called first; None: by its zone.

        weight: Its share of the calls of its level, relative to the other endpoints.

        use: An object for the called function, such as an SDK's client.

        labels: What else was given; `endpoint["tpm"]` reads one.

        CHOSEN: The default of a function's parameter that the pool fills in: `endpoint: Endpoint = Endpoint.CHOSEN`.
            With it type checkers accept calls without an endpoint.
    """

    CHOSEN: ClassVar[Endpoint]
    target: str = attrs.field(converter=_target)
    name: str = attrs.field(converter=_name)
    zone: str | None = attrs.field(converter=_zone)
    level: int | None = attrs.field(converter=_level)
    weight: float = attrs.field(converter=checked_weight)
    use: Any = attrs.field(eq=id, hash=False)
    labels: Mapping[str, Any] = attrs.field(hash=False)

    def __init__(
        self,
        target: str,
        *,
        name: str | None = None,
        zone: str | None = None,
        level: int | None = None,
        weight: float = 1.0,
        use: Any = None,
        **labels: Any,
    ) -> None:
        """
        Describe where calls may go.

        Args:
            target: A URL, an address, or any text that the called function understands; without blanks.

            name: What it is called; the target by default. Names are unique in a pool.

            zone: Where it is, like "eu-1a".

            level: Its level, 0 (called first) to 31; None: 0 in the zone of the pool, 1 in its region, 2 elsewhere.

            weight: Its share of the calls, relative to those of the other endpoints of its level, > 0.

            use: An object for the called function, such as an SDK's client of this region.

            labels: Any further values, read as `endpoint["tpm"]`; those whose names are no identifiers go into the
                mapping `labels={...}`.

        Raises:
            TypeError: A value of a wrong type.

            ValueError: A value out of range.
        """
        if name is None:
            name = target
        whole = {**_mapping(labels.pop("labels", {})), **labels}
        cast("Any", self).__attrs_init__(target, name, zone, level, weight, use, MappingProxyType(whole))

    def __getitem__(self, label: str, /) -> Any:
        try:
            return self.labels[label]
        except KeyError:
            known = ", ".join(map(repr, sorted(self.labels))) or "none"
            raise KeyError(f"endpoint {self.name!r} has no label {label!r}; its labels: {known}") from None

    def __replace__(self, /, **changes: Any) -> Endpoint:
        return attrs.evolve(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, ({**attrs.asdict(self, recurse=False), "labels": dict(self.labels)},)

    def __repr__(self) -> str:
        given = {"name": self.name, "zone": self.zone, "level": self.level, "weight": self.weight, "use": self.use}
        usual = {"name": self.target, "zone": None, "level": None, "weight": 1.0, "use": None}
        shown = {name: value for name, value in given.items() if value != usual[name]} | dict(self.labels)
        more = [f"{name}={show(value)}" for name, value in shown.items()]
        return f"Endpoint({', '.join([repr(self.target), *more])})"


def _remade(fields: dict[str, Any]) -> Endpoint:
    return Endpoint(**fields)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        reject("labels", value, "a mapping of names to values", TypeError)
    return value


def endpoints_of(name: str, value: object) -> tuple[Endpoint, ...]:
    """
    Return the endpoints of an option as a tuple.

    Raises:
        TypeError: One is no Endpoint.

        ValueError: Two of one name.
    """
    if not isinstance(value, (tuple, list)):
        reject(name, value, "endpoints, like Endpoint('https://a.internal')", TypeError)
    for one in value:
        if not isinstance(one, Endpoint):
            reject(name, one, "endpoints, like Endpoint('https://a.internal')", TypeError)
    names = [one.name for one in value]
    for one in names:
        if names.count(one) > 1:
            raise ValueError(f"{name} must have a name each; {names.count(one)} have the name {one!r}: set name=...")
    return tuple(value)


def model_at(endpoint: Endpoint, model: str | None) -> str | None:
    """
    Return the name by which an endpoint knows a model: its label `model`, a name or a mapping of names.

    Args:
        endpoint: The endpoint.

        model: The name that the caller uses; None: it names none.
    """
    own = endpoint.labels.get("model")
    if isinstance(own, Mapping):
        own = own.get(model)
    return own if isinstance(own, str) else model


Endpoint.CHOSEN = Endpoint("none", name="chosen by the pool")
