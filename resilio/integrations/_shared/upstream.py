"""Headers of a guarded client for its server: the time left, and the number of the attempt."""

from __future__ import annotations

from typing import Any

import attrs

from resilio._context import deadline
from resilio._native.core import current
from resilio.integrations._shared.headers import DEADLINE_HEADER, check_header_name, write_deadline

__all__ = ["ATTEMPT_HEADER", "Upstream", "attempt_header", "attempt_number", "upstream"]

ATTEMPT_HEADER = "x-envoy-attempt-count"
"""Default header for the number of the attempt, as proxies of the Envoy family send it: 1 for the first."""


@attrs.frozen
class Upstream:
    """
    The headers to send.

    Attributes:
        deadline: Name of the header with the time left; None: it is not sent.

        attempt: Name of the header with the number of the attempt; None: it is not sent.
    """

    deadline: str | None
    attempt: str | None

    def write(self, headers: Any) -> None:
        """
        Set the headers of a request, in a guarded call that sends it.

        Args:
            headers: A mutable mapping.
        """
        left = None if self.deadline is None else write_deadline(deadline.remaining(), self.deadline)
        if self.deadline is not None and left is not None:
            headers[self.deadline] = left
        number = None if self.attempt is None else attempt_number()
        if self.attempt is not None and number is not None:
            headers[self.attempt] = number


def attempt_number() -> str | None:
    """Return the number of the attempt in progress here, a hedge's copy counted too; None outside of a guarded call."""
    call = current()
    return None if call is None else str(call.attempt + call.hedge)


def upstream(send_deadline: Any, send_attempt: Any) -> Upstream | None:
    """
    Return the headers to send, by the options of a client; None: there are none.

    Args:
        send_deadline: False, True for the default header, or the header's name.

        send_attempt: The same.

    Raises:
        TypeError: Neither a bool nor a string.

        ValueError: Not a header's name, or one name for both.
    """
    names = _name("send_deadline", send_deadline, DEADLINE_HEADER), attempt_header(send_attempt)
    if names == (None, None):
        return None
    if names[0] == names[1]:
        raise ValueError(f"send_attempt must be another header than send_deadline, not {send_attempt!r}")
    return Upstream(*names)


def attempt_header(value: Any) -> str | None:
    """Return the option `send_attempt`, checked: the header's name, or None for no header."""
    return _name("send_attempt", value, ATTEMPT_HEADER)


def _name(option: str, value: Any, default: str) -> str | None:
    if value is True:
        return default
    return None if value is False else check_header_name(option, value)
