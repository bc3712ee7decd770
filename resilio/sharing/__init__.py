"""
Policies that the processes of a host have together: one state for all workers of a service, in shared memory.

    payments = circuit_breaker("payments", scope="host")
    orders = rate_limit("100/s", name="orders", scope=host("shop", directory="/run/shop"))

A policy that is shared counts what all workers see and gives what all may have. No call waits for another process, and
no lock lies in the memory: a worker that is killed anywhere leaves nothing behind that another would wait for.
"""

from __future__ import annotations

from resilio._policy.snapshot import Sharing
from resilio.sharing._host import Host
from resilio.sharing._make import host
from resilio.sharing._report import SharingWarning

__all__ = ["Host", "Sharing", "SharingWarning", "host"]


def __dir__() -> list[str]:
    return sorted(__all__)
