"""The settings of a trial: a TOML file, or none."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import attrs

from resilio._composition.standard import StandardConfig
from resilio._options.suggestions import reject_unknown
from resilio._options.validators import meant, reject

__all__ = ["Settings", "settings_of"]

_KNOWN = ("shadow", "clients", "hosts")
_OURS = frozenset({"name", "policies", "defaults"})


@attrs.frozen
class Settings:
    """
    The clients to guard, and the options by host.

    Attributes:
        shadow: True: nothing is rejected or repeated, and all is counted.

        clients: The clients to guard; None: all that are known.

        hosts: Options of `standard` by host; `skip = true` leaves a host alone.
    """

    shadow: bool = False
    clients: tuple[str, ...] | None = None
    hosts: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def of(self, host: str) -> dict[str, Any] | None:
        """
        Return the options of a host, None if it is left alone.

        Args:
            host: The host, with its port unless that is the scheme's own.
        """
        given = dict(self.hosts.get(host) or self.hosts.get(host.partition(":")[0]) or {})
        return None if given.pop("skip", False) else given


def settings_of(source: str | Path | None, known: tuple[str, ...], *, shadow: bool | None) -> Settings:
    """
    Return the settings of a file.

    Args:
        source: The path of a TOML file; None: all clients, no options.
        known: The names of all clients.
        shadow: The caller's value; None: that of the file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no TOML, or has a key or a client that is not known.
        TypeError: A value of a wrong type.
    """
    read: dict[str, Any] = {} if source is None else tomllib.loads(Path(source).read_text(encoding="utf-8"))
    for key in read:
        if key not in _KNOWN:
            raise ValueError(f"{source}: unknown key {key!r}{meant(key, _KNOWN)}")
    clients = read.get("clients")
    if clients is not None and not (isinstance(clients, list) and set(clients) <= set(known)):
        reject("clients", clients, f"a list of some of {', '.join(known)}")
    hosts = read.get("hosts", {})
    if not isinstance(hosts, dict) or not all(isinstance(one, dict) for one in hosts.values()):
        reject("hosts", hosts, '[hosts."api.example.com"] and its options', TypeError)
    for host, options in hosts.items():
        _check(host, options)
    said = read.get("shadow", False) if shadow is None else shadow
    if not isinstance(said, bool):
        reject("shadow", said, "true or false", TypeError)
    return Settings(said, None if clients is None else tuple(clients), hosts)


def _check(host: str, options: dict[str, Any]) -> None:
    """Check the options of a host now: at its first call an error could only be logged."""
    given = {name: value for name, value in options.items() if name != "skip"}
    known = [field.name for field in attrs.fields(cast("Any", StandardConfig)) if field.name not in _OURS]
    if not given.keys() <= set(known):
        reject_unknown(f'[hosts."{host}"]', given, [*known, "skip"])
    StandardConfig(**{"on": "http", **given, "name": host})
