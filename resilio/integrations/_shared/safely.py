"""The user's functions that a request asks: what they raise is logged once, and the request goes on without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._events import log
from resilio._options.validators import show

__all__ = ["safely"]


def safely(option: str, function: Callable[..., Any], *, default: Any) -> Callable[..., Any]:
    """
    Return `function` made safe: what it raises is logged, once for each type of exception, and the answer is `default`.

    Args:
        option: The option that it was given as, for the log.

        function: Answers at once.

        default: The answer if it raises; if it is a bool, all answers are.
    """
    reported: set[type[Exception]] = set()

    def ask(*args: Any) -> Any:
        try:
            answer = function(*args)
            return bool(answer) if isinstance(default, bool) else answer
        except Exception as error:  # noqa: BLE001 - whatever a foreign function raises
            if type(error) not in reported:
                reported.add(type(error))
                text = "%s=%s raised; going on as if it said %r"
                log.say(log.WARNING, text, option, show(function), default, error=error)
            return default

    return ask
