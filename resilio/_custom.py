"""The policy around a gate of one's own. What it is made of is in `resilio.gates`, imported when somebody makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._policy import make

if TYPE_CHECKING:
    from resilio.gates import CustomGate, GateProtocol

__all__ = ["custom_gate"]


def custom_gate(
    gate: GateProtocol,
    *,
    name: str | None = None,
    kind: str | None = None,
    reasons: tuple[str, ...] | None = None,
    on: Any = Exception,
    ignore: Any = (),
    failed_if: Any = None,
    enforce: float = True,
) -> CustomGate:
    """
    Return a policy that asks an object of the user's own.

    Args:
        gate: The object, see :class:`resilio.gates.GateProtocol`.

        name: What it is called; the same name and options give the same policy.

        kind: What it is, for metrics and logs: a lower-case identifier; None: the object's `kind`, or "custom".

        reasons: The closed set of its reasons, 1 to 16; None: the object's `reasons`, or "refused" alone.

        on: What counts as a failure: exception types, or a predicate `exception -> bool | Outcome`.

        ignore: What does not count at all: the same forms.

        failed_if: Which results are failures: a predicate `result -> bool | Outcome`.

        enforce: False: refuse nothing and count what would have been refused; 0 to 1: refuse this share.

    Raises:
        TypeError: `gate` lacks a method, or has an async one.

        ValueError: An option out of range, or more than 16 kinds of gates of one's own.
    """
    from resilio.gates import CustomGate, CustomGateConfig

    config = CustomGateConfig(
        gate=gate,
        kind=getattr(gate, "kind", "custom") if kind is None else kind,
        reasons=getattr(gate, "reasons", ("refused",)) if reasons is None else reasons,
        on=on,
        ignore=ignore,
        failed_if=failed_if,
        enforce=enforce,
    )
    return make(CustomGate, name, config)
