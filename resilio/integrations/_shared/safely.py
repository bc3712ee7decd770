"""Protection from users' functions that raise during a request: the error is logged once, a default is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._events import log
from resilio._options.validators import show

__all__ = ["safely"]


def safely(option: str, function: Callable[..., Any], *, default: Any) -> Callable[..., Any]:
    """
    Return a wrapper of `function` that returns `default` if it raises, and logs each type of exception once.

    Args:
        option: Name of the option, for the log.

        function: The user's function, not async.

        default: The result if the function raises; if it is a bool, all results are converted to bool.
    """
    reported: set[type[Exception]] = set()

    def ask(*args: Any) -> Any:
        try:
            answer = function(*args)
            return bool(answer) if isinstance(default, bool) else answer
        except Exception as error:  # noqa: BLE001 - foreign code
            if type(error) not in reported:
                reported.add(type(error))
                text = "%s=%s raised; going on as if it said %r"
                log.say(log.WARNING, text, option, show(function), default, error=error)
            return default

    return ask
