"""Targets to watch: another process's page, by its address, or a module that is imported into this process."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from resilio.live._feed import Remote

__all__ = ["TargetError", "check_asgi", "is_address", "load", "remote"]


class TargetError(Exception):
    """The target does not exist or cannot be used."""


def is_address(target: str) -> bool:
    """Return True if a target is an address, False if it is a module."""
    return target.startswith(("http://", "https://"))


def remote(target: str) -> Remote:
    """Return the process at an address; its read token, if it requires one, comes from RESILIO_LIVE_READ_TOKEN."""
    try:
        return Remote(target, os.environ.get("RESILIO_LIVE_READ_TOKEN"))
    except ValueError as error:
        raise TargetError(str(error)) from None


def load(target: str) -> Any:
    """
    Import `module` or `module:attribute`, from the current folder too; return the attribute, or None.

    Raises:
        TargetError: There is no such module or attribute. Exceptions of the module itself propagate.
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
            raise  # the module exists, but one that it imports does not
        hint = "; an address begins with http:// or https://" if set(target) & {":", "/"} else ""
        raise TargetError(f"there is no module {error.name!r}{hint}") from None
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise TargetError(f"{module} has no {attribute!r}")
        found = getattr(found, part)
    return found if attribute else None


def check_asgi(target: str, app: Any) -> None:
    """
    Raise TargetError for an app that takes the two arguments of WSGI, or that cannot be called.

    Its first request would fail else, inside the server. A callable whose arguments are unknown passes.
    """
    if not callable(app):
        module = target.partition(":")[0]
        raise TargetError(f"{target} cannot be called, so it is no ASGI app: {module!r} alone shows its policies")
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return
    if _takes(signature, 2) and not _takes(signature, 3):
        raise TargetError(
            f"{target} is a WSGI app, and an ASGI app can be run here: run it by its own server, with "
            "resilio.live.start(resilio.live.live()) in it"
        )


def _takes(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True
