from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Gate

__all__ = ["BreakerGate"]

@disjoint_base
class BreakerGate(Gate):
    def __init__(self, *, initial: str = "closed", **options: float) -> None: ...
    @property
    def state(self) -> str: ...
    def configure(
        self,
        *,
        failure_rate: float,
        slow_rate: float,
        min_calls: int,
        consecutive: int,
        slow_ns: int,
        open_ns: int,
        max_open_ns: int,
        lease_ns: int,
        ramp_ns: int,
        probes: int,
        window_calls: int,
        window_ns: int,
        throttle: bool = False,
        sure: bool = False,
    ) -> None: ...
    def extend_open(self, seconds: float) -> None: ...
    def force(self, state: str) -> None: ...
    def status(self) -> dict[str, Any]: ...
