"""One endpoint of a pool on the page: a row below that of its pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio.live._rows import Row

if TYPE_CHECKING:
    from resilio._policies.pool.face import EndpointView
    from resilio.live._rows import Fields

__all__ = ["EndpointRow", "endpoints_of"]


def endpoints_of(policy: Any) -> list[Any]:
    """Return the endpoints of a pool, none of any other policy."""
    rows = getattr(policy, "_rows", None)
    return [] if rows is None else list(rows())


class EndpointRow(Row):
    """Fields of one endpoint as last read."""

    __slots__ = ()

    def describe(self) -> Fields:
        """Return the fields that never change."""
        return {"id": self.ident, "kind": "endpoint", "ops": []}

    def _face_of(self, policy: Any, parts: list[int]) -> Fields:  # noqa: ARG002 - it has none
        return {
            "name": policy.name,
            "state": "drained_by_hand" if policy.state == "drained" else policy.state,
            "limit": None,
            "shared": None,
            "since": self._past.since,
            "opened": self._past.opened,
            "why": None,
            "endpoint": _worth(policy),
        }


def _worth(endpoint: EndpointView) -> Fields:
    """Return what the pool knows of an endpoint: its level, and in ms what it is chosen by."""
    seen = endpoint.snapshot()
    return {
        "level": seen.level,
        "zone": seen.zone,
        "weight": seen.weight,
        "share": round(seen.share, 3),
        "latency": _in_ms(seen.latency),
        "price": _in_ms(seen.price),
    }


def _in_ms(seconds: float | None) -> float | None:
    """Return milliseconds with two digits; None below a hundredth: a price that fades away is no news for ever."""
    return None if seconds is None or seconds < 1e-5 else float(f"{1000 * seconds:.2g}")
