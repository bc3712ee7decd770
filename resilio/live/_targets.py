"""What is watched: the page of another process by its address, or what a module of yours makes in this one."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from resilio.live._feed import Remote

__all__ = ["TargetError", "is_address", "load", "remote"]


class TargetError(Exception):
    """What was named is not there."""


def is_address(target: str) -> bool:
    """Tell whether a target is an address and not a module."""
    return target.startswith(("http://", "https://"))


def remote(target: str) -> Remote:
    """Return the process behind an address; its token, if it wants one, is in RESILIO_LIVE_READ_TOKEN."""
    try:
        return Remote(target, os.environ.get("RESILIO_LIVE_READ_TOKEN"))
    except ValueError as error:
        raise TargetError(str(error)) from None


def load(target: str) -> Any:
    """
    Import `module` or `module:attribute`, from the current folder too; return the attribute, or None.

    Raises:
        TargetError: There is no such module or attribute. What the module itself raises passes through.
    """
    module, _, attribute = target.partition(":")
    if not module or module.startswith("."):
        raise TargetError(f"{target!r} names no module")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path has strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and needs another that is not
        hint = "; an address begins with http:// or https://" if set(target) & {":", "/"} else ""
        raise TargetError(f"there is no module {error.name!r}{hint}") from None
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise TargetError(f"{module} has no {attribute!r}")
        found = getattr(found, part)
    return found if attribute else None
