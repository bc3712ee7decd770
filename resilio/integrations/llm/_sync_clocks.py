"""
The clocks of streams that threads read: `first` and `idle` of the policy's timeout, which cannot interrupt a thread.

Silence is ended by the HTTP client's own read timeout, which is made no longer than the clocks allow; pings, which keep
that from running out, are met by a look at the clock whenever something has come. A step that is ended by neither may
so take up to the longer of the two clocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._native import clock
from resilio._policies.timeout import Timeout
from resilio.errors import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilio._policy import Policy

__all__ = ["SyncClocks", "clocks_in"]


def clocks_in(parts: Iterable[Policy[Any]]) -> Timeout | None:
    """Return the timeout among the parts of a policy that has clocks for streams, None if there is none."""
    return next((one for one in parts if isinstance(one, Timeout) and (one.config.first or one.config.idle)), None)


class SyncClocks:
    """The clocks of one attempt."""

    __slots__ = ("_any", "_of", "_since_ns")

    def __init__(self, of: Timeout | None) -> None:
        """Begin with the request."""
        self._of = of
        self._any = False
        self._since_ns = clock.now_ns()

    def narrow(self, request: Any, *, body: bool) -> None:
        """Let no read of the client's take longer than the clocks allow, until the headers or in the body."""
        if self._of is None:
            return
        config = self._of.config
        limits = [config.first, config.idle] if body else [config.first]
        known = [limit for limit in limits if limit is not None]
        if len(known) < len(limits):
            return
        times = dict(request.extensions.get("timeout") or {})
        before = times.get("read")
        times["read"] = max(known) if before is None else min(before, max(known))
        request.extensions["timeout"] = times

    def saw(self, moved: bool) -> None:
        """
        Take note of something that has come.

        Raises:
            CallTimeoutError: It came too late, or was a ping while the time ran out.
        """
        self.check()
        if moved:
            self._any, self._since_ns = True, clock.now_ns()

    def check(self) -> None:
        """Raise if the time is up."""
        if self._of is None:
            return
        which, limit = ("idle", self._of.config.idle) if self._any else ("first", self._of.config.first)
        if limit is not None and clock.now_ns() - self._since_ns >= limit * 1e9:
            raise CallTimeoutError(which, limit, self._of.name)

    def resume(self) -> None:
        """Begin anew: the consumer's own time does not count."""
        self._since_ns = clock.now_ns()
