"""
The ways to put something behind a class of another library: after a method, or in place of a function.

The one place of the library that changes another library. `restore` puts all of it back.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from resilio._events import log

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["after", "instead", "restore"]

_changed: list[tuple[Any, str, Any]] = []


def instead(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """
    Replace an attribute of a class or module.

    Args:
        owner: The class or module.
        name: A public name of it.
        make: Returns the new one for the old one.

    Raises:
        AttributeError: This version has no such name.
    """
    old = getattr(owner, name)
    _changed.append((owner, name, vars(owner).get(name, _ABSENT)))
    setattr(owner, name, wraps(old)(make(old)))


_ABSENT: Any = object()


def after(owner: Any, name: str, act: Callable[[Any], object]) -> None:
    """
    Let a method be followed by an act; an error of the act is logged, and changes nothing.

    Args:
        owner: The class.
        name: A public method of it.
        act: A function of the instance.

    Raises:
        AttributeError: This version has no such method.
    """

    def make(old: Any) -> Any:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = old(self, *args, **kwargs)
            try:
                act(self)
            except Exception as error:  # noqa: BLE001 - the caller's client works without it
                log.say(log.WARNING, "%s is not guarded", type(self).__qualname__, error=error)
            return result

        return method

    instead(owner, name, make)


def restore() -> None:
    """Put back all that was changed."""
    while _changed:
        owner, name, old = _changed.pop()
        if old is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, old)
