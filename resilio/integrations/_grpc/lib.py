"""grpcio, found when the first of the modules that need it is imported; it has no types of its own."""

from __future__ import annotations

import importlib
from typing import Any

from resilio._support.extras import missing

__all__ = ["Code", "State", "aio", "grpc"]

try:
    aio: Any = importlib.import_module("grpc.aio")
except ImportError as _error:
    raise missing("grpc", "grpc", _error) from _error
grpc: Any = importlib.import_module("grpc")
Code: Any = grpc.StatusCode
State: Any = grpc.ChannelConnectivity
