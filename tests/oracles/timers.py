"""What a timer wheel must do, from the list of all timers."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Action", "TimerList"]

TICK_NS = 125_000
Action: TypeAlias = tuple[str, int, int]
"""("arm", key, nanoseconds) or ("disarm", key, 0)."""


class TimerList:
    """Armed timers by key, looked through from end to end; each may have a script for when it fires, once."""

    def __init__(self) -> None:
        self.armed: dict[int, tuple[int, int]] = {}  # tick and order of arming
        self.scripts: dict[int, list[Action]] = {}
        self.fired: list[int] = []
        self.order = 0

    def arm(self, key: int, now_ns: int, ns: int) -> None:
        """Have a timer fire at the first tick at which *ns* have passed."""
        self.order += 1
        self.armed[key] = (-(-(now_ns + ns) // TICK_NS), self.order)

    def disarm(self, key: int) -> None:
        """Forget it."""
        self.armed.pop(key, None)

    def move_to(self, now_ns: int) -> None:
        """Fire what is due at a time: what is armed or disarmed meanwhile counts, as of the next look."""
        while due := sorted((at, key) for key, at in self.armed.items() if at[0] * TICK_NS <= now_ns):
            for at, key in due:
                if self.armed.get(key) == at:
                    self._fire(key, now_ns)

    def _fire(self, key: int, now_ns: int) -> None:
        del self.armed[key]
        self.fired.append(key)
        for what, other, ns in self.scripts.pop(key, []):
            if what == "arm":
                self.arm(other, now_ns, ns)
            else:
                self.disarm(other)
