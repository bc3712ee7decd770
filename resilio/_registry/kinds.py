"""The kinds of policies by name: those that are loaded, and on demand all of them."""

from __future__ import annotations

from typing import Any

import attrs

from resilio._native import core

__all__ = ["known_kinds", "known_options", "loaded"]

loaded: dict[str, type[Any]] = {}
"""The class of each kind, entered where it is defined."""


def known_kinds() -> frozenset[str]:
    """Return the kinds of policies, as "circuit_breaker"; those of custom gates are not among them."""
    return frozenset(_all())


def known_options() -> frozenset[str]:
    """Return the names of all options that some kind of policy has."""
    configs = [cls.Config for cls in _all().values() if hasattr(cls, "Config")]
    return frozenset(field.name for config in configs for field in attrs.fields(config))


def _all() -> dict[str, type[Any]]:
    core.hook("_load_kinds")()  # a pattern is loaded when it is first named
    return loaded
