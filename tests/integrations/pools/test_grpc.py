"""Pools inside of gRPC: `check_pools.py` in a process of its own, as all that uses grpcio."""

from __future__ import annotations

import pytest
from integrations.test_grpc import check


@pytest.mark.untraced
@pytest.mark.real(9.5)
def test_pools_of_channels() -> None:
    """For grpc.aio and for threads: replicas killed, paused, slowed and brought back; streams; channels."""
    check("check_pools.py")
