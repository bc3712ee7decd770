"""Options from environment variables."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["read"]


def read(
    prefix: str, environ: Mapping[str, str], known: Iterable[str], kinds: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """
    Return the options by the names of their policies.

    Args:
        prefix: The prefix of the variables' names.

        environ: The variables.

        known: The names of policies.

        kinds: The kinds that may precede a name.

    Raises:
        ValueError: A variable with the prefix that is not prefix, name, two underscores, option.
    """
    names, kinds = list(known), list(kinds)
    found: dict[str, dict[str, Any]] = {}
    for variable, text in sorted(environ.items()):
        if variable.startswith(prefix):
            name, _, option = variable[len(prefix) :].rpartition("__")
            if not name or not option:
                raise ValueError(f"{variable} must be {prefix}<NAME>__<OPTION>")
            found.setdefault(_spelled(name, names, kinds), {})[option.lower()] = _value(text)
    return found


def _spelled(name: str, known: list[str], kinds: list[str]) -> str:
    if not name.isupper():
        return name
    matches = [one for one in known if _folded(one) == name]
    if matches:
        return matches[0] if len(matches) == 1 else name.lower()
    for kind in kinds:
        if name.startswith(f"{kind.upper()}__"):
            return f"{kind}:{_spelled(name[len(kind) + 2 :], known, [])}"
    return name.lower()


def _folded(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name).upper()


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
