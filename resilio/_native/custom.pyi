"""Gates that are no pattern: a gate written in Python, and the door of a pipeline."""

from typing import Any, Literal, Self

from typing_extensions import disjoint_base

from resilio._native.core import Gate
from resilio._native.primitives import LatencyHistogram

__all__ = ["DoorGate", "GateCall", "PythonGate", "latency_of"]

def latency_of(gate: Gate) -> LatencyHistogram: ...

@disjoint_base
class DoorGate(Gate):
    """The outermost gate of a pipeline: counts the calls inside and, once shut, rejects new ones."""

    @property
    def state(self) -> Literal["serving", "draining", "drained"]: ...
    def shut(self, now_ns: int) -> int: ...
    def open(self, now_ns: int) -> None: ...

@disjoint_base
class GateCall:
    """The call as a gate written in Python sees it."""

    data: Any
    @property
    def args(self) -> tuple[Any, ...]: ...
    @property
    def kwargs(self) -> dict[str, Any]: ...

@disjoint_base
class PythonGate(Gate):
    """The native side of a gate written in Python: exceptions of its methods are counted and never reach a call."""

    shared: int
    def __new__(
        cls,
        target: object,
        kind: str,
        reasons: tuple[str, ...],
        error: str = "RejectedError",
        own: bool = False,
    ) -> Self: ...
    @property
    def errors(self) -> int: ...
