"""What a response's status says about the app that made it."""

from __future__ import annotations

from resilio._native.core import Permit

__all__ = ["settle"]


def settle(permit: Permit, status: int) -> None:
    """
    End a permit as the status says: a fault of the server is a failure, a fault of the client is neither.

    Args:
        permit: Held.

        status: The response's.
    """
    if status < 400:
        permit.success()
    elif status < 500:
        permit.ignore()
    else:
        permit.failure()
